"""Few-shot evaluation of synthetic clips against plain nearest class means, and its errors."""

import json

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from birdnet_fs import schema
from birdnet_fs.cli.fewshot_eval import fewshot_eval
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream
from birdnet_fs.data.episodes import draw_episodes
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.data.partition import Partition, write_partition
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.inference.embed import Embedder, embed_clips
from birdnet_fs.runs import run as run_folder

WHERE = ["data.table=metadata.csv", "data.audio=audio", "data.where=set=aviary"]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return make_aviary(tmp_path_factory.mktemp("novel") / "aviary", n_species=4, clips_per_species=5, n_soundscapes=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    spec = schema.FrontEnd(sample_rate_hz=16_000, segment_s=2.0, n_mels=32, fmax_hz=8000)
    experiment = schema.Experiment(name="base", frontend=spec, model=schema.Model("cnn/tiny"))
    weights = run_folder.model_weights(run_folder.build_network(experiment, n_classes=3))
    return run_folder.save_run(tmp_path_factory.mktemp("novel_run") / "run", experiment, ("x", "y", "z"), weights)


def test_accuracy_is_that_of_the_nearest_mean(run, recordings, tmp_path, capsys):
    fewshot_eval(run.path, recordings, WHERE, 3, "1,2", 2, 50, output=tmp_path / "few.json")
    printed = capsys.readouterr()
    assert "3-way 2-shot" in printed.out and "No 1-shot episodes within recordings" in printed.err
    found = {(r["n_shot"], r["method"]): r for r in json.loads((tmp_path / "few.json").read_text())["results"]}
    data = schema.Data(root=str(recordings), table="metadata.csv", audio="audio", where="set=aviary")
    clips = read_manifest(data).clips
    waveforms = Waveforms(clips, 16_000)
    x = embed_clips(Embedder(run.build_model(), run.frontend), waveforms, "again")
    labels, groups = [c.labels[0] for c in clips], [c.group or str(c.path) for c in clips]
    for n_shot in (1, 2):
        episodes = draw_episodes(
            labels, groups, n_way=3, n_shot=n_shot, n_query=2, n_episodes=50, seed=0, stream=Stream.EVALUATION_EPISODES
        )
        right = []
        for support, query in zip(episodes.support, episodes.query, strict=True):
            named = cdist(x[query.ravel()], x[support].mean(1)).argmin(1)
            right.append(np.mean(named == np.repeat(np.arange(3), 2)))
        assert found[n_shot, "euclidean"]["accuracy"] == pytest.approx(np.mean(right), abs=0.5 / (50 * 6))
        assert found[n_shot, "euclidean"]["recordings"] == "across"


def test_bad_input_is_refused(run, recordings, tmp_path):
    with pytest.raises(UserError, match="--shots must be whole numbers"):
        fewshot_eval(run.path, recordings, WHERE, 3, "one")
    with pytest.raises(UserError, match="does not exist"):
        fewshot_eval(run.path, tmp_path / "none")
    with pytest.raises(UserError, match="cannot be drawn"):
        fewshot_eval(run.path, recordings, WHERE, 9, "1")
    found = read_manifest(schema.Data(root=str(recordings), table="metadata.csv", audio="audio", where="set=aviary"))
    write_partition(run.path / "partition.csv", Partition(found, found.clips[:1], (), ()))
    with pytest.raises(UserError, match="was trained on"):
        fewshot_eval(run.path, recordings, WHERE, 3, "1", 2)
    (run.path / "partition.csv").unlink()
