"""Building a network by name, its outputs, and `.keras` files in another process and from strangers."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import preloaded
import pytest
import tolerances
import torch
from installed import need
from reduced import code_paths, reduced, shape_of

import birdnet_fs
from birdnet_fs import models
from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend import preset
from birdnet_fs.frontend.in_keras import FrontEndLayer


def build(name: str = "cnn/tiny", **settings) -> keras.Model:
    return models.build(name, **{"input_shape": (64, 64, 1), "n_classes": 3, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "cnn/tini"}, "cnn/tiny"),
        ({"input_shape": (64, 64)}, "n_frames, n_mels, n_channels"),
        ({"input_shape": (1, 64, 64, 1)}, "n_frames, n_mels, n_channels"),
        ({"input_shape": (64, 64, 0)}, "n_frames, n_mels, n_channels"),
        ({"input_shape": (None, 64, 1)}, "n_frames, n_mels, n_channels"),
        ({"input_shape": (1, 64, 64)}, "at least 16 frames"),  # channels first
        ({"input_shape": (64, 15, 1)}, "at least 16 frames x 16 mels"),
        ({"name": "efficientnet_v2", "input_shape": (64, 31, 1)}, "at least 32 frames x 32 mels"),
        ({"n_classes": 0}, "n_classes must be 1 or more"),
        ({"head": "cosin"}, r"head must be one of linear, sed, cosine.*Did you mean 'cosine'.*'cosin'"),
        ({"channels": (8, 16)}, r"model\.channels is for model\.name=prototypical/v2.*for cnn/tiny"),
    ],
)
def test_build_refuses_wrong_arguments(settings, message):
    with pytest.raises(UserError, match=message):
        build(**settings)


@pytest.mark.parametrize("name", [*models.FAMILIES, "cnn/large"])
def test_build_accepts_the_smallest_input_of_a_family(name):
    with keras.device("meta"):
        model = build(name, input_shape=(*models.family(name).MIN_SHAPE, 2))
    assert model.output_shape == (None, 3)


def test_with_outputs_shares_weights_and_refuses_unknown_layers():
    model = build()
    embedding = models.with_outputs(model, ["embedding"])
    assert embedding.output_shape == (None, 48)
    assert {id(weight) for weight in embedding.weights} < {id(weight) for weight in model.weights}
    both = models.with_outputs(model, ["logits", "embedding"])
    assert both.output_shape == [(None, 3), (None, 48)]
    with pytest.raises(UserError, match=r"cnn_tiny has no layer of this name\. Build it with head='sed'"):
        models.with_outputs(model, ["frame_logits"])
    with pytest.raises(UserError, match="Did you mean 'embedding'"):
        models.with_outputs(model, ["embeding"])


# ---------------------------------------------------------------- .keras files

FRESH = """
import sys, numpy as np
from pathlib import Path
import birdnet_fs.models
import keras
for file in sorted(Path(sys.argv[1]).glob("*.keras")):
    x = np.load(file.with_suffix(".x.npy"))
    model = keras.saving.load_model(file) if sys.argv[2] == "keras" else birdnet_fs.load_keras(file)
    y = keras.ops.convert_to_numpy(model(x, training=False))
    np.save(file.with_suffix(f".{keras.backend.backend()}.npy"), y)
