"""Largest differences of the output of an exported file from its run: one table with reasons, and its scaling.

The error of 8-bit arithmetic grows with the spread of a network's logits, so its tolerances are shares of the spread.
"""

import dataclasses
from dataclasses import dataclass

USUAL_SCALE = 30.0  # scale of cosines up to which the tolerances hold; above it they grow in proportion
# Tolerances also grow with the logits of a segment. Those of real segments stay below about 10 in the networks
# measured; silence drives some, and the values behind them, to 30 or 300 (a trained B0: error 1.1e-4, else 1e-5).
USUAL_LOGITS = 10.0
# They also grow with the numerical uncertainty of the network. Keras and PyTorch sum in different orders and differ by
# 5e-5 on silence for a trained B0, by 1e-5 or less on real segments. A quarter of the float32 tolerance is usual.
USUAL_UNCERTAINTY = 7.5e-5
# Largest change of an output when no logit changes by more than 1: of probabilities by their activation, of the
# log-odds of a softmax when the logit of the class and those of all other classes change in opposite directions.
MAX_SLOPE = {"logits": 1.0, "log_odds": 2.0, "sigmoid": 0.25, "softmax": 0.5}


@dataclass(frozen=True)
class Tolerance:
    """Largest accepted differences between the outputs of an artifact and of its run, for one precision."""

    max_abs: float  # largest difference of any logit of any segment
    mean_abs: float  # mean difference
    tie: float  # a class this close to the best one counts as the best
    top1: float  # lowest share of segments with the same best class
    auroc: float  # largest change of the macro AUROC
    device: float  # largest difference of a logit for the golden waveforms on another machine
    reason: str
    of_spread: bool = False  # differences are shares of the logits' spread (standard deviation within a class)
    real_only: bool = False  # outputs for synthetic waveforms only have to be finite

    def scaled(self, logit_scale: float, spread: float, max_slope: float = 1.0) -> "Tolerance":
        """The tolerance for one network, as absolute differences of its output.

        Args:
            logit_scale: Size of the logits of a distance-based head (cosines or distances times a scale); 1 otherwise.
            spread: Standard deviation of the logits within a class.
            max_slope: Value of `MAX_SLOPE` for the output of the artifact. Default: 1.

        Returns:
            The scaled tolerance.
        """
        factor = max_slope * (spread if self.of_spread else max(1.0, logit_scale / USUAL_SCALE))
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
        "float32 moves quiet bands, 1.4e-4 in the worst of 1,000 segments of the aviary); other machines sum in "
        "yet another order, most visible for a pure tone (tflite-runtime 2.14: 2.8e-4)",
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
        reason="weights and activations keep 8 bits within ranges from real segments; silence and clipping lie "
        "outside them (trained: EfficientNetV2-B0 0.4 of the spread, mean 0.06; trained for it 0.14, mean 0.02)",
    ),
}
