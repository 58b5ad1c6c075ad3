"""The page of `birdnet-fs show augment`: whole, self-contained, and true to the chain."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from html_page import check_page
from PIL import Image

from birdnet_fs.batches.augment.item_random import ItemKey
from birdnet_fs.batches.augment.pipeline import AugmentationPipeline
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.reports.augment import report_on_augmentation
from birdnet_fs.schema import Augmentation, CutMix, Data, Experiment, FrontEnd, Levels, Masks, Mixup, Noise, Pitch

SPEC = FrontEnd(
    segment_s=0.5, n_mels=16, sample_rate_hz=16_000, n_fft=512, win_length=512, hop_length=256, fmax_hz=8000
)
NAMES = ("<b>wren", "owl & co")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for name in NAMES:
        (folder / name).mkdir()
        for i in range(3):
            soundfile.write(folder / name / f"{i}.wav", rng.normal(0, 0.1, 16_000), 16_000)
    return folder


def experiment(root: Path, augmentation: Augmentation) -> Experiment:
    return Experiment(name="<i>x", data=Data(root=str(root), fold=-1), frontend=SPEC, augmentation=augmentation)


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r"base64,([^\"]+)", html)
    return [np.array(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")) for text in found]


def test_the_page_is_whole_and_loads_nothing(recordings: Path, tmp_path: Path) -> None:
    settings = Augmentation(
        mixup=Mixup(1), noise=Noise(1), pitch=Pitch(1), time_masks=Masks(2), levels=Levels(1), cutmix=CutMix(1)
    )
    report_on_augmentation(experiment(recordings, settings), tmp_path / "a.html", n_clips=3, n_draws=2)
    html = (tmp_path / "a.html").read_text()
    found = pictures(html)
    assert len(found) == 2 * 3 * 2
    assert all(picture.shape == (SPEC.n_mels, SPEC.n_frames_stft, 3) for picture in found)
    check_page(html)
    assert not re.search(r"<b>wren|<i>x", html)
    assert "&lt;b&gt;wren" in html and "owl &amp; co" in html
    for key in ("mixup.p", "noise.p", "pitch.p", "time_masks.n", "levels.p", "cutmix.p"):
        assert f'<td class="key">{key}</td>' in html
    assert '<td class="key">stretch.p</td>' not in html  # in what is switched on
    for words in ("of the power from", "semitones", "white noise", "masked", "cut from", "features x"):
        assert words in html


def test_what_is_shown_is_what_training_is_given(recordings: Path, tmp_path: Path) -> None:
    chosen = experiment(recordings, Augmentation(time_masks=Masks(1, lengths=(9, 9))))
    report_on_augmentation(chosen, tmp_path / "a.html", n_clips=1, n_draws=3)
    html = (tmp_path / "a.html").read_text()
    path = recordings / NAMES[0] / "0.wav"
    chain = AugmentationPipeline(
        Waveforms([Clip(path=path, labels=(NAMES[0],))], 16_000), np.eye(2, dtype=np.float32), chosen
    )
    found = pictures(html)
    for epoch in range(3):
        item = chain.item(ItemKey(epoch, 0, 0, 0))
        assert item.changes[0] in html
        frames = [int(n) for n in re.findall(r"\d+", item.changes[0])]
        before, after = found[2 * epoch], found[2 * epoch + 1]
        masked = np.flatnonzero((after == after[0]).all(axis=(0, 2)))
        assert masked.tolist() == list(range(*frames))
        kept = np.setdiff1d(np.arange(SPEC.n_frames_stft), masked)
        np.testing.assert_array_equal(before[:, kept], after[:, kept])


def test_page_without_augmentation_shows_unchanged_crops(recordings: Path, tmp_path: Path) -> None:
    report_on_augmentation(experiment(recordings, Augmentation()), tmp_path / "a.html", n_clips=2, n_draws=1)
    html = (tmp_path / "a.html").read_text()
    assert "Only random crops." in html and html.count("unchanged crop") == 2
    before, after = pictures(html)[:2]
    np.testing.assert_array_equal(before, after)


def test_a_broken_clip_is_named_and_the_page_comes(recordings: Path, tmp_path: Path) -> None:
    root = tmp_path / "more"
    (root / "wren").mkdir(parents=True)
    (root / "wren" / "0.wav").write_bytes((recordings / NAMES[0] / "0.wav").read_bytes())
    (root / "wren" / "1.wav").write_bytes(b"RIFF not a recording")
    report_on_augmentation(experiment(root, Augmentation()), tmp_path / "a.html", n_clips=2, n_draws=1)
    html = (tmp_path / "a.html").read_text()
    assert len(pictures(html)) == 2
    assert "1.wav" in html


def test_wrong_counts_are_refused(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be 1 or more\. Received: 0 and 4"):
        report_on_augmentation(experiment(recordings, Augmentation()), tmp_path / "a.html", n_clips=0)
