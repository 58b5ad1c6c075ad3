"""Results of a study: best.py to train, its settings as JSON, study.csv with every trial, study.html to look at.

The importance of a setting is its share of the variance of the value over the search space, by functional ANOVA of a
random forest (Hutter et al. 2014, http://proceedings.mlr.press/v32/hutter14.html), as Optuna computes it.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from birdnet_fs import schema
from birdnet_fs.core.csv_files import csv_dict_writer
from birdnet_fs.core.files import atomic_path, write_json, write_text
from birdnet_fs.core.random_streams import Stream, integer_seed
from birdnet_fs.core.settings import override, to_dict
from birdnet_fs.core.text import escaped, escaped_lines
from birdnet_fs.frontend import preset
from birdnet_fs.reports.pages.render import render
from birdnet_fs.runs.resolve import portable
from birdnet_fs.tuning.study import BASE, COLUMN, read_base, read_study
from birdnet_fs.tuning.trial_summary import TrialSummary, best_first, summaries

BEST, TABLE, PAGE, TEMPLATE = "best.py", "study.csv", "study.html", "study.html"
BEST_PARAMS, BEST_CONFIG = "best_params.json", "best_config.json"  # as ANIMAL-SPOT's search names them
N_SHOWN = 10  # of the best trials
FEWEST = 5  # finished trials that importances are computed of


@dataclasses.dataclass(frozen=True)
class Results:
    """Results of a study so far."""

    base: schema.Experiment
    trials: list[TrialSummary]
    best: TrialSummary | None
    column: str  # of history.csv, whose best epoch is the value of a trial

    @property
    def keeps_last(self) -> bool:
        """Whether a run of these settings keeps other weights than those of its best epoch."""
        return self.base.training.checkpoints.select != "best"


def write_results(folder: Path, name: str) -> Results:
    """Write the results of a study into its folder: study.csv and study.html, and those of the best trial.

    Where a trial was trained to its end, these are best.py, best_params.json (its number, value and drawn settings) and
    best_config.json (all settings, as config.json of a run).

    Args:
        folder: The folder of the study.
        name: Name of the function in best.py.

    Returns:
        The results.
    """
    study, base = read_study(folder), read_base(folder)
    trials = summaries(study)
    best = next(iter(best_first(trials)), None)
    results = Results(base, trials, best, str(study.user_attrs.get(COLUMN, "value")))
    if best is not None:
        write_text(folder / BEST, _best_py(results, best, name))
        chosen = override(base, [f"name={base.name}_best", *best.settings], {"frontend": preset})
        config = to_dict(portable(chosen))
        about = {"trial": best.number, "column": results.column, "value": best.value, "epoch": best.best_epoch}
        params = {key: _value(config, key) for key in (setting.partition("=")[0] for setting in best.settings)}
        write_json(folder / BEST_PARAMS, {**about, "params": params})
        write_json(folder / BEST_CONFIG, config)
    _write_table(folder / TABLE, trials)
    _write_page(folder / PAGE, results, study)
    return results


def _value(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; of a group, as `model=NAME`, its name."""
    value: Any = config
    for name in key.split("."):
        value = value[name]
    return value["name"] if isinstance(value, dict) else value


def _best_py(results: Results, best: TrialSummary, name: str) -> str:
    settings = "".join(f"            {setting!r},\n" for setting in (f"name={results.base.name}_best", *best.settings))
    n_done = sum(trial.counts for trial in results.trials)
    about = f"trial {best.number}, {results.column} {best.value:.4f} after epoch {best.best_epoch}"
    return f'''"""The best of {n_done} trials: {about}.

    birdnet-fs train best.py:{name}

Written by `birdnet-fs tune`; {BASE} beside it holds the experiment that was tuned. The validation clips have chosen
these settings, so their value flatters; what is held out has not been looked at, and `train` scores on it. Other folds
have been: `cv` would test on clips that had a part in the choice.
"""

from pathlib import Path

from birdnet_fs.frontend import preset
from birdnet_fs.core.settings import override
from birdnet_fs.schema import Experiment
from birdnet_fs.runs.config_file import read_experiment


def {name}() -> Experiment:
    """Differences from the experiment that was tuned."""
    base = read_experiment(Path(__file__).parent / "{BASE}")
    return override(
        base,
        [
{settings}        ],
        {{"frontend": preset}},
    )
'''


