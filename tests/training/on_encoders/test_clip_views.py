"""Views of clips: the changes of the augmentation by hand, kept by key, and heads that are fitted to them."""

import dataclasses

import encoder_runs
import foreign_encoders
import numpy as np
import pytest
from embedded_clips import embedded_clips, head_experiment
from installed import need

from birdnet_fs import schema
from birdnet_fs.audio.read import read_audio
from birdnet_fs.data.copies import with_fingerprints
from birdnet_fs.data.manifest import Clip
from birdnet_fs.inference import encode_clips as module
from birdnet_fs.inference.encoder_features import features_of_settings
from birdnet_fs.runs.resolve import is_finished
from birdnet_fs.training.encoder_heads import fit_head
from birdnet_fs.training.encoder_heads.data import Views
from birdnet_fs.training.on_encoders.clip_views import ViewOfClips, encode_views
from birdnet_fs.training.trainer import train

need("onnxruntime")

ATOL = 1e-5  # float32 sums of 100 samples and 32 products of size 1, with a margin of 10
TARGETS = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    file, card = encoder_runs.write_encoder(folder / "encoder")
    root = encoder_runs.write_recordings(folder / "recordings", 2)
    clips = with_fingerprints(Clip(path) for path in sorted(root.rglob("*.wav")))
    return file, card, clips


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("BIRDNET_FS_CACHE", str(tmp_path / "cache"))


def asked(place, n_views: int = 2, *, seed: int = 0, multi_label: bool = False, **augmentation) -> schema.Experiment:
    file, card, _ = place
    model = schema.Model(encoder=str(file), encoder_card=str(card), encoder_head=schema.EncoderHead(n_views=n_views))
    data = schema.Data(multi_label=multi_label)
    return schema.Experiment(seed=seed, model=model, data=data, augmentation=schema.Augmentation(**augmentation))


def views_of(place, experiment, clips=None, **given) -> Views:
    clips = place[2] if clips is None else clips
    features = features_of_settings(experiment.model)
    found = encode_views(features, clips, TARGETS[: len(clips)], experiment, n_labeled=len(clips), **given)
    assert found is not None
    return found


def embedded(waveform: np.ndarray) -> np.ndarray:
    n, hop = encoder_runs.N_SAMPLES, encoder_runs.N_SAMPLES // 2
    windows = np.stack([waveform[i : i + n] for i in range(0, len(waveform) - n + 1, hop)])
    return foreign_encoders.embedding(windows, encoder_runs.WIDTH)


def samples(clip: Clip) -> np.ndarray:
    return read_audio(clip.path, sample_rate_hz=encoder_runs.RATE_HZ).waveform


def test_views_without_changes_are_the_clips(place):
    found = views_of(place, asked(place))
    expected = np.concatenate([embedded(samples(clip)) for clip in place[2]])
    np.testing.assert_allclose(found.features, np.concatenate([expected, expected]), atol=ATOL)
    assert found.clip.tolist() == found.partner.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert found.view.tolist() == np.repeat(np.arange(12), 6).tolist()
    np.testing.assert_array_equal(found.targets, np.concatenate([TARGETS, TARGETS]))


def test_a_shift_is_one_of_the_whole_clip_and_every_view_has_its_own(place):
    """Of all circular shifts, one explains the embeddings of a view, and completely."""
    found = views_of(place, asked(place, shift=schema.Shift(1)))
    waveform, piece, shifts = samples(place[2][0]), encoder_runs.N_SAMPLES // foreign_encoders.N_BANDS, []
    twice = np.concatenate([waveform, waveform]).astype(np.float64)
    means = np.convolve(twice, np.ones(piece) / piece, "valid")  # of the pieces of a window that starts anywhere
    first = np.arange(len(waveform))[:, None] + piece * np.arange(foreign_encoders.N_BANDS)
    every = np.maximum(means[first] @ foreign_encoders.weights(encoder_runs.WIDTH), 0)
    for view in (0, 6):
        rows = found.features[found.view == view]
        errors = np.abs(every - rows[0]).max(1)
        start = int(errors.argmin())
        assert np.sort(errors)[0] < ATOL < np.sort(errors)[1]
        np.testing.assert_allclose(rows, embedded(np.roll(waveform, -start)), atol=ATOL)
        shifts.append(start)
    assert shifts[0] != shifts[1]


def test_a_mixture_has_the_power_and_the_targets_of_both(place):
    experiment = asked(place, n_views=1, mixup=schema.Mixup(1))
    found, clips = views_of(place, experiment), place[2]
    view = ViewOfClips(0, clips, 6, experiment, (), n_samples=encoder_runs.N_SAMPLES, sample_rate_hz=16_000)
    mixtures = [view.mixture(clip) for clip in clips]
    assert [number for number, _ in mixtures] == found.partner.tolist() and len(set(found.partner.tolist())) > 1
    for i, (number, share) in enumerate(mixtures):
        first, second = samples(clips[i]), samples(clips[number])
        level = np.sqrt(np.mean(np.square(first)) / np.mean(np.square(second)))
        mixed = np.sqrt(share) * first + np.sqrt(1 - share) * level * second
        np.testing.assert_allclose(found.features[found.view == i], embedded(mixed), atol=ATOL)
        assert 0.5 <= share <= 1
        np.testing.assert_allclose(found.targets[i], share * TARGETS[i] + (1 - share) * TARGETS[number], rtol=1e-6)
    union = views_of(place, asked(place, n_views=1, mixup=schema.Mixup(1), multi_label=True))
    np.testing.assert_array_equal(union.targets, np.maximum(TARGETS, TARGETS[union.partner]))


