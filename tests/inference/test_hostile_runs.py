"""Runs, ensembles, exported files and weights of strangers: each is refused with one sentence, and executes nothing.

A table names mutations of good folders. Each is opened through a public door in a forked process that may take 1 GB of
addresses and is watched (tests/helpers/hostile_jobs.py).
"""

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import soundfile
import torch
from command_line import ROOT
from installed import need
from safetensors.numpy import load_file, save, save_file
from small_runs import SPEC

from birdnet_fs import __version__, schema
from birdnet_fs.core.settings import to_dict
from birdnet_fs.runs.run import build_network, model_weights, save_run

CPU_S, GROWN = 5.0, 1 << 30
HELPER = ROOT / "tests" / "helpers" / "hostile_jobs.py"
Mutate = Callable[[Path], None]


class Case(NamedTuple):
    """A mutation, the door it is opened through, the base it is made of, and words of the sentence."""

    name: str
    mutate: Mutate
    words: str
    base: str = "run"
    door: str = "run"


# ---------------------------------------------------------------- mutations


def written(name: str, content: str | bytes) -> Mutate:
    """A file with other content."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data) and None


def setting(key: str, value: Any) -> Mutate:
    """config.json with another value."""
    return lambda folder: change_json(folder / "config.json", key, value)


def field(key: str, value: Any) -> Mutate:
    """The sidecar of an exported file with another value."""
    return lambda folder: change_json(folder / "m.json", key, value)


def change_json(file: Path, key: str, value: Any) -> None:
    content = json.loads(file.read_text())
    node = content
    *groups, last = key.split(".")
    for group in groups:
        node = node[group] if node.get(group) is not None else node.setdefault(group, {})
    node[last] = value
    file.write_text(json.dumps(content))


def linked(name: str, target: str) -> Mutate:
    def mutate(folder: Path) -> None:
        place = folder / name
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        place.symlink_to(target)

    return mutate


def pipe(name: str) -> Mutate:
    def mutate(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return mutate


def header(change: Callable[[dict[str, Any]], None], name: str = "weights.safetensors") -> Mutate:
    """weights.safetensors with another header over the same numbers."""

    def mutate(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        content = json.loads(data[8 : 8 + size])
        change(content)
        new = json.dumps(content).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(new)) + new + data[8 + size :])

    return mutate


def tensors(change: Callable[[dict[str, np.ndarray]], None]) -> Mutate:
    def mutate(folder: Path) -> None:
        stored = load_file(folder / "weights.safetensors")
        change(stored)
        save_file(stored, folder / "weights.safetensors")

    return mutate


def sparse(name: str, size: int) -> Mutate:
    def mutate(folder: Path) -> None:
        with open(folder / name, "r+b") as file:
            file.truncate(size)

    return mutate


def first_tensor(**changes: Any) -> Mutate:
    def change(content: dict[str, Any]) -> None:
        name = next(name for name in content if name != "__metadata__")
        content[name].update(changes)

    return header(change)


def overlapping(content: dict[str, Any]) -> None:
    names = [name for name in content if name != "__metadata__"]
    content[names[1]]["data_offsets"] = content[names[0]]["data_offsets"]


class Code:
    """A pickle that creates the file CANARY when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch CANARY",)


def torch_file(value: Any, **options: Any) -> Mutate:
    return lambda folder: torch.save(value() if callable(value) else value, folder / "w.pth", **options)


