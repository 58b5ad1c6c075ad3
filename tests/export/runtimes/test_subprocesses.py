"""Processes of the exporter: their environment, their output, and how they end."""

import subprocess
import sys
from pathlib import Path

import pytest

from birdnet_fs.export.runtimes.subprocesses import (
    POISONED_MEMORY,
    last_output,
    run_module,
    run_python,
    start_line_process,
)

HERE = Path(sys.executable)


def test_run_module_finds_this_package_and_sets_the_backend(tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text(
        "import os, sys, birdnet_fs\nprint(birdnet_fs.__file__, os.environ['KERAS_BACKEND'], sys.argv[1:])\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        done = run_module("shown", [1, tmp_path], backend="tensorflow")
    import birdnet_fs

    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=2) == [str(birdnet_fs.__file__), "tensorflow", f"['1', '{tmp_path}']\n"]


def test_run_python_hides_this_package_and_gpus_and_poisons_memory() -> None:
    code = "import os; print([os.environ.get(n) for n in ('PYTHONPATH', 'CUDA_VISIBLE_DEVICES', 'MALLOC_PERTURB_')])"
    assert run_python(HERE, ["-c", code]).stdout == "['', '', None]\n"
    poisoned = run_python(HERE, ["-c", code], stale=True).stdout
    assert poisoned == f"['', '', '{POISONED_MEMORY['MALLOC_PERTURB_']}']\n"


def test_run_python_ends_at_the_time_limit() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_python(HERE, ["-c", "import time; time.sleep(60)"], timeout_s=0.5)


def test_last_output_is_the_last_line_of_the_errors() -> None:
    done = run_python(HERE, ["-c", "raise ValueError('the reason')"])
    assert last_output(done) == "ValueError: the reason"
    assert last_output(run_python(HERE, ["-c", ""])) == "no output"


def test_line_process_answers_line_by_line_and_reports_its_end() -> None:
    code = "import sys\nfor line in sys.stdin:\n    print(2 * int(line), flush=True)\n"
    with start_line_process(HERE, ["-c", code]) as process:
        assert [process.request(str(n)) for n in (1, 21)] == ["2\n", "42\n"]
        assert process.request("no number") is None
        assert process.status == 1 and "ValueError" in process.error_output


def test_line_process_is_killed_with_its_block() -> None:
    with start_line_process(HERE, ["-c", "import time; print('up', flush=True); time.sleep(600)"]) as process:
        assert process.request() == "up\n"
    assert process._process.poll() not in (None, 0)
