"""Vision Transformers in plain PyTorch with timm's and torchvision's names, and a file as keras_hub writes it."""

from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn

MLP = 4  # width inside a block / width


class TimmAttention(nn.Module):
    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, n, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, n, 3, self.n_heads, width // self.n_heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-2, -1) / (width // self.n_heads) ** 0.5, dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, n, width))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, MLP * width), nn.Linear(MLP * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class TimmBlock(nn.Module):
    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn, self.mlp = TimmAttention(width, n_heads), Mlp(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class TimmViT(nn.Module):
    """timm's vit_*_patch16_* and DeiT's: the forward pass gives the class token behind the last norm."""

    def __init__(self, width: int, depth: int, n_heads: int, grid: int, patch: int = 16, n_classes: int = 1000) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.blocks = nn.Sequential(*[TimmBlock(width, n_heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.norm(self.blocks(x))[:, 0]


class TorchvisionBlock(nn.Module):
    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.self_attention = nn.MultiheadAttention(width, n_heads, batch_first=True)
        hidden = MLP * width
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.0), nn.Linear(hidden, width), nn.Dropout(0.0)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.ln_1(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class TorchvisionViT(nn.Module):
    """torchvision's vit_b_16; `old_names` gives the names of its published file (`mlp.linear_1`)."""

    def __init__(self, width: int, depth: int, n_heads: int, grid: int, n_classes: int = 1000) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(3, width, 16, 16)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = nn.Module()
        self.encoder.pos_embedding = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.encoder.layers = nn.ModuleDict(
            {f"encoder_layer_{i}": TorchvisionBlock(width, n_heads) for i in range(depth)}
        )
        self.encoder.ln = nn.LayerNorm(width, 1e-6)
        self.heads = nn.ModuleDict({"head": nn.Linear(width, n_classes)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.encoder.pos_embedding
        for block in self.encoder.layers.values():
            x = block(x)
        return self.encoder.ln(x)[:, 0]

    def old_names(self) -> dict[str, torch.Tensor]:
        new = {"mlp.0.": "mlp.linear_1.", "mlp.3.": "mlp.linear_2."}
        renamed = {}
        for name, tensor in self.state_dict().items():
            for part, old in new.items():
                name = name.replace(part, old)
            renamed[name] = tensor
        return renamed


def drawn(network: nn.Module) -> nn.Module:
    """The network in eval mode, every parameter away from zeros and ones, so that none can be left out or swapped."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            norm = "norm" in name or ".ln" in name
            if parameter.ndim == 1:
                parameter.copy_(torch.rand(parameter.shape) + (0.5 if norm and name.endswith("weight") else -0.5))
            elif "token" in name or "pos" in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.5)
    return network.eval()


def write_keras_hub(network: TimmViT, file: Path) -> Path:
    """The weights of a network as keras_hub 0.32 writes `model.weights.h5` of its ViTBackbone."""

    def layer(place: str, name: str, *arrays: torch.Tensor) -> None:
        group = opened.create_group(f"{place}/vars")
        group.attrs["name"] = name
        for i, array in enumerate(arrays):
            group.create_dataset(str(i), data=array.detach().numpy())

    with h5py.File(file, "w") as opened:
        front = "layers/vi_t_patching_and_embedding"
        layer(front, "vit_patching_and_embedding", network.cls_token)
        patches = network.patch_embed.proj
        layer(f"{front}/patch_embedding", "patch_embedding", patches.weight.permute(2, 3, 1, 0), patches.bias)
        layer(f"{front}/position_embedding", "position_embedding", network.pos_embed[0])
        layer("layers/vi_t_encoder", "vit_encoder")
        layer("layers/vi_t_encoder/layer_norm", "ln", network.norm.weight, network.norm.bias)
        for i, block in enumerate(network.blocks):
            place = f"layers/vi_t_encoder/encoder_layers/vi_t_encoder_block{f'_{i}' if i else ''}"
            layer(place, f"transformer_block_{i + 1}")
            layer(f"{place}/layer_norm_1", "ln_1", block.norm1.weight, block.norm1.bias)
            layer(f"{place}/layer_norm_2", "ln_2", block.norm2.weight, block.norm2.bias)
            layer(f"{place}/mha", "mha")
            width, n_heads = block.attn.proj.weight.shape[0], block.attn.n_heads
            thirds = zip(block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3), strict=True)
            for name, (weight, bias) in zip(("query", "key", "value"), thirds, strict=True):
                split = weight.T.reshape(width, n_heads, -1), bias.reshape(n_heads, -1)
                layer(f"{place}/mha/{name}_dense", name, *split)
            out = block.attn.proj
            layer(f"{place}/mha/output_dense", "attention_output", out.weight.T.reshape(n_heads, -1, width), out.bias)
            layer(f"{place}/mlp", "mlp")
            layer(f"{place}/mlp/dense_1", "dense_1", block.mlp.fc1.weight.T, block.mlp.fc1.bias)
            layer(f"{place}/mlp/dense_2", "dense_2", block.mlp.fc2.weight.T, block.mlp.fc2.bias)
    return file


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(np.shape(tensor)) for name, tensor in network.state_dict().items()}
