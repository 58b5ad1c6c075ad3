"""The ten commands of docs/encoders.md, run with BirdNET V2.4 on real recordings of three species."""

import csv
import json
import re
import shlex
from pathlib import Path

import preloaded
import pytest
from installed import need

ROOT = Path(__file__).parents[1]
SPECIES = ("Junco hyemalis", "Melozone crissalis", "Spinus psaltria")
MORE = ("Passer domesticus", "Poecile rufescens")

need("ai_edge_litert")


def commands() -> list[list[str]]:
    text = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- run by tests/test_encoder_guide.py -->\n```\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line) for line in block.group(1).splitlines()]


def test_the_guide_has_ten_commands_of_this_package() -> None:
    found = commands()
    assert len(found) == 10 and {each[0] for each in found} == {"birdnet-fs", "python"}
    assert [each[1] for each in found if each[0] == "python"] == ["export/run_tflite.py", "export/enroll_tflite.py"]
    assert all((ROOT / each[1]).is_file() for each in found if each[0] == "python")


@pytest.mark.slow
@pytest.mark.shared
def test_the_commands_lead_from_five_clips_to_a_device(shared_data: Path, tmp_path: Path) -> None:
    import real_birdnet

    with open(shared_data / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for folder in ("season", "background"):
        (tmp_path / folder).mkdir()
    for name in SPECIES:
        (tmp_path / "clips" / name).mkdir(parents=True)
        files = [shared_data / "audio" / row["filename"] for row in rows if row["label"] == name][:7]
        for place in files[:5]:
            (tmp_path / "clips" / name / place.name).symlink_to(place)
        for place in files[5:]:
            (tmp_path / "season" / place.name).symlink_to(place)
        if name == SPECIES[0]:
            (tmp_path / "season" / "example.ogg").symlink_to(files[5])
    for name in MORE:
        (tmp_path / "more" / name).mkdir(parents=True)
        for row in [row for row in rows if row["label"] == name and row["set"] == "birds10"][:5]:
            (tmp_path / "more" / name / row["filename"]).symlink_to(shared_data / "audio" / row["filename"])
    quiet = [row["filename"] for row in rows if row["set"] == "jura24h"][:6]
    for name in quiet:
        (tmp_path / "background" / name).symlink_to(shared_data / "audio" / name)
    (tmp_path / "export").symlink_to(ROOT / "export")
    birdnet = str(real_birdnet.birdnet_v2_4())
    said = []
    for program, *arguments in commands():
        given = [birdnet if each == "BIRDNET" else each for each in arguments]
        command = given if program == "python" else ["-m", "birdnet_fs.cli.main", *given]
        backend = "" if program == "python" else "torch"
        done = preloaded.run_python(command, cwd=tmp_path, backend=backend)
        assert done.returncode == 0, (given, done.stderr[-2000:])
        said.append(done.stdout)
    assert re.search(rf"3.00 +{SPECIES[0]} 0\.[5-9]", said[8])  # the device hears the species of the example
    parity = json.loads((tmp_path / "device" / "parity.json").read_text(encoding="utf-8"))
    assert "three_birdnet.tflite" in json.dumps(parity)
    assert (tmp_path / "device" / "three_birdnet.tflite").stat().st_size <= 25_200_000
    assert (tmp_path / "mine.npz").is_file() and (tmp_path / "found" / "neighbors.csv").is_file()
