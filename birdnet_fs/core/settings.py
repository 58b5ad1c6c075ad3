"""Strict parsing of `key=value` and JSON into frozen dataclasses.

The annotation of a field is the type of the setting. Values are parsed as that type and never guessed (`0123` stays
the text `0123` where the field is a str); an unknown key raises UserError with the nearest known key.
"""

import ast
import dataclasses
import json
import math
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from birdnet_fs.core.errors import UserError, nearest, shown
from birdnet_fs.core.renamed import refuse_setting

Settings = TypeVar("Settings")
Group = Callable[[str], Any]


def override(settings: Settings, assignments: Sequence[str], groups: Mapping[str, Group] | None = None) -> Settings:
    """Apply `key=value` assignments in order; checks that involve several settings run after the last one.

    A missing `=`, an unknown key or a value of the wrong type raises UserError.

    Args:
        settings: Frozen dataclass of values and further such dataclasses, the starting point.
        assignments: `training.batch_size=32`, `model.name=cnn/small`, `seed=1`, `frontend.resize=[256,256]`.
        groups: Functions that return a whole group for a name: `{"frontend": preset}` parses `frontend=panns`.
            A group whose first setting is `name` needs no entry: `model=NAME` is short for `model.name=NAME`.

    Returns:
        A new dataclass of the same class.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Net:
    ...     name: str = "cnn"
    ...     width: int = 8
    >>> override(Net(), ["width=16", "name=vit"])
    Net(name='vit', width=16)
    """
    return from_dict(type(settings), assigned(settings, assignments, groups))


def assigned(settings: Any, assignments: Sequence[str], groups: Mapping[str, Group] | None = None) -> dict[str, Any]:
    """Apply `key=value` assignments as `override` does, without the checks of the dataclasses.

    Args:
        settings: Frozen dataclass of values and further such dataclasses, the starting point.
        assignments: Assignments such as `training.batch_size=32`, in order.
        groups: Functions that return a whole group for a name, by group: `{"frontend": preset}`. Default: None, none.

    Returns:
        Nested values by field name, as `from_dict` reads them.

    Raises:
        UserError: An assignment without `=`, an unknown key (the nearest is named) or a value of the wrong type.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Net:
    ...     width: int = 8
    >>> assigned(Net(), ["width=16"])
    {'width': 16}
    """
    plain = _plain(settings)
    for setting in assignments:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"A setting must be key=value. Received: {shown(setting)}")
        _set(plain, type(settings), key.strip(), value.strip(), groups or {})
    return plain


def _plain(settings: Any) -> dict[str, Any]:
    return {
        f.name: _plain(value) if dataclasses.is_dataclass(value := getattr(settings, f.name)) else value
        for f in dataclasses.fields(settings)
    }


def _set(plain: dict[str, Any], cls: Any, key: str, text: str, groups: Mapping[str, Group]) -> None:
    """Store one parsed value in the nested dict `plain`."""
    node, names = plain, key.split(".")
    for depth, name in enumerate(names):
        hints = _hints(cls)
        if name not in hints:
            prefix = "".join(f"{n}." for n in names[:depth])
            refuse_setting(key)
            raise UserError(f"Unknown setting {shown(key)}.{nearest(key, [prefix + k for k in keys(cls)])}")
        hint, last, group = hints[name], depth == len(names) - 1, _group_class(hints[name])
        if last and group and text.lower() == "none" and hint is not group:
            node[name] = None
        elif last and name in groups:
            node[name] = _plain(groups[name](text))
        elif last and _has_short_form(hint):
            node[name]["name"] = _parse(text, _hints(hint)["name"], key)
        elif group and node[name] is None:
            refuse_setting(key)
            part = ".".join(names[: depth + 1])
            raise UserError(f"{key!r} cannot be set: the experiment has no {part!r} part; add it in the config file.")
        elif last and group:
            refuse_setting(key)
            raise UserError(f"{key!r} is a group of settings; set one of them: {', '.join(keys(group)[:6])}, ...")
        elif last:
            node[name] = _parse(text, hint, key)
        elif group is None:
            raise UserError(f"Setting {key!r} does not exist: {'.'.join(names[: depth + 1])!r} holds one value.")
        else:
            node, cls = node[name], group


def _has_short_form(hint: Any) -> bool:
    """Whether an annotation is a group whose first setting is `name`, so that `group=NAME` is accepted."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint) and next(iter(_hints(hint)), "") == "name"


def _group_class(hint: Any) -> Any:
    """The dataclass behind an annotation (`X` or `X | None`), or None."""
    options = [o for o in typing.get_args(hint) or (hint,) if dataclasses.is_dataclass(o)]
    return options[0] if options else None


def keys(cls: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a group of settings, in their order; a group nested in itself is not expanded.

    Args:
        cls: Dataclass of the group.
        prefix: Text before each key, such as "training.". Default: "".

    Returns:
        The keys.
    """
    found = []
    for name, hint in _hints(cls).items():
        inner = _group_class(hint)
        found += [prefix + name] if inner is None or inner is cls else keys(inner, f"{prefix}{name}.")
    return found