def compressed_archive(folder: Path) -> None:
    plain = io.BytesIO()
    torch.save({"conv1.weight": torch.zeros(1000)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(folder / "w.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, b"\0" * 300_000_000 if "/data/" in name else old.read(name))


def claims_terabytes(folder: Path) -> None:
    """The format of torch before 1.6 with a storage of 10^12 numbers."""
    plain = io.BytesIO()
    torch.save({"conv1.weight": torch.zeros(300)}, plain, _use_new_zipfile_serialization=False)
    small, large = pickle.dumps(300, 2)[2:-1], pickle.dumps(10**12, 2)[2:-1]
    data = plain.getvalue()
    assert data.count(small) >= 1
    (folder / "w.pth").write_bytes(data.replace(small, large))


# ---------------------------------------------------------------- exported files


def onnx_model(kind: str) -> bytes:
    """A network [n, n_samples] -> [n, 3] whose answer is as `kind` says."""
    from onnx import TensorProto, helper, numpy_helper

    n_samples, n_out = SPEC.n_samples, 4 if kind == "classes" else 3
    kernel = np.random.default_rng(2).normal(0, 0.01, (n_samples, n_out)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "kernel"], ["y"])]
    extra = []
    if kind == "one_row":  # the mean over the batch: one row for all windows
        nodes = [
            helper.make_node("MatMul", ["x", "kernel"], ["all"]),
            helper.make_node("ReduceMean", ["all"], ["y"], axes=[0], keepdims=1),
        ]
    if kind == "nan":
        extra = [numpy_helper.from_array(np.full(3, np.nan, np.float32), "bad")]
        nodes = [helper.make_node("MatMul", ["x", "kernel"], ["all"]), helper.make_node("Add", ["all", "bad"], ["y"])]
    if kind == "three_axes":
        nodes = [
            helper.make_node("MatMul", ["x", "kernel"], ["all"]),
            helper.make_node("Unsqueeze", ["all", "axes"], ["y"]),
        ]
        extra = [numpy_helper.from_array(np.array([1], np.int64), "axes")]
    stored = numpy_helper.from_array(kernel, "kernel")
    if kind == "outside":
        stored.ClearField("raw_data")
        stored.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "../outside.bin"), ("offset", "0"), ("length", str(kernel.nbytes))):
            stored.external_data.add(key=key, value=value)
    shape = ["n", 1, n_out] if kind == "three_axes" else ["n", n_out]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", n_samples])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [stored, *extra],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def artifact(folder: Path, data: bytes, suffix: str = ".onnx") -> None:
    """An exported file with a sidecar that describes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"m{suffix}").write_bytes(data)
    (folder / "m_Labels.txt").write_text("a_a\nb_b\nc_c\n")
    sidecar = {
        "format": 1,
        "model": f"m{suffix}",
        "sha256": hashlib.sha256(data).hexdigest(),
        "classes": ["a", "b", "c"],
        "sample_rate_hz": SPEC.sample_rate_hz,
        "segment_s": SPEC.segment_s,
        "input": "waveform",
        "input_shape": [None, SPEC.n_samples],
        "axes": "time_first",
        "output": "logits",
        "activation": "sigmoid",
        "frontend": SPEC.to_artifact(),
        "versions": {"birdnet_fs": __version__},
    }
    (folder / "m.json").write_text(json.dumps(sidecar))


def answers(kind: str) -> Mutate:
    return lambda folder: artifact(folder, onnx_model(kind))


def content(change: Callable[[bytes], bytes], suffix: str = ".onnx") -> Mutate:
    def mutate(folder: Path) -> None:
        data = change((folder / "m.onnx").read_bytes())
        (folder / "m.onnx").unlink()
        artifact(folder, data, suffix)

    return mutate


# ---------------------------------------------------------------- the table

JSON = [
    Case("deep_list", written("config.json", "[" * 100_000), "nested more than 32 deep"),
    Case("deep_object", written("config.json", '{"a":' * 50_000 + "1" + "}" * 50_000), "nested more than 32 deep"),
    Case("deep_40", written("config.json", '{"pretrain":' * 40 + "{}" + "}" * 40), "nested more than 32 deep"),
    Case("large_float", written("config.json", '{"seed": 1e400}'), "the number 1e400 is too large"),
    Case("nan", written("config.json", '{"training": {"learning_rate": NaN}}'), "NaN is no number"),
    Case("infinity", written("config.json", '{"training": {"learning_rate": -Infinity}}'), "-Infinity is no number"),
    Case("long_number", written("config.json", '{"seed": ' + "9" * 500_000 + "}"), "a number has 500000 digits"),
    Case("ten_megabytes", written("config.json", b" " * 10_000_000 + b"{}"), "more than 1,000,000 bytes"),
    Case("not_utf8", written("config.json", b'{"name": "\xff"}'), "not readable JSON"),
    Case("utf16", written("config.json", '{"name": "x"}'.encode("utf-16")), "not readable JSON"),
    Case("empty", written("config.json", b""), "not readable JSON"),
    Case("truncated", lambda f: written("config.json", (f / "config.json").read_text()[:300])(f), "not readable JSON"),
    Case("twice", written("config.json", '{"seed": 1, "seed": 2}'), "the key 'seed' is given twice"),
    Case("list", written("config.json", "[1]"), "must hold a JSON object"),
    Case("null", written("config.json", "null"), "must hold a JSON object"),
    Case("config_link", linked("config.json", "../../secret"), "is a link to a place outside"),
    Case("config_pipe", pipe("config.json"), "there is no such file"),
    Case("newer", written("versions.json", '{"birdnet_fs": "99.0"}'), "install birdnet_fs 99.0 or newer"),
    Case("long_version", written("versions.json", json.dumps({"birdnet_fs": "9" * 9000})), "install birdnet_fs 9999"),
]
SETTINGS = [
    Case(f"{key[:40]}={ascii(value)[:24]}", setting(key, value), words or key)
    for key, value, words in [
        ("frontend.n_fft", 2**30, ""),
        ("frontend.n_fft", 10**18, ""),
        ("frontend.n_mels", 10**9, ""),
        ("frontend.segment_s", 1e9, ""),
        ("frontend.segment_s", 1e308, ""),
        ("frontend.segment_s", 3600, ""),
        ("frontend.sample_rate_hz", 10**9, ""),
        ("frontend.hop_length", 10**12, ""),
        ("frontend.win_length", 10**12, ""),
        ("frontend.keep_frames", 10**9, ""),
        ("frontend.keep_frames", 1_000_000, "The features of a segment must be"),
        ("frontend.resize", [10**9, 10**9], ""),
        ("frontend.resize", [65_536, 65_536], "The features of a segment must be"),
        ("frontend.n_channels", 10**9, ""),
        ("frontend.top_db", 1e300, ""),
        ("frontend.amin", 0, ""),
        ("frontend.fmax_hz", 1e300, ""),
        ("frontend.normalize_eps", -1, ""),
        ("frontend.bands", "mels", ""),
        ("frontend.bands", {"a": [1] * 1000}, ""),
        ("frontend.n_mels", "many", ""),
        ("frontend.n_mels", True, ""),
        ("frontend.n_mels", [1, 2], ""),
        ("frontend.n_mel", 16, "Unknown setting 'frontend.n_mel'"),
        ("frontend", [1], "frontend must be a group of settings"),
        ("model.name", "cnn/../../x", "model.name must be one of"),
        ("model.name", "cnn/large", "do not fit"),
        ("model.channels", [10**9] * 4, ""),
        ("model.channels", [64] * 1000, ""),
        ("model.channels", [0, 0, 0, 0], ""),
        ("model.logit_scale", 1e300, ""),
        ("model.dropout", 2, ""),
        ("training.batch_size", 10**9, ""),
        ("training.epochs", 10**12, ""),
        ("training.workers", 10**9, ""),
        ("training.threads", 10**9, ""),
        ("training.sampling.crops_per_clip", 10**9, ""),
        ("training.checkpoints.n_best", 10**12, ""),
        ("training.optimizer.accumulate", 10**12, ""),
        ("training.schedule.warmup_epochs", 1e300, ""),
        ("training.loss.focal_gamma", 1e300, ""),
        ("augmentation.time_masks.n", 10**9, ""),
        ("augmentation.stretch.rate", [1e-300, 1], ""),
        ("data.n_folds", 10**12, ""),
        ("data.segment_hop_s", 1e-9, ""),
        ("distillation.rounds", 10**9, ""),
        ("episodes", {"n_way": 10**9}, "episodes.n_way"),
        ("pseudo_labels.power", 1e300, ""),
        ("seed", -1, ""),
        ("seed", 1.5, ""),
        ("data.root", "a\0b", "without NUL"),
        ("data.root", "\ud800", "half of a surrogate pair"),
        ("x" * 100_000, 1, "Unknown setting 'xxx"),
    ]
]
CLASSES = [
    Case("classes_not_utf8", written("classes.txt", b"a\n\xff\xfe\n"), "must be UTF-8 text"),
    Case("classes_ten_million", written("classes.txt", b"a\n" * 10_000_000), "100,000 classes or fewer"),
    Case("classes_200000", written("classes.txt", "\n".join(map(str, range(200_000)))), "100,000 classes or fewer"),
    Case("classes_50000", written("classes.txt", "\n".join(map(str, range(50_000)))), "names 50,000 classes"),
    Case("classes_three", written("classes.txt", "a\nb\nc\n"), "do not fit"),
    Case("classes_empty", written("classes.txt", b""), "one or more classes"),
    Case("classes_twice", written("classes.txt", "a\na\n"), "each once"),
    Case("classes_semicolon", written("classes.txt", "a;b\nc\n"), "';'"),
    Case("classes_escape", written("classes.txt", "a\x1b[2J\nb\n"), "rename"),
    Case("classes_link", linked("classes.txt", "/etc/passwd"), "is a link to a place outside"),
    Case("classes_pipe", pipe("classes.txt"), "there is no such file"),
    Case("classes_missing", lambda f: (f / "classes.txt").unlink(), "there is no such file"),
]
FILE = "weights.safetensors"
WEIGHTS = [
    Case("weights_f8", first_tensor(dtype="F8_E4M3"), "is of type 'F8_E4M3'"),
    Case("weights_int", first_tensor(dtype="I32"), "is of type 'I32'"),
    Case("weights_type_number", first_tensor(dtype=7), "is of type 7"),
    Case("weights_zero", first_tensor(shape=[0]), "sizes of 1 or more"),
    Case("weights_negative", first_tensor(shape=[-1]), "sizes of 1 or more"),
    Case("weights_bool", first_tensor(shape=[True]), "sizes of 1 or more"),
    Case("weights_terabytes", first_tensor(shape=[10**6, 10**6]), "claims tensors of"),
    Case("weights_overlap", header(overlapping), "not a readable safetensors file"),
    Case("weights_extra", header(lambda c: c.update(x={"dtype": "F32"})), "not a readable safetensors file"),
    Case("weights_truncated", lambda f: written(FILE, (f / FILE).read_bytes()[:-100])(f), "claims tensors of"),
    Case("weights_empty", written(FILE, b""), "fewer than 8 bytes"),
    Case("weights_long_header", written(FILE, struct.pack("<Q", 2**63) + b"{}"), "its header claims"),
    Case("weights_deep_header", written(FILE, struct.pack("<Q", 99_999) + b"[" * 99_999), "nested more than"),
    Case("weights_list_header", written(FILE, struct.pack("<Q", 2) + b"[]"), "no JSON object"),
    Case("weights_html", written(FILE, b"<html>not found</html>"), "not a readable safetensors file"),
    Case("weights_pickle", written(FILE, pickle.dumps(Code())), "not a readable safetensors file"),
    Case("weights_sparse", sparse(FILE, 10**12), "bytes or fewer"),
    Case("weights_link", linked(FILE, "/dev/zero"), "there is no such file"),
    Case("weights_link_file", linked(FILE, "../../secret"), "is a link to a place outside"),
    Case("weights_nan", tensors(lambda t: t["logits/bias"].fill(np.nan)), "must be finite"),
    Case("weights_infinite", tensors(lambda t: t["logits/bias"].fill(np.inf)), "must be finite"),
    Case("weights_missing", tensors(lambda t: t.pop("logits/bias")), "is missing from the file"),
    Case("weights_renamed", tensors(lambda t: t.update(x=t.pop("logits/bias"))), "do not fit"),
    Case("weights_shape", tensors(lambda t: t.update({"logits/bias": np.zeros(9, "f4")})), "has shape (9,)"),
]
ENSEMBLES = [
    Case(name, mutate, words, "ensemble", "load")
    for name, mutate, words in [
        ("ensemble_deep", written("ensemble.json", "[" * 100_000), "nested more than 32 deep"),
        ("ensemble_list", written("ensemble.json", "[]"), "'format' is missing"),
        ("ensemble_format", lambda f: change_json(f / "ensemble.json", "format", 2), "'format' must be 1"),
        ("ensemble_newer", lambda f: change_json(f / "ensemble.json", "birdnet_fs", "99.0"), "birdnet_fs 99.0"),
        ("ensemble_members", lambda f: change_json(f / "ensemble.json", "members", [{}] * 9999), "1000 members or"),
        ("ensemble_million", lambda f: change_json(f / "ensemble.json", "members", [1] * 10**6), "1,000,000 bytes"),
        ("ensemble_none", lambda f: change_json(f / "ensemble.json", "members", []), "two runs or more"),
        ("ensemble_numbers", lambda f: change_json(f / "ensemble.json", "members", [1, 2]), "was changed"),
        ("ensemble_power", lambda f: change_json(f / "ensemble.json", "power", 1e308), "power must be in"),
        ("ensemble_power_true", lambda f: change_json(f / "ensemble.json", "power", True), "'power' is missing or"),
        ("ensemble_how", lambda f: change_json(f / "ensemble.json", "combine", "eval"), "combine must be one of"),
        ("ensemble_rank", lambda f: change_json(f / "ensemble.json", "combine", "rank"), "is missing or was changed"),
        ("ensemble_outside", linked("members/1", "../../run"), "is a link to a place outside"),
        ("ensemble_itself", linked("members/1", ".."), "is an ensemble, and one run is needed"),
        ("ensemble_swapped", written("members/0/classes.txt", "b\na\n"), "was changed"),
        ("ensemble_link", linked("ensemble.json", "../../secret"), "is a link to a place outside"),
    ]
]
SIDECARS = [
    Case(name, mutate, words, "onnx", door)
    for name, mutate, words, door in [
        ("axes", field("axes", "mel_first"), "'axes' must be", "load"),
        ("axes_list", field("axes", [1]), "'axes' must be", "load"),
        ("one_label", field("one_label", "yes"), "'one_label' must be", "load"),
        ("classes_numbers", field("classes", [1, 2, 3]), "'classes' must", "load"),
        ("classes_control", field("classes", ["a", "b\x1b[2J", "c"]), "rename", "load"),
        ("classes_two", field("classes", ["a", "b"]), "and give [n, 2]", "load"),
        ("segment_true", field("segment_s", True), "'segment_s' is missing or of the wrong type", "load"),
        ("segment_long", field("segment_s", 1e9), "two sample rates or segment lengths", "load"),
        ("frontend_large", field("frontend.n_fft", 2**30), "frontend.n_fft must be", "load"),
        ("frontend_list", field("frontend", []), "'frontend' is missing or of the wrong type", "load"),
        ("input_features", field("input", "features"), "must take [n, 63, 16, 1]", "load"),
        ("sidecar_format", field("format", 2), "'format' must be 1", "load"),
        ("sidecar_newer", lambda f: (field("format", 2)(f), field("versions.birdnet_fs", "99.0")(f)), "99.0", "load"),
        ("sidecar_deep", written("m.json", "[" * 100_000), "nested more than 32 deep", "load"),
        ("sidecar_large", written("m.json", b" " * 9_000_000 + b"{}"), "more than 8,000,000 bytes", "load"),
        ("sidecar_nan", written("m.json", '{"format": 1, "segment_s": NaN}'), "NaN is no number", "load"),
        ("sidecar_list", written("m.json", "[]"), "'format' is missing", "load"),
        ("sha256", field("sha256", "0" * 64), "SHA-256 differs", "load"),
        ("one_row", answers("one_row"), "it gave [1, 3]", "load"),
        ("other_classes", answers("classes"), "gives [-1, 4]", "load"),
        ("three_axes", answers("three_axes"), "[", "load"),
        ("nan_answer", answers("nan"), "NaN or infinity", "load"),
        ("no_probabilities", field("output", "probabilities"), "must give probabilities in 0..1", "load"),
        ("outside", answers("outside"), "does not load in onnxruntime", "load"),
        ("onnx_garbage", content(lambda data: os.urandom(5000)), "does not load in onnxruntime", "load"),
        ("onnx_empty", content(lambda data: b""), "does not load in onnxruntime", "load"),
        ("onnx_truncated", content(lambda data: data[: len(data) // 2]), "does not load in onnxruntime", "load"),
        ("tflite_garbage", content(lambda data: os.urandom(5000), ".tflite"), "does not load", "load"),
        ("tflite_empty", content(lambda data: b"", ".tflite"), "does not load", "load"),
        ("tflite_name", content(lambda data: b"\x1c\0\0\0TFL3" + b"\xff" * 500, ".tflite"), "does not load", "load"),
        ("reader_deep", written("m.json", "[" * 100_000), "is damaged", "receive"),
        ("reader_list", written("m.json", "[]"), "must hold a JSON object", "receive"),
        ("reader_digits", written("m.json", "9" * 100_000), "is damaged", "receive"),
        ("reader_type", field("input_shape", "x"), "'input_shape' must be", "receive"),
        ("reader_segment", field("segment_s", 1e9), "out of range", "receive"),
        ("reader_classes", field("classes", 3), "'classes' must be", "receive"),
        ("reader_embeddings", field("embeddings", [1]), "'embeddings' is damaged", "receive"),
        ("reader_features", field("input", "features"), "_frontend.npz is missing", "receive"),
        ("reader_labels", written("m_Labels.txt", b"\xff"), "must be UTF-8", "receive"),
        ("reader_control", written("m_Labels.txt", "a\x1b[2J\nb\nc\n"), "without control characters", "receive"),
        ("reader_one_row", answers("one_row"), "", "receive"),
        ("reader_nan", answers("nan"), "NaN or infinity", "receive"),
        ("reader_axes", answers("three_axes"), "must give float32", "receive"),
        ("reader_outside", answers("outside"), "does not load in onnxruntime", "receive"),
        ("reader_garbage", content(lambda data: os.urandom(5000)), "does not load in onnxruntime", "receive"),
    ]
    if name != "reader_one_row"  # one segment has one row
]
PUBLISHED = [
    Case(name, mutate, words, "folder", "weights")
    for name, mutate, words in [
        ("pth_code", torch_file({"conv1.weight": Code()}), "which is never executed"),
        ("pth_code_legacy", torch_file(Code(), _use_new_zipfile_serialization=False), "which is never executed"),
        ("pth_pickle", lambda f: written("w.pth", pickle.dumps(Code()))(f), "not a readable state dict"),
        ("pth_numbers", torch_file({"a": 1}), "it holds no tensors by name"),
        ("pth_list", torch_file([torch.zeros(3)]), "it holds no tensors by name"),
        ("pth_one_axis", torch_file({"conv1.weight": torch.zeros(64)}), "do not fit the network"),
        ("pth_five_axes", torch_file({"conv1.weight": torch.zeros(1, 1, 1, 1, 1)}), "do not fit the network"),
        ("pth_view", torch_file(lambda: {"conv1.weight": torch.zeros(1).expand(10**6, 10**6)}), "its tensors have"),
        ("pth_bomb", compressed_archive, "compressed parts"),
        ("pth_terabytes", claims_terabytes, "its tensors have"),
        ("pth_garbage", lambda f: written("w.pth", os.urandom(5000))(f), "not a readable state dict"),
        ("pth_empty", lambda f: written("w.pth", b"")(f), "not a readable state dict"),
    ]
]
COMMANDS = [
    Case("analyze_deep", written("config.json", "[" * 100_000), "nested more than 32 deep", "run", "analyze"),
    Case("analyze_f8", first_tensor(dtype="F8_E4M3"), "is of type 'F8_E4M3'", "run", "analyze"),
    Case("analyze_nan", tensors(lambda t: t["logits/bias"].fill(np.nan)), "must be finite", "run", "analyze"),
    Case("analyze_large", setting("frontend.n_fft", 2**30), "frontend.n_fft must be", "run", "analyze"),
    Case("evaluate_nothing", lambda f: None, "partition.csv", "run", "evaluate"),
    Case("evaluate_partition", written("partition.csv", "\x00,\n" * 5), "", "run", "evaluate"),
    Case("evaluate_cell", written("partition.csv", "part,path\nheld_out," + "x" * 999_999), "", "run", "evaluate"),
    Case("evaluate_scores", written("scores.csv", "path\n" + "x" * 999_999), "", "run", "evaluate"),
    Case("export_link", linked("export", "../../elsewhere"), "is a link to a place outside", "run", "export"),
    Case("export_terabytes", first_tensor(shape=[10**6, 10**6]), "claims tensors of", "run", "export"),
]
CASES = [*JSON, *SETTINGS, *CLASSES, *WEIGHTS, *ENSEMBLES, *SIDECARS, *PUBLISHED, *COMMANDS]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The outcome of every case by its name."""
    need("onnx")
    need("ai_edge_litert")
    top = tmp_path_factory.mktemp("hostile")
    (top / "cases").mkdir()
    (top / "elsewhere").mkdir()
    (top / "secret").write_text("{}")
    np.zeros((SPEC.n_samples, 3), np.float32).tofile(top / "cases" / "outside.bin")
    (top / "recordings").mkdir()
    soundfile.write(top / "recordings" / "1.wav", np.random.default_rng(0).normal(0, 0.1, 24_000), 8000)
    make_bases(top)
    jobs = [{"door": "run", "path": str(top / "run")}]
    for case in CASES:
        folder = top / "cases" / hashlib.sha256(case.name.encode()).hexdigest()[:12]
        shutil.copytree(top / case.base, folder)
        case.mutate(folder)
        files = {"onnx": next((p.name for p in folder.glob("m.*") if p.suffix != ".json"), ""), "folder": "w.pth"}
        jobs.append({"door": case.door, "path": str(folder / files.get(case.base, ""))})
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "KERAS_BACKEND": "torch"}
    done = subprocess.run(
        [sys.executable, str(HELPER)], input=json.dumps(jobs), cwd=top, env=environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(top.rglob("CANARY")) and not any((top / "elsewhere").iterdir())
    return {case.name: outcome for case, outcome in zip(CASES, json.loads(done.stdout), strict=True)}


def make_bases(top: Path) -> None:
    """A good run, an ensemble of two, an exported file, and an empty folder."""
    from birdnet_fs.runs.ensemble import save_ensemble

    keras.utils.set_random_seed(0)
    experiment = schema.Experiment(name="hostile", frontend=SPEC, model=schema.Model("cnn/tiny"))
    weights = model_weights(build_network(experiment, 2))
    runs = [save_run(top / name, experiment, ("a", "b"), weights) for name in ("run", "second")]
    save_ensemble(top / "ensemble", runs)
    artifact(top / "onnx", onnx_model("good"))
    (top / "folder").mkdir()
    assert to_dict(experiment)["frontend"]["n_fft"] == SPEC.n_fft and save(weights)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_stranger_s_file_is_refused_with_one_sentence(outcomes: dict[str, dict[str, Any]], case: Case) -> None:
    found = outcomes[case.name]
    assert found["seen"] == []
    assert found["kind"] == "refused", f"{found['kind']}: {found['said']}"
    assert (found["said"].isprintable() and found["said"].endswith((".", "?", "'"))) or "Received" in found["said"]
    assert len(found["said"]) < 1500
    assert case.words in found["said"]
    assert found["cpu_s"] < CPU_S
    assert found["grown"] < GROWN


def test_there_are_enough_cases_and_their_names_differ() -> None:
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)
