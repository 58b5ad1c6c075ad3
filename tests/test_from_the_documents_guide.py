"""docs/from_the_documents.md: each line to type is accepted; each command of the documents works or is answered."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from birdnet_fs.cli.experiment import load_experiment, load_space
from birdnet_fs.cli.main import app
from birdnet_fs.core.errors import UserError

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "from_the_documents.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in GUIDE.splitlines()
    if line.startswith("| ") and "in the document" not in line
]
TYPED = [line for row in ROWS for line in re.findall(r"`(birdnet-fs [^`]+)`", f"{row[1]} {row[2]}")]
WORKFLOWS = "python -m birdclef.workflows."
# beginning of a command of the documents -> words after `birdnet-fs`; others are no commands of these programs
PROGRAMS = {
    "python archs/train.py": "train",
    "g5 train": "train",
    "python main.py": "train",
    "python ANIMAL-SPOT/main.py": "train",
    "python optuna_tuning.py": "tune",
    WORKFLOWS: "",
}

ANSWER = re.compile(r"[Tt]ype |birdnet-fs (evaluate|quantize) RUN|birdnet-fs train config|leave it out|weights=FILE")


class Accepted(Exception):
    """The arguments of a verb fit."""

    def __init__(self, verb: str, values: dict[str, Any]) -> None:
        super().__init__(verb)
        self.verb, self.values = verb, values


def accepted(words: Sequence[str]) -> Accepted:
    """The verb and the arguments of a command line; errors of the command line are passed on."""
    command = get_command(app)

    def replace(group: Any, path: str) -> None:
        for name, inner in group.commands.items():
            if hasattr(inner, "commands"):
                replace(inner, f"{path}{name} ")
            else:
                inner.callback = lambda _verb=path + name, **values: _stop(_verb, values)

    def _stop(verb: str, values: dict[str, Any]) -> None:
        raise Accepted(verb, values)

    replace(command, "")
    try:
        command(args=list(words), prog_name="birdnet-fs", standalone_mode=False)
    except Accepted as found:
        return found
    raise AssertionError("no verb was called")


def test_the_guide_has_a_line_for_each_document() -> None:
    assert len(ROWS) > 85 and all(len(row) == 3 for row in ROWS)
    assert len(GUIDE.split("\n## ")) == 6


@pytest.mark.parametrize("line", sorted(set(TYPED)))
def test_every_line_to_type_is_accepted(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = accepted(shlex.split(line)[1:])
    assert "birdnet-fs " + found.verb in line
    given = [value for values in found.values.values() for value in (values if isinstance(values, list) else [values])]
    assert not [value for value in given if isinstance(value, Path) and "=" in value.name]  # a setting taken for a path
    if found.verb in ("train", "cv", "tune", "cache precompute"):
        reference, settings = found.values["experiment"], found.values["settings"] or []
        load_experiment(reference, settings)
        if found.verb == "tune":
            load_space(found.values["space"], reference)


def literal_commands(text: str) -> Iterator[str]:
    """Commands in the code blocks of a document, each in one line."""
    for block in re.findall(r"```\w*\n(.*?)```", text.replace("\r", ""), re.DOTALL):
        for line in re.sub(r"\s*[\\`]\n\s*", " ", block).splitlines():
            line = " ".join(line.replace("[other args...]", "").split())
            if re.match(r"(python|g5|mlflow|tensorboard|source|cd|pip|\./\w+\.sh)\b", line):
                yield line


@pytest.fixture
def commands(shared_data: Path) -> list[str]:
    """The commands of all documents beside this checkout."""
    texts = [path.read_text("utf-8", "replace") for path in sorted((shared_data.parent / "seeds").glob("*.txt"))]
    return [command for text in texts for command in literal_commands(text)]


def words_of(command: str) -> list[str] | None:
    """Words to type after `birdnet-fs` for a command as it stands; None for commands of other programs."""
    for program, verb in PROGRAMS.items():
        if command.startswith(program):
            return [*verb.split(), *shlex.split(command.removeprefix(program).replace("\\", "/"))]
    return None


def form(command: str) -> tuple[str, ...]:
    """The verb of a command of `birdclef.workflows` and the names of its options."""
    words = words_of(command) or []
    return (*words[:2], *sorted(word for word in words if word.startswith("-")))


@pytest.mark.shared
def test_every_command_of_the_documents_is_in_the_guide(commands: list[str]) -> None:
    given = {text for row in ROWS for text in re.findall(r"`([^`]+)`", row[0])}
    forms = {form(WORKFLOWS + text) for text in given}
    assert len(set(commands)) >= 85
    missing = [
        command
        for command in commands
        if command not in given and not (command.startswith(WORKFLOWS) and form(command) in forms)
    ]
    assert not missing


@pytest.mark.shared
def test_every_command_of_the_documents_works_or_is_answered_by_the_line_to_type(commands: list[str]) -> None:
    unanswered = []
    n_accepted = 0
    for command in commands:
        words = words_of(command)
        if words is None:
            continue
        try:
            found = accepted(words)
            n_accepted += found.verb not in ("train", "tune")  # these need the name of an experiment
            answer = "" if found.verb in ("train", "tune") else "type birdnet-fs"
        except UserError as error:
            answer = str(error)
        except Exception as error:
            assert hasattr(error, "param_type"), command  # an argument is missing: main() gives the line to type
            answer = "type birdnet-fs"
        if not ANSWER.search(answer):
            unanswered.append(f"{command}: {answer}")
    assert not unanswered
    assert n_accepted > 20
