"""Priors by hour or site: ratios of odds, drawn towards 1 where few recordings say otherwise."""

import csv
from pathlib import Path

import numpy as np
import pytest
from small_runs import write_run

from birdnet_fs.analysis.postprocessing import priors
from birdnet_fs.analysis.postprocessing.chain import Windows, make_chain
from birdnet_fs.analysis.postprocessing.class_weights import read_site_weights, site_of
from birdnet_fs.cli.prior import prior
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.partition import PARTITION, TRAIN
from birdnet_fs.runs.run import load_run

CLASSES = ("a", "b")


def clips_of(n: int, key: str, share: float, windows: int = 1) -> tuple[list[Clip], list[str]]:
    """n recordings of `windows` windows; in a share of the recordings all windows have class a."""
    found = [
        Clip(Path(f"{key}{i}.wav"), 5.0 * w, 5.0 * w + 5, ("a",) if i < share * n else ("nocall",))
        for i in range(n)
        for w in range(windows)
    ]
    return found, [key] * len(found)


def weights(*groups: tuple[list[Clip], list[str]], strength: float = 5.0) -> dict[tuple[str, str], float]:
    clips, keys = ([each for group in groups for each in group[i]] for i in range(2))
    return {(row.name, row.key): row.weight for row in priors.fit_prior(clips, keys, CLASSES, strength=strength)}


def test_a_weight_is_the_ratio_of_the_odds_to_those_of_all():
    found = weights(clips_of(1000, "5", 0.8), clips_of(1000, "13", 0.2), strength=1e-6)
    assert found["a", "5"] == pytest.approx(4, rel=1e-3)  # 0.8 / 0.2 against 1
    assert found["a", "13"] == pytest.approx(1 / 4, rel=1e-3)
    assert found["b", "5"] == 1  # of which nothing is known


def test_few_recordings_are_drawn_towards_the_rate_of_all_and_windows_of_one_count_once():
    many, few = clips_of(100, "5", 0.5), clips_of(1, "13", 1.0)
    assert 1 < weights(many, few)["a", "13"] < 1.5  # a naive ratio of this one recording is infinite
    assert weights(many, clips_of(1, "13", 1.0, windows=50)) == weights(many, few)


def test_a_prior_improves_the_log_loss_of_held_out_windows_of_a_simulation():
    """Sites with rates of 2 and 40 %, and a score that knows the sound only: the weighted one is nearer the truth."""
    random = np.random.default_rng(0)
    groups = [clips_of(60, "dry", 0.02), clips_of(60, "wet", 0.4)]
    factor = weights(*groups)
    site = random.integers(0, 2, 20_000)
    truth = random.random(20_000) < np.where(site, 0.4, 0.02)
    base = np.log(0.21 / 0.79)
    log_odds = base + random.normal(np.where(truth, 1, -1), np.sqrt(2))  # the exact posterior at the mean rate
    weighted = log_odds + np.log(np.where(site, factor["a", "wet"], factor["a", "dry"]))
    loss = [np.mean(np.logaddexp(0, x) - truth * x) for x in (log_odds, weighted)]
    assert loss[1] < 0.9 * loss[0]


@pytest.mark.parametrize(
    ("path", "site"),
    [("x/S08/20240501_053000.wav", "S08"), ("x/Train_0001_S08_20250606_030007.ogg", "S08"), ("x/S09/a.wav", None)],
)
def test_the_site_is_a_folder_or_a_part_of_the_name(path, site):
    assert site_of(Path("/data") / path, {"S08", "S80"}) == site
    assert site_of(Path("/data/S80") / path, {"S08", "S80"}) == (None if site else "S80")  # two sites: not guessed


def test_sites_of_a_chain_weigh_known_recordings_only(tmp_path, capsys):
    table = tmp_path / "s.csv"
    table.write_text("class,site,weight\na,S08,3\n")
    chain = make_chain(f"sites:table={table}", CLASSES)
    scores = np.full((2, 2), 0.5, np.float32)
    start_s = np.array([0.0, 5.0])
    assert chain(scores, Windows(Path("/d/S08/r.wav"), start_s)).tolist() == [[0.75, 0.5]] * 2
    assert chain(scores, Windows(Path("/d/S09/r.wav"), start_s)).tolist() == scores.tolist()
    assert "names no site" in capsys.readouterr().err
    table.write_text("class,site,weight\na,,3\n")
    with pytest.raises(UserError, match="line 2: the site must have a name"):
        read_site_weights(table, CLASSES)


@pytest.fixture
def run(tmp_path) -> Path:
    """A run with training clips of two hours, one held-out clip, and one training clip without a clock time."""
    folder = write_run(tmp_path / "run")
    rows = [("train", f"/gone/2024050{1 + i}_0{5 + i % 2}3000.wav", "a" if i % 2 else "b") for i in range(6)]
    rows += [("held_out", "/gone/20240501_093000.wav", "a"), ("train", "/gone/x.wav", "a")]
    with open(folder / PARTITION, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("part", "path", "onset_s", "offset_s", "group", "labels", "secondary"))
        writer.writerows((part, path, 0.0, 1.0, "", label, "") for part, path, label in rows)
    return folder


def test_the_table_has_the_hours_of_training_clips_alone(run, tmp_path, capsys):
    prior(run, "hour", tmp_path / "hours.csv")
    assert "1 training clip without a known hour left out" in capsys.readouterr().err
    with open(tmp_path / "hours.csv", newline="") as file:
        rows = {(row["class"], row["hour"]): float(row["weight"]) for row in csv.DictReader(file)}
    assert set(rows) == {(name, hour) for name in "ab" for hour in ("5", "6")}  # not 9, which is held out
    assert rows["b", "5"] > 1 > rows["a", "5"]
    make_chain(f"hours:table={tmp_path / 'hours.csv'}", CLASSES)  # which reads it


def test_hours_and_sites_that_are_not_known_are_refused(run, monkeypatch):
    text = (run / PARTITION).read_text().replace("2024050", "clip")
    (run / PARTITION).write_text(text)
    with pytest.raises(UserError, match="none of the 7 training clips has a clock time"):
        priors.training_keys(load_run(run), "hour", "site")

    class Rows:
        clips = (Clip(Path("/gone/x.wav"), row={"filename": "x.wav"}),)

    monkeypatch.setattr(priors, "read_manifest", lambda data: Rows)
    with pytest.raises(UserError, match="has a value in the column 'site'"):
        priors.training_keys(load_run(run), "site", "site")
    assert TRAIN in text
