"""Data of an experiment for `keras.Model.fit`: the same clips, batches and runs as those of `birdnet-fs train`.

With an experiment and the names of `import birdnet_fs as bfs`, as in examples/train_keras.ipynb:

    data = bfs.fit_data(experiment)
    model = data.build_model()
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), metrics=[bfs.ClassWiseAUC()])
    model.fit(data.training, validation_data=data.validation, epochs=30, shuffle=False)
    data.save_run(model, "runs/mine")
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from birdnet_fs import models, schema
from birdnet_fs.batches.cache.waveforms import waveform_reader
from birdnet_fs.batches.loader import TrainingBatches
from birdnet_fs.core.distributed import group
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.partition import PARTITION, Partition, partition, write_partition
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.frontend.empty_bands import check_bands
from birdnet_fs.runs import inputs
from birdnet_fs.runs.from_keras import save_fitted
from birdnet_fs.runs.history import HISTORY, Row, write_history
from birdnet_fs.runs.resolve import resolved
from birdnet_fs.runs.run import KERAS_FIT, Run, build_network
from birdnet_fs.training import prepare
from birdnet_fs.training.fit.batches import Batches, KeyedBatches
from birdnet_fs.training.fit.windows import WindowBatches
from birdnet_fs.training.loop import device_of
from birdnet_fs.training.trainer import seed_everything

TRAIN_INSTEAD = "train it with `birdnet-fs train`"


@dataclass(frozen=True)
class FitData:
    """Data of an experiment for `fit`.

    Attributes:
        experiment: The resolved settings.
        parts: The divided clips.
        batches: Training batches, `batches.epoch(0)` as `birdnet-fs train` has them.
        training: Training batches for `fit`, a `keras.utils.PyDataset` on the torch backend, a `tf.data.Dataset` on the
            tensorflow backend. Pairs of features float32 [batch, n_frames, n_mels, n_channels] and targets float32
            [batch, n_classes].
        validation: Windows of the validation clips in the same form; None where the split has none.
        ledger: The status of every training clip.
        started_from: Sizes and times of the recordings when they were read, for `inputs.json`.
    """

    experiment: schema.Experiment
    parts: Partition
    batches: TrainingBatches
    training: Any
    validation: Any
    ledger: Ledger
    started_from: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the targets."""
        return self.parts.classes

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of an item: (n_frames, n_mels, n_channels)."""
        spec = self.experiment.frontend
        return (*spec.shape, spec.n_channels)

    def build_model(self) -> keras.Model:
        """Build the network of the experiment: its seed, its `model.weights`, the dtype policy of Keras.

        Returns:
            Features [batch, n_frames, n_mels, n_channels] -> logits float32 [batch, n_classes].

        Raises:
            UserError: `model.weights` is set on another backend than torch, or cannot be read.
        """
        experiment, weights = self.experiment, self.experiment.model.weights
        seed_everything(experiment.seed)
        if keras.backend.backend() != "torch":
            if weights:
                raise UserError("model.weights is read on the torch backend; set KERAS_BACKEND=torch.")
            return build_network(experiment, len(self.classes))
        device = device_of(experiment.training.device)
        return prepare.build_initial_network(
            experiment, self.parts, device, Path(weights) if weights else None, report=True
        )

    def save_run(self, model: keras.Model, path: Path | str) -> Run:
        """Write the run folder of a model after `fit`, with its partition and history, for `birdnet-fs evaluate`.

        How `fit` trained it (optimizer, loss, metrics, backend, dtype policy) is in `keras_fit.json`; the settings
        `training.optimizer`, `training.loss` and `training.schedule` of the run were not used.

        Args:
            model: The fitted model, from `build_model` or `birdnet_fs.build_model`.
            path: The folder; a run in it is replaced.

        Returns:
            The run.
        """
        history = _history(model)
        about = {
            "compile": model.get_compile_config() if model.compiled else None,
            "epochs": len(history),
            "backend": keras.backend.backend(),
            "dtype_policy": model.dtype_policy.name,
        }

        def others(folder: Path) -> None:
            inputs.write_inputs(folder, self.started_from)
            write_json(folder / KERAS_FIT, about)
            if history:
                write_history(folder / HISTORY, history)
            write_partition(folder / PARTITION, self.parts)
            prepare.training_ledger(self.parts, self.ledger).write(folder / "recordings.csv")

        return save_fitted(model, path, self.experiment, self.classes, others)


def fit_data(experiment: schema.Experiment) -> FitData:
    """Read the recordings of an experiment for `keras.Model.fit`.

    Used are `data`, `frontend`, `augmentation`, `model`, `seed`, and of `training` the size, number and sampling of the
    batches, the device, workers and cache. Optimizer, loss, schedule and epochs are those given to Keras. UserErrors of
    the partition and of the checks of `birdnet-fs train` are passed on.

    Args:
        experiment: The settings; `data.fold` selects the fold that is held out.

    Returns:
        The data.

    Raises:
        UserError: The experiment needs more than `fit` on labeled batches, or a label is unknown (`data.secondary`).
    """
    _check_for_fit(experiment)
    models.check_model(experiment.model)
    experiment = resolved(experiment)
    check_bands(experiment.frontend)
    parts = partition(experiment)
    started_from = inputs.training_inputs(experiment, parts)
    prepare.check_clips(experiment, parts)
    parts = prepare.with_leaks_reported(parts)
    read, data, spec = waveform_reader(experiment.data), experiment.data, experiment.frontend
    waveforms = read(parts.train, spec.sample_rate_hz)
    prepare.report_left_out(waveforms)
    targets = clip_targets(waveforms.clips, parts.classes, multi_label=data.multi_label, data=data)
    if (targets < 0).any():
        raise UserError(
            "Unknown labels (data.secondary=mask, or a class that a table marks as unknown) have no target that a loss "
            f"of Keras could use; set data.secondary=label, soft or ignore, or {TRAIN_INSTEAD}."
        )
    noises, kept = prepare.read_background_noise(experiment, parts, read), prepare.kept_features(waveforms, experiment)
    batches = TrainingBatches(waveforms, targets, experiment, noises=noises, kept=kept)
    validation = None
    if parts.val:
        clips = read(parts.val, spec.sample_rate_hz)
        prepare.report_left_out(clips)
        rule = clip_rule(spec.n_samples, spec.sample_rate_hz, data.clip_hop_s)
        validation = _for_fit(
            WindowBatches(
                clips,
                clip_targets(clips.clips, parts.classes, multi_label=data.multi_label),
                spec,
                rule,
                batch_size=experiment.training.batch_size,
                kept=prepare.kept_features(clips, experiment, rule),
            )
        )
    return FitData(experiment, parts, batches, _for_fit(batches), validation, waveforms.ledger, started_from)


def _for_fit(batches: Batches) -> Any:
    """Batches as `fit` takes them on the backend in use."""
    if keras.backend.backend() == "tensorflow":
        from birdnet_fs.training.fit.in_tf import tf_dataset

        return tf_dataset(batches)
    return KeyedBatches(batches)


def _check_for_fit(experiment: schema.Experiment) -> None:
    """Refuse what `fit` would leave out without a word."""
    if group.size() > 1:
        raise UserError(f"keras.Model.fit trains in one process here; start it without torchrun, or {TRAIN_INSTEAD}.")
    for wrong, what in (
        (experiment.episodes, "episodes"),
        (experiment.distillation.teacher, "distillation.teacher"),
        (experiment.pseudo_labels.table, "pseudo_labels.table"),
        (experiment.model.encoder, "model.encoder"),
        (experiment.model.quantized, "model.quantized"),
        (experiment.pretrain, "pretrain"),
    ):
        if wrong:
            raise UserError(f"keras.Model.fit has no part for {what}; leave it out, or {TRAIN_INSTEAD}.")


def _history(model: keras.Model) -> list[Row]:
    """Rows of history.csv: loss and metrics of the training with `train_` before their names."""
    found = getattr(model, "history", None)  # there after `fit`
    if found is None:
        return []
    names = {key: key if key == "learning_rate" or key[:4] == "val_" else f"train_{key}" for key in found.history}
    return [
        {"epoch": epoch + 1, **{names[key]: float(values[i]) for key, values in found.history.items()}}
        for i, epoch in enumerate(found.epoch)
    ]
