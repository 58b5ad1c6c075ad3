"""What an exported file may answer otherwise than its run: the one table, with its reasons, and what it grows with.

What 8 bits cost depends on how far the logits of a network lie apart, so their budgets are shares of that.
"""

import dataclasses
from dataclasses import dataclass

USUAL_SCALE = 30.0  # of cosines, up to which the budgets hold; beyond it they grow in proportion
# So they do with the logits of a segment: those of real segments stay below about 10 in the networks measured, while
# silence drives some to 30 or 300, and all that they are computed from (a trained B0: 1.1e-4 there, 1e-5 elsewhere).
USUAL_LOGITS = 10.0
# And with what the network itself leaves open: Keras and PyTorch, adding up in other orders, answer silence 5e-5 apart
# with a trained B0, real segments 1e-5 or less. A quarter of the float32 budget is taken for usual.
USUAL_UNCERTAINTY = 7.5e-5
# The most that an answer moves where no logit moves by more than 1: probabilities as their activation makes them;
# log-odds of a softmax with the class's own logit, and against it with those of all others.
MAX_SLOPE = {"logits": 1.0, "log_odds": 2.0, "sigmoid": 0.25, "softmax": 0.5}


@dataclass(frozen=True)
class Tolerance:
    """What a precision may cost. Every figure compares answers of the artifact with those of the reference."""

    max_abs: float  # largest difference of any logit of any segment
    mean_abs: float  # mean difference
    tie: float  # a class this close to the best one counts as the best
    top1: float  # lowest share of segments with the same best class
    auroc: float  # largest change of macro AUROC
    device: float  # largest difference of a logit for the golden waveforms on another machine
    reason: str
    of_spread: bool = False  # whether differences are shares of the logits' spread (standard deviation within a class)
    real_only: bool = False  # whether made waveforms need no more than finite answers

    def scaled(self, size: float, spread: float, max_slope: float = 1.0) -> "Tolerance":
        """The budget for one network, as differences in its answers.

        Args:
            size: Of logits that compare (cosines or distances times a scale), as large as they get.
            spread: Standard deviation of the logits within a class.
            max_slope: Of `MAX_SLOPE`, for what the artifact answers.
        """
        factor = max_slope * (spread if self.of_spread else max(1.0, size / USUAL_SCALE))
        scaled = {name: getattr(self, name) * factor for name in ("max_abs", "mean_abs", "tie", "device")}
        return dataclasses.replace(self, **scaled, of_spread=False)


TOLERANCES = {
    "fp32": Tolerance(
        max_abs=3e-4,
        mean_abs=2e-5,
        tie=6e-4,
        top1=1.0,
        auroc=1e-3,
        device=1e-3,
        reason="the same arithmetic in another order (nine networks, features in: 6e-6 or less; the front-end in "
        "float32 moves quiet bands, 1.4e-4 in the worst of 1,000 segments of the aviary); other machines add up in "
        "yet another order, which a pure tone shows most (tflite-runtime 2.14: 2.8e-4)",
    ),
    "fp16": Tolerance(
        max_abs=1e-1,
        mean_abs=1e-2,
        tie=2e-1,
        top1=0.99,
        auroc=5e-3,
        device=1e-1,
        reason="weights keep 11 bits (a trained cnn/small: 0.08 on 200 real segments, mean 0.002); "
        "0.1 in a logit moves a probability by at most 0.025",
    ),
    "dynamic": Tolerance(
        max_abs=0.5,
        mean_abs=0.05,
        tie=0.1,
        top1=0.95,
        auroc=0.01,
        device=0.5,
        of_spread=True,
        reason="weights keep 8 bits (a trained cnn/small: 0.03 of the spread on real segments, mean 0.01)",
    ),
    "int8": Tolerance(
        max_abs=1.5,
        mean_abs=0.2,
        tie=0.4,
        top1=0.90,
        auroc=0.01,
        device=0.5,
        of_spread=True,
        real_only=True,
        reason="weights and activations keep 8 bits, between bounds that real segments set; silence and clipping lie "
        "outside of those (trained: EfficientNetV2-B0 0.4 of the spread, mean 0.06; trained for it 0.14, mean 0.02)",
    ),
}
