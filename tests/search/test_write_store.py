"""Writing of a store: parts are whole or absent, and a store of another encoder is refused."""

import dataclasses

import embedding_store
import numpy as np
import pytest
import tolerances

from birdnet_fs.core.errors import UserError
from birdnet_fs.search.store import open_store
from birdnet_fs.search.write_store import create_store, write_part


@pytest.fixture
def folder(tmp_path):
    return embedding_store.two_parts(tmp_path / "store")


def test_windows_of_an_incomplete_recording_are_dropped(folder):
    with write_part(folder, embedding_store.STORE_HEADER) as writer:
        writer.append(np.ones((2, 3)))
        writer.end_recording(embedding_store.recording("c.wav", 1), [(0.0, 0.2)])
        writer.append(np.full((5, 3), 2.0))
    store = open_store(folder)
    np.testing.assert_array_equal(store.embeddings()[3:], [[1, 1, 1]])
    np.testing.assert_allclose(store.norms[3:], np.sqrt(3), rtol=tolerances.INNER_PRODUCTS)


def test_an_exception_leaves_no_part(folder):
    with pytest.raises(RuntimeError), write_part(folder, embedding_store.STORE_HEADER) as writer:
        writer.append(np.ones((2, 3)))
        raise RuntimeError
    assert len(list((folder / "parts").iterdir())) == 6


@pytest.mark.parametrize(
    ("field", "value"), [("identity", "other"), ("hop_s", 0.1), ("width", 4), ("dtype", "float16"), ("segment_s", 1.0)]
)
def test_a_store_of_another_encoder_or_setting_is_refused(folder, field, value):
    with pytest.raises(UserError, match=f"store with {field} .* was asked for"):
        create_store(folder, dataclasses.replace(embedding_store.STORE_HEADER, **{field: value}))
    create_store(folder, dataclasses.replace(embedding_store.STORE_HEADER, path="/moved.onnx"))


def test_store_of_a_command_killed_while_it_was_created_is_created_again(tmp_path):
    (tmp_path / "one" / "parts").mkdir(parents=True)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / ".part-0123abcd-1-1-0123abcd.json").touch()
    for name in ("one", "two"):
        create_store(tmp_path / name, embedding_store.STORE_HEADER)
        assert (tmp_path / name / "store.json").is_file()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(UserError, match="holds other files"):
        create_store(tmp_path / "other", embedding_store.STORE_HEADER)
