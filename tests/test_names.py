"""Names and prose: the field's standard terms, American spelling, no private words (CONTRIBUTING.md)."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXPERIMENTS = [ROOT / "config.py", *(ROOT / "experiments").glob("*.py")]
FILES = sorted([*(ROOT / "birdnet_fs").rglob("*.py"), *(ROOT / "export").glob("*.py"), *EXPERIMENTS])

# names that say nothing to a reader from the field, or something else than what they stood for
BARRED = {
    "ask",
    "probe",
    "measure",
    "form",
    "ends",
    "half",
    "hosts",
    "target_rows",
    "time_it",
    "Ear",
    "ears",
    "hears",
    "Proof",
    "proof",
    "Budget",
    "doubt",
    "steepest",
    "heard",
    "settled",
    "record",
    "listeners",
    "listener",
    "draws",
    "imbalance",
    "crops",
    "faults",
    "crew",
    "heartbeat",
    "Tried",
    "tried",
    "forget",
    "in_vain",
    "Told",
    "told",
    "Saved",
    "Lesson",
    "lesson",
    "believed",
    "beliefs",
    "take",
    "Listener",
    "Listens",
    "Span",
    "Scored",
    "Hit",
    "Choice",
    "called",
    "called_in",
    "called_of",
    "hit",
    "missed",
    "false",
    "middle_of_training",
    "together",
    "alike",
    "near",
    "ranks",
    "spaces",
    "layerwise",
    "quantising",
    "novel",
    "at_least",
    "at_most",
    "views",
    "keep",
    "rare_boost",
    "detect",
    "pseudo",
    "fewshot",
}
BARRED_MODULES = {"fit", "start", "where", "card", "probabilities"}  # standard words otherwise
# riddles, and what only persons do; `tell` is a method of files and of Optuna's studies, but no word of a text
PRIVATE_WORDS = re.compile(
    r"\b(hears?|heard|hearing|tells?|told|telling|crew|settled|ears?|lessons?|knows|knew|believes?|believed|thinks"
    r"|remembers?|forgets?|understands?|wishes|hopes?|feels)\b",
    re.IGNORECASE,
)
TEXTS = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))  # Python 3.12
BRITISH = re.compile(
    r"\w*(artefact|quantis|normalis|optimis|colour|centre|licence|behaviour|analyse|recognis|enrolment|labelled"
    r"|labelling|neighbour|learnt|initialis|standardis|summaris)\w*",
    re.IGNORECASE,
)
# keys of files that deployed readers read, names of weight variables, columns of other people's tables
KEPT_SPELLINGS = {
    "auroc_artefact",
    "enrolment",
    "_enrolment",
    "centre",
    "normalisation",
    "normalise",
    "normalise_when",
    "normalise_eps",
    "learnt",
    "learnt_distance",
    "licence",
}


def names_of(tree: ast.Module) -> set[str]:
    """Names of classes, functions, parameters and annotated class attributes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.FunctionDef):
            found |= {a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
        if isinstance(node, ast.ClassDef):
            found |= {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    return {name.strip("_") for name in found}


def identifiers(tree: ast.Module) -> set[str]:
    """Every identifier in the code."""
    found = names_of(tree)
    for node in ast.walk(tree):
        found |= {node.id} if isinstance(node, ast.Name) else {node.attr} if isinstance(node, ast.Attribute) else set()
    return found


def private_words(source: str) -> list[str]:
    """Private words in comments, docstrings and messages, as "LINE: word"."""
    return [
        f"{token.start[0]}: {match[0]}"
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type in TEXTS
        for match in PRIVATE_WORDS.finditer(token.string)
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_names_are_standard(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert not {file.stem} & (BARRED | BARRED_MODULES)
    assert names_of(tree) & BARRED == set()


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_prose_has_no_private_words(file: Path) -> None:
    assert private_words(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_spelling_is_american(file: Path) -> None:
    if file.name in ("renamed.py", "document_words.py"):  # tables of old names, and of names of other programs
        return
    source = file.read_text(encoding="utf-8")
    words = {match[0] for match in BRITISH.finditer(source)}
    assert {word for word in words if word.lower().lstrip("_") not in {k.lstrip("_") for k in KEPT_SPELLINGS}} == set()


def test_wrong_names_are_found() -> None:
    source = "class Ear:\n    heard: int\n\n    def take(self, half): 'It was told.'  # and believes\n"
    tree = ast.parse(source)
    assert names_of(tree) & BARRED == {"Ear", "heard", "take", "half"}
    assert private_words(source) == ["4: told", "4: believes"]
    assert BRITISH.search("the Labelled artefacts")
