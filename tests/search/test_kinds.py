"""Folders that can be searched are recognized by one file."""

from birdnet_fs.search.kinds import is_store


def test_stores_and_databases_are_recognized(tmp_path):
    for name in ("store.json", "hoplite.sqlite"):
        (tmp_path / name).mkdir(parents=True)
        assert not is_store(tmp_path / name)
        (tmp_path / name / name).touch()
        assert is_store(tmp_path / name)
    assert not is_store(tmp_path / "nothing")
