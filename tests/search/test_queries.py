"""What a search looks for: files are examples, folders are runs, and a colon divides run and class."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.search.queries import Queries, read_queries


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("run", "odd:run", "other"):
        (tmp_path / name).mkdir()
    for name in ("a.wav", "b:c.wav"):
        (tmp_path / name).touch()
    return tmp_path


def test_files_are_examples_and_a_colon_divides_run_and_class(folder):
    from pathlib import Path

    assert read_queries(["a.wav", "b:c.wav"]) == Queries((Path("a.wav"), Path("b:c.wav")))
    assert read_queries(["run:owl", "run:tit: call", "run:owl"]) == Queries((), Path("run"), ("owl", "tit: call"))
    assert read_queries(["odd:run:owl"]) == Queries((), Path("odd:run"), ("owl",))
    assert read_queries(["run"]) == Queries((), Path("run"), ()) and read_queries([]) == Queries()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["gone.wav"], "or RUN:CLASS with the folder of a run. Received: gone.wav, which does not exist"),
        (["run:"], "Received: run:, which does not exist"),
        (["nowhere:owl"], "Received: nowhere:owl"),
        (["a.wav", "run:owl"], "either examples or classes of a run"),
        (["run:owl", "other:owl"], "classes of one run"),
    ],
)
def test_what_cannot_be_looked_for_is_refused(folder, given, message):
    with pytest.raises(UserError, match=message):
        read_queries(given)
