"""The location model of BirdNET: its own runtime is the reference, and what is no such model is refused."""

import numpy as np
import pytest
from real_birdnet import birdnet_location_model

from birdnet_fs.analysis.postprocessing.chain import make_chain
from birdnet_fs.analysis.postprocessing.location import species_weights
from birdnet_fs.core.errors import UserError

CLASSES = ("Turdus merula_Blackbird", "Junco hyemalis_Dark-eyed Junco", "Dacelo novaeguineae", "nocall", "bf_bird0")


def occurring(lat, lon, week):
    """Scientific names with a score of .03 or more, by the interpreter alone."""
    from ai_edge_litert.interpreter import Interpreter

    model = birdnet_location_model()
    interpreter = Interpreter(model_path=str(model))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.array([[lat, lon, week]], np.float32))
    interpreter.invoke()
    scores = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    (labels,) = model.parent.glob("*Labels.txt")
    lines = labels.read_text(encoding="utf-8").splitlines()
    return {line.split("_")[0] for line, score in zip(lines, scores, strict=True) if score >= 0.03}


@pytest.mark.parametrize(("lat", "lon", "week"), [(46.5, 6.6, 20), (42.5, -76.5, 2), (-33.9, 151.2, -1)])
def test_species_are_those_of_the_model(lat, lon, week):
    here = occurring(lat, lon, week)
    found = species_weights(birdnet_location_model(), CLASSES, lat=lat, lon=lon, week=week)
    assert found.tolist() == [*(float(name.split("_")[0] in here) for name in CLASSES[:3]), 1, 1]
    assert 0 < found[:3].sum() < 3


def test_a_chain_leaves_out_species_of_other_continents():
    chain = make_chain(f"location:model={birdnet_location_model()}:lat=46.5:lon=6.6:week=20", CLASSES)
    found = chain(np.full((2, 5), 0.9, np.float32))
    assert found[0] == pytest.approx([0.9, 0, 0, 0.9, 0.9])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"lat": 91}, "lat of the location must be in -90..90"),
        ({"lon": -181}, "lon of the location"),
        ({"week": 0}, "week of the location must be in 1..48"),
        ({"least": 2}, "least of the location"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, values, words):
    with pytest.raises(UserError, match=words):
        species_weights(tmp_path / "none.tflite", CLASSES, **{"lat": 0, "lon": 0, **values})


def test_models_without_labels_or_without_a_class_are_refused(tmp_path):
    model = birdnet_location_model()
    with pytest.raises(UserError, match="None of the classes is a species"):
        species_weights(model, ["song_1"], lat=0, lon=0)
    (tmp_path / "m.tflite").write_bytes(model.read_bytes())
    with pytest.raises(UserError, match="One file of labels"):
        species_weights(tmp_path / "m.tflite", CLASSES, lat=0, lon=0)
    (tmp_path / "m_Labels.txt").write_text("Turdus merula_Blackbird\n")
    with pytest.raises(UserError, match=r"gives 6522 species, and its labels name 1"):
        species_weights(tmp_path / "m.tflite", CLASSES, lat=0, lon=0)