def annotation(cls: Any, key: str) -> Any:
    """Annotated type of a setting.

    Args:
        cls: Dataclass of the settings.
        key: Dotted key.

    Returns:
        The type, such as `int` or a `Literal`; None when there is no such setting.
    """
    hint: Any = cls
    for name in key.split("."):
        group = _group_class(hint)
        hint = _hints(group).get(name) if group else None
    return hint


def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _leaves(node: Any, prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for f in dataclasses.fields(node):
        value = getattr(node, f.name)
        if dataclasses.is_dataclass(value):
            found += _leaves(value, f"{prefix}{f.name}.")
        else:
            found.append((prefix + f.name, value))
    return found


def _parse(text: str, hint: Any, key: str) -> Any:
    wanted = _describe(hint)
    if hint is str:
        return _coerce(text, hint, key)
    if typing.get_origin(hint) is Literal:
        options = typing.get_args(hint)
        if text in options:
            return text
        refuse_setting(key, text)
        raise UserError(f"{key} must be one of {', '.join(options)}.{nearest(text, options)} Received: {shown(text)}")
    if hint is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise UserError(f"{key} must be true or false. Received: {shown(text)}")
    if typing.get_origin(hint) in (types.UnionType, typing.Union) and text.lower() in ("none", "null"):
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two for deeply nested parentheses
        raise UserError(f"{key} must be {wanted}. Received: {shown(text)}") from None
    return _coerce(value, hint, key)


def _coerce(value: Any, hint: Any, key: str) -> Any:
    """Convert a value from the command line or JSON to the annotated type, or raise UserError."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and _finite(value)
    if hint is float and number:
        return float(value)
    if hint is int and number and value == int(value):
        return int(value)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        if "\0" in value or not _can_be_a_path(value):
            raise UserError(f"{key} must be text without NUL or half of a surrogate pair. Received: {shown(value)}")
        return value
    if typing.get_origin(hint) is Literal and isinstance(value, str) and value in typing.get_args(hint):
        return value
    if typing.get_origin(hint) is tuple and isinstance(value, (list, tuple)):
        inner = typing.get_args(hint)
        inner = (inner[0],) * len(value) if inner[-1] is Ellipsis else inner
        if len(inner) == len(value):
            return tuple(_coerce(v, h, key) for v, h in zip(value, inner, strict=True))
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        for option in typing.get_args(hint):
            if option is type(None) and value is None:
                return None
            if option is not type(None) and value is not None:
                return _coerce(value, option, key)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_dict(hint, value, f"{key}.")
    refuse_setting(key, value if isinstance(value, str) else None)
    raise UserError(f"{key} must be {_describe(hint)}. Received: {shown(value)}")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more than 1,024 bits
        return False


def _can_be_a_path(value: str) -> bool:
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def _describe(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return "one of " + ", ".join(typing.get_args(hint))
    if origin is tuple:
        return "a list [" + ", ".join(_describe(h) for h in typing.get_args(hint) if h is not Ellipsis) + "]"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_describe(h) for h in typing.get_args(hint))
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "none"}
    return names.get(hint, "a group of settings")


def to_dict(settings: Any) -> dict[str, Any]:
    """Convert settings to plain JSON values (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def from_dict(cls: type[Settings], value: Mapping[str, Any], prefix: str = "") -> Settings:
    """Create settings from the output of `to_dict`.

    A string in the place of a group whose first setting is `name` sets that name: `{"model": "cnn/small"}`.

    Args:
        cls: Frozen dataclass of the settings.
        value: Nested values by field name; missing fields have their defaults.
        prefix: Put before the keys in error messages, as "frontend.".

    Returns:
        An instance of `cls`.

    Raises:
        UserError: An unknown key (the nearest is named) or a value of the wrong type.
    """
    hints = _hints(cls)
    for name in value:
        if name not in hints:
            refuse_setting(prefix + name)
            raise UserError(f"Unknown setting {shown(prefix + name)}.{nearest(name, hints)}")
    given = {n: {"name": v} if isinstance(v, str) and _has_short_form(hints[n]) else v for n, v in value.items()}
    return cls(**{name: _coerce(v, hints[name], prefix + name) for name, v in given.items()})


def show(settings: Any) -> str:
    """Format settings as text, one `key=value` per line, as `override` parses them."""
    return "\n".join(f"{name}={value}" for name, value in flat(settings).items())


def flat(settings: Any) -> dict[str, str]:
    """Settings as {dotted key: text}, such as {"training.epochs": "30"}, with values as `override` parses them."""
    return {name: text(value) for name, value in _leaves(settings)}


def text(value: Any) -> str:
    """Format one value as `override` parses it after the "=".

    >>> text((256, 256)), text(True), text(None), text(0.1)
    ('[256,256]', 'true', 'None', '0.1')
    """
    if isinstance(value, (tuple, list)):
        return "[" + ",".join(str(v) for v in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
