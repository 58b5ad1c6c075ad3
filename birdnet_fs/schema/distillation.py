"""Learning from a teacher: a trained run, several, or probabilities that they left in a table."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check

SELF = "self"


@dataclass(frozen=True)
class Distillation:
    """A teacher whose answers are learned beside the labels; none as it stands. Papers: training/distillation.py."""

    teacher: str = ""  # one of these; empty = none
    # a run folder of any network and front-end, an ensemble (the mean probability of its members, however it combines
    # them), several by comma, or a folder with fold0, fold1, ... (of `birdnet-fs cv`) for the fold held out here
    # a .csv as `birdnet-fs evaluate RUN RECORDINGS -o FOLDER` writes it (scores.csv): probabilities of the clips
    # self: the experiment itself, trained before without a teacher
    alpha: float = 0.5  # share of the teacher in the loss; 1 = no labels
    temperature: float = 3.0  # logits of both are divided by it
    features: float = 0.0  # weight of the distance between the embeddings, the student's mapped linearly; 0 = off
    feature_distance: Literal["cosine", "mse"] = "cosine"
    rounds: int = 1  # of teacher=self: how often the experiment is trained before; each is taught by the one before it

    def __post_init__(self) -> None:
        check(0 <= self.alpha <= 1, "distillation.alpha must be in [0, 1]", self.alpha)
        check(self.temperature > 0, "distillation.temperature must be above 0", self.temperature)
        check(self.features >= 0, "distillation.features must be 0 (off) or more", self.features)
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
