"""Embedding in shards: the store is that of one process, to the byte, however often shards are stopped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import embedding_store
import numpy as np
import pyarrow.parquet as pq
import pytest
from killed import contents

from birdnet_fs.cluster import embeddings as module
from birdnet_fs.cluster.embeddings import merge_embeddings, write_embeddings
from birdnet_fs.cluster.plan import make_plan, read_plan, result_file, write_plan
from birdnet_fs.cluster.run import run_shard
from birdnet_fs.inference.embedder import WindowEmbedder, open_embedder
from birdnet_fs.search import embed_recordings as engine
from birdnet_fs.search.embed_recordings import embed_recordings
from birdnet_fs.search.store import open_store


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> WindowEmbedder:
    file, card = embedding_store.write_encoder(tmp_path_factory.mktemp("encoder"))
    return open_embedder(file, str(card), threads=1)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_shards_that_are_interrupted_give_the_store_of_one_process(
    embedder: WindowEmbedder, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = tmp_path / "field"
    embedding_store.write_recordings(field / "b", 9)
    embedding_store.write_recordings(field / "a", 8, seconds=0.7)
    (field / "a" / "broken.wav").write_bytes(b"x")
    (field / "b" / "empty.wav").write_bytes(b"")
    (field / "b" / "pipe.wav").symlink_to("nowhere")
    monkeypatch.setattr(engine, "PART_WINDOWS", 20)  # several parts, which do not end where shards do
    monkeypatch.setattr(module, "GROUP_WINDOWS", 7)
    embed_recordings(embedder, [field], tmp_path / "one", dtype=dtype)
    folder, output = tmp_path / "out.shards", tmp_path / "out"
    write_plan(folder, make_plan("embed", {}, [field], 4))
    plan, real, stop_at = read_plan(folder), engine._one, [0]

    def interrupted(*arguments: Any) -> None:
        stop_at[0] -= 1
        if stop_at[0] == 0:
            raise KeyboardInterrupt
        real(*arguments)

    def work(recordings: Sequence[Path], place: Path) -> None:
        embed_recordings(embedder, recordings, place, dtype=dtype)

    monkeypatch.setattr(engine, "_one", interrupted)
    for number in (3, 1, 0, 2):
        for stop_at[0] in (2, 1, 0):
            if stop_at[0]:
                with pytest.raises(KeyboardInterrupt):
                    run_shard(folder, plan, number, work, write_embeddings)
            else:
                run_shard(folder, plan, number, work, write_embeddings)
    real_write, n_parts = module.write_part, [0]

    def killed(*arguments: Any) -> object:
        n_parts[0] += 1
        if n_parts[0] == 2:
            raise KeyboardInterrupt
        return real_write(*arguments)

    monkeypatch.setattr(module, "write_part", killed)
    with pytest.raises(KeyboardInterrupt):
        merge_embeddings(folder, plan, output)
    assert len(list((output / "parts").glob("*.parquet"))) == 1
    merge_embeddings(folder, plan, output)
    assert contents(output) == contents(tmp_path / "one")
    assert len(list((output / "parts").glob("*.parquet"))) > 2
    stop_at[0] = 1  # nothing is embedded again
    ledger = merge_embeddings(folder, plan, output)
    assert ledger.counts() == {"ok": 17, "partial": 0, "quarantined": 3}
    assert contents(output) == contents(tmp_path / "one")
    tables = [pq.read_table(result_file(folder, number)) for number in range(4)]
    rows = np.concatenate([np.array(table["embedding"].to_pylist(), np.float32) for table in tables])
    np.testing.assert_array_equal(rows, open_store(output).embeddings())
