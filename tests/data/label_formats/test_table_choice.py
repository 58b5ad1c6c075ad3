"""Which table is read, and the tables of programs that are not labels."""

import pytest
from label_layouts import text

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.label_formats.table_choice import choose_table, is_output, is_own

TABLE = "file,label\na.wav,robin\n"


def choice(root, **files):
    for name, content in files.items():
        text(root / f"{name}.csv", content)
    found = choose_table(root, sorted(root.glob("*.csv")), "label")
    names = [path.name for path in found.others]
    return found.path and found.path.name, [sentence for _, sentence in found.unusable], names


def test_only_table_of_labels_is_chosen_among_others(tmp_path):
    path, unusable, others = choice(tmp_path, birds=TABLE, taxonomy="code,name\n", weather="day,rain\n")
    assert (path, others) == ("birds.csv", [])
    assert [sentence.split(" in ")[0] for sentence in unusable] == ["taxonomy.csv", "weather.csv"]
    assert all("has no column of audio files" in sentence for sentence in unusable)


def test_usual_name_is_chosen_and_several_others_are_refused(tmp_path):
    assert choice(tmp_path, birds=TABLE, Metadata=TABLE, labels=TABLE) == (
        "Metadata.csv",
        [],
        ["birds.csv", "labels.csv"],
    )
    (tmp_path / "Metadata.csv").unlink()
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(UserError, match=r"has 2 tables of labels \(birds\.csv, more\.csv\); set data\.table"):
        choice(tmp_path, more=TABLE)


def test_tables_of_one_recording_each_are_no_choice(tmp_path):
    dcase = "Audiofilename,Starttime,Endtime,X\n"
    raven = "Selection,Begin Time (s),End Time (s),Begin File,Annotation\n"
    assert choice(tmp_path, a=dcase, b=dcase, c=raven) == (None, [], [])


@pytest.mark.parametrize(
    "head",
    [
        "path,status,reason,flags,duration_s,source",
        "path,onset_s,duration_s,group,labels,robin,wren",
        "part,path,onset_s,offset_s,group,labels,secondary,fingerprint",
        "label,path,onset_s,offset_s",
    ],
)
def test_tables_of_this_package_are_recognized_by_their_first_columns(tmp_path, head):
    text(tmp_path / "t.csv", head + "\n")
    assert is_own(tmp_path / "t.csv") and is_output(tmp_path / "t.csv")
    text(tmp_path / "t.csv", "path,label,onset_s\n")
    assert not is_own(tmp_path / "t.csv")
