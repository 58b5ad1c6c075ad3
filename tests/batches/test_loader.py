"""Batches of clips and of episodes: shapes, order, sampling and independence of workers."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from birdnet_fs.batches.augment.crop import center
from birdnet_fs.batches.loader import EpisodeOrder, TrainingBatches, _Order
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.frontend.in_numpy import log_mel
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


def test_batches_have_shapes_and_hold_every_clip(clips: list[Clip]) -> None:
    one = batches(clips)
    epoch = list(one.epoch(0))
    assert len(epoch) == len(one) == 2  # 7 = 3 + 3 + 1; a batch of one is dropped
    for features, targets, indices in epoch:
        assert features.shape == (3, *SPEC.shape, 1)
        assert features.dtype == targets.dtype == torch.float32
        assert targets.shape == (3, 2)
        assert indices.shape == (3,)
    several = batches(clips, sampling=Sampling(crops_per_clip=3))
    indices = torch.cat([batch[2] for batch in several.epoch(0)])
    assert torch.bincount(indices).tolist() == [3] * 7


def test_epochs_differ_and_are_reproducible(clips: list[Clip]) -> None:
    one, other = batches(clips), batches(clips)
    first = [b[0] for b in one.epoch(0)]
    second = [b[0] for b in one.epoch(1)]
    assert not torch.equal(first[0], second[0])
    for a, b in zip(second, (b[0] for b in other.epoch(1)), strict=True):  # without drawing epoch 0 before
        assert torch.equal(a, b)


def test_batches_do_not_depend_on_workers(clips: list[Clip]) -> None:
    for a, b in zip(batches(clips).epoch(2), batches(clips, workers=2).epoch(2), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_loading_draws_nothing_from_torchs_generator(clips: list[Clip]) -> None:
    """Otherwise dropout, which does, would depend on the number of workers."""
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for workers in (0, 2):
        list(batches(clips, workers=workers).epoch(1))
        assert torch.equal(torch.get_rng_state(), state)


def episodes(clips: list[Clip], workers: int = 0, **settings: object) -> TrainingBatches:
    experiment = Experiment(
        seed=3, frontend=SPEC, augmentation=Augmentation(noise=Noise(0.5)), training=Training(workers=workers)
    )
    order = EpisodeOrder(clips, Episodes(**{"n_way": 2, "n_shot": 1, "n_query": 1, "n_train": 6, **settings}), 3)
    targets = np.eye(2, dtype=np.float32)[[i % 2 for i in range(7)]]
    return TrainingBatches(Waveforms(clips, 16_000), targets, experiment, order=order)


def test_episode_is_one_batch_class_by_class(clips: list[Clip]) -> None:
    one = episodes(clips, n_shot=2)
    found = [indices.reshape(2, 3) for _, _, indices in one.epoch(0)]
    assert len(found) == len(one) == 6
    for indices in found:  # clips are labeled by their parity, and each is a recording of its own
        assert len(set((indices % 2)[:, 0].tolist())) == 2 and (indices % 2 == indices[:, :1] % 2).all()
        assert all(len(set(own)) == 3 for own in indices.tolist())
    assert any(not torch.equal(a, b[2].reshape(2, 3)) for a, b in zip(found, one.epoch(1), strict=True))


def test_repeated_clips_of_an_episode_are_different_crops(clips: list[Clip]) -> None:
    """Three clips of bird1 in an episode of five: some occur twice, none three times, never as the same crop."""
    for features, _, indices in episodes(clips, n_shot=3, n_query=2, same_recording=True).epoch(0):
        odd = indices[indices % 2 == 1]
        assert sorted(torch.bincount(odd)[[1, 3, 5]].tolist()) == [1, 2, 2]
        for clip in set(odd.tolist()):
            first, *others = features[indices == clip]
            assert all(not torch.equal(first, other) for other in others)


def test_episodes_do_not_depend_on_workers(clips: list[Clip]) -> None:
    for a, b in zip(episodes(clips).epoch(2), episodes(clips, workers=2).epoch(2), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_episodes_keep_recordings_apart(clips: list[Clip]) -> None:
    tapes = [replace(clip, group=str(i // 4)) for i, clip in enumerate(clips)]
    for keys in EpisodeOrder(tapes, Episodes(n_way=2, n_shot=1, n_query=1, n_train=50), 0):
        assert {key.clip // 4 for key in keys[::2]}.isdisjoint(key.clip // 4 for key in keys[1::2])
    with pytest.raises(UserError, match="bird1 has 3 clips, fewer than the 4 of an episode"):
        EpisodeOrder(tapes, Episodes(n_way=2, n_shot=2, n_query=2), 0)


@pytest.mark.parametrize("per", ["segment", "batch"])
def test_mixup_in_episodes_mixes_queries_with_queries_of_the_episode(clips: list[Clip], per: str) -> None:
    """Item by item, from the features of whole clips: support stays as it is, queries are weighted means of two."""
    waveforms, spec = Waveforms(clips, 16_000), replace(SPEC, segment_s=4.0)  # longer than the clips: no random crop
    settings = Augmentation(crop="center", mixup=Mixup(1.0, on="features", per=per))
    experiment = Experiment(seed=3, frontend=spec, augmentation=settings)
    order = EpisodeOrder(clips, Episodes(n_way=2, n_shot=1, n_query=2, n_train=10), 3)
    targets = np.eye(2, dtype=np.float32)[[i % 2 for i in range(7)]]
    alone = [log_mel(center(waveforms[i], spec.n_samples), spec)[0] for i in range(7)]
    n_across = n_open = 0
    for features, found, indices in TrainingBatches(waveforms, targets, experiment, order=order).epoch(1):
        features, shares, queries = features[..., 0].numpy(), [], [i for i in range(6) if i % 3]
        partners = []
        for i, clip in enumerate(indices.tolist()):
            if i not in queries:
                np.testing.assert_array_equal(features[i], alone[clip])
                np.testing.assert_array_equal(found[i], targets[clip])
                continue
            fits = []
            for other in indices[queries].tolist():
                difference = (alone[clip] - alone[other]).ravel()
                size = float(difference @ difference)
                share = float((features[i] - alone[other]).ravel() @ difference) / size if size else 1.0
                mixed = share * alone[clip] + (1 - share) * alone[other]
                fits.append((np.abs(features[i] - mixed).max(), share, other))
            error, share, other = min(fits)
            assert error < 1e-3 and 0 <= share <= 1 + 1e-6
            np.testing.assert_allclose(found[i], share * targets[clip] + (1 - share) * targets[other], atol=1e-4)
            shares.append(share if other != clip else None)
            partners.append(other)
            n_across += int(other % 2 != clip % 2)
            n_open += int(0.02 < share < 0.98)
        drawn = [share for share in shares if share is not None and 0.001 < share < 0.999]
        assert per == "segment" or not drawn or max(drawn) - min(drawn) < 1e-3
    assert n_across > 5 and n_open > 5


def test_order_of_episodes_gives_each_query_another_query_of_its_episode(clips: list[Clip]) -> None:
    settings = Episodes(n_way=2, n_shot=1, n_query=2, n_train=20)
    order = EpisodeOrder(clips, settings, 3)
    for keys in order:
        queries = [key for i, key in enumerate(keys) if i % 3]
        assert all(key.partner is None for key in keys[::3])
        assert sorted(key.partner for key in queries) == sorted(key.clip for key in queries)
    order.first = 15  # a resumed epoch has the same pairs
    assert list(order) == list(EpisodeOrder(clips, settings, 3))[15:]


def test_draws_per_batch_are_shared_within_the_batch(clips: list[Clip]) -> None:
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


COUNTS = np.array([90, 60, 6, 0])
TARGETS = np.eye(4, dtype=np.float32)[np.repeat(np.arange(4), COUNTS)]


def order(**settings) -> _Order:
    training = Training(batch_size=10, sampling=Sampling(**settings))
    return _Order(TARGETS, Experiment(seed=3, training=training))


def clips_of(order: _Order, epoch: int = 0) -> list[int]:
    order.epoch = epoch
    return [key.clip for batch in order for key in batch]


def test_sampling_all_gives_every_clip_in_seeded_order() -> None:
    rng = generator(3, Stream.ORDER, 0)
    assert clips_of(order()) == rng.permutation(156).tolist()
    assert Counter(clips_of(order(crops_per_clip=2))) == dict.fromkeys(range(156), 2)


def test_inverse_sampling_balances_classes() -> None:
    drawn = order(name="inverse", crops_per_clip=4)
    labels = np.concatenate([TARGETS[clips_of(drawn, epoch)].argmax(1) for epoch in range(10)])
    assert len(labels) == 10 * 4 * 156
    shares = np.bincount(labels, minlength=4) / len(labels)
    standard_error = (2 / 9 / len(labels)) ** 0.5
    assert np.abs(shares[:3] - 1 / 3).max() < 4 * standard_error and shares[3] == 0
    assert clips_of(drawn, 5) == clips_of(order(name="inverse", crops_per_clip=4), 5) != clips_of(drawn, 6)


def test_epochs_are_repeated_up_to_the_least_number_of_steps() -> None:
    few = np.eye(2, dtype=np.float32)[[0, 0, 1, 1, 1]]
    for batch_size, epochs, min_steps in ((4, 3, 20), (16, 10, 95), (2, 1, 1)):
        training = Training(batch_size=batch_size, epochs=epochs, min_steps=min_steps)
        drawn = _Order(few, Experiment(seed=3, training=training))
        assert min_steps <= epochs * len(drawn) <= max(min_steps + 3 * epochs, epochs * 3)
        counts = Counter(clips_of(drawn))
        assert max(counts.values()) == min(counts.values())


def test_epochs_are_parts_up_to_the_largest_number_of_steps() -> None:
    training = Training(batch_size=10, epochs=4, max_steps=30)
    drawn = _Order(TARGETS, Experiment(seed=3, training=training))
    assert len(drawn) == 7
    epochs = [clips_of(drawn, epoch) for epoch in range(4)]
    assert all(len(set(epoch)) == 70 for epoch in epochs) and len(set.union(*map(set, epochs))) > 120


def test_crops_by_length_give_long_clips_more() -> None:
    few = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
    training = Training(batch_size=10, sampling=Sampling(seconds_per_crop=3.0, crops_per_clip=2))
    drawn = _Order(few, Experiment(seed=3, training=training), durations_s=(1.0, 6.4, 9.0, 3600.0))
    assert Counter(clips_of(drawn)) == {0: 2, 1: 4, 2: 6, 3: 40}
    with pytest.raises(UserError, match=r"training\.sampling\.seconds_per_crop and min_clips_per_class"):
        Sampling(seconds_per_crop=3.0, min_clips_per_class=4)


def test_over_and_undersampling_reach_their_limits() -> None:
    drawn = order(min_clips_per_class=20, max_clips_per_class=60)
    counts = Counter(clips_of(drawn))
    labels = np.repeat(np.arange(4), COUNTS)
    by_class = [sum(n for clip, n in counts.items() if labels[clip] == c) for c in range(4)]
    assert by_class == [60, 60, 20, 0]
    assert sorted(n for clip, n in counts.items() if labels[clip] == 2) == [3, 3, 3, 3, 4, 4]
    assert all(n == 1 for clip, n in counts.items() if labels[clip] != 2)
    assert set(clips_of(drawn, 1)) != set(counts)  # another draw of the large class
    assert len(drawn) == 14
