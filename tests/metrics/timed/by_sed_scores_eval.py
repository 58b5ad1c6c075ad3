"""PSDS by sed_scores_eval, run in an environment of its own: recordings and scenarios on stdin, results on stdout."""

import json
import sys

import numpy as np


def main() -> None:
    from sed_scores_eval.base_modules.scores import create_score_dataframe
    from sed_scores_eval.intersection_based import psds

    asked = json.load(sys.stdin)
    classes = [f"c{i}" for i in range(len(asked["recordings"][0]["events"]))]
    scores, truth, durations = {}, {}, {}
    for number, each in enumerate(asked["recordings"]):
        name = f"r{number}"
        times = np.array([*each["starts"], each["ends"][-1]])
        scores[name] = create_score_dataframe(np.array(each["scores"]), times, classes)
        truth[name] = [
            (on, off, label) for label, times in zip(classes, each["events"], strict=True) for on, off in times
        ]
        durations[name] = each["duration_s"]
    found = {}
    for name, s in asked["scenarios"].items():
        given = {"dtc_threshold": s["dtc"], "gtc_threshold": s["gtc"], "alpha_ct": s["alpha_ct"]}
        given |= {"cttc_threshold": s["cttc"] if s["alpha_ct"] else None, "alpha_st": s["alpha_st"]}
        value, single, *_ = psds(scores, truth, durations, max_efpr=s["max_rate"], **given)
        found[name] = {"scenario": s, "psds": float(value), "per_class": [float(single[c]) for c in classes]}
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
