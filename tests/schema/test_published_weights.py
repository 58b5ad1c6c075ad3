"""The table of published weights: networks that exist, and every family that reads files."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.models import pretrained
from birdnet_fs.schema import networks
from birdnet_fs.schema.published_weights import PUBLISHED, wanted


def test_rows_are_of_networks_whose_family_reads_the_suffix() -> None:
    for row in PUBLISHED:
        assert networks.resolve(row.network) == row.network
        first = row.file.split(" ")[0]
        assert first.endswith(pretrained.SUFFIXES[row.network.partition("/")[0]]), row
    assert {row.network.partition("/")[0] for row in PUBLISHED} == set(pretrained.SUFFIXES)


def test_wanted_names_every_file_of_a_network_and_a_run() -> None:
    text = wanted("vit/base")
    assert all(part in text for part in ("torchvision's vit_b_16", "timm's", "keras_hub's", "or a run folder of vit"))
    assert wanted("cnn") == "a run folder of cnn/small (none are published)"
    with pytest.raises(UserError, match="Did you mean 'cnn/tiny'"):
        wanted("cnn/tini")
