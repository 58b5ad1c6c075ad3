"""The networks that `model.name` chooses from: one row for each family, with the properties that other rooms need.

A new family is one file models/FAMILY.py (holding SOURCE, MIN_SHAPE, VARIANTS and `backbone`) and one row below. No
room but this and models/ names a family: it reads `family_row`. The table is here, above models/, so that a name is
checked before Keras is imported, which takes seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.schema.model import Model


@dataclass(frozen=True)
class Family:
    """Properties of one family.

    Attributes:
        embedding_widths: Variant -> width of its embedding, the default variant first.
        recurrent: Whether it has layers that loop over time; TFLite supports these for a fixed batch size only.
        quantizable: Whether `models.quantization` can train it with 8-bit weights and activations.
        options: Keyword arguments of its `backbone` other than the variant and the features -> prefix of the names of
            the variants that support it ("" = all). Each is a setting of `schema.Model` of the same name.
    """

    embedding_widths: Mapping[str, int]
    recurrent: bool = False
    quantizable: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants, the default first."""
        return tuple(self.embedding_widths)


FAMILIES: dict[str, Family] = {
    "cnn": Family({"small": 192, "tiny": 48, "large": 512}, quantizable=True),
    "efficientnet": Family({"b0": 1280, "b0_torch": 1280}, quantizable=True),
    "efficientnet_v2": Family(
        {"b0": 1280, "b1": 1280, "b2": 1408, "b3": 1536, "s": 1280, "s_torch": 1280}, quantizable=True
    ),
    "tilenet": Family({"v2": 64, "v4": 512, "v5": 512}, quantizable=True, options={"trainable_mel": ""}),
    "panns": Family({"cnn14": 2048, "mobilenet_v1": 1024, "mobilenet_v2": 1024}, quantizable=True),
    "prototypical": Family(
        {"v2": 1024, "v2_conv_gate": 1024, "v2_wide": 2048, "v2_wide_conv_gate": 2048, "v1": 2048},
        options={"channels": "", "block_dropout": "v2"},
    ),
    "rnn": Family({"lstm": 128, "gru": 128, "bilstm": 256, "bigru": 256, "lstm3": 128}, recurrent=True),
    "vit": Family({"tiny": 192, "small": 384, "base": 768}),
    "resnet": Family({"18": 512, "18_max_pool_0": 512, "18_max_pool_2": 512, "34": 512, "50": 2048}, quantizable=True),
    "convnext": Family({"tiny": 768, "small": 768, "base": 1024, "large": 1536}),
    "ghost_efficientnet_v2": Family({"0.75": 192, "1.0": 256, "0.75_depth_0.5": 192}, quantizable=True),
}


def names() -> list[str]:
    """Every registered network as "family/variant".

    >>> names()[:2]
    ['cnn/small', 'cnn/tiny']
    """
    return [f"{family}/{variant}" for family, row in FAMILIES.items() for variant in row.variants]


def resolve(name: str) -> str:
    """Complete a name to "family/variant"; a family alone stands for its first variant.

    Args:
        name: "family/variant" or "family".

    Returns:
        "family/variant", a member of `names()`.

    Raises:
        UserError: There is no such network; the message gives the nearest name.

    >>> resolve("efficientnet_v2")
    'efficientnet_v2/b0'
    """
    family, slash, _ = name.partition("/")
    if not slash and family in FAMILIES:
        return f"{family}/{FAMILIES[family].variants[0]}"
    if name in names():
        return name
    known = [f"{family}/{v}" for v in FAMILIES[family].variants] if family in FAMILIES else [*names(), *FAMILIES]
    raise UserError(
        f"model.name must be one of {', '.join(names())}.{nearest(name, known) or nearest(name, names())} "
        f"Received: {name!r}"
    )


def family_row(name: str) -> Family:
    """The row of a network's family; argument and errors as in `resolve`."""
    return FAMILIES[resolve(name).partition("/")[0]]


def embedding_width(name: str) -> int:
    """Width of a network's embedding; argument and errors as in `resolve`.

    >>> embedding_width("panns/cnn14")
    2048
    """
    return family_row(name).embedding_widths[resolve(name).partition("/")[2]]


def backbone_options(name: str, **values: Any) -> dict[str, Any]:
    """Select the options that the backbone of a network supports.

    Args:
        name: Network as "family/variant", or "family" for its first variant; a name `resolve` accepts.
        **values: Options by name; see `Family.options`.

    Returns:
        The supported ones.

    >>> backbone_options("prototypical/v1", channels=(), block_dropout=0.1)
    {'channels': ()}
    """
    options, variant = family_row(name).options, resolve(name).partition("/")[2]
    return {key: value for key, value in values.items() if key in options and variant.startswith(options[key])}


def check_options(name: str, **values: Any) -> None:
    """Refuse options that the backbone of a network does not support, unless they have their default value.

    Args:
        name: Network as "family/variant", or "family" for its first variant; a name `resolve` accepts.
        **values: Options by name; see `Family.options`.

    Raises:
        UserError: An option is set that the network does not support.
    """
    name, default = resolve(name), Model()
    given = {key: value for key, value in values.items() if value != getattr(default, key)}
    for key in sorted(set(given) - set(backbone_options(name, **given))):
        supported = [n for n in names() if backbone_options(n, **{key: given[key]})]
        instead = "set model.dropout" if "dropout" in key else "choose another variant of the family"
        raise UserError(
            f"model.{key} is for model.name={', '.join(supported)}; for {name}, {instead} or leave it out. "
            f"Received: {given[key]}"
        )


def check_model(settings: Model) -> None:
    """Refuse settings that the named network does not support.

    Args:
        settings: The group `model` of an experiment.

    Raises:
        UserError: An unknown network, an option of another family, or 8-bit training of a family without it.
    """
    name = resolve(settings.name)
    check_options(name, **{key: getattr(settings, key) for row in FAMILIES.values() for key in row.options})
    if settings.quantized and settings.trainable_mel != "none":
        raise UserError(
            "model.quantized rounds features to 8 bits, and a trainable mel matrix reads powers of any size; set "
            f"model.trainable_mel=none. Received: {settings.trainable_mel}"
        )
    if settings.quantized and not family_row(name).quantizable:
        quantizable = ", ".join(family for family, row in FAMILIES.items() if row.quantizable)
        raise UserError(
            f"model.quantized is for the families {quantizable}; export the float run without 8-bit training: "
            f"birdnet-fs export RUN --precision int8, dynamic or fp16. Received: model.name={name}"
        )
