"""The commands of docs/encoders.md, run with BirdNET V2.4 on real recordings."""

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


def blocks() -> list[list[list[str]]]:
    """From clips to a device, to search, to use what was found, and to choose what to label next."""
    text = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
    found = re.findall(r"<!-- run by tests/test_encoder_guide.py -->\n```\n(.*?)```", text, re.DOTALL)
    return [[shlex.split(line) for line in block.splitlines()] for block in found]


def run_commands(lines: list[list[str]], place: Path, birdnet: str) -> list[str]:
    """The output of each, in the folder."""
    said = []
    for program, *arguments in lines:
        given = [each.replace("FILE", birdnet) if each != "BIRDNET" else birdnet for each in arguments]
        command = given if program == "python" else ["-m", "birdnet_fs.cli.main", *given]
        backend = "" if program == "python" else "torch"
        done = preloaded.run_python(command, cwd=place, backend=backend)
        assert done.returncode == 0, (given, done.stderr[-2000:])
        said.append(done.stdout)
    return said


def test_the_guide_has_ten_commands_of_this_package() -> None:
    found = blocks()[0]
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
    said = run_commands(blocks()[0], tmp_path, birdnet)
    assert re.search(rf"3.00 +{SPECIES[0]} 0\.[5-9]", said[8])  # the device detects the species of the example
    parity = json.loads((tmp_path / "device" / "parity.json").read_text(encoding="utf-8"))
    assert "three_birdnet.tflite" in json.dumps(parity)
    assert (tmp_path / "device" / "three_birdnet.tflite").stat().st_size <= 25_200_000
    assert (tmp_path / "mine.npz").is_file() and (tmp_path / "found" / "neighbors.csv").is_file()


@pytest.mark.slow
@pytest.mark.shared
def test_a_sound_is_found_confirmed_learned_and_found_again(shared_data: Path, tmp_path: Path) -> None:
    import real_birdnet
    import soundfile

    with open(shared_data / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "birds10"]
    season = tmp_path / "season_2026"
    season.mkdir()
    owl = {row["filename"] for row in rows if row["label"] == SPECIES[0]}  # any species can be the owl of the guide
    for row in rows:
        if row["label"] in (*SPECIES, *MORE):
            (season / row["filename"]).symlink_to(shared_data / "audio" / row["filename"])
    example = sorted(owl)[0]
    samples, rate = soundfile.read(shared_data / "audio" / example)
    soundfile.write(tmp_path / "call.wav", samples[: 3 * rate], rate)
    birdnet = str(real_birdnet.birdnet_v2_4())
    search, use, label_next = blocks()[1:]
    run_commands([["birdnet-fs", "init"], *search], tmp_path, birdnet)
    table = tmp_path / "found" / "neighbors.csv"
    assert share_of(table, owl, 10) >= 0.8  # a tenth of the recordings by chance

    # someone listens, and writes what is heard
    label(table, owl)
    run_commands(use, tmp_path, birdnet)
    assert share_of(tmp_path / "owls" / "neighbors.csv", owl, 10) >= 0.9
    first, second = label_next
    run_commands([first], tmp_path, birdnet)
    label(tmp_path / "first" / "next.csv", owl)
    run_commands([second], tmp_path, birdnet)
    labeled, chosen = table_rows(tmp_path / "first" / "next.csv"), table_rows(tmp_path / "second" / "next.csv")
    assert len(labeled) == 30 and len(chosen) == 10
    windows = [{(row["recording"], row["start_s"]) for row in each} for each in (labeled, chosen)]
    assert not windows[0] & windows[1]


def table_rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def share_of(file: Path, names: set[str], top: int) -> float:
    """The share of the first results that lie in these recordings."""
    first = [Path(row["recording"]).name in names for row in table_rows(file)[:top]]
    return sum(first) / len(first)


def label(file: Path, names: set[str]) -> None:
    """Fill the column `label`."""
    rows = table_rows(file)
    for row in rows:
        row["label"] = "owl" if Path(row["recording"]).name in names else "noise"
    with open(file, "w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
