"""Chains are read, applied in order and written as they are read."""

import numpy as np
import pytest

from birdnet_fs.analysis.postprocessing.chain import STEPS, Windows, make_chain, parse_chain
from birdnet_fs.analysis.postprocessing.recording_steps import file_topk, smooth
from birdnet_fs.core.errors import UserError

CLASSES = ("a", "b", "c")
SCORES = np.random.default_rng(0).random((12, 3)).astype(np.float32)


def test_steps_are_applied_in_order():
    found = make_chain("smooth:kernel=1/2/1, file_topk:k=2", CLASSES)
    np.testing.assert_array_equal(found(SCORES), file_topk(smooth(SCORES, (1, 2, 1)), 2))
    assert found(SCORES[:0]).shape == (0, 3)
    assert not np.allclose(found(SCORES), make_chain("file_topk:k=2,smooth:kernel=1/2/1", CLASSES)(SCORES))


def test_no_chain_changes_nothing():
    found = make_chain("", CLASSES)
    assert found(SCORES) is SCORES and (found.text, found.identity) == ("", "")


def test_the_text_has_all_settings_and_is_read_again():
    found = make_chain("smooth,delta:alpha=0.5,tail_power:power=3", CLASSES)
    assert found.text == "smooth:kernel=0.1/0.2/0.4/0.2/0.1,delta:alpha=0.5,tail_power:top=30:power=3"
    again = make_chain(found.text, CLASSES)
    assert (again.text, again.identity) == (found.text, found.identity)
    np.testing.assert_array_equal(again(SCORES), found(SCORES))


def test_the_text_keeps_all_digits():
    chains = [make_chain(f"delta:alpha={alpha}", CLASSES) for alpha in (0.12345678, 0.12345679)]
    assert chains[0].text == "delta:alpha=0.12345678" and chains[0].identity != chains[1].identity
    assert make_chain("file_topk:power=1e-7", CLASSES).text == "file_topk:k=1:power=1e-07"


def test_identity_changes_with_the_content_of_a_file(tmp_path):
    table = tmp_path / "w.csv"
    table.write_text("class,weight\nb,2\n")
    text = f"weights:table={table}"
    before = make_chain(text, CLASSES)
    p = SCORES[:, 1].astype(np.float64)
    np.testing.assert_allclose(before(SCORES)[:, 1], 2 * p / (1 + p), rtol=1e-6)
    table.write_text("class,weight\nb,3\n")
    assert make_chain(text, CLASSES).identity != before.identity


def test_weights_by_hour_follow_the_clock_of_the_recording(tmp_path, capsys):
    (tmp_path / "h.csv").write_text("class,hour,weight\na,5,0\nb,6,3\n")
    chain = make_chain(f"hours:table={tmp_path / 'h.csv'}", CLASSES)
    windows = Windows(tmp_path / "20240501_053000.wav", np.array([0.0, 1799.0, 1800.0]))
    p = SCORES[:3].astype(np.float64)
    found = chain(SCORES[:3], windows)
    assert found[:2, 0].tolist() == [0, 0] and found[2, 0] == pytest.approx(p[2, 0], rel=1e-6)
    assert found[2, 1] == pytest.approx(3 * p[2, 1] / (1 + 2 * p[2, 1]), rel=1e-6)
    np.testing.assert_allclose(found[:, 2], p[:, 2], rtol=1e-6)
    np.testing.assert_array_equal(chain(SCORES), SCORES)  # of no recording
    unknown = Windows(tmp_path / "dawn.wav", np.zeros(12))
    np.testing.assert_array_equal(chain(SCORES, unknown), SCORES)
    assert "leaves the scores of recordings without a clock time" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("smoth", "Did you mean 'smooth'"),
        ("smooth:kernl=1", r"kernel=VALUE, each once. Did you mean 'kernel'"),
        ("smooth:kernel", "each once"),
        ("smooth:kernel=1:kernel=1", "each once"),
        ("smooth:kernel=1/2", "an odd number of weights"),
        ("smooth:kernel=-1/2/1", "an odd number of weights"),
        ("smooth:kernel=0", "an odd number of weights"),
        ("smooth:kernel=nan", "an odd number of weights"),
        ("file_topk:k=0", r"k must be a whole number in 1"),
        ("file_topk:k=1.5", r"k must be a whole number"),
        ("file_topk:power=x", r"power must be a number in 0..10"),
        ("delta:alpha=nan", r"alpha must be a number in 0..1"),
        ("weights", "needs :table=VALUE"),
        ("weights:table=nowhere.csv", "must be a file that exists"),
        ("location:lat=1:lon=2", "needs :model=VALUE"),
    ],
)
def test_wrong_chains_are_refused(text, words):
    with pytest.raises(UserError, match=words):
        parse_chain(text)


def test_every_step_has_defaults_in_its_range():
    for name, step in STEPS.items():
        for key, setting in step.settings.items():
            if setting.kind in ("number", "whole") and setting.default is not None:
                assert setting.low <= setting.default <= setting.high, (name, key)
