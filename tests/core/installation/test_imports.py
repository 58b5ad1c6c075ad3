"""Imports that work, fail, end the process or hang; each is answered with a reason."""

import pytest

from birdnet_fs.core.installation import imports
from birdnet_fs.core.installation.imports import try_imports


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise OSError('libgomp.so.1: cannot open shared object file')", "OSError: libgomp.so.1: cannot open shared"),
        ("import ctypes; ctypes.string_at(0)", "its import ended the process by SIGSEGV"),
        ("import os; os.abort()", "its import ended the process by SIGABRT"),
        ("import time; time.sleep(600)", "its import did not end within 2 s"),
        ("import os; os._exit(3)", "its import ended with status 3"),
    ],
)
def test_a_broken_package_is_answered_with_its_reason(code: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(imports.CODE, "broken", code)
    limit = 2 if "sleep" in code else 60
    found = try_imports(["broken"], limit_s=limit)["broken"]
    assert not found.works and found.failed.startswith(reason)


def test_text_that_a_library_prints_is_not_taken_for_its_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(imports.CODE, "loud", "import os\nprint('hello')\nos.system('echo hello')\nfacts = {'a': [1]}")
    monkeypatch.setitem(imports.CODE, "plain", "facts = {}")
    found = try_imports(["plain", "loud"], n_workers=2)
    assert list(found) == ["plain", "loud"] and found["loud"].facts == {"a": [1]} and found["loud"].works


def test_packages_of_the_core_work_here() -> None:
    found = try_imports(["numba", "soundfile"])
    assert all(one.works for one in found.values()), found
    assert found["numba"].facts == {"sum": 3} and "FLAC" in found["soundfile"].facts["formats"]
