"""PSDS, events and false alarms of scored windows, against counting by the definitions and against sed_scores_eval."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.metrics.timed.event_scores import event_scores_by_class, match_by_collars
from birdnet_fs.metrics.timed.false_alarms import detection_rate
from birdnet_fs.metrics.timed.psds import LOCALIZED, PRESENT, Scenario, psds
from birdnet_fs.metrics.timed.recordings import ScoredRecording

ROUNDING = 1e-9  # of sums of a few hundred products in float64
# of the recordings below, by sed_scores_eval 0.0.4: PSDS of DCASE's two scenarios, and of each class
OF_THE_LIBRARY = json.loads((Path(__file__).parent / "sed_scores_eval.json").read_text())
HERE = Path(__file__).parent


def recordings(n=6, n_classes=3, n_windows=40, seed=0, window_s=0.5):
    """Scores of consecutive windows that are higher within events, on a grid that makes ties."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        starts = np.arange(n_windows) * window_s
        events = []
        scores = rng.beta(1, 4, (n_windows, n_classes))
        for c in range(n_classes):
            onsets = np.sort(rng.choice(int(n_windows * window_s), rng.integers(1, 4), replace=False)) + rng.random()
            times = np.stack([onsets, onsets + rng.uniform(0.3, 0.95, len(onsets))], axis=1).round(3)
            events.append(times)
            for onset, offset in times:
                inside = (starts + window_s > onset) & (starts < offset)
                scores[inside, c] += rng.uniform(0, 0.6)
        found.append(ScoredRecording(starts, starts + window_s, scores.round(2), tuple(events), n_windows * window_s))
    return found


def by_definition(given, scenario):
    """PSDS of Bilen et al., class by class and threshold by threshold, in plain Python."""
    hours = sum(r.duration_s for r in given) / 3600
    n_classes = len(given[0].events)
    points = []
    for c in range(n_classes):
        n_events = sum(len(r.events[c]) for r in given)
        own = {0.0: 0.0}
        for threshold in sorted({float(v) for r in given for v in r.scores[:, c]}):
            found = wrong = 0
            crossed = dict.fromkeys(range(n_classes), 0)
            for r in given:
                runs, held = [], None
                for start, end, score in zip(r.starts_s, r.ends_s, r.scores[:, c], strict=True):
                    if score >= threshold:
                        held = (held[0] if held else start, end)
                    elif held:
                        runs.append(held)
                        held = None
                runs += [held] if held else []

                def shared(a, b):
                    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))

                right = [
                    d
                    for d in runs
                    if round(sum(shared(d, e) for e in r.events[c]), 6) >= round(scenario.dtc * (d[1] - d[0]), 6)
                ]
                wrong += len(runs) - len(right)
                for e in r.events[c]:
                    found += round(sum(shared(d, e) for d in right), 6) >= round(scenario.gtc * (e[1] - e[0]), 6)
                for d in runs:
                    if d in right:
                        continue
                    for other in range(n_classes):
                        whole = round(sum(shared(d, e) for e in r.events[other]), 6)
                        crossed[other] += other != c and whole >= round(scenario.cttc * (d[1] - d[0]), 6)
            rates = [
                crossed[o] / (sum(float(e[1] - e[0]) for r in given for e in r.events[o]) / 3600)
                for o in range(n_classes) if o != c
            ]  # fmt: skip
            rate = wrong / hours + scenario.alpha_ct * float(np.mean(rates))
            own[rate] = max(own.get(rate, 0.0), found / n_events)
        points.append(own)
    rates = sorted({r for own in points for r in own if r <= scenario.max_rate})
    total = 0.0
    for rate, following in zip(rates, [*rates[1:], scenario.max_rate], strict=True):
        shares = [max(share for r, share in own.items() if r <= rate) for own in points]
        total += max(0.0, float(np.mean(shares) - scenario.alpha_st * np.std(shares))) * (following - rate)
    return total / scenario.max_rate


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scenario", [LOCALIZED, PRESENT, Scenario(0.3, 0.3, 0.3, 1.0, 0.0, 300.0)])
def test_psds_is_that_of_its_definition(seed, scenario):
    given = recordings(n=3, seed=seed, n_windows=24)
    assert psds(given, scenario).value == pytest.approx(by_definition(given, scenario), abs=ROUNDING)


@pytest.mark.parametrize("name", ["localized", "present", "wide"])
def test_psds_is_that_of_sed_scores_eval(name):
    expected = OF_THE_LIBRARY[name]
    found = psds(recordings(), Scenario(**expected["scenario"]))
    assert found.value == pytest.approx(expected["psds"], abs=ROUNDING) and 0.02 < found.value < 0.98
    np.testing.assert_allclose(found.per_class, expected["per_class"], atol=ROUNDING)


