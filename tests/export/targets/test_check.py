"""Specifications for target programs, and errors that name a setting which works."""

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest

from birdnet_fs import models, schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.export.spec import SUFFIXES, ExportSpec
from birdnet_fs.export.targets.check import TARGETS, check_target, export_spec
from birdnet_fs.frontend import PRESETS
from birdnet_fs.runs.run import Run

ON_48K = PRESETS["birdnet_3s_48k"]
ON_32K = dataclasses.replace(PRESETS["cnn_32k"], segment_s=3.0)


def make(frontend: schema.FrontEnd = ON_48K, *, model: str = "cnn/tiny", n_classes: int = 3, multi: bool = True) -> Run:
    """A run as far as targets look at it; no weights are read."""
    experiment = schema.Experiment(
        name="t", frontend=frontend, model=schema.Model(name=model), data=schema.Data(root=".", multi_label=multi)
    )
    return Run(Path("runs/t"), experiment, tuple(f"Genus species{i}_Bird {i}" for i in range(n_classes)))


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_gives_a_specification_for_a_fitting_run(name: str) -> None:
    frontend = PRESETS["echo_edge"] if name == "echo" else ON_48K
    row = TARGETS[name]
    for precision in row.precisions:
        for given in row.inputs:
            form = export_spec(name, make(frontend), input=given, precision=precision)
            assert (form.format, form.input, form.precision) == (row.format, given, precision)
            assert form.suffix == SUFFIXES[row.format]
    assert export_spec(name, make(frontend)).input == row.inputs[0]
    assert row.summary and row.source


def test_output_for_birdnet_depends_on_the_sample_rate() -> None:
    assert export_spec("birdnet", make(ON_48K)) == ExportSpec(batch=None, output_kind="logits")
    assert export_spec("birdnet", make(ON_32K)) == ExportSpec(batch=None, output_kind="probabilities")


@pytest.mark.parametrize("name", ["birdnet", "analyzer", "birdnet-go", "birdnet-pi"])
def test_settings_named_in_an_error_are_accepted(name: str) -> None:
    """The settings in the error message, parsed from it, make a run that the target accepts."""
    for frontend in PRESETS.values():
        try:
            export_spec(name, make(frontend))
        except UserError as error:
            settings = str(error).split("train with ")[1].split(", or")[0].split()
            overrides = dict(part.split("=") for part in settings)
            mended = PRESETS[overrides["frontend"]] if "frontend" in overrides else frontend
            if "frontend.segment_s" in overrides:
                mended = dataclasses.replace(mended, segment_s=float(overrides["frontend.segment_s"]))
            export_spec(name, make(mended))
            assert f"{frontend.segment_s:g} s at {frontend.sample_rate_hz:,} Hz" in str(error)
        else:
            assert (frontend.sample_rate_hz, frontend.segment_s) == (48_000, 3.0)


def test_error_for_a_fitting_rate_names_the_length_only() -> None:
    with pytest.raises(UserError, match=r"3 s at 48,000 Hz or 3 s at 32,000 Hz; this run reads 5 s at 32,000 Hz: "):
        export_spec("birdnet", make(PRESETS["cnn_32k"]))
    with pytest.raises(UserError, match=r"train with frontend\.segment_s=3,"):
        export_spec("birdnet", make(PRESETS["cnn_32k"]))


def test_echo_accepts_two_front_ends_and_names_differing_fields() -> None:
    assert export_spec("echo", make(PRESETS["echo_engine"])).axes == "time_first"
    edge = export_spec("echo", make(PRESETS["echo_edge"]))
    assert edge.input_shape(160_000, (313, 128, 1)) == (1, 128, 313, 1) and edge.output_kind == "logits"
    export_spec("echo", make(dataclasses.replace(PRESETS["echo_edge"], fmin_hz=100.0)))  # its client reads it beside
    with pytest.raises(UserError, match=r"frontend\.hop_length.*\(hop_length is 400, not 512\).*frontend=echo_edge"):
        export_spec("echo", make(dataclasses.replace(PRESETS["echo_edge"], hop_length=400)))
    with pytest.raises(UserError, match=r"frontend=echo_e(ngine|dge), or export with --target tflite"):
        export_spec("echo", make(PRESETS["cnn_32k"]))


def test_recurrent_networks_are_refused_for_an_open_batch() -> None:
    with pytest.raises(UserError, match=r"recurrent network.*frontend=cnn_32k frontend\.segment_s=3.*cnn"):
        export_spec("birdnet", make(model="rnn/gru"))
    assert export_spec("birdnet", make(ON_32K, model="rnn/gru")).batch == 1
    assert export_spec("birdnet-pi", make(model="rnn")).batch == 1
    assert export_spec("tflite", make(model="rnn")).batch == 1
    with pytest.raises(UserError, match="one segment per call"):
        export_spec("tflite", make(model="rnn"), any_batch=True)
    assert export_spec("onnx", make(model="rnn")).batch is None


def test_any_batch_is_refused_where_the_program_passes_one_segment() -> None:
    assert export_spec("tflite", make()).batch == 1 and export_spec("tflite", make(), any_batch=True).batch is None
    for name in ("birdnet", "onnx"):  # they have it anyway
        assert export_spec(name, make(), any_batch=True) == export_spec(name, make())
    with pytest.raises(UserError, match="birdnet-pi passes one segment per call: leave out --any_batch"):
        export_spec("birdnet-pi", make(), any_batch=True)


