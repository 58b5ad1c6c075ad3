"""Knowledge distillation from a trained run, an ensemble, or a table of probabilities."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check, check_largest

SELF = "self"
LARGEST = {"temperature": 1e6, "features": 1e6, "rounds": 100}  # each round is a whole training


@dataclass(frozen=True)
class Distillation:
    """Training on the outputs of a teacher besides the labels; off by default. Papers: training/distillation.py."""

    teacher: str = ""  # one of the following; empty = no teacher
    # a run folder of any network and front-end; an ensemble (mean probability of its members, whatever its own rule);
    # several of them, separated by commas; the folder of `birdnet-fs cv` (its run for the fold held out here)
    # a scores.csv of `birdnet-fs evaluate RUN RECORDINGS -o FOLDER`: probabilities of the clips
    # "self": the same experiment, trained first without a teacher
    alpha: float = 0.5  # weight of the teacher in the loss, 0..1; 1 = labels are not used
    temperature: float = 3.0  # divisor of the logits of teacher and student, above 0
    features: float = 0.0  # weight of the distance between embeddings, the student's projected linearly; 0 = off
    # of a teacher that is a head on an encoder: to the mean embedding of the clip, centered over the training clips
    feature_distance: Literal["cosine", "mse"] = "cosine"  # distance between embeddings
    rounds: int = 1  # with teacher=self: generations trained before this one, each the teacher of the next; 1 or more

    def __post_init__(self) -> None:
        check(0 <= self.alpha <= 1, "distillation.alpha must be in [0, 1]", self.alpha)
        check(self.temperature > 0, "distillation.temperature must be above 0", self.temperature)
        check(self.features >= 0, "distillation.features must be 0 (off) or more", self.features)
        check_largest(self, "distillation.", LARGEST)
        check(self.rounds >= 1, "distillation.rounds must be 1 or more", self.rounds)
        check(
            self.rounds == 1 or self.teacher == SELF,
            f"distillation.rounds needs distillation.teacher={SELF}",
            self.teacher,
        )
        check(
            not (self.features and self.saved),
            "distillation.features needs a teacher that is a run: a table holds probabilities and no embeddings",
            self.teacher,
        )

    @property
    def saved(self) -> bool:
        """Whether the teacher is a table of probabilities."""
        return self.teacher.lower().endswith(".csv")
