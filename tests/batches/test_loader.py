from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from birdnet_fs.batches.loader import EpisodeOrder, TrainingBatches
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.schema import (
    Augmentation,
    CutMix,
    Episodes,
    Experiment,
    FrontEnd,
    Masks,
    Mixup,
    Noise,
    Sampling,
    Stretch,
    Training,
)

SPEC = FrontEnd(
    segment_s=0.5, n_mels=16, sample_rate_hz=16_000, n_fft=512, win_length=512, hop_length=256, fmax_hz=8000
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    found = []
    for i in range(7):
        path = folder / f"{i}.wav"
        soundfile.write(path, rng.normal(0, 0.1, 16_000), 16_000)
        found.append(Clip(path=path, onset_s=0.0, offset_s=None, labels=(f"bird{i % 2}",), group=str(i)))
    return found


def batches(clips: list[Clip], workers: int = 0, **training: object) -> TrainingBatches:
    experiment = Experiment(
        seed=3,
        frontend=SPEC,
        augmentation=Augmentation(
            crop="active",
            stretch=Stretch(0.5),
            mixup=Mixup(0.5, per="batch"),
            noise=Noise(0.5),
            time_masks=Masks(1),
            freq_masks=Masks(1, per="batch"),
            cutmix=CutMix(0.5),
        ),
        training=Training(batch_size=3, workers=workers, **training),
    )
    waveforms = Waveforms(clips, 16_000)
    return TrainingBatches(waveforms, np.eye(2, dtype=np.float32)[[i % 2 for i in range(7)]], experiment)


def test_batches_have_shapes_and_every_clip_comes(clips: list[Clip]) -> None:
    one = batches(clips)
    epoch = list(one.epoch(0))
    assert len(epoch) == len(one) == 2  # 7 = 3 + 3 + 1; the single one is left out
    for features, targets, indices in epoch:
        assert features.shape == (3, *SPEC.shape, 1)
        assert features.dtype == targets.dtype == torch.float32
        assert targets.shape == (3, 2)
        assert indices.shape == (3,)
    several = batches(clips, sampling=Sampling(crops_per_clip=3))
    indices = torch.cat([batch[2] for batch in several.epoch(0)])
    assert torch.bincount(indices).tolist() == [3] * 7


def test_epochs_differ_and_come_back_the_same(clips: list[Clip]) -> None:
    one, other = batches(clips), batches(clips)
    first = [b[0] for b in one.epoch(0)]
    second = [b[0] for b in one.epoch(1)]
    assert not torch.equal(first[0], second[0])
    for a, b in zip(second, (b[0] for b in other.epoch(1)), strict=True):  # without drawing epoch 0 before
        assert torch.equal(a, b)


def test_workers_change_nothing(clips: list[Clip]) -> None:
    for a, b in zip(batches(clips).epoch(2), batches(clips, workers=2).epoch(2), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_loading_draws_nothing_from_torchs_generator(clips: list[Clip]) -> None:
    """Else dropout, which does, would depend on the number of workers."""
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for workers in (0, 2):
        list(batches(clips, workers=workers).epoch(1))
        assert torch.equal(torch.get_rng_state(), state)


def test_little_memory_gives_the_same_waveforms(clips: list[Clip]) -> None:
    roomy, tight = Waveforms(clips, 16_000), Waveforms(clips, 16_000, memory_bytes=100_000)
    for i in range(len(clips)):
        np.testing.assert_array_equal(roomy[i], tight[i])


def test_broken_clips_are_listed_and_left_out(clips: list[Clip], tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"<html>not found</html>")
    bad = Clip(path=broken, onset_s=0.0, offset_s=None, labels=("bird0",))
    waveforms = Waveforms([clips[0], bad, clips[1]], 16_000)
    assert [c.path for c in waveforms.clips] == [clips[0].path, clips[1].path]
    assert waveforms.ledger.counts()["quarantined"] == 1
    with pytest.raises(UserError, match=r"None of the 1 clips could be read; the first, .*broken\.wav"):
        Waveforms([bad], 16_000)


def episodes(clips: list[Clip], workers: int = 0, **settings: object) -> TrainingBatches:
    experiment = Experiment(
        seed=3, frontend=SPEC, augmentation=Augmentation(noise=Noise(0.5)), training=Training(workers=workers)
    )
    order = EpisodeOrder(clips, Episodes(**{"n_way": 2, "n_shot": 1, "n_query": 1, "n_train": 6, **settings}), 3)
    targets = np.eye(2, dtype=np.float32)[[i % 2 for i in range(7)]]
    return TrainingBatches(Waveforms(clips, 16_000), targets, experiment, order=order)


def test_an_episode_is_a_batch_class_by_class(clips: list[Clip]) -> None:
    one = episodes(clips, n_shot=2)
    found = [indices.reshape(2, 3) for _, _, indices in one.epoch(0)]
    assert len(found) == len(one) == 6
    for indices in found:  # clips are labeled by their parity, and each is a recording of its own
        assert len(set((indices % 2)[:, 0].tolist())) == 2 and (indices % 2 == indices[:, :1] % 2).all()
        assert all(len(set(own)) == 3 for own in indices.tolist())
    assert any(not torch.equal(a, b[2].reshape(2, 3)) for a, b in zip(found, one.epoch(1), strict=True))


def test_support_and_query_of_one_clip_are_drawn_each_by_itself(clips: list[Clip]) -> None:
    """Three clips of bird1 for an episode of five: some come twice, none three times, never as the same crop."""
    for features, _, indices in episodes(clips, n_shot=3, n_query=2, same_recording=True).epoch(0):
        odd = indices[indices % 2 == 1]
        assert sorted(torch.bincount(odd)[[1, 3, 5]].tolist()) == [1, 2, 2]
        for clip in set(odd.tolist()):
            first, *others = features[indices == clip]
            assert all(not torch.equal(first, other) for other in others)


def test_episodes_are_the_same_with_workers(clips: list[Clip]) -> None:
    for a, b in zip(episodes(clips).epoch(2), episodes(clips, workers=2).epoch(2), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_episodes_keep_recordings_apart(clips: list[Clip]) -> None:
    tapes = [replace(clip, group=str(i // 4)) for i, clip in enumerate(clips)]
    for keys in EpisodeOrder(tapes, Episodes(n_way=2, n_shot=1, n_query=1, n_train=50), 0):
        assert {key.clip // 4 for key in keys[::2]}.isdisjoint(key.clip // 4 for key in keys[1::2])
    with pytest.raises(UserError, match="bird1 has 3 clips, fewer than the 4 of an episode"):
        EpisodeOrder(tapes, Episodes(n_way=2, n_shot=2, n_query=2), 0)


def test_what_a_batch_shares_is_shared_by_its_items_only(clips: list[Clip]) -> None:
    """Masks of bands per batch: one for every batch, one for the support and one for the queries of an episode."""
    masks = Masks(1, lengths=(3, 3), fill="zero", per="batch")
    experiment = Experiment(
        seed=3,
        frontend=SPEC,
        augmentation=Augmentation(freq_masks=masks),
        training=Training(batch_size=3, sampling=Sampling(crops_per_clip=3)),
    )
    targets = np.eye(2, dtype=np.float32)[[i % 2 for i in range(7)]]
    waveforms = Waveforms(clips, 16_000)

    def masked(features: torch.Tensor) -> list[tuple[int, ...]]:
        return [tuple(np.flatnonzero((item == 0).all(axis=0))) for item in features[..., 0].numpy()]

    whole = [masked(features) for features, _, _ in TrainingBatches(waveforms, targets, experiment).epoch(1)]
    assert all(len(set(items)) == 1 and len(items[0]) == 3 for items in whole)
    assert len({items[0] for items in whole}) > 3
    order = EpisodeOrder(clips, Episodes(n_way=2, n_shot=1, n_query=2, n_train=20), 3)
    shared = [
        np.array(masked(features)).reshape(2, 3, -1)
        for features, _, _ in TrainingBatches(waveforms, targets, experiment, order=order).epoch(0)
    ]
    for found in shared:
        assert (found[0] == found[1]).all() and (found[:, 1] == found[:, 2]).all()
    assert any((found[0, 0] != found[0, 1]).any() for found in shared)  # support, query
