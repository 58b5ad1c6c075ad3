"""Training of a head on foreign encoders: the clips are embedded once, and the head is fitted to their embeddings."""

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.progress import say
from birdnet_fs.core.settings import flat
from birdnet_fs.core.text import escaped
from birdnet_fs.data.partition import PARTITION, Partition, partition, write_partition
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.encoders.reference import CHOSEN, COPIES, RunEncoders, encoder_paths, write_encoders
from birdnet_fs.inference.activations import to_probabilities
from birdnet_fs.inference.clips import mean_over_windows
from birdnet_fs.inference.encode_clips import EncodedClips, encode_clips
from birdnet_fs.inference.encoder_features import EncoderFeatures, features_of_settings, open_features, references
from birdnet_fs.inference.engine import lowered_network
from birdnet_fs.models.heads.own_scores import build_head_with_own_scores
from birdnet_fs.runs import inputs, provenance
from birdnet_fs.runs.history import HISTORY, Row, write_history
from birdnet_fs.runs.resolve import resolved
from birdnet_fs.runs.run import Run, save_run
from birdnet_fs.training import prepare, pseudo_labels
from birdnet_fs.training.encoder_heads import FittedHead, HeadData, fit_head
from birdnet_fs.training.encoder_heads.data import Views
from birdnet_fs.training.encoder_heads.own_scores import calibrated_own_scores
from birdnet_fs.training.on_encoders.clip_views import encode_views
from birdnet_fs.training.validation import validation_metrics

Watch = Callable[[str, Sequence[Row]], None]  # (name of the monitored column, rows of the history)
MONITOR = "val_macro_auroc"


def train_head(
    experiment: schema.Experiment, output: Path, *, copy_encoder: bool = False, watch: Watch | None = None
) -> Run:
    """Fit the head of an experiment on its encoders.

    Settings, recordings and labels that cannot be used give a UserError before anything is decoded.

    Args:
        experiment: Settings, from `inference.encoder_settings.with_encoder`.
        output: The run folder; an earlier run there is replaced in one step.
        copy_encoder: Whether the files of the encoders are copied into the run, for people who may do so by their
            license. Default: False.
        watch: Called with the monitored column and the history when the head is fitted; ends the training by raising.

    Returns:
        The run: weights of the head, settings with what was chosen, classes, versions, `encoder.json`, `partition.csv`,
        `history.csv` and `recordings.csv`.
    """
    experiment, parts, features = check_head_training(experiment)
    made_from = inputs.training_inputs(experiment, parts)
    parts = prepare.with_leaks_reported(parts)
    windows = pseudo_labels.read_pseudo_labels(experiment, parts)
    if windows is not None:
        provenance.refuse_labels(experiment, parts)
        parts = dataclasses.replace(parts, pseudo_labels=windows.clips)
    own = [Path(path) for path in encoder_paths(experiment.model.encoder) if Path(path).is_dir()]
    for folder in own:
        provenance.refuse_trained_on(folder, parts, "choose another model.encoder, for a fold one of the same fold")
    base_runs = [*own, *provenance.labeling_runs(experiment)]
    parts = dataclasses.replace(parts, inherited=provenance.inherited(base_runs, (*parts.train, *parts.pseudo_labels)))
    for facts in features.facts:
        if facts.license:
            say(f"encoder {facts.name}: {escaped(facts.path)}, license {facts.license}")
    hop_s = experiment.data.clip_hop_s
    encoded = encode_clips(features, (*parts.train, *parts.pseudo_labels), "embedding training clips", hop_s=hop_s)
    if encoded.ledger.counts()["quarantined"]:
        say(encoded.ledger.summary())
    windows = windows.readable(parts.train, encoded.clips) if windows else None
    n_labeled = len(encoded.clips) - (len(windows.clips) if windows else 0)
    data = experiment.data
    targets = clip_targets(encoded.clips[:n_labeled], parts.classes, multi_label=data.multi_label, data=data)
    if windows:
        targets = np.concatenate([targets, windows.targets])
    say(
        f"{experiment.name}: a head on {len(encoded.features)} embeddings of {len(encoded.clips)} clips, "
        f"{len(parts.classes)} classes"
    )
    noises = prepare.background_noise(experiment, parts) if experiment.model.encoder_head.n_views else ()
    views = encode_views(features, encoded.clips, targets, experiment, n_labeled=n_labeled, noises=noises)
    if views is not None:
        say(f"{len(views.clip)} augmented views of these clips have {len(views.features)} embeddings more.")
    of_head = head_data(encoded, targets, views)
    fitted = _fitted(of_head, features, experiment, parts.classes)
    for remark in fitted.remarks:
        say(remark)
    if parts.val:
        row = _validated(fitted, features, parts, data)
        fitted = dataclasses.replace(fitted, history=[*fitted.history[:-1], {**fitted.history[-1], **row}])
    if watch is not None:
        watch(MONITOR, fitted.history)
    return _save(output, experiment, parts, features, fitted, encoded, made_from, copy_encoder)


