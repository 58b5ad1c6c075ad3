"""The table of published weights: networks that exist, and every family that reads files."""

import re
from pathlib import Path

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.models import pretrained
from birdnet_fs.schema import networks
from birdnet_fs.schema.published_weights import PUBLISHED, wanted

ROOT = Path(__file__).parents[2]


def test_rows_are_of_networks_whose_family_reads_the_suffix() -> None:
    for row in PUBLISHED:
        assert networks.resolve(row.network) == row.network
        first = row.file.split(" ")[0]
        assert first.endswith(pretrained.SUFFIXES[row.network.partition("/")[0]]), row
    assert {row.network.partition("/")[0] for row in PUBLISHED} == set(pretrained.SUFFIXES)


def test_guide_lists_every_file() -> None:
    text = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+/\w+)` \| ([\w.]+) \| ([^|]+) \| (ImageNet|AudioSet) \|$", text, re.MULTILINE)
    assert rows == [tuple(row) for row in PUBLISHED]


def test_guide_lists_the_experiments_of_the_documents_with_their_networks() -> None:
    text = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8").partition("## Published")[0]
    named = {
        name for cell in re.findall(r"^\| [\w -]+ \| (`[^|]+) \|", text, re.M) for name in re.findall(r"`(\w+)`", cell)
    }
    files = ("torch_impl", "animal_spot", "birdclef")
    sources = "".join((ROOT / "experiments" / f"{file}.py").read_text(encoding="utf-8") for file in files)
    made = set(re.findall(r"^def ([a-z]\w*)\(.*-> Experiment:", sources, re.MULTILINE))
    assert made == named - {"fewshot_v1", "fewshot_v2"}


def test_wanted_names_every_file_of_a_network_and_a_run() -> None:
    text = wanted("vit/base")
    assert all(part in text for part in ("torchvision's vit_b_16", "timm's", "keras_hub's", "or a run folder of vit"))
    assert wanted("cnn") == "a run folder of cnn/small (none are published)"
    with pytest.raises(UserError, match="Did you mean 'cnn/tiny'"):
        wanted("cnn/tini")