"""


def score_in_a_fresh_process(folder: Path, backend: str, function: str) -> None:
    run = preloaded.run_python(["-c", FRESH, folder, function], backend=backend)
    assert run.returncode == 0, run.stderr


def saved(folder: Path, name: str, model: keras.Model) -> tuple[Path, np.ndarray]:
    """The path and logits of a model that is saved with its input."""
    file = folder / f"{name.replace('/', '_')}.keras"
    x = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype(np.float32)
    model.save(file)
    np.save(file.with_suffix(".x.npy"), x)
    with torch.no_grad():
        return file, model(x, training=False).numpy()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[Path, np.ndarray]:
    """One network per family and head, and one on waveforms, with their logits."""
    folder, found = tmp_path_factory.mktemp("files"), {}
    for name in code_paths():
        with reduced(name):
            model = build(name, input_shape=shape_of(name, (48, 40, 1)))
        file, logits = saved(folder, name, model)
        found[file] = logits
    for head in ("sed", "cosine", "prototypes"):
        file, logits = saved(folder, head, build(head=head))
        found[file] = logits
    waveform = keras.Input((preset("cnn_32k").n_samples,))
    features = FrontEndLayer(preset("cnn_32k"))(waveform)
    features = keras.layers.Reshape((*features.shape[1:], 1))(features)
    file, logits = saved(folder, "waveform", keras.Model(waveform, build(input_shape=features.shape[1:])(features)))
    found[file] = logits
    return found


@pytest.mark.parametrize("function", ["keras", "load_keras"])
def test_files_of_every_family_load_in_a_fresh_process(files, function):
    score_in_a_fresh_process(next(iter(files)).parent, "torch", function)
    for file, logits in files.items():
        assert np.array_equal(np.load(file.with_suffix(".torch.npy")), logits), file.name


def test_files_of_every_family_load_on_tensorflow(files):
    need("tensorflow")
    score_in_a_fresh_process(next(iter(files)).parent, "tensorflow", "load_keras")
    for file, logits in files.items():
        error = np.abs(np.load(file.with_suffix(".tensorflow.npy")) - logits).max()
        assert error <= tolerances.BACKENDS * max(1.0, np.abs(logits).max()), file.name


def test_load_keras_returns_a_network_that_is_not_compiled(tmp_path):
    model = build()
    # the metric is no part of models: a file that needs it must load without it
    code = (
        "import sys, birdnet_fs\n"
        "model = birdnet_fs.load_keras(sys.argv[1])\n"
        "assert 'birdnet_fs.metrics' not in sys.modules and not model.compiled\n"
    )
    model.compile("adam", "binary_crossentropy", metrics=[birdnet_fs.ClassWiseAUC(["a", "b", "c"])])
    model.save(tmp_path / "compiled.keras")
    preloaded.run_python(["-c", code, tmp_path / "compiled.keras"], backend="torch").check_returncode()


def changed(file: Path, new: Path, **entries: bytes | None) -> Path:
    """A copy of an archive with other contents of the named entries; None leaves one out."""
    names = {"config": "config.json", "weights": "model.weights.h5"}
    other = {names[key]: content for key, content in entries.items()}
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(new, "w") as target:
        for name in source.namelist():
            content = other.get(name, source.read(name))
            if content is not None:
                target.writestr(name, content)
    return new


def layer_of(class_name: str, config: dict, module: str | None = None) -> bytes:
    """The config.json of a Sequential model with one layer."""
    layer = {"module": module, "class_name": class_name, "config": config, "registered_name": class_name}
    sequential = {"name": "s", "layers": [layer]}
    return json.dumps({"module": "keras", "class_name": "Sequential", "config": sequential}).encode()


def test_load_keras_refuses_damaged_and_hostile_files_in_one_sentence(tmp_path):
    file = tmp_path / "good.keras"
    build().save(file)
    whole = file.read_bytes()
    code = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)])
    code.save(tmp_path / "lambda.keras")
    (tmp_path / "text.keras").write_text("no archive")
    (tmp_path / "empty.keras").write_bytes(b"")
    (tmp_path / "cut.keras").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "network.h5").write_bytes(whole)
    with zipfile.ZipFile(file) as archive:
        config = json.loads(archive.read("config.json"))
    unknown = json.dumps(config).replace('"Conv2D"', '"Missing"').encode()
    marker = tmp_path / "executed"
    command = {"command": f"touch {marker}"}
    cases = {
        tmp_path / "missing.keras": "there is no such file",
        tmp_path: "there is no such file",
        tmp_path / "text.keras": "is not a .keras file",
        tmp_path / "empty.keras": "is not a .keras file",
        tmp_path / "cut.keras": "is not a .keras file",
        tmp_path / "network.h5": "is not a .keras file",
        tmp_path / "lambda.keras": "cannot be loaded",
        changed(file, tmp_path / "no_config.keras", config=None): "cannot be loaded",
        changed(file, tmp_path / "no_json.keras", config=b"{"): "cannot be loaded",
        changed(file, tmp_path / "list.keras", config=b"[]"): "cannot be loaded",
        changed(file, tmp_path / "no_weights.keras", weights=None): "cannot be loaded",
        changed(file, tmp_path / "no_h5.keras", weights=b"0" * 100): "cannot be loaded",
        changed(file, tmp_path / "unknown.keras", config=unknown): "cannot be loaded",
        changed(file, tmp_path / "system.keras", config=layer_of("system", command, "os")): "cannot be loaded",
        changed(file, tmp_path / "popen.keras", config=layer_of("Popen", command, "subprocess")): "cannot be loaded",
    }
    for path, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            models.load_keras(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value), path.name
    assert not marker.exists()