def test_views_depend_on_seed_number_and_recording_only(place, tmp_path):
    clips = place[2]
    settings = {"gain_db": 6.0, "noise": schema.Noise(1)}
    found = views_of(place, asked(place, **settings))
    first = found.features[found.view == 0]
    fewer = views_of(place, asked(place, n_views=1, **settings), clips[:1])
    np.testing.assert_array_equal(fewer.features, first)
    moved = tmp_path / "elsewhere.wav"
    moved.write_bytes(clips[0].path.read_bytes())
    again = views_of(place, asked(place, **settings), with_fingerprints([Clip(moved)]))
    np.testing.assert_array_equal(again.features[: len(first)], first)
    other = views_of(place, asked(place, seed=1, **settings))
    assert not np.allclose(other.features[: len(first)], first, atol=100 * ATOL)
    assert not np.allclose(found.features[found.view == 6], first, atol=100 * ATOL)


def test_kept_views_are_read_until_a_setting_seed_or_background_changes(place, monkeypatch):
    clips, noises = place[2], (Clip(place[2][5].path),)
    plain = {"noise": schema.Noise(1), "mixup": schema.Mixup(0.5)}
    found, reads = views_of(place, asked(place, **plain), noises=noises), []
    real = module.read_clip
    monkeypatch.setattr(module, "read_clip", lambda clip, rate: reads.append(clip) or real(clip, rate))
    again = views_of(place, asked(place, **plain), noises=noises)
    np.testing.assert_array_equal(again.features, found.features)
    assert not reads
    for changed, background in (
        (asked(place, **plain, gain_db=1.0), noises),
        (asked(place, seed=5, **plain), noises),
        (asked(place, **plain), ()),
        (asked(place, **plain), (Clip(clips[4].path),)),
    ):
        reads.clear()
        views_of(place, changed, noises=background)
        assert len(reads) == 2 * len(clips)
    reads.clear()
    views_of(place, asked(place, n_views=3, **plain), noises=noises)
    assert len(reads) == len(clips)  # the third view


def test_background_recordings_are_the_noise(place):
    noise = schema.Noise(1, snr_db=(-60.0, -60.0))  # the noise alone, at 1000 times the level of the clip
    background = place[2][5]
    found = views_of(place, asked(place, n_views=1, noise=noise), noises=(background,))
    expected = embedded(samples(background))
    for view in range(6):
        rows = found.features[found.view == view]
        assert np.corrcoef(rows.ravel(), expected.ravel())[0, 1] > 0.999


def test_a_clip_shorter_than_a_window_is_placed_anywhere_in_it(place):
    short = with_fingerprints([Clip(place[2][0].path, 0.0, 0.1)])
    experiment = asked(place, n_views=3)
    view = [
        ViewOfClips(k, short, 1, experiment, (), n_samples=encoder_runs.N_SAMPLES, sample_rate_hz=16_000)
        for k in range(3)
    ]
    waveform = samples(place[2][0])[:1600]
    changed = [each.apply(short[0], waveform) for each in view]
    assert {len(each) for each in changed} == {encoder_runs.N_SAMPLES}
    starts = [int(np.flatnonzero(each)[0]) for each in changed]
    assert len(set(starts)) == 3
    for start, each in zip(starts, changed, strict=True):
        np.testing.assert_array_equal(each[start : start + 1600], waveform[: len(each[start : start + 1600])])


@pytest.mark.parametrize("head", ["linear", "prototypes", "cosine", "mlp"])
def test_a_head_is_fitted_to_views_and_calibrated_on_clips(head):
    """Views that say the opposite of their clips, many of them, turn the head around; its clips are scored plain."""
    data = embedded_clips(2)
    experiment = head_experiment(head, epochs=20, hidden=8)
    n, order = len(data.clip), np.arange(data.n_clips)
    views = Views(
        np.concatenate([data.features] * 5),
        np.concatenate([data.clip + k * data.n_clips for k in range(5)]),
        np.tile(order, 5),
        np.tile(order, 5),
        np.tile(data.targets[:, ::-1], (5, 1)),
    )
    plain = fit_head(data, experiment, ("a", "b"))
    turned = fit_head(dataclasses.replace(data, augmented=views), experiment, ("a", "b"))
    assert plain.history[-1]["train_acc"] > 0.9 and turned.history[-1]["train_acc"] < 0.1
    assert len(data.features) == n


def test_equal_views_change_nothing_but_rounding():
    data = embedded_clips()
    order = np.arange(data.n_clips)
    views = Views(data.features, data.clip, order, order, data.targets)
    experiment = head_experiment("linear", l2=1e-3)
    one = fit_head(data, experiment, ("a", "b", "c"))
    two = fit_head(dataclasses.replace(data, augmented=views), experiment, ("a", "b", "c"))
    for path, value in one.weights.items():
        np.testing.assert_allclose(two.weights[path], value, rtol=1e-3, atol=1e-3)  # each fit ends near its optimum
    assert two.choices == one.choices == {}


def test_views_are_part_of_a_run(place, tmp_path):
    file, card, clips = place
    given = schema.Augmentation(shift=schema.Shift(1), mixup=schema.Mixup(0.5))
    plain = encoder_runs.experiment(file, card, clips[0].path.parent.parent)
    head = dataclasses.replace(plain.model.encoder_head, n_views=2)
    experiment = dataclasses.replace(
        plain, augmentation=given, model=dataclasses.replace(plain.model, encoder_head=head)
    )
    run = train(experiment, tmp_path / "run")
    assert run.experiment.augmentation == given and run.experiment.model.encoder_head.n_views == 2
    assert is_finished(run.path, experiment) and not is_finished(run.path, plain)
