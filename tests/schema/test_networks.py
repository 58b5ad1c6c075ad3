"""Rows of the families: every property is compared with the family's source or with a built network."""

import ast
import inspect

import keras
import pytest

from birdnet_fs import models
from birdnet_fs.core.errors import UserError
from birdnet_fs.schema import Model, networks


def test_names_list_every_variant_once() -> None:
    names = models.names()
    assert len(set(names)) == len(names)
    assert names == [f"{family}/{variant}" for family, row in models.FAMILIES.items() for variant in row.variants]


@pytest.mark.parametrize("family", models.FAMILIES)
def test_row_has_the_variants_of_the_family_in_their_order(family: str) -> None:
    module = models.family(family)
    assert tuple(module.VARIANTS) == models.family_row(family).variants
    assert "http" in module.SOURCE and len(module.MIN_SHAPE) == 2


def test_resolve_completes_a_family_and_names_the_nearest_network() -> None:
    assert models.resolve("cnn") == "cnn/small"
    assert models.resolve("efficientnet_v2/s") == "efficientnet_v2/s"
    for name, nearest in (
        ("cnn/tini", "cnn/tiny"),
        ("efficientnetv2", "efficientnet_v2"),
        ("efficientnet_v2/b9", "efficientnet_v2/b"),
        ("cnnn", "cnn"),
    ):
        with pytest.raises(UserError, match=f"Did you mean '{nearest}.*Received: '{name}'"):
            models.resolve(name)
    for name in ("", "/", "cnn/", "transformer"):
        with pytest.raises(UserError, match="cnn/small"):
            models.resolve(name)


@pytest.mark.parametrize("name", models.names())
def test_embedding_width_is_that_of_the_network(name: str) -> None:
    with keras.device("meta"):  # shapes only: no memory, no random numbers
        model = models.build(name, input_shape=(*models.family(name).MIN_SHAPE, 1), n_classes=2)
    assert models.embedding_width(name) == model.get_layer("embedding").output.shape[-1]


@pytest.mark.parametrize("family", models.FAMILIES)
def test_recurrent_is_whether_the_source_has_recurrent_layers(family: str) -> None:
    tree = ast.parse(inspect.getsource(models.family(family)))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert models.family_row(family).recurrent == bool(names & {"LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional"})


@pytest.mark.parametrize("family", models.FAMILIES)
def test_options_are_the_arguments_of_the_backbone_with_the_defaults_of_the_settings(family: str) -> None:
    parameters = inspect.signature(models.family(family).backbone).parameters
    assert list(parameters)[:2] == ["variant", "features"]
    options = {name: parameter.default for name, parameter in list(parameters.items())[2:]}
    assert options == {key: getattr(Model(), key) for key in models.family_row(family).options}


def test_backbone_options_are_selected_by_variant() -> None:
    options = {"channels": (16,), "block_dropout": 0.3}
    assert networks.backbone_options("prototypical", **options) == options
    assert networks.backbone_options("prototypical/v2_conv_gate", **options) == options
    assert networks.backbone_options("prototypical/v1", **options) == {"channels": (16,)}
    assert networks.backbone_options("cnn", **options) == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "cnn/tini"}, "Did you mean 'cnn/tiny'"),
        (
            {"name": "cnn", "channels": (8, 16)},
            r"model\.channels is for model\.name=prototypical/v2, .*prototypical/v1; for cnn/small, .*\(8, 16\)",
        ),
        (
            {"name": "prototypical/v1", "block_dropout": 0.3},
            r"model\.block_dropout is for model\.name=prototypical/v2, .*for prototypical/v1, set model\.dropout.*0\.3",
        ),
        ({"name": "vit", "quantized": True}, r"model\.quantized is for the families cnn, .*vit/tiny"),
    ],
)
def test_check_model_refuses_what_the_network_does_not_support(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.check_model(Model(**settings))


def test_check_model_accepts_defaults_and_supported_settings() -> None:
    for name in models.names():
        models.check_model(Model(name=name))
        if models.family_row(name).quantizable:
            models.check_model(Model(name=name, quantized=True))
    models.check_model(Model(name="prototypical", channels=(16, 32, 64, 128), block_dropout=0.3))
    models.check_model(Model(name="prototypical/v1", channels=(8, 16)))
