"""`birdnet-fs cache`: fill, list, verify and clear the folder of `data.cache`, and write spectrograms as .npy files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdnet_fs.cli.commands import group
from birdnet_fs.cli.completion import ConfiguredExperiment, setting_words
from birdnet_fs.core.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from birdnet_fs import schema
    from birdnet_fs.data.manifest import Clip

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of data.cache.")]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings, as data.cache=FOLDER.", autocompletion=setting_words),
]


def build(experiment: ConfiguredExperiment, settings: Settings = None) -> None:
    """Decode all clips of an experiment into data.cache before jobs start: of all folds, and of its pretraining.

    With training.cache=features the features for training and validation are computed too. Given again after an
    interruption, it goes on.
    """
    from birdnet_fs.core.errors import UserError

    chosen = _loaded(experiment, settings)
    if not chosen.data.cache:
        raise UserError("The folder of the cache is missing; add data.cache=FOLDER.")
    from birdnet_fs.batches.cache.features import ClipFeatures
    from birdnet_fs.batches.cache.waveforms import waveform_reader
    from birdnet_fs.data.windows import clip_rule

    read = waveform_reader(chosen.data)
    for part in _with_pretraining(chosen):
        clips, noises = _clips(part)
        spec = part.frontend
        waveforms = read([*clips, *noises], spec.sample_rate_hz)
        say(f"{part.name}: {waveforms.ledger.summary()}")
        if part.training.cache == "features":
            labeled = read(clips, spec.sample_rate_hz)
            ClipFeatures(labeled, spec)
            ClipFeatures(labeled, spec, clip_rule(spec.n_samples, spec.sample_rate_hz, part.data.clip_hop_s))
    info(Path(chosen.data.cache))


def info(folder: Folder) -> None:
    """List the stores of a cache: arrays, size, time of the last use, and whether a training has them open."""
    from birdnet_fs.batches.cache.folder import describe_stores, existing_cache

    rows = list(describe_stores(existing_cache(folder)))
    print(f"{'store':48} {'arrays':>8} {'MB':>10} {'used':>10}")
    for row in rows:
        state = (row.damage and "  damaged") or (row.in_use and "  in use") or ""
        used = f"{row.used_s_ago / 3600:.1f} h ago"
        print(f"{row.path.name:48} {row.n_arrays:8d} {row.n_bytes / 1e6:10.1f} {used:>10}{state}")
    n_arrays, n_bytes = sum(row.n_arrays for row in rows), sum(row.n_bytes for row in rows)
    print(f"{len(rows)} stores, {n_arrays} arrays, {n_bytes / 1e9:.3f} GB")


def verify(folder: Folder) -> None:
    """Read all arrays of a cache and compare them with their checksums; damaged stores are removed.

    The exit status is 1 when one was damaged. The next training writes what is missing.
    """
    from birdnet_fs.batches.cache.folder import describe_stores, discard, existing_cache
    from birdnet_fs.core.progress import track

    cache = existing_cache(folder)
    n_arrays = n_damaged = 0
    for row in track(describe_stores(cache, verify=True), "verifying", total=len(cache.stores()), unit="store"):
        n_arrays += row.n_arrays
        if row.damage:
            n_damaged += 1
            discard(row.path, row.damage)
    print(f"{n_arrays} arrays read, {n_damaged} stores damaged")
    if n_damaged:
        raise typer.Exit(1)


def clear(folder: Folder) -> None:
    """Remove everything from a cache that no training has open."""
    from birdnet_fs.batches.cache.folder import clear as clear_cache
    from birdnet_fs.batches.cache.folder import existing_cache

    n_removed, n_in_use = clear_cache(existing_cache(folder))
    print(f"{n_removed} stores removed, {n_in_use} in use")


def precompute(
    experiment: ConfiguredExperiment,
    settings: Settings = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the .npy files.")] = None,
) -> None:
    """Write the spectrogram of the middle segment of every clip as a .npy file, [n_mels, n_frames] in float32.

    The names are those of the recordings below data.root. data.spectrograms=FOLDER trains from them. Given again after
    an interruption, it goes on.
    """
    from birdnet_fs.core.errors import UserError
    from birdnet_fs.core.files import check_output

    if output is None:
        raise UserError("The output folder is missing; add -o FOLDER.")
    check_output(output)
    chosen = _loaded(experiment, settings)
    from birdnet_fs.batches.cache.spectrogram_files import write_spectrograms
    from birdnet_fs.batches.cache.waveforms import waveform_reader
    from birdnet_fs.core.lock import folder_lock

    with folder_lock(output):
        clips, _ = _clips(chosen)
        waveforms = waveform_reader(chosen.data)(clips, chosen.frontend.sample_rate_hz)
        say(waveforms.ledger.summary())
        n_written = write_spectrograms(waveforms, chosen.frontend, output, chosen.data.root)
    print(f"{n_written} spectrograms written, {len(waveforms)} clips: {output}")


def _loaded(experiment: str, settings: list[str] | None) -> "schema.Experiment":
    from birdnet_fs.cli.checks import check_experiment
    from birdnet_fs.cli.experiment import load_experiment

    chosen = load_experiment(experiment, settings or [])
    check_experiment(chosen)
    from birdnet_fs.runs.resolve import resolved

    return resolved(chosen)


def _with_pretraining(experiment: "schema.Experiment") -> "Iterator[schema.Experiment]":
    """The pretraining first, with the cache of its experiment."""
    from birdnet_fs.runs.resolve import with_neutral_settings

    if experiment.pretrain:
        yield from _with_pretraining(with_neutral_settings(experiment.pretrain, experiment))
    yield experiment


def _clips(experiment: "schema.Experiment") -> "tuple[list[Clip], list[Clip]]":
    """The clips of all parts of an experiment, and its background recordings."""
    from birdnet_fs.data.manifest import read_background
    from birdnet_fs.data.partition import partition

    parts = partition(experiment)
    noises = read_background(experiment.data).clips if experiment.augmentation.uses_background else ()
    return [*parts.train, *parts.val, *parts.held_out], list(noises)


cache = group(
    "cache",
    "Decoded clips and features that trainings keep on disk (data.cache).",
    (build, info, verify, clear, precompute),
)