def check_head_training(experiment: schema.Experiment) -> tuple[schema.Experiment, Partition, EncoderFeatures]:
    """Check the settings, labels and encoders of a head before a recording is decoded; UserErrors are passed on.

    Args:
        experiment: Settings, from `inference.encoder_settings.with_encoder`.

    Returns:
        The resolved settings, the divided clips without fingerprints and pseudo-labels, and the encoders.
    """
    experiment = resolved(experiment)
    parts = partition(experiment)
    features = features_of_settings(experiment.model, parts.classes, threads=experiment.training.threads)
    prepare.check_clips(experiment, parts)
    return experiment, parts, features


def _validated(fitted: FittedHead, features: EncoderFeatures, parts: Partition, data: schema.Data) -> Row:
    """Metrics on the validation clips."""
    encoded = encode_clips(features, parts.val, "embedding validation clips", hop_s=data.clip_hop_s)
    n_own = len(features.own.columns)
    model = build_head_with_own_scores(fitted.model, features.input_shape, len(parts.classes), n_own)
    for variable in model.weights:
        if variable.path in fitted.weights:
            variable.assign(fitted.weights[variable.path])
    probabilities = to_probabilities(lowered_network(model)(encoded.features), data.activation)
    scores = mean_over_windows(probabilities, encoded.n_windows)
    targets = clip_targets(encoded.clips, parts.classes, multi_label=data.multi_label)
    return validation_metrics(targets, scores, parts.classes, multi_label=data.multi_label)


def head_data(encoded: EncodedClips, targets: np.ndarray, augmented: Views | None = None) -> HeadData:
    """Data that a head is fitted to.

    Args:
        encoded: The embeddings.
        targets: float32 [n_clips, n_classes], 0..1; -1 = unknown.
        augmented: Augmented copies of the clips. Default: None.

    Returns:
        Embeddings, clips, targets and recording groups.
    """
    groups = [clip.recording_group for clip in encoded.clips]
    return HeadData(encoded.features, encoded.clip_of_window, targets, groups, augmented)


def _fitted(
    whole: HeadData, features: EncoderFeatures, experiment: schema.Experiment, classes: Sequence[str]
) -> FittedHead:
    """The head, with the encoder's own scores where it reads them."""
    known, width, views = features.own.classes, features.width, whole.augmented
    if not known:
        return fit_head(whole, experiment, classes)
    own = whole.features[:, width:]
    if experiment.model.encoder_head.own_scores == "blend":
        views = views and dataclasses.replace(views, features=views.features[:, :width])
        data = dataclasses.replace(whole, features=whole.features[:, :width], augmented=views)
        blend = calibrated_own_scores(own, known, data, multi_label=experiment.data.multi_label)
        return fit_head(data, experiment, classes, blend)
    views = views and dataclasses.replace(views, features=views.features[:, :width], own=views.features[:, width:])
    data = dataclasses.replace(whole, features=whole.features[:, :width], augmented=views, own=own)
    fitted = fit_head(data, experiment, classes)
    remark = f"The encoder's own scores of {len(known)} of {len(classes)} classes are inputs of the last layer."
    return dataclasses.replace(fitted, remarks=[*fitted.remarks, remark])


def _save(
    output: Path,
    experiment: schema.Experiment,
    parts: Partition,
    features: EncoderFeatures,
    fitted: FittedHead,
    encoded: EncodedClips,
    made_from: dict[str, Any],
    copy_encoder: bool,
) -> Run:
    chosen = dataclasses.replace(experiment, model=fitted.model)
    before, after = flat(experiment), flat(chosen)
    asked = {key: before[key] for key in CHOSEN if before[key] != after[key]}
    about = RunEncoders(
        tuple(references(features)),
        features.input_shape,
        features.own.names,
        features.own.columns,
        asked,
        fitted.choices,
    )

    def others(folder: Path) -> None:
        write_encoders(folder, about)
        inputs.write_inputs(folder, made_from)
        write_history(folder / HISTORY, fitted.history)
        write_partition(folder / PARTITION, parts)
        prepare.training_ledger(parts, encoded.ledger).write(folder / "recordings.csv")
        if copy_encoder:
            copy_files(features.places, folder / COPIES)

    return save_run(output, chosen, parts.classes, fitted.weights, write_extra=others)


def copy_files(places: Sequence[Path], folder: Path) -> None:
    """Copy the files of foreign encoders into a folder, except those that lie there.

    Runs of this package, which are folders, are not copied.

    Args:
        places: The files.
        folder: The folder; created.
    """
    for place in places:
        if place.is_file() and place.parent != folder:
            folder.mkdir(exist_ok=True)
            shutil.copyfile(place, folder / place.name)
            sidecar = place.with_suffix(".json")
            if sidecar.is_file():  # of an exported file of this package
                shutil.copyfile(sidecar, folder / sidecar.name)


def copy_encoders(run: Run) -> None:
    """Copy the encoders of a finished run into it; UserErrors of `open_features` are passed on."""
    copy_files(open_features(run).places, run.path / COPIES)
