"""Labels of own scores: every form of file, classes found by scientific name, wrong files refused."""

import dataclasses

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.encoders.cards import CARDS
from birdnet_fs.encoders.labels import labels_file, own_classes, read_labels

NAMES = ["Parus major_Great Tit", "Strix aluco_Tawny Owl", "Engine_Engine"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", "\n".join(NAMES) + "\n"),
        ("labels.txt", "\ufeff" + "\r\n".join(NAMES) + "\r\n\r\n"),
        ("labels.csv", "idx;sci_name;com_name\n0;Parus major;Great Tit\n1;Strix aluco;Tawny Owl\n2;Engine;Engine\n"),
        ("labels.csv", "inat2024_fsd50k\nParus major\nStrix aluco\nEngine\n"),
        ("labels.csv", 'id,Scientific name,note\n0,Parus major,"a, b"\n1,Strix aluco,\n2,Engine,\n'),
    ],
)
def test_names_are_read_in_order(tmp_path, name, text):
    file = tmp_path / name
    file.write_bytes(text.encode())
    found = read_labels(file, 3)
    assert [each.partition("_")[0] for each in found] == ["Parus major", "Strix aluco", "Engine"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("labels.txt", b"a\nb\n", "must have 3 names, as many as the encoder has scores; it has 2"),
        ("labels.txt", b"\xff\xfe\x00", "must be a text file in UTF-8"),
        ("labels.csv", b"x,y\n1,2\n", "must have a column with the names of the classes"),
        ("labels.csv", b"", "must have a column"),
    ],
)
def test_wrong_files_are_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_labels(tmp_path / name, 3)
    assert words in str(error.value) and name in str(error.value)


def test_a_missing_file_is_named_with_the_choices(tmp_path):
    card = CARDS["birdnet_v2_4"]
    with pytest.raises(
        UserError, match=r"BirdNET_GLOBAL_6K_V2\.4_Labels\.txt is no file\. Give .*encoder_head\.labels"
    ):
        labels_file(tmp_path / "model.tflite", card)
    (tmp_path / card.labels).write_text("x")
    assert labels_file(tmp_path / "model.tflite", card) == tmp_path / card.labels
    (tmp_path / "model_labels.txt").write_text("x")
    other = dataclasses.replace(card, labels="")
    assert labels_file(tmp_path / "model.tflite", other) == tmp_path / "model_labels.txt"


@pytest.mark.parametrize(
    ("ours", "columns"),
    [
        ("Parus major", (0,)),
        ("parus_major", (0,)),
        ("Parus major_Kohlmeise", (0,)),
        ("Engine", (2,)),
        ("Great Tit", ()),  # common names differ between languages
        ("Parus", ()),
    ],
)
def test_classes_are_compared_by_scientific_name(ours, columns):
    found = own_classes(NAMES, ["other", ours])
    assert found.columns == columns and found.classes == (1,) * len(columns)
    assert found.names == tuple(NAMES[c] for c in columns)


def test_names_of_several_scores_or_classes_are_left_out():
    assert own_classes(["Parus major_a", "Parus major_b"], ["Parus major"]).columns == ()
    assert own_classes(NAMES, ["Parus major_x", "Parus major_y", "Strix aluco"]).columns == (1,)
