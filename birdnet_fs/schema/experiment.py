"""The experiment: all groups of settings, and the checks that involve several groups."""

import dataclasses
import math
from dataclasses import dataclass, field

from birdnet_fs.schema.augmentation import Augmentation
from birdnet_fs.schema.checks import check
from birdnet_fs.schema.data import Data
from birdnet_fs.schema.distillation import Distillation
from birdnet_fs.schema.frontend import FrontEnd
from birdnet_fs.schema.loss import ON_COSINES
from birdnet_fs.schema.model import Model
from birdnet_fs.schema.pseudo_labels import PseudoLabels
from birdnet_fs.schema.training import Episodes, Training

# features of one batch, or episode, in numbers: 4 GB in float32, sixteen times a batch of 1024 of 256 x 256
MAX_BATCH_FEATURES = 2**30
# settings that depend on a validation metric
NEED_VALIDATION = "training.checkpoints.select=best, training.checkpoints.patience and training.schedule=plateau"


@dataclass(frozen=True)
class Experiment:
    """One training run, from recordings to scores."""

    name: str = "experiment"  # name of the run, also of its default folder
    seed: int = 42  # seed of all random streams, 0 to 2**32 - 1
    data: Data = field(default_factory=Data)
    frontend: FrontEnd = field(default_factory=FrontEnd)
    model: Model = field(default_factory=Model)
    augmentation: Augmentation = field(default_factory=Augmentation)
    training: Training = field(default_factory=Training)
    distillation: Distillation = field(default_factory=Distillation)
    pseudo_labels: PseudoLabels = field(default_factory=PseudoLabels)
    episodes: Episodes | None = None  # few-shot training in episodes; needs model.head=prototypes; None = ordinary
    pretrain: "Experiment | None" = None  # trained first; provides the initial weights (head: when the classes agree)
    debug: bool = False  # quick check of the setup: 1000 segments, 2 epochs, 20 episodes

    def __post_init__(self) -> None:
        check(0 <= self.seed < 2**32, "seed must be in 0..4294967295", self.seed)
        check(
            not self.training.needs_validation
            or self.data.val_fraction > 0
            or self.data.split in ("table", "70/15/15", "classes"),
            f"{NEED_VALIDATION} need validation clips: set data.val_fraction (for example 0.2) or data.split=70/15/15",
            self.data.val_fraction,
        )
        self._check_batch()
        self._check_loss()
        self._check_augmentation()
        self._check_episodes()
        self._check_distillation()
        self._check_pseudo()
        self._check_quantized()
        self._check_trainable_mel()
        self._check_cache()
        check(
            not (self.pretrain and self.model.weights),
            "The initial weights come from model.weights or from the pretrain part, not both; set pretrain=none, or "
            "pretrain.model.weights instead of model.weights",
            self.model.weights,
        )
        check(
            self.training.finetuning.freeze_blocks == 0 or bool(self.pretrain or self.model.weights),
            "training.finetuning.freeze_blocks would freeze random weights; set model.weights or pretrain",
            self.training.finetuning.freeze_blocks,
        )

    @property
    def logit_scale(self) -> float:
        """Factor of the cosines or distances in the head; 1 for heads without them."""
        if self.model.head == "prototypes":
            return self.model.logit_scale or 1.0
        if self.model.head != "cosine":
            return 1.0
        return self.model.logit_scale or ON_COSINES.get(self.training.loss.name, ON_COSINES["arcface"]).scale

    def _check_batch(self) -> None:
        n_items = self.episodes.n_clips if self.episodes else self.training.batch_size
        n_features = math.prod(self.frontend.shape) * self.frontend.n_channels
        key = "episodes.n_way" if self.episodes else "training.batch_size"
        check(
            n_items * n_features <= MAX_BATCH_FEATURES,
            f"{key} must be smaller: a batch must have {MAX_BATCH_FEATURES} features or fewer",
            f"{n_items} x {n_features}",
        )

    def _check_episodes(self) -> None:
        if self.episodes is None:
            check(
                self.data.split != "classes",
                "data.split=classes holds out whole classes, which can only be scored in episodes; use an experiment "
                "with episodes, or another data.split",
                self.data.split,
            )
            return
        check(self.model.head == "prototypes", "Episodes need model.head=prototypes", self.model.head)
        check(not self.data.multi_label, "Episodes need data.multi_label=false", self.data.multi_label)
        check(
            not (self.augmentation.mixup.p and self.augmentation.mixup.labels == "union"),
            "The classes of a mixed query in an episode share one probability; set augmentation.mixup.labels=shares",
            self.augmentation.mixup.labels,
        )
        check(
            not (self.episodes.same_recording and self.augmentation.crop == "center"),
            "augmentation.crop=center gives equal parts of a clip, which episodes.same_recording would put in support "
            "and query; set augmentation.crop=random",
            self.augmentation.crop,
        )
        loss, sampling = self.training.loss, self.training.sampling
        limits = (sampling.min_clips_per_class, sampling.max_clips_per_class)
        check(
            loss.class_weights == "none" and not loss.frame_loss and sampling.name == "all" and limits == (0, 0),
            "Episodes have equally many clips of every class; set training.loss.class_weights=none, "
            "training.loss.frame_loss=0, training.sampling=all, training.sampling.min_clips_per_class=0 and "
            "training.sampling.max_clips_per_class=0",
            (loss.class_weights, loss.frame_loss, sampling.name, *limits),
        )
        lengths = (self.training.min_steps, self.training.max_steps, sampling.seconds_per_crop)
        check(
            lengths == (0, 0, 0.0),
            "The length of an epoch is episodes.n_train; set training.min_steps=0, training.max_steps=0 and "
            "training.sampling.seconds_per_crop=0",
            lengths,
        )
        check(
            not (self.episodes.n_val or self.episodes.n_test) or self.data.split in ("classes", "table"),
            "Episodes are validated and tested on classes that are not trained on; set data.split=classes or table, or "
            "episodes.n_val=0 and episodes.n_test=0",
            self.data.split,
        )
        check(
            self.episodes.n_val > 0 or not self.training.needs_validation,
            f"{NEED_VALIDATION} need validation episodes: set episodes.n_val (for example 200)",
            self.episodes.n_val,
        )
        check(
            self.training.finetuning.freeze_blocks >= 0 or self.model.distance == "learned",
            "training.finetuning.freeze_blocks=-1 leaves no trainable weight in episodes with "
            f"model.distance={self.model.distance}",
            self.training.finetuning.freeze_blocks,
        )

    def _check_distillation(self) -> None:
        if not self.distillation.teacher:
            return
        loss, teacher = self.training.loss.name, self.distillation.teacher
        tuned = self.training.finetuning
        check(self.episodes is None, "Episodes use no teacher; set distillation.teacher= (nothing)", teacher)
        check(
            loss not in ON_COSINES,
            f"distillation.teacher gives probabilities, and the margin of training.loss={loss} moves the logits away "
            "from them; set training.loss=ce",
            teacher,
        )
        check(
            not self.distillation.features or tuned.freeze_blocks >= 0 or tuned.unfreeze_epoch > 0,
            "distillation.features trains the embedding, which training.finetuning.freeze_blocks=-1 freezes; "
            "set one of them to 0",
            self.distillation.features,
        )

    def _check_trainable_mel(self) -> None:
        spec = self.frontend
        plain = (spec.bands, spec.compression, spec.normalize, spec.n_channels) == ("spectrum", "none", "none", 1)
        check(
            self.model.trainable_mel == "none" or (plain and spec.resize == (0, 0)),
            "model.trainable_mel reads the power spectrum: set frontend.bands=spectrum, frontend.compression=none, "
            "frontend.normalize=none, frontend.n_channels=1 and no frontend.resize",
            (spec.bands, spec.compression, spec.normalize, spec.n_channels, spec.resize),
        )

    def _check_cache(self) -> None:
        key = "data.spectrograms" if self.data.spectrograms else "training.cache=features"
        if not self.data.spectrograms and self.training.cache != "features":
            return
        needed = list(self.augmentation.waveform_changes)
        needed += ["data.cache=FOLDER"] * (self.training.cache == "features" and not self.data.cache)
        needed += ["pseudo_labels.mix=0"] * bool(self.pseudo_labels.table and self.pseudo_labels.mix)
        check(
            not needed,
            f"{key} has one segment of each clip, which must be the same in every epoch; it needs {', '.join(needed)}",
            self.data.spectrograms or self.training.cache,
        )

    def _check_quantized(self) -> None:
        if not self.model.quantized:
            return
        check(
            bool(self.pretrain or self.model.weights),
            "model.quantized needs a trained network, since its BatchNorm layers are folded into the convolutions; "
            "set model.weights to a run folder, or pretrain",
            self.model.weights,
        )
        check(
            self.training.precision in ("auto", "float32"),
            "model.quantized simulates 8-bit rounding, which needs training.precision=float32",
            self.training.precision,
        )

    def _check_pseudo(self) -> None:
        if not self.pseudo_labels.table:
            return
        loss, table = self.training.loss.name, self.pseudo_labels.table
        check(self.episodes is None, "Episodes need labeled clips; set pseudo_labels.table= (nothing)", table)
        check(
            loss not in ON_COSINES,
            f"training.loss={loss} needs one class per clip, and pseudo_labels.table holds probabilities; "
            "set training.loss=ce",
            table,
        )
        check(
            not self.distillation.saved,
            "A table of clip probabilities (distillation.teacher) has no rows for the windows of "
            "pseudo_labels.table; set distillation.teacher to a run",
            self.distillation.teacher,
        )

    def _check_augmentation(self) -> None:
        chosen, spec = self.augmentation, self.frontend
        for name, size in zip(("time", "freq"), spec.shape, strict=True):
            masks = getattr(chosen, f"{name}_masks")
            check(
                masks.lengths[1] <= size,
                f"augmentation.{name}_masks.lengths must be {size} or less, the {name} axis of the features",
                list(masks.lengths),
            )
        for name in ("low_pass", "high_pass"):
            on, (_, high) = getattr(chosen.filters, f"{name}_p"), getattr(chosen.filters, f"{name}_hz")
            check(
                not on or high <= spec.sample_rate_hz / 2,
                f"augmentation.filters.{name}_hz must be {spec.sample_rate_hz / 2:g} Hz (half of the rate) or less",
                high,
            )
        check(
            chosen.noise.exponent == (0.0, 0.0) or not self.data.background,
            "augmentation.noise.exponent is for synthetic noise, and data.background gives recorded noise; set one of "
            "them",
            list(chosen.noise.exponent),
        )

    def _check_loss(self) -> None:
        check(
            not (self.data.multi_label and self.model.encoder_head.smote),
            "model.encoder_head.smote needs one label a clip: which of several labels a point between two clips has is "
            "not defined; set training.loss.class_weights for rare classes, or data.multi_label=false",
            self.data.multi_label,
        )
        loss, one_label = self.training.loss.name, not self.data.multi_label
        if loss in ("bce", "asymmetric", "soft_auc"):
            check(not one_label, f"training.loss={loss} needs data.multi_label=true", self.data.multi_label)
        elif loss not in ("auto", "focal"):
            check(one_label, f"training.loss={loss} needs data.multi_label=false", self.data.multi_label)
        check(
            not self.training.loss.frame_loss or self.model.head == "sed",
            "training.loss.frame_loss needs model.head=sed",
            self.model.head,
        )
        weighted = self.training.loss.class_weights != "none"
        if loss in ON_COSINES:
            other = "training.loss.class_weights; use training.sampling"
            check(not weighted, f"training.loss={loss} takes no {other}", loss)
            check(self.model.head == "cosine", f"training.loss={loss} needs model.head=cosine", self.model.head)
            check(
                not self.augmentation.mixes,
                f"training.loss={loss} needs one class per clip, not a mixture; set {self.augmentation.mixes}=0",
                self.augmentation.mixes,
            )


def debugged(experiment: Experiment) -> Experiment:
    """Reduce an experiment with `debug` set to 1000 segments, 2 epochs and 20 episodes; others are returned as is."""
    if not experiment.debug:
        return experiment
    return dataclasses.replace(
        experiment,
        data=dataclasses.replace(experiment.data, limit=experiment.data.limit or 1000),
        training=dataclasses.replace(experiment.training, epochs=min(2, experiment.training.epochs), min_steps=0),
        episodes=experiment.episodes and _few(experiment.episodes),
        pretrain=experiment.pretrain and debugged(dataclasses.replace(experiment.pretrain, debug=True)),
    )


def _few(episodes: Episodes) -> Episodes:
    return dataclasses.replace(
        episodes, **{name: min(20, getattr(episodes, name)) for name in ("n_train", "n_val", "n_test")}
    )
