"""Check of trees in LightGBM's text format before the library reads them.

The library does not check the text: a feature number out of range ends the process, and a child that is its own
ancestor never ends (both with LightGBM 4.7). Only what a binary model without categories needs is accepted. Node i of a
tree has children with larger numbers, or leaves, written -1, -2, ...; leaf -k is number k - 1.
"""

import math
from collections.abc import Callable
from typing import TypeVar

MAX_TREES, MAX_LEAVES, MAX_FEATURES = 10_000, 10_000, 1 << 20
_END = "\nend of trees"
Number = TypeVar("Number", int, float)


def checked_trees(text: str) -> str:
    """Check a model of trees.

    Args:
        text: The model as LightGBM writes it.

    Returns:
        The same trees without the sizes and parameters that prediction does not need.

    Raises:
        ValueError: The text is not such a model; the message is a clause.
    """
    body, end, _ = text.partition(_END)
    header, *trees = body.split("\n\nTree=")
    lines = [line for line in header.split("\n") if not line.startswith("tree_sizes=")]
    if not end or lines[0] != "tree" or not 1 <= len(trees) <= MAX_TREES:
        raise ValueError("it has no trees")
    fields = _fields(lines[1:])
    [largest] = _numbers(fields, "max_feature_idx", 1, int)
    wanted = {"num_class": "1", "num_tree_per_iteration": "1", "objective": "binary sigmoid:1"}
    if any(fields.get(key) != value for key, value in wanted.items()) or not 0 <= largest < MAX_FEATURES:
        raise ValueError("it is not of one class, or reads too many features")
    if len(fields.get("feature_names", "").split()) != largest + 1:
        raise ValueError("its features are not named")
    for number, tree in enumerate(trees):
        name, *rest = tree.split("\n")
        if name != str(number):
            raise ValueError(f"tree {number} is missing")
        try:
            _check_tree(_fields(rest), largest)
        except ValueError as error:
            raise ValueError(f"tree {number}: {error}") from None
    return "\n".join(lines) + "".join(f"\n\nTree={tree}" for tree in trees) + _END + "\n"


def _fields(lines: list[str]) -> dict[str, str]:
    """key=value lines; empty ones are left out."""
    found: dict[str, str] = {}
    for line in filter(None, lines):
        key, _, value = line.partition("=")
        if key in found or not key.isidentifier():
            raise ValueError("a line is there twice, or is no line of such a model")
        found[key] = value
    return found


def _numbers(fields: dict[str, str], key: str, n: int, kind: Callable[[str], Number]) -> list[Number]:
    found = [kind(part) for part in fields.get(key, "").split()]
    if len(found) != n or not all(map(math.isfinite, found)):
        raise ValueError(f"{key} must have {n} finite numbers")
    return found


def _check_tree(fields: dict[str, str], largest: int) -> None:
    [n_leaves], [n_categories], [linear] = (_numbers(fields, k, 1, int) for k in ("num_leaves", "num_cat", "is_linear"))
    if not 1 <= n_leaves <= MAX_LEAVES or n_categories or linear:
        raise ValueError("it has categories, linear leaves or too many leaves")
    _numbers(fields, "leaf_value", n_leaves, float)
    n = n_leaves - 1
    if not n:
        return
    _numbers(fields, "threshold", n, float)
    if not all(0 <= feature <= largest for feature in _numbers(fields, "split_feature", n, int)):
        raise ValueError("split_feature is out of range")
    if not all(kind in range(0, 16, 2) for kind in _numbers(fields, "decision_type", n, int)):
        raise ValueError("decision_type is not that of numbers")
    for key in ("left_child", "right_child"):
        for node, child in enumerate(_numbers(fields, key, n, int)):
            if not (node < child < n or -n_leaves <= child < 0):
                raise ValueError(f"{key} is out of range")