def test_embeddings_of_another_width_are_refused_with_networks_that_fit() -> None:
    with pytest.raises(UserError, match=r"1,024 numbers.*cnn/tiny have 48.*prototypical/v2"):
        export_spec("birdnet", make(), embeddings=True)
    form = export_spec("birdnet", make(model="prototypical/v2"), embeddings=True)
    assert form.outputs == ("predictions", "embeddings")
    with pytest.raises(UserError, match=r"1,280 numbers.*prototypical/v2 have 1,024.*efficientnet_v2/b0"):
        export_spec("birdnet", make(ON_32K, model="prototypical/v2"), embeddings=True)


def test_more_classes_than_the_program_supports_are_refused() -> None:
    export_spec("birdnet", make(n_classes=6522))
    with pytest.raises(UserError, match=r"more than 6,522 classes.*this run has 6,523"):
        export_spec("birdnet", make(n_classes=6523))
    export_spec("birdnet", make(ON_32K, n_classes=6523))


def test_birdnet_pi_needs_unique_scientific_names() -> None:
    run = make()
    export_spec("birdnet-pi", dataclasses.replace(run, classes=("Turdus merula_Blackbird", "noise")))
    export_spec("birdnet-pi", dataclasses.replace(run, classes=("call_a", "call_b", "my_own_class")))
    with pytest.raises(UserError, match="'Strix aluco' occurs more than once"):
        export_spec("birdnet-pi", dataclasses.replace(run, classes=("Strix aluco_call", "Strix aluco_song")))


def test_analyzer_warns_of_names_that_its_tables_do_not_quote() -> None:
    run = make()
    assert check_target("analyzer", dataclasses.replace(run, classes=("a", "b"))) == []
    [warning] = check_target("analyzer", dataclasses.replace(run, classes=("Owl, Barn", "b")))
    assert "without quotes" in warning and "1 classes" in warning and "'Owl, Barn'" in warning
    assert check_target("birdnet", dataclasses.replace(run, classes=("Owl, Barn", "b"))) == []


def test_birdnet_pi_refuses_classes_it_treats_as_human_voices() -> None:
    few = ("Yellowhammer", "Parus major_Great Tit")
    with pytest.raises(UserError, match=r"begins with Human.*'Yellowhammer' among 2 classes; rename"):
        export_spec("birdnet-pi", dataclasses.replace(make(), classes=few))
    export_spec("birdnet-pi", dataclasses.replace(make(), classes=("Emberiza citrinella_Yellowhammer", few[1])))
    many = tuple(f"Genus s{i}_Bird {i}" for i in range(11))
    with pytest.raises(UserError, match="'Yellowhammer' among 12"):
        export_spec("birdnet-pi", dataclasses.replace(make(), classes=(*many, few[0])))
    with pytest.raises(UserError, match="'Yellowhammer' among 13"):
        export_spec("birdnet-pi", dataclasses.replace(make(), classes=("Human vocal", *many, few[0])))
    with pytest.raises(UserError, match="'Speech' among 3"):
        export_spec("birdnet-pi", dataclasses.replace(make(), classes=(*many[:2], "Speech")))
    export_spec("birdnet-pi", dataclasses.replace(make(), classes=(*many, "Speech")))  # what its filter is for


def test_softmax_run_gives_log_odds_for_programs_with_a_sigmoid() -> None:
    for name, row in TARGETS.items():
        if any(ear.applies_sigmoid for ear in row.inputs_accepted):
            assert row.format == "tflite"  # the only format with log-odds
            assert (
                export_spec(name, make()).output_kind == "logits"
                and export_spec(name, make(multi=False)).output_kind == "log_odds"
            )
    form = export_spec("birdnet-go", make(multi=False))
    assert (form.kind, form.activation("softmax")) == ("logits", "sigmoid")
    assert export_spec("tflite", make(multi=False)).activation("softmax") == "softmax"


def test_softmax_run_warns_about_programs_with_separate_thresholds() -> None:
    assert check_target("birdnet", make()) == []
    assert "data.multi_label=true" in check_target("analyzer", make(multi=False))[0]
    assert check_target("birdnet", make(ON_32K, multi=False)) == []  # its softmax is in the file
    assert check_target("tflite", make(multi=False)) == []


@pytest.mark.parametrize(
    ("name", "choice", "said"),
    [
        ("birdnt", {}, "Did you mean 'birdnet'"),
        ("birdnet", {"input": "features"}, "--input must be one of waveform for birdnet"),
        ("pt2", {"precision": "int8"}, "--precision must be one of fp32 for pt2"),
    ],
)
def test_unsupported_options_are_refused(name: str, choice: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        export_spec(name, make(), **choice)


def test_recurrent_families_are_those_with_recurrent_layers() -> None:
    found = set()
    for family in models.FAMILIES:
        tree = ast.parse(inspect.getsource(models.family(family)))
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        if names & {"LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional"}:
            found.add(family)
    assert found == {family for family, row in models.FAMILIES.items() if row.recurrent}


@pytest.mark.slow
def test_embedding_widths_in_the_registry_are_those_of_the_networks() -> None:
    for name in models.names():
        network = models.build(name, input_shape=(*ON_48K.shape, ON_48K.n_channels), n_classes=2)
        assert models.with_outputs(network, ["embedding"]).output.shape[-1] == models.embedding_width(name)
        del network
