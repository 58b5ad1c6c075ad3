"""`birdnet-fs cache`: a cache is filled, listed, verified and cleared, and a training from it gives the same run."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer

from birdnet_fs.batches.cache.folder import existing_cache
from birdnet_fs.batches.cache.store import StoreFile
from birdnet_fs.cli.cache import build, clear, info, precompute, verify
from birdnet_fs.core.settings import override
from birdnet_fs.data import waveforms as decoding
from birdnet_fs.runs.history import HISTORY, read_history
from birdnet_fs.runs.inputs import input_changes
from birdnet_fs.runs.resolve import is_finished, resolved
from birdnet_fs.schema import Experiment
from birdnet_fs.training import trainer

RATE = 8_000
EXPERIMENT = "from birdnet_fs.core.settings import override\nfrom birdnet_fs.schema import Experiment\n"
SETTINGS = [
    "name=small", "data.root=recordings", "data.layout=folders", "data.val_fraction=0.3",
    "frontend.sample_rate_hz=8000", "frontend.segment_s=0.5", "frontend.n_fft=256", "frontend.win_length=256",
    "frontend.hop_length=128", "frontend.n_mels=16", "frontend.fmax_hz=4000", "model=cnn/tiny",
    "training.epochs=2", "training.batch_size=4", "training.device=cpu", "training.threads=1",
    "augmentation.crop=center", "augmentation.time_masks.n=1", "augmentation.mixup.on=features",
    "augmentation.mixup.p=0.5",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Recordings of two classes and their experiment, in the current folder."""
    rng = np.random.default_rng(0)
    for label in ("low", "high"):
        (tmp_path / "recordings" / label).mkdir(parents=True)
        for i in range(8):
            tone = np.sin(2 * np.pi * (500 if label == "low" else 2000) * np.arange(RATE) / RATE)
            kind = {"subtype": "PCM_16"} if i % 2 else {"subtype": "FLOAT"}
            noise = rng.normal(0, 0.1, RATE)
            soundfile.write(tmp_path / "recordings" / label / f"{i}.wav", 0.3 * tone + noise, RATE, **kind)
    (tmp_path / "recordings" / "low" / "broken.wav").write_bytes(b"RIFF")
    lines = f"{EXPERIMENT}def small() -> Experiment:\n    return override(Experiment(), {SETTINGS})\n"
    (tmp_path / "config.py").write_text(lines)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small(*settings: str) -> Experiment:
    return override(Experiment(), [*SETTINGS, *settings])


def content(run: Path) -> list[object]:
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in read_history(run / HISTORY)]
    return [(run / "weights.safetensors").read_bytes(), rows, (run / "recordings.csv").read_bytes()]


def test_trainings_from_a_cache_are_the_same_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, validation and ledger, from waveforms, features and files; nothing is decoded from a full cache."""
    trainer.train(small(), folder / "fly")
    build("config.py:small", ["data.cache=kept", "training.cache=features"])
    precompute("config.py:small", ["data.cache=kept"], folder / "npy")

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("decoded")

    monkeypatch.setattr(decoding, "read_audio", refuse)
    for name, settings in {
        "waveforms": ("data.cache=kept",),
        "workers": ("data.cache=kept", "training.workers=2"),
        "features": ("data.cache=kept", "training.cache=features"),
    }.items():
        trainer.train(small(*settings), folder / name)
        assert content(folder / name) == content(folder / "fly")
        assert is_finished(folder / name, small())  # it is the run of the same experiment
    trainer.train(small("data.cache=kept", "data.spectrograms=npy"), folder / "files")
    weights = [content(folder / name)[0] for name in ("files", "fly")]
    assert weights[0] == weights[1]  # those of the last epoch; files have one window of a clip for validation
    assert not is_finished(folder / "files", small())
    chosen = resolved(small("data.spectrograms=npy"))
    assert input_changes(folder / "files", chosen) == []
    np.save(next((folder / "npy").rglob("*.npy")), np.zeros((16, 32), np.float32))
    assert input_changes(folder / "files", chosen) == ["the spectrograms changed"]


def test_cache_is_listed_verified_and_cleared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build("config.py:small", ["data.cache=kept", "training.cache=features"])
    assert "1 quarantined" in capsys.readouterr().err
    kept = folder / "kept"
    info(kept)
    listed = capsys.readouterr().out.splitlines()
    assert listed[-1].startswith("3 stores, 49 arrays")  # 17 waveforms, and 2 kinds of features of 16
    verify(kept)
    assert capsys.readouterr().out == "49 arrays read, 0 stores damaged\n"
    first, second, *_ = existing_cache(kept).stores()
    data = bytearray(first.read_bytes())
    data[next(iter(StoreFile(first).entries.values())).start] ^= 1
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:-1])
    with pytest.raises(typer.Exit) as stopped:
        verify(kept)
    assert stopped.value.exit_code == 1 and "2 stores damaged" in capsys.readouterr().out
    held = StoreFile(existing_cache(kept).stores()[0])
    clear(kept)
    assert capsys.readouterr().out == "0 stores removed, 1 in use\n"
    del held
    clear(kept)
    assert capsys.readouterr().out == "1 stores removed, 0 in use\n"
    assert existing_cache(kept).stores() == []