@pytest.mark.slow
def test_stored_results_are_those_of_sed_scores_eval(tmp_path):
    """An environment of its own, because the library has to be compiled and needs ten packages."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "sed")], check=True)
    python = tmp_path / "sed/bin/python"
    install = [python, "-m", "pip", "install", "--quiet", "numpy<2.3", "pandas<3", "sed_scores_eval==0.0.4"]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    asked = {
        "scenarios": {name: row["scenario"] for name, row in OF_THE_LIBRARY.items()},
        "recordings": [
            {"starts": r.starts_s.tolist(), "ends": r.ends_s.tolist(), "scores": r.scores.tolist(),
             "events": [e.tolist() for e in r.events], "duration_s": r.duration_s}
            for r in recordings()
        ],
    }  # fmt: skip
    command = [python, HERE / "by_sed_scores_eval.py"]
    answer = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-500:]
    for name, row in json.loads(answer.stdout).items():
        assert row["psds"] == pytest.approx(OF_THE_LIBRARY[name]["psds"], abs=ROUNDING)
        assert row["per_class"] == pytest.approx(OF_THE_LIBRARY[name]["per_class"], abs=ROUNDING)


def one(scores, *events, window_s=1.0):
    starts = np.arange(len(scores)) * window_s
    times = np.array(events, float).reshape(-1, 2)
    return ScoredRecording(
        starts, starts + window_s, np.array(scores, float)[:, None], (times,), len(scores) * window_s
    )


def test_consecutive_windows_are_one_detection():
    recording = one([0.1, 0.6, 0.7, 0.2, 0.9])
    assert recording.detections(0, 0.5).tolist() == [[1, 3], [4, 5]]
    assert recording.detections(0, 0.1).tolist() == [[0, 5]] and not len(recording.detections(0, 0.95))


def test_a_perfect_detector_has_psds_1_and_one_of_silence_0():
    perfect = one([0, 1, 0, 1, 0], (1, 2), (3, 4))
    assert psds([perfect]).value == 1 and psds([one([0.5] * 50, (1, 2))]).value == 0
    with pytest.raises(UserError, match="PSDS needs annotated events"):
        psds([one([0.5, 0.5])])


def test_classes_without_events_are_left_out_of_psds():
    given = recordings()
    wider = [
        ScoredRecording(
            r.starts_s, r.ends_s, np.hstack([r.scores, r.scores[:, :1]]), (*r.events, np.empty((0, 2))), r.duration_s
        )
        for r in given
    ]
    for scenario in (LOCALIZED, PRESENT):
        assert psds(wider, scenario).value == psds(given, scenario).value
    assert np.isnan(psds(wider).per_class[3])


def test_detection_rate_counts_by_hand():
    hour = [0.0] * 3600
    for place, score in ((10, 0.9), (20, 0.8), (30, 0.7), (40, 0.6), (50, 0.5)):
        hour[place] = score
    given = [one(hour, (10.5, 10.6), (30.5, 30.6), (49.9, 50.2), (1000, 1001))]
    # windows by descending score: event, false, event, false, event; the last event is in a window of score 0
    found = detection_rate(given, (0, 1, 1.5, 2, 1e9))
    assert found.mean.tolist() == [0.25, 0.5, 0.5, 0.75, 1.0]
    assert np.isnan(detection_rate([one([0.5])]).mean).all()


def test_collars_allow_200_ms_and_a_fifth_of_the_length():
    events = np.array([[1.0, 4.0], [10.0, 10.5]])
    assert match_by_collars(events, np.array([[1.2, 4.6], [10.2, 10.7]])).tolist() == [[0, 0], [1, 1]]
    assert not len(match_by_collars(events, np.array([[1.21, 4.0], [1.0, 4.61], [10.0, 10.71]])))
    # the first detection fits both events, the second only the first
    twice = np.array([[1.0, 2.0], [1.3, 2.3]])
    pairs = match_by_collars(twice, np.array([[1.15, 2.15], [0.9, 2.0]]))
    assert sorted(map(tuple, pairs.tolist())) == [(0, 1), (1, 0)]


def test_event_scores_at_a_threshold_and_at_the_best_one():
    given = [one([0.1, 0.6, 0.6, 0.1, 0.3, 0.1], (1, 3), (4, 5))]
    for min_iou in (0.5, None):
        scores = event_scores_by_class(given, min_iou=min_iou)[0]
        assert (scores.counts.true_positive, scores.counts.false_negative) == (1, 1)
        assert scores.f_measure == pytest.approx(2 / 3) and scores.best_f_measure == 1 and scores.best_threshold == 0.3
    assert np.isnan(event_scores_by_class([one([0.9])])[0].f_measure)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "Received: \\[\\] classes"),
        ([one([np.nan], (0, 1))], "Received: NaN"),
        ([one([0.5], (1, 1))], "a finite onset and a later offset"),
    ],
)
def test_wrong_recordings_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        psds(given)
