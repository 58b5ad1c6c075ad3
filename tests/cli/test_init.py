"""`birdnet-fs init`: the example config.py."""

from pathlib import Path

import pytest

from birdnet_fs.cli import init, starter
from birdnet_fs.core.errors import UserError


def test_init_writes_the_starter_once(tmp_path: Path) -> None:
    init.init(tmp_path)
    written = (tmp_path / "config.py").read_text(encoding="utf-8")
    assert written == Path(starter.__file__).read_text(encoding="utf-8")
    with pytest.raises(UserError, match="exists already and was not changed"):
        init.init(tmp_path)
