"""`birdnet-fs enroll`: new classes on a run with random weights, and wrong arguments."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from killed import contents, killed_at_every_change, leftovers, sampled
from typer.testing import CliRunner

from birdnet_fs.cli.main import app
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import folder_lock
from birdnet_fs.fewshot import enrollment
from birdnet_fs.runs.run import load_run, save_run


def enroll(*arguments: object) -> str:
    return CliRunner().invoke(app, ["enroll", *map(str, arguments)], catch_exceptions=False).stdout


@pytest.fixture
def support(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("owl/1.wav", "owl/2.wav", "tit/4.wav", "wren/3.wav"):
        (tmp_path / "support" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "support" / name, rng.normal(0, 0.1, 8_000), 8_000)
    return tmp_path / "support"


def test_enrolled_classes_form_a_new_run(untrained: Path, support: Path, tmp_path: Path) -> None:
    assert enroll(untrained, support, "-o", tmp_path / "new", "--no-unknown").startswith("3 classes: owl, tit, wren")
    enroll(tmp_path / "new", "-o", tmp_path / "less", "--remove", "owl", "--no-unknown")
    assert tuple(load_run(tmp_path / "less").classes) == ("tit", "wren")


def test_the_same_command_keeps_the_run_and_names_what_changed(
    untrained: Path, support: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [untrained, support, "-o", tmp_path / "new", "--no-unknown"]
    enroll(*given)
    before = (tmp_path / "new" / "weights.safetensors").stat().st_mtime_ns
    again = CliRunner().invoke(app, ["enroll", *map(str, given)], catch_exceptions=False)
    assert again.exit_code == 0 and again.stdout.startswith("3 classes: owl, tit, wren")
    assert (tmp_path / "new" / "weights.safetensors").stat().st_mtime_ns == before
    (support / "owl" / "1.wav").rename(support / "owl" / "first.wav")
    (support / "tit" / "4.wav").rename(support / "wren" / "4.wav")
    changed = r"of another enrollment \(1 label changed, 2 files moved\); .*--overwrite"
    with pytest.raises(UserError, match=changed):
        enroll(*given)
    with pytest.raises(UserError, match=r"\(--unknown changed, 1 label changed"):
        enroll(*given[:-1])
    enroll(*given, "--overwrite")
    enroll(*given)
    (tmp_path / "new" / "enrollment.json").unlink()  # of an earlier version
    with pytest.raises(UserError, match="whose inputs are not known"):
        enroll(*given)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{support}"], "The output folder is missing"),
        (["-o", "{tmp}/new"], "Nothing to do"),
        (["{support}", "training.epochs=3", "-o", "{tmp}/new"], "must be data.KEY=VALUE"),
        (["{support}", "-o", "{run}"], "is the run itself"),
        (["{tmp}/nowhere", "-o", "{tmp}/new"], "nowhere does not exist"),
        (["{support}", "-o", "{tmp}/new", "--background", "{tmp}/untrained"], "--background must be a folder with"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], words: str, untrained: Path, support: Path, tmp_path: Path
) -> None:
    filled = [a.format(support=support, tmp=tmp_path, run=untrained) for a in arguments]
    with pytest.raises(UserError, match=words):
        enroll(untrained, *filled)


@sampled(40)
def test_a_kill_while_an_enrolled_run_is_replaced_leaves_the_old_or_the_new_one(
    untrained: Path, support: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """The clips are embedded here, since a forked process must not use torch's threads; what is killed is the rest."""
    folder, kept, written = tmp_path / "runs" / "new", tmp_path / "kept", []

    def recorded(*arguments, **options):
        written.append(lambda: save_run(*arguments, **options))
        return written[-1]()

    def make(*options: str) -> str:
        return enroll(untrained, support, "-o", folder, "--overwrite", *options)

    def prepare() -> None:
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        shutil.copytree(kept, folder)

    def write() -> None:
        with folder_lock(folder):
            written[1]()

    monkeypatch.setattr(enrollment, "save_run", recorded)
    make()
    (folder / "tables").mkdir()
    (folder / "tables" / "a.csv").write_text("mine")
    shutil.copytree(folder, kept)
    old = contents(folder)
    make("--no-unknown")
    new, found = contents(folder), []
    for n in killed_at_every_change(tmp_path, prepare, write, every=every):
        found.append(load_run(folder).classes)
        assert contents(folder) == (old if "unknown" in found[-1] else new), n
        assert make("--no-unknown").startswith("3 classes: owl, tit, wren")
        assert contents(folder) == new and leftovers(tmp_path) == [], n
    assert len(found) >= 60 // every and (every > 1 or len(set(found)) == 2) and "tables/a.csv" in new
