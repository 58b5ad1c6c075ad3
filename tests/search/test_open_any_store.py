"""What can be searched: stores, and databases of perch-hoplite with the encoder that is named for them."""

import embedding_store
import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.embedder import embedder_facts
from birdnet_fs.search import open_any_store as module
from birdnet_fs.search.examples import open_store_encoder
from birdnet_fs.search.open_any_store import open_any_store
from birdnet_fs.search.store import Store, StoreHeader


@pytest.fixture
def database(tmp_path, monkeypatch):
    """A database whose reading is replaced by a store of two windows, as of the encoder of the tests."""

    def made(width=embedding_store.WIDTH, segment_s=embedding_store.SEGMENT_S, identity=""):
        whole = embedding_store.store_of(np.ones((2, width)))
        header = StoreHeader("perch_8", "", "", identity, "", 0, segment_s, segment_s, width, "float16")
        found = Store(**{**vars(whole), "header": header})
        monkeypatch.setattr(module, "read_hoplite", lambda path: found)
        (tmp_path / "hoplite.sqlite").touch()
        return tmp_path

    return made


def test_a_store_is_opened_as_it_is(tmp_path):
    folder = embedding_store.two_parts(tmp_path / "store")
    assert open_any_store(folder).header == embedding_store.STORE_HEADER
    with pytest.raises(UserError, match="An embedding store"):
        open_any_store(tmp_path)


def test_a_database_takes_the_encoder_that_is_named_and_says_so(database, tmp_path, capsys):
    file, card = embedding_store.write_encoder(tmp_path / "encoder")
    found = open_any_store(database(), encoder=file, card=str(card))
    assert found.header.identity == embedder_facts(file, str(card)).identity
    assert found.header.sample_rate_hz == embedding_store.RATE_HZ and found.header.encoder == "small"
    assert "does not prove its encoder (perch_8); taken to be" in capsys.readouterr().err
    assert open_any_store(database(identity="known"), encoder=file).header.identity == "known"


@pytest.mark.parametrize("other", [{"width": 7}, {"segment_s": 5.0}])
def test_an_encoder_of_another_width_or_window_is_refused(database, tmp_path, other):
    file, card = embedding_store.write_encoder(tmp_path / "encoder")
    with pytest.raises(UserError, match="name the encoder that it was made with"):
        open_any_store(database(**other), encoder=file, card=str(card))


def test_a_database_without_a_named_encoder_cannot_be_compared_with_examples(database):
    with pytest.raises(UserError, match=r"does not name its encoder.*--encoder FILE"):
        open_store_encoder(open_any_store(database()).header)
