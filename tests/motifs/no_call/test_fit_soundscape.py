"""From labeled soundscapes to a stored no-call model, and the model as a gate."""

import json
import shutil

import numpy as np
import pytest
from soundscapes import RATE, window, write_soundscapes

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.no_call.fit_soundscape import NoCallFit, fit_soundscape, soundscape_data
from birdnet_fs.motifs.no_call.gate import open_gate
from birdnet_fs.motifs.no_call.model import metadata_path, open_model


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soundscapes")
    write_soundscapes(folder / "data", 10, 8)
    output = folder / "lgb.txt"
    found = fit_soundscape(soundscape_data(folder / "data"), NoCallFit("logmel", dim=384, folds=True), output)
    return output, found


def test_calls_are_found_and_the_model_is_text(fitted):
    output, found = fitted
    assert found.auc == found.test_auc == 1.0
    assert output.read_text().startswith("tree\n")
    about = json.loads(metadata_path(output).read_text())
    assert about["windows"] == {"with_calls": 40, "without": 40, "recordings": 10}
    assert about["embedding"]["name"] == "logmel" and about["head"] == "gbm" and about["split"] == "recordings"
    assert output.with_suffix(".ledger.csv").read_text().count(",ok,") == 80


def test_gate_scores_new_windows(fitted):
    gate = open_gate(fitted[0])
    rng = np.random.default_rng(9)
    rows = np.stack([np.repeat(window(rng, call), 32_000 // RATE) for call in (True, False, True)]).astype(np.float32)
    scores = gate.probabilities(rows)
    assert list(scores >= gate.threshold) == [True, False, True]
    assert open_gate(fitted[0], threshold=0.9).threshold == 0.9
    assert len(gate.probabilities(rows[:0])) == 0


def test_outputs_that_exist_and_other_widths_are_refused(fitted, tmp_path):
    output, _ = fitted
    data = soundscape_data(output.parent / "data")
    with pytest.raises(UserError, match="exists already; give another file, or --overwrite"):
        fit_soundscape(data, NoCallFit("logmel"), output)
    with pytest.raises(UserError, match=r"has a width of 384; leave --dim out, or give --dim 384. Received: 64"):
        fit_soundscape(data, NoCallFit("logmel", dim=64), tmp_path / "x.txt")
    with pytest.raises(UserError, match="which does not exist"):
        fit_soundscape(data, NoCallFit("no/such.ckpt"), tmp_path / "x.txt")
    with pytest.raises(UserError, match=r"has no train_soundscape_labels.csv; give the table of labels with --table"):
        soundscape_data(tmp_path)


def test_a_model_with_another_head_or_embedding_is_refused(fitted, tmp_path):
    output, _ = fitted
    for file in (output, metadata_path(output)):
        shutil.copy(file, tmp_path)
    copy = tmp_path / output.name
    assert open_model(copy).threshold == open_model(output).threshold
    about = json.loads(metadata_path(copy).read_text())
    about["embedding"]["identity"] = "0" * 64
    metadata_path(copy).write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"it has changed since. Put the earlier one back, or fit the model again"):
        open_model(copy)
    copy.write_text(copy.read_text() + "\n")
    with pytest.raises(UserError, match=r"is not the file that lgb.metadata.json describes"):
        open_model(copy)
