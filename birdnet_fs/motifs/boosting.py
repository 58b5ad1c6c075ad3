"""Gradient-boosted trees by LightGBM (extra `gbm`), stored as its own text format.

Ke et al. 2017, "LightGBM: a highly efficient gradient boosting decision tree", NeurIPS.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.motifs.tree_text import checked_trees

N_ROUNDS = 100
MIN_ROWS = 40  # a leaf has 20 rows or more, so that fewer are never divided
PARAMETERS: Mapping[str, Any] = {
    "objective": "binary",
    "num_leaves": 31,
    "metric": "None",
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,  # results then do not depend on the number of threads
}


@functools.lru_cache(maxsize=1)
def lightgbm() -> Any:
    """Import the library.

    Returns:
        The module.

    Raises:
        UserError: LightGBM is not installed; the message names the extra.
    """
    try:
        import lightgbm as library
    except ImportError as error:
        raise UserError(
            f'Gradient-boosted trees need LightGBM; install it with: pip install "birdnet_fs[gbm]" ({error}).'
        ) from None
    return library


@dataclass(frozen=True, eq=False)
class Trees:
    """Trees for one class.

    Attributes:
        text: The trees in the text format of LightGBM.
    """

    text: str

    @functools.cached_property
    def _booster(self) -> Any:
        library = lightgbm()
        try:
            return library.Booster(model_str=checked_trees(self.text))
        except (library.basic.LightGBMError, ValueError) as error:
            raise UserError(f"The stored trees are not a text model of LightGBM ({escaped(error)}).") from None

    @property
    def width(self) -> int:
        """Number of features that the trees read."""
        return int(self._booster.num_feature())

    def probabilities(self, x: np.ndarray) -> NDArray[np.float64]:
        """Features float32 [n, width] -> probabilities float64 [n]."""
        return np.asarray(self._booster.predict(x), np.float64) if len(x) else np.zeros(0)


class BoostedPath:
    """Trees after each number of rounds.

    Args:
        x: float32 [n, width].
        y: bool [n].
        n_rounds: Rounds of boosting, 1 or more. Default: N_ROUNDS.
        balanced: Whether both classes have the same total weight. Default: False.

    Raises:
        UserError: There are fewer than MIN_ROWS rows, or LightGBM is not installed.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, n_rounds: int = N_ROUNDS, *, balanced: bool = False) -> None:
        library = lightgbm()
        if len(x) < MIN_ROWS:
            raise UserError(f"Trees need {MIN_ROWS} examples or more for training. Received: {len(x)}")
        share = y.mean()
        weight = np.where(y, 0.5 / share, 0.5 / (1 - share)) if balanced and 0 < share < 1 else None
        data = library.Dataset(x, label=y.astype(np.float32), weight=weight)
        self._booster = library.train(dict(PARAMETERS), data, num_boost_round=n_rounds)
        self.n_rounds = n_rounds

    def probabilities(self, x: np.ndarray) -> NDArray[np.float64]:
        """Probabilities of rows [n, width] after each round: float64 [n_rounds, n]."""
        raw, found = np.zeros(len(x)), np.empty((self.n_rounds, len(x)))
        for round_ in range(self.n_rounds):  # a round adds its tree to the sum of those before
            raw = raw + self._booster.predict(x, start_iteration=round_, num_iteration=1, raw_score=True)
            found[round_] = 1 / (1 + np.exp(-raw))
        return found

    def head(self, n_rounds: int) -> Trees:
        """The trees of the first rounds."""
        return Trees(self._booster.model_to_string(num_iteration=n_rounds))