def _write_table(path: Path, trials: Sequence[TrialSummary]) -> None:
    keys = list(dict.fromkeys(setting.partition("=")[0] for trial in trials for setting in trial.settings))
    columns = ["trial", "state", "value", "best_epoch", "epochs", "seconds", *keys, "reason"]
    with atomic_path(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv_dict_writer(file, columns)
        writer.writeheader()
        for trial in trials:
            row = {"trial": trial.number, "state": trial.state, "reason": trial.reason, "epochs": len(trial.values)}
            row |= {"value": trial.value, "best_epoch": trial.best_epoch, "seconds": trial.seconds}
            writer.writerow(row | dict(setting.partition("=")[::2] for setting in trial.settings))


def _write_page(path: Path, results: Results, study: optuna.Study) -> None:
    from markupsafe import Markup

    from birdnet_fs.reports.pages.figures import search_figure, slices_figure, trials_figure

    trials, best, measure = results.trials, results.best, results.column
    shown = [trial for trial in trials if trial.value is not None and trial.state in ("finished", "pruned")]
    points = [(trial.number, trial.value or 0.0, trial.state == "finished") for trial in shown]
    curves = [trial.values for trial in shown]
    on_top = next((i for i, trial in enumerate(shown) if best and trial.number == best.number), None)
    importances = _importances(study, trials)
    slices = _slices(study, shown, importances)
    states = Counter(trial.state for trial in trials)
    ends = [trial for trial in trials if trial.state in ("impossible", "failed", "lost")]
    render(
        path,
        TEMPLATE,
        title=f"{results.base.name}: study",
        experiment=results.base,
        versions=None,
        results=results,
        best=best,
        states=states,
        n_counted=sum(trial.counts for trial in trials),
        hours=sum(trial.seconds or 0.0 for trial in trials) / 3600,
        search=Markup(search_figure(points, measure)) if points else "",
        curves=Markup(trials_figure(curves, on_top, measure)) if points else "",
        slices=Markup(slices_figure(slices, measure)) if slices and points else "",
        importances=importances,
        fewest=FEWEST,
        leaders=best_first(trials)[:N_SHOWN],
        ends=[{"state": t.state, "number": t.number, "reason": escaped_lines(t.reason)} for t in ends],
        show=escaped,
    )


def _importances(study: optuna.Study, trials: Sequence[TrialSummary]) -> dict[str, float]:
    """Importance by setting, the largest first; {} for too few trials, or values that are all equal."""
    values = [trial.value for trial in trials if trial.state == "finished"]
    if len(values) < FEWEST or len(set(values)) == 1:
        return {}
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=integer_seed(0, Stream.IMPORTANCES)))


def _slices(study: optuna.Study, shown: Sequence[TrialSummary], importances: dict[str, float]) -> list[dict[str, Any]]:
    """Input of `slices_figure`, the most important setting first."""
    spaces = {key: values for trial in study.get_trials(deepcopy=False) for key, values in trial.distributions.items()}
    found = []
    for key in sorted(spaces, key=lambda key: -importances.get(key, -math.inf)):
        some = [trial for trial in shown if key in trial.params]
        values = spaces[key]
        of = [str(option) for option in values.choices] if isinstance(values, CategoricalDistribution) else []
        x = [of.index(trial.params[key]) if of else trial.params[key] for trial in some]
        log = isinstance(values, (FloatDistribution, IntDistribution)) and values.log
        of_trials = {"y": [trial.value for trial in some], "whole": [trial.state == "finished" for trial in some]}
        found.append({"key": key, "x": x, **of_trials, "log": log, "options": of})
    return found
