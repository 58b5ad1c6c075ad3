"""Fixtures that every room's tests share."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import preloaded
import pytest
from slurm import Slurm, started_slurm, why_not

os.environ.setdefault("KERAS_BACKEND", "torch")  # some tests import keras before the package, which would set it
if "PYTEST_XDIST_WORKER" in os.environ:  # workers with a thread for every core each would slow each other down tenfold
    os.environ.setdefault("OMP_NUM_THREADS", "1")

collect_ignore_glob = ["*/*on_tensorflow.py"]  # scripts of other processes, which have no doctests to look for

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the project; without it the test is skipped (CI forbids that)."""
    if not (SHARED / "data" / "metadata.csv").is_file():
        reason = "the real recordings (../shared/data) are not beside this checkout"
        if os.environ.get("BIRDNET_FS_REQUIRE_SHARED"):
            pytest.fail(reason)
        pytest.skip(reason)
    return SHARED / "data"


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A SLURM that runs; without its programs, or without root, the test is skipped (CI forbids that)."""
    if reason := why_not():
        if os.environ.get("BIRDNET_FS_REQUIRE_SLURM"):
            pytest.fail(reason)
        pytest.skip(reason)
    with started_slurm(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.fixture(scope="session", autouse=True)
def _kept_embeddings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Embeddings of tests are kept in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIRDNET_FS_CACHE", str(tmp_path_factory.mktemp("kept")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _preloaded_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let processes of tests, and of the exports in them, start with Keras imported (helpers/preloaded.py)."""
    from birdnet_fs.export.runtimes import subprocesses

    def run_module(
        module: str, arguments: Sequence[object], *, backend: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = ["-m", module, *arguments]
        return preloaded.run_python(command, backend=backend or "torch", environment=subprocesses._QUIET)

    if not sys.platform.startswith("linux"):  # elsewhere a fork after imports is not safe
        yield
        return
    base = tmp_path_factory.getbasetemp()
    preloaded.folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocesses, "run_module", run_module)
        yield


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    """Restore the handlers that `main` and `stopping.listen` set, so that a signal ends the tests as before."""
    from birdnet_fs.core import stopping

    hook = sys.unraisablehook
    before = {name: signal.getsignal(getattr(signal, name)) for name in stopping.SIGNALS if hasattr(signal, name)}
    yield
    for name, handler in before.items():
        if signal.getsignal(getattr(signal, name)) is not handler:
            signal.signal(getattr(signal, name), handler)
    if sys.unraisablehook is stopping._repeat_dropped:
        sys.unraisablehook = hook
    stopping._State.received, stopping._State.waiting = 0, False


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "divide every tolerance of rounding by this: with 3 the tests must pass on any processor"
    parser.addoption("--tolerance-margin", type=float, default=1.0, help=help)


def pytest_configure(config: pytest.Config) -> None:
    # by default pytest-xdist begins with the files of the most tests and leaves the longest, of few tests, for the end;
    # in order of collection the examples of docstrings are last, which take little time
    config.option.loadscopereorder = False
    if (margin := config.getoption("--tolerance-margin")) != 1:
        import tolerances

        tolerances.tighten(margin)
