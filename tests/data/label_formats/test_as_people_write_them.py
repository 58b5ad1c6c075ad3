"""Tables as people and programs write them, in every layout: the clips that are meant, or what the refusal says.

One row per kind of table: files of the folder, settings, and the expected clips (file, start, end, label) or a pattern
of the message. `refused` are patterns of reasons in the ledger, by row.
"""

import re
import struct
from dataclasses import dataclass, field

import pytest
from label_layouts import text

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.schema import Data


@dataclass(frozen=True)
class Case:
    files: dict  # name -> text or bytes
    clips: tuple = ()
    layout: str = ""
    error: str = ""  # pattern of the UserError
    refused: dict = field(default_factory=dict)  # source -> pattern of the reason
    notes: str = ""  # pattern in the notes
    audio: tuple = ("a.wav",)
    settings: dict = field(default_factory=dict)


RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tAnnotation\n"
FILED = RAVEN.replace("Annotation", "Begin File\tAnnotation")
ONE = "1\tSpectrogram 1\t1\t1\t2\t1\t2\trobin\n"
VIEWS = "1\tWaveform 1\t1\t1.0\t2.0\t\t\t\n1\tSpectrogram 1\t1\t1.0001\t2.0\t1\t2\trobin\n"
VIEWS += "2\tWaveform 1\t1\t1\t2\t\t\twren\n"
BOTH = ("a.wav", "b.wav")
KALEIDOSCOPE = "INDIR,FOLDER,IN FILE,OFFSET,DURATION,MANUAL ID\n"
CLEF = "primary_label,secondary_labels,filename,time\n"

