"""Two processes train as one does: gradients, weights, metrics, interruptions. Started by torchrun, joined by gloo."""

import os
import subprocess
import sys
from pathlib import Path

import divided_training
import numpy as np
import pytest
import tolerances

NAMES = list(divided_training.CASES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays of all cases, computed by two processes."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, divided_training.__file__, folder], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def by_two(folder: Path, name: str) -> list[divided_training.Arrays]:
    """The arrays of a case in both processes."""
    files = [np.load(folder / f"{NAMES.index(name)}-{rank}.npz") for rank in (0, 1)]
    return [{key.replace("|", "/"): file[key] for key in file} for file in files]


def assert_close(found: divided_training.Arrays, expected: divided_training.Arrays, relative: float) -> None:
    """Equal relative to the largest value of each array."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        largest = float(np.abs(value).max())
        np.testing.assert_allclose(found[name], value, rtol=0, atol=relative * max(largest, 1e-3), err_msg=name)


@pytest.mark.parametrize("name", divided_training.ONE_STEP)
def test_gradients_and_statistics_of_one_step_are_those_of_one_process(name: str, folder: Path) -> None:
    """Of parts of unequal size, an empty one, losses that are no mean over rows, and all kinds of BatchNorm."""
    expected = divided_training.one_step(name)
    for found in by_two(folder, f"one step, {name}"):
        assert_close(found, expected, tolerances.DIVIDED_GRADIENT)


def test_gradient_of_an_episode_is_that_of_one_process(folder: Path) -> None:
    for found in by_two(folder, "episode"):
        assert_close(found, divided_training.episode(), tolerances.DIVIDED_GRADIENT)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weights_after_many_steps_are_those_of_one_process(name: str, folder: Path, tmp_path: Path) -> None:
    """With clipping, accumulated gradients and a moving average; SGD in float64."""
    expected = divided_training.CASES[name](tmp_path)
    first, second = by_two(folder, name)
    for key in expected:
        np.testing.assert_array_equal(first[key], second[key])
    if name == "adamw":  # its steps are as large for a gradient near 0, whose sign rounding decides
        first, expected = ({"train_loss": arrays["train_loss"]} for arrays in (first, expected))
    assert_close(first, expected, tolerances.DIVIDED_LOSS if name == "adamw" else tolerances.DIVIDED_WEIGHTS)


def test_metrics_of_the_validation_equal_those_of_one_process(folder: Path) -> None:
    expected = divided_training.validated()
    for found in by_two(folder, "validation"):
        assert found == expected


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("stopped")])
def test_training_stopped_by_a_signal_to_one_process_ends_as_undisturbed(name: str, folder: Path) -> None:
    """At a step between two updates of accumulated gradients, which the processes finish first, too; with dropout."""
    for found, expected in zip(by_two(folder, name), by_two(folder, "undisturbed"), strict=True):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_dropout_draws_differ_between_processes_and_are_keyed(folder: Path) -> None:
    found, other = by_two(folder, "dropout")
    np.testing.assert_array_equal(found["own"], found["again"])
    np.testing.assert_array_equal(found["own"], other["own"])
    assert (found["own"][0] != found["own"][1]).all()


def test_main_process_decides_and_refuses_for_all(folder: Path) -> None:
    for found in by_two(folder, "exchanged"):
        assert found["value"].tolist() == ["0", "é"]
        refused, different = found["errors"].tolist()
        assert refused == "refused by the main process"
        assert "Process 1 has another list of clips than process 0 (1, not 0)" in different
        np.testing.assert_array_equal(found["rows"], [[1, 1]])
