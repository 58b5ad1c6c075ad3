"""Damaged files of all formats: none crashes, hangs, or is shorter than it was and called ok.

The full campaign has 24,000 files, a seeded twentieth of them in the default tests. `STATES_LENGTH` lists the
containers that state a length or an end; without such a statement a file that was cut cannot be recognized, and is
flagged.
"""

import time
from collections import Counter

import numpy as np
import pytest
from mutated_files import NOT_STATED, STATES_LENGTH, Seed, make_seeds, mutate

from birdnet_fs.audio import read as audio

N_CAMPAIGN = 24_000
CPU_LIMIT_S = 2.0


@pytest.fixture(scope="module")
def seeds() -> list[Seed]:
    return make_seeds()


def test_every_container_is_in_one_of_the_two_lists(seeds):
    assert {seed.container for seed in seeds} == {*STATES_LENGTH, *NOT_STATED}
    assert len(seeds) > 90


def test_intact_files_of_every_format_are_ok_and_whole(seeds, tmp_path):
    for seed in seeds:
        path = tmp_path / f"x.{seed.container.lower()}"
        path.write_bytes(seed.raw)
        found = audio.read_audio(path, sample_rate_hz=seed.rate)
        assert (found.status, found.reason) == ("ok", ""), seed.name
        assert 0 <= len(found.waveform) - seed.n_samples <= seed.block or len(found.waveform) == seed.n_samples, (
            seed.name
        )
        assert ("length_not_stated" in found.flags) == (seed.container in (*NOT_STATED, "HTK")), seed.name
        assert audio.duration_s(path) == found.duration_s == audio.check_audio(path).duration_s, seed.name


class Campaign:
    """Mutates files, reads them and counts what came of them."""

    def __init__(self, seeds: list[Seed], folder) -> None:
        self.seeds, self.folder = seeds, folder
        self.counts: Counter[tuple[str, str]] = Counter()  # (container, status)
        self.wrong: list[str] = []
        self.slowest = 0.0

    def run(self, number: int) -> None:
        seed = self.seeds[number % len(self.seeds)]
        kind, raw = mutate(seed.raw, np.random.default_rng(number), seed.raw)
        path = self.folder / f"m.{seed.container.lower()}"
        path.write_bytes(raw)
        begin = time.process_time()
        try:
            found = audio.read_audio(path, sample_rate_hz=seed.rate)
        except audio.AudioError as error:
            status, n, flags = "quarantined", 0, ()
            well_formed = bool(error.reason) and error.path == path
        else:
            status, n, flags = found.status, len(found.waveform), found.flags
            x = found.waveform
            well_formed = (
                (status == "ok") == (not found.reason) and x.dtype == np.float32 and bool(np.isfinite(x).all())
            )
        spent = time.process_time() - begin
        self.slowest = max(self.slowest, spent)
        self.counts[seed.container, status] += 1
        expected = (seed.n_samples - seed.block) * (2 if kind == "join" else 1)
        checked = seed.container in ("OGG", "FLAC", "MP3")  # by checksums or the number of frames, also inside
        lasting = kind in ("cut", "join") or (checked and kind in ("delete", "zeros", "flip"))
        short = status == "ok" and n < expected and seed.states_length and lasting
        unsaid = kind == "cut" and status == "ok" and seed.container in NOT_STATED and "length_not_stated" not in flags
        tagged = kind == "tag" and seed.container == "MP3" and status != "ok"
        try:
            whole = audio.check_audio(path).status
            audio.read_audio(path, sample_rate_hz=seed.rate, onset_s=0.2, duration_s=0.1)
            audio.duration_s(path)
        except audio.AudioError:
            whole = status
        faults = {
            "malformed": not well_formed,
            f"{spent:.1f} s": spent > CPU_LIMIT_S,
            f"short: {n} of {expected}": short,
            "length_not_stated is missing": unsaid,
            "damaged by a tag": tagged,
            f"check_audio: {whole}": whole != status and status != "quarantined",
        }
        self.wrong += [f"{number} {seed.name} {kind}: {fault}" for fault, found in faults.items() if found]


def test_a_twentieth_of_the_campaign(seeds, tmp_path):
    campaign = Campaign(seeds, tmp_path)
    for number in range(7, N_CAMPAIGN, 20):
        campaign.run(number)
    assert campaign.wrong == []
    assert {status for _, status in campaign.counts} == {"ok", "partial", "quarantined"}


@pytest.mark.slow
def test_the_whole_campaign(seeds, tmp_path):
    campaign = Campaign(seeds, tmp_path)
    for number in range(N_CAMPAIGN):
        campaign.run(number)
    for container in (*STATES_LENGTH, *NOT_STATED):
        row = {status: campaign.counts[container, status] for status in ("ok", "partial", "quarantined")}
        print(container, row)
    print(f"slowest read: {campaign.slowest:.3f} s of CPU")
    assert campaign.wrong == [] and sum(campaign.counts.values()) == N_CAMPAIGN
