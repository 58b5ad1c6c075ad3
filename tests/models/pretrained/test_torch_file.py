"""State dicts in the wrappings of trainers, and files with code, without tensors, or with several networks."""

import argparse
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from birdnet_fs.core.errors import UserError
from birdnet_fs.models.pretrained import torch_file

STATE = {"conv1.weight": torch.arange(6.0).reshape(2, 3), "bn1.num_batches_tracked": torch.tensor(7)}
OTHER = {name: tensor * 0 for name, tensor in STATE.items()}


def prefixed(prefix: str, state: dict[str, torch.Tensor] = STATE) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


WRAPPED = {
    "bare": STATE,
    "model": {"model": STATE},
    "PANNs": {"iteration": 5, "model": STATE, "sampler": {"indexes": [np.arange(3)], "seen": np.float64(0.5)}},
    "state_dict": {"state_dict": STATE, "epoch": 3, "arch": "resnet18"},
    "DataParallel": prefixed("module."),
    "DataParallel in state_dict": {"state_dict": prefixed("module.")},
    "torch.compile": {"model_state_dict": prefixed("_orig_mod.")},
    "torch.compile in DataParallel": {"net": prefixed("module._orig_mod.")},
    "Lightning": {"state_dict": prefixed("model."), "pytorch-lightning_version": "2.4"},
    "nested": {"model": {"state_dict": STATE}},
    "arguments of the trainer": {"model": STATE, "args": argparse.Namespace(lr=0.1)},
    "optimizer": {"model": STATE, "optimizer": {"state": {}, "param_groups": []}, "rng": torch.zeros(8)},
    "EMA of timm": {"state_dict": OTHER, "state_dict_ema": STATE},
    "EMA of DeiT": {"model": OTHER, "model_ema": STATE},
    "AveragedModel": {**prefixed("module."), "n_averaged": torch.tensor(9)},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_tensors_are_found_in_every_wrapping(kind: str, tmp_path: Path) -> None:
    torch.save(WRAPPED[kind], tmp_path / "w.pth")
    state = torch_file.read(tmp_path / "w.pth")
    assert state.keys() == STATE.keys()
    assert np.array_equal(state["conv1.weight"], STATE["conv1.weight"].numpy())


def test_safetensors_are_read_in_float32(tmp_path: Path) -> None:
    save_file(prefixed("module.", {"a": torch.ones(2, dtype=torch.bfloat16)}), tmp_path / "w.safetensors")
    state = torch_file.read(tmp_path / "w.safetensors")
    assert state["a"].dtype == np.float32 and state["a"].tolist() == [1.0, 1.0]
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match=r"w\.safetensors is not a readable state dict"):
        torch_file.read(tmp_path / "w.safetensors")


def test_prefix_of_some_names_only_is_kept(tmp_path: Path) -> None:
    torch.save({"module.a": torch.zeros(2), "b": torch.zeros(2)}, tmp_path / "w.pth")
    assert torch_file.read(tmp_path / "w.pth").keys() == {"module.a", "b"}


class Code:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_file_with_code_or_without_tensors_is_refused(tmp_path: Path) -> None:
    for content in (
        Code(tmp_path / "ran"),
        {"conv1.weight": Code(tmp_path / "ran")},
        {"model": Code(tmp_path / "ran")},
        {"epoch": 1},
        [1, 2],
    ):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"w\.pth is not a readable state dict of torch \(it holds (\w+\.mkdir|no)"):
            torch_file.read(tmp_path / "w.pth")
        assert not (tmp_path / "ran").exists()
    (tmp_path / "w.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="not a readable state dict"):
        torch_file.read(tmp_path / "w.pth")


def test_checkpoint_of_several_networks_is_refused(tmp_path: Path) -> None:
    torch.save({"model": STATE, "net": OTHER}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="it holds several networks: model, net"):
        torch_file.read(tmp_path / "w.pth")
