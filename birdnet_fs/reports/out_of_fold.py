"""The folds of a cross-validation as one table: every clip scored by the network that did not train on it.

Also the content of such a table, and how much the folds and seeds differ.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.partition import HELD_OUT, PARTITION, TRAIN, VAL, read_partition
from birdnet_fs.data.score_table import ScoreRow, ScoreTable, score_table
from birdnet_fs.metrics.auroc import macro_auroc

CV, OOF = "cv.json", "oof.csv"
HEADLINE = ("accuracy", "macro_auroc", "cmap", "f1")  # of metrics.json; f1 is the mean over the classes


def out_of_fold(by_seed: Mapping[int, Sequence[ScoreTable]]) -> ScoreTable:
    """The held-out scores of all folds as one table, the mean over the seeds.

    Args:
        by_seed: Tables of the folds by seed; each seed may draw other folds.

    Returns:
        A row for every clip, sorted by path and onset. Its score is the mean of the probabilities that the seeds'
        networks gave, each turned from logits into probabilities before, as the mean ensemble of them would give.

    Raises:
        UserError: Classes differ, a clip is held out by two folds of a seed, or the seeds held out different clips:
            recordings changed between the trainings.
    """
    pooled = {seed: _pooled(seed, tables) for seed, tables in by_seed.items()}
    (first_seed, first), *others = pooled.items()
    for seed, (_, scores) in others:
        odd = sorted(scores.keys() ^ first[1].keys())
        if odd:
            raise UserError(
                f"Seeds {first_seed} and {seed} were scored on different clips ({len(odd)} of them, the first: "
                f"{odd[0][0]} at {odd[0][1]:g} s); the recordings or labels changed between them: delete the folders "
                "of one and train it again."
            )
    rows, _ = first
    keys = sorted(rows)
    mean = np.stack([np.mean([scores[key] for _, scores in pooled.values()], axis=0) for key in keys])
    return score_table([rows[key] for key in keys], mean, next(iter(by_seed.values()))[0].classes)


_Key = tuple[str, float, float]


def _pooled(seed: int, tables: Sequence[ScoreTable]) -> tuple[dict[_Key, ScoreRow], dict[_Key, np.ndarray]]:
    rows: dict[_Key, ScoreRow] = {}
    scores: dict[_Key, np.ndarray] = {}
    for table in tables:
        if table.classes != tables[0].classes:
            raise UserError(
                f"The folds of seed {seed} have different classes ({len(tables[0].classes)} and {len(table.classes)}); "
                "the labels changed between their trainings: delete their folders and train them again."
            )
        for row, values in zip(table.rows, table.scores.astype(np.float64), strict=True):
            key = (row.path, row.onset_s, row.duration_s)
            if key in rows:
                raise UserError(
                    f"{row.path} at {row.onset_s:g} s was held out by two folds of seed {seed}; the recordings or "
                    "labels changed between their trainings: delete their folders and train them again."
                )
            rows[key], scores[key] = row, values
    return rows, scores


def result_place(fold: Mapping[str, Any]) -> Path:
    """Place of the run of a row of cv.json in the folder of that file: fold0, or seed1/fold0 with several seeds."""
    own = Path(f"fold{fold['fold']}")
    in_seed = f"seed{fold['seed']}"
    return in_seed / own if Path(fold["run"]).parent.name == in_seed else own


def never_scored(runs: Sequence[Path], table: ScoreTable) -> str:
    """A sentence about recordings of some fold that no row of the table is about; "" when there are none."""
    parts = [read_partition(run / PARTITION, part) for run in runs for part in (TRAIN, VAL, HELD_OUT)]
    known = {str(clip.path) for clips in parts for clip in clips}
    left = sorted(known - set(table.paths))
    if not left:
        return ""
    return (
        f"{len(left)} of {len(known)} recordings have no score (the first: {left[0]}): no fold held them out, or they "
        "could not be read (held_out.csv of each fold has the reasons)."
    )


def summary(folds: Sequence[Mapping[str, Any]], by_seed: Mapping[int, Sequence[ScoreTable]]) -> dict[str, Any]:
    """Size and spread of the headline numbers, for cv.json; what is undefined is None.

    Args:
        folds: Seed, fold and the numbers of HEADLINE of each fold.
        by_seed: Tables of the folds by seed, as `out_of_fold` takes them.

    Returns:
        std_over ("3 seeds", or "5 folds" of a single one), and for each of HEADLINE mean, std and by_seed: the mean
        over the folds where it is defined, for each seed; the deviation is over those means, or over the folds of the
        one seed. pooled_macro_auroc: the same of the AUROC that ranks the held-out clips of all folds of a seed
        together; of one seed it has no deviation.
    """
    n_folds = Counter(row["seed"] for row in folds)
    several = len(n_folds) > 1
    found: dict[str, Any] = {"std_over": f"{len(n_folds)} seeds" if several else f"{len(folds)} folds"}
    for name in HEADLINE:
        means = {seed: _mean([row[name] for row in folds if row["seed"] == seed]) for seed in n_folds}
        found[name] = _spread(means, list(means.values()) if several else [row[name] for row in folds])
    pooled = {
        seed: macro_auroc(
            np.concatenate([table.targets for table in tables]), np.concatenate([table.scores for table in tables])
        ).value
        for seed, tables in by_seed.items()
    }
    values = {seed: None if np.isnan(value) else value for seed, value in pooled.items()}
    found["pooled_macro_auroc"] = _spread(values, list(values.values()) if several else [])
    return found


def undefined_in_folds(folds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences on the numbers of HEADLINE that are undefined in some folds and therefore not in the mean.

    Args:
        folds: Seed, fold and the numbers of HEADLINE of each fold.

    Returns:
        A sentence for each such number.

    >>> undefined_in_folds([{"accuracy": 1.0, "macro_auroc": None, "cmap": 1.0, "f1": 1.0, "seed": 0, "fold": 2}])
    ['macro_auroc is undefined in 1 of 1 folds (seed 0 fold 2) and not in its mean.']
    """
    found = []
    for name in HEADLINE:
        lacking = [f"seed {row['seed']} fold {row['fold']}" for row in folds if row[name] is None]
        if lacking:
            where = f"{len(lacking)} of {len(folds)} folds ({', '.join(lacking)})"
            found.append(f"{name} is undefined in {where} and not in its mean.")
    return found


def _spread(by_seed: Mapping[int, float | None], over: Sequence[float | None]) -> dict[str, Any]:
    held = [value for value in over if value is not None]
    return {
        "mean": _mean(list(by_seed.values())),
        "std": float(np.std(held, ddof=1)) if len(held) > 1 else None,
        "by_seed": {str(seed): value for seed, value in by_seed.items()},
    }


def _mean(values: Sequence[float | None]) -> float | None:
    held = [value for value in values if value is not None]
    return float(np.mean(held)) if held else None