CASES = {
    # csv: separators, encodings, cells
    "sep line": Case({"t.csv": "sep=;\r\nfile;label\r\na.wav;robin\r\n"}, (("a.wav", 0, None, "robin"),), "csv"),
    "semicolons and decimal commas": Case(
        {"t.csv": "file;start;end;label\na.wav;1,5;3,5;robin\n"}, (("a.wav", 1.5, 3.5, "robin"),)
    ),
    "tab": Case({"t.tsv": "file\tlabel\na.wav\trobin\n"}, (("a.wav", 0, None, "robin"),), "csv"),
    "UTF-16": Case(
        {"t.csv": "file,label\na.wav,Bläßhuhn\n".encode("utf-16")}, (("a.wav", 0, None, "Bläßhuhn"),), notes="UTF-16"
    ),
    "lone carriage returns": Case({"t.csv": "file,label\ra.wav,robin\r"}, (("a.wav", 0, None, "robin"),)),
    "unquoted comma": Case(
        {"t.csv": "file,label\na.wav,Owl, Barn\nb.wav,wren\n"},
        (("b.wav", 0, None, "wren"),),
        refused={"t.csv row 2": "it has 3 cells, and the header 2"},
        audio=BOTH,
    ),
    "open quotation mark": Case(
        {"t.csv": 'file,label\na.wav,"robin\nb.wav,wren\n'},
        (("b.wav", 0, None, "wren"),),
        refused={"t.csv row 2": "a quotation mark in it is not closed"},
        audio=BOTH,
    ),
    "two columns of one name": Case({"t.csv": "file,label,label\na.wav,robin,x\n"}, error="two columns called 'label'"),
    # csv: columns
    "soundscape": Case(
        {"t.csv": "Filename,Start Time (s),End Time (s),Low Freq (Hz),Species eBird Code\na.wav,2,4.5,9,amerob\n"},
        (("a.wav", 2, 4.5, "amerob"),),
    ),
    "milliseconds": Case(
        {"t.csv": "file,start_ms,end_ms,label\na.wav,1500,2000,robin\n"}, (("a.wav", 1.5, 2.0, "robin"),)
    ),
    "samples": Case(
        {"t.csv": "file,start_sample,end_sample,label\na.wav,8000,16000,robin\n"}, (("a.wav", 1.0, 2.0, "robin"),)
    ),
    "onset and duration": Case({"t.csv": "Path,Onset,Duration,Class\na.wav,1,2,robin\n"}, (("a.wav", 1, 3, "robin"),)),
    "start without end": Case({"t.csv": "file,start,label\na.wav,1,robin\n"}, error="start times .* but no end times"),
    "end without start": Case({"t.csv": "file,end_s,label\na.wav,1,robin\n"}, error="end times .* but no start times"),
    "empty end": Case(
        {"t.csv": "file,start,end,label\na.wav,1,,robin\na.wav,1,2,robin\n"},
        (("a.wav", 1, 2, "robin"),),
        refused={"t.csv row 2": "its end is empty"},
    ),
    "unused times": Case(
        {"t.csv": "file,time,label\na.wav,2,robin\n"},
        (("a.wav", 0, None, "robin"),),
        notes="seem to hold times and are not used: time",
    ),
    "unknown units": Case(
        {"t.csv": "file,start (frames),end (frames),label\na.wav,1,2,robin\n"},
        error=r"seems to have times in the columns 'start \(frames\)'",
    ),
    "no audio column": Case(
        {"t.csv": "name,label\na.wav,robin\n"},
        error=r"t\.csv .* has no column of audio files .*data\.layout=folders",
        audio=("robin/a.wav",),
    ),
    "no label column": Case({"t.csv": "file,notes\na.wav,robin\n"}, error=r"t\.csv .* has no column of labels"),
    "two tables": Case(
        {"x.csv": "file,label\na.wav,robin\n", "y.csv": "file,label\na.wav,wren\n"},
        error=r"2 tables of labels \(x\.csv, y\.csv\)",
    ),
    "usual name": Case(
        {"x.csv": "file,label\na.wav,robin\n", "labels.csv": "file,label\na.wav,wren\n"},
        (("a.wav", 0, None, "wren"),),
        notes=r"labels\.csv is read as the table of labels, not x\.csv",
    ),
    "table below the folder": Case(
        {"s1/labels.csv": "file,label\na.wav,robin\n"},
        error=r"There is a table of labels below .*s1/labels\.csv",
        audio=("s1/a.wav",),
    ),
    "kaleidoscope": Case(
        {"id.csv": f"{KALEIDOSCOPE}/old,,a.wav,10,2,robin\n/old,s1,b.wav,1,2,wren\n/old,s2,b.wav,3,1,owl\n"},
        (("a.wav", 10, 12, "robin"), ("s1/b.wav", 1, 3, "wren"), ("s2/b.wav", 3, 4, "owl")),
        "csv",
        audio=("a.wav", "s1/b.wav", "s2/b.wav"),
    ),
    "folder column": Case(
        {"t.csv": "folder,file,label\ns1,a.wav,robin\ns3,a.wav,owl\n"},
        (("s1/a.wav", 0, None, "robin"),),
        refused={"t.csv row 3": r"no audio file s3/a\.wav was found"},
        audio=("s1/a.wav", "s2/a.wav"),
    ),
    "file of another card": Case(
        {"t.csv": "file,label\ns2/a.wav,robin\ns1/a.wav,wren\n"},
        (("s1/a.wav", 0, None, "wren"),),
        refused={"t.csv row 2": r"no audio file s2/a\.wav was found \(s1/a\.wav"},
        audio=("s1/a.wav",),
    ),
    # birdclef
    "birdclef 2021": Case(
        {
            "train_metadata.csv": f"{CLEF}abc,[],1.ogg,7:00\ndef,['abc'],1.ogg,\n",
            "sample_submission.csv": "row_id,abc\n",
        },
        (("train_short_audio/abc/1.ogg", 0, None, "abc"), ("train_short_audio/def/1.ogg", 0, None, "def abc")),
        "birdclef",
        audio=("train_short_audio/abc/1.ogg", "train_short_audio/def/1.ogg"),
    ),
    "birdclef 2022": Case(
        {
            "train_metadata.csv": f"{CLEF}abc,[],abc/1.ogg,\ndef,[],def/2.ogg,\n",
            "eBird_Taxonomy.csv": "CATEGORY,SPECIES_CODE\n",
        },
        (("train_audio/abc/1.ogg", 0, None, "abc"),),
        "birdclef",
        refused={"train_metadata.csv row 3": r"no audio file def/2\.ogg"},
        audio=("train_audio/abc/1.ogg", "train_audio/abc/2.ogg"),
    ),
    # raven
    "raven with commas": Case(
        {"a.selections.txt": (RAVEN + ONE).replace("\t", ",")}, (("a.wav", 1, 2, "robin"),), "raven"
    ),
    "raven with commas as csv": Case({"a.csv": (RAVEN + ONE).replace("\t", ",")}, (("a.wav", 1, 2, "robin"),), "raven"),
    "raven quotation marks": Case(
        {
            "a.txt": RAVEN
            + ONE.replace("robin", '"whit')
            + ONE.replace("1\tS", "2\tS").replace("\t1\t2\t1", "\t3\t4\t1")
        },
        (("a.wav", 1, 2, '"whit'), ("a.wav", 3, 4, "robin")),
    ),
    "raven views": Case(
        {"a.txt": RAVEN + VIEWS}, (("a.wav", 1, 2, "robin"), ("a.wav", 1, 2, "wren")), notes="1 rows of further views"
    ),
    "raven joined": Case(
        {"all.txt": FILED + "1\tS\t1\t0\t3\t1\t2\ta.wav\trobin\n1\tS\t1\t0\t3\t1\t2\tb.wav\twren\n"},
        (("a.wav", 0, 3, "robin"), ("b.wav", 0, 3, "wren")),
        audio=BOTH,
    ),
    "raven sequence": Case(
        {"all.txt": FILED + "1\tS\t1\t1\t2\t1\t2\ta.wav\trobin\n2\tS\t1\t15\t16\t1\t2\tb.wav\twren\n"},
        (("a.wav", 1, 2, "robin"),),
        refused={"all.txt row 3": r"no column File Offset \(s\)"},
        audio=BOTH,
    ),
    "raven file offset": Case(
        {
            "all.txt": FILED.replace("Annotation", "File Offset (s)\tAnnotation")
            + "1\tS\t1\t1\t2\t1\t2\ta.wav\t1\trobin\n2\tS\t1\t15\t16\t1\t2\tb.wav\t5\twren\n"
        },
        (("a.wav", 1, 2, "robin"), ("b.wav", 5, 6, "wren")),
        audio=BOTH,
    ),
    "raven begin path": Case(
        {
            "t.txt": RAVEN.replace("Annotation", "Begin Path\tAnnotation")
            + "1\tS\t1\t1\t2\t1\t2\tC:\\x\\s1\\a.wav\trobin\n2\tS\t1\t1\t2\t1\t2\tC:\\x\\s3\\a.wav\twren\n"
        },
        (("s1/a.wav", 1, 2, "robin"),),
        refused={"t.txt row 3": "no audio file"},
        audio=("s1/a.wav", "s2/a.wav"),
    ),
    "raven of a.wav.Table": Case(
        {"a.wav.Table.1.selections.txt": RAVEN + ONE}, (("a.wav", 1, 2, "robin"),), audio=("a.wav", "a.flac")
    ),
    "raven without end": Case(
        {"a.txt": "Selection\tBegin Time (s)\tSpecies\n1\t1\trobin\n", "b.txt": RAVEN + ONE},
        (("b.wav", 1, 2, "robin"),),
        refused={"": r"a\.txt has start times .* but no end times"},
        audio=BOTH,
    ),
    "raven without labels": Case(
        {"a.txt": RAVEN.replace("Annotation", "call_type") + ONE}, error=r"must have a column of labels .*call_type"
    ),
    "raven own column": Case(
        {"a.txt": RAVEN.replace("Annotation", "call_type") + ONE},
        (("a.wav", 1, 2, "robin"),),
        settings={"label_column": "Call Type"},
    ),
    "raven of animal_spot": Case(
        {"a.annotation.result.txt": RAVEN.replace("Time", "time").replace("Annotation", "Sound type") + ONE},
        (("a.wav", 1, 2, "robin"),),
        settings={"layout": "raven"},
    ),
    "raven and audacity": Case(
        {"a.txt": RAVEN + ONE, "b.txt": "1\t2\trobin\n"},
        error="tables of Raven and label tracks of Audacity",
        audio=BOTH,
    ),
    # tables of several layouts
    "csv and raven": Case(
        {"t.csv": "file,label\na.wav,robin\n", "raven/a.txt": RAVEN + ONE},
        (("a.wav", 0, None, "robin"),),
        "csv",
        notes=r"read in layout csv; there are also tables of raven \(data\.layout\)",
    ),
    "layout folders": Case(
        {"x.csv": "file,label\na.wav,owl\n", "y.csv": "file,label\na.wav,wren\n"},
        (("robin/a.wav", 0, None, "robin"),),
        audio=("robin/a.wav",),
        settings={"layout": "folders"},
    ),
    # audacity
    "audacity decimal commas": Case(
        {"a.txt": "1,5\t2,5\trobin\n\\\t100,0\t900,0\n3,0\t4,0\twren\n"},
        (("a.wav", 1.5, 2.5, "robin"), ("a.wav", 3, 4, "wren")),
        "audacity",
    ),
    "audacity UTF-16": Case(
        {"a.txt": "1.0\t2.0\tAmsel\r\n".encode("utf-16")}, (("a.wav", 1, 2, "Amsel"),), notes="UTF-16"
    ),
    "audacity header": Case({"a.txt": "start\tend\tlabel\n1\t2\trobin\n"}, (("a.wav", 1, 2, "robin"),)),
    "audacity first line": Case(
        {"a.txt": "recorded 1 May\n1\t2\trobin\n3\t4\n"},
        (("a.wav", 1, 2, "robin"),),
        refused={"a.txt row 1": "it must hold a start, an end and a label", "a.txt row 3": "its label is empty"},
    ),
    "audacity names": Case(
        {"a.wav.txt": "1\t2\trobin\n", "b_labels.txt": "1\t2\twren\n", "c.labels.txt": "1\t2\towl\n"},
        (("a.wav", 1, 2, "robin"), ("b.wav", 1, 2, "wren"), ("c.wav", 1, 2, "owl")),
        audio=("a.wav", "b.wav", "c.wav"),
    ),
    # dcase
    "dcase spelling": Case(
        {
            "a.csv": "AudioFilename,StartTime,EndTime,robin\na.wav,1,2,POS\n",
            "b.csv": "Audiofilename,Starttime,Endtime,robin\nb.wav,1,x,POS\n",
        },
        (("a.wav", 1, 2, "robin"),),
        "dcase",
        refused={"b.csv row 2": "its offset must be seconds"},
        audio=BOTH,
    ),
    # folders
    "text beside audio": Case(
        {"robin/a.txt": "heard from the car\n"},
        (("robin/a.wav", 0, None, "robin"),),
        "folders",
        notes="Text files beside recordings that are no tables",
        audio=("robin/a.wav",),
    ),
    "own tables below": Case(
        {
            "out/m.csv": "path,onset_s,offset_s,labels,secondary,group,fold,split\n",
            "out/m.ledger.csv": "path,status,reason,flags,duration_s,source\n",
        },
        (("robin/a.wav", 0, None, "robin"),),
        "folders",
        audio=("robin/a.wav",),
    ),
}


def silence(path, seconds=20, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    size = seconds * rate * 2
    head = struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVEfmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", size
    )
    path.write_bytes(head + bytes(size))


@pytest.mark.parametrize("name", CASES)
def test_table_gives_the_clips_that_are_meant(tmp_path, name):
    case = CASES[name]
    for audio in case.audio:
        silence(tmp_path / audio)
    for file, content in case.files.items():
        if isinstance(content, bytes):
            (tmp_path / file).write_bytes(content)
        else:
            text(tmp_path / file, content)
    data = Data(str(tmp_path), multi_label=True, **case.settings)
    if case.error:
        with pytest.raises(UserError) as refusal:
            read_manifest(data)
        assert re.search(case.error, str(refusal.value)), refusal.value
        return
    found = read_manifest(data)
    clips = [
        (clip.path.relative_to(tmp_path).as_posix(), clip.onset_s, clip.offset_s, " ".join(clip.labels))
        for clip in found.clips
    ]
    assert sorted(clips, key=str) == sorted(case.clips, key=str)
    assert found.layout == (case.layout or found.layout)
    assert re.search(case.notes, "\n".join(found.notes))
    refused = {row.source: row.reason for row in found.ledger.rows if row.status == "quarantined"}
    if "" in case.refused:  # a table that cannot be read stands under its own name
        refused = {"": " ".join(refused.values())}
    assert set(refused) == set(case.refused)
    for source, pattern in case.refused.items():
        assert re.search(pattern, refused[source]), refused[source]
