"""The form in which a program wants a run, and why it would not take one.

A run that a program would not load, or would load and misread, is refused before anything is converted, with the
nearest setting that works. What each program asks is data (target_rows.py).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from birdnet_fs import models, schema
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.export.spec import ExportSpec
from birdnet_fs.export.targets.table import BIRDNET_30, TARGETS, InputContract, Target

if TYPE_CHECKING:
    from birdnet_fs.runs.run import Run

HUMAN_NAMES = ("Human", "Conversation", "Speech", "Yell")  # how the names begin that BirdNET-Pi takes for a human voice
# It looks for them among so many of the best classes: 10, or 60 for each percent of its PRIVACY_THRESHOLD.
N_PRIVACY_CHECKED = 10


def target_by_name(name: str) -> Target:
    """The row of a name.

    Raises:
        UserError: There is none; the nearest is named.
    """
    if name not in TARGETS:
        raise UserError(f"--target must be one of {', '.join(TARGETS)}.{nearest(name, TARGETS)} Received: {name!r}")
    return TARGETS[name]


def export_spec(
    name: str,
    run: "Run",
    *,
    input: str = "",
    precision: str = "fp32",
    embeddings: bool = False,
    any_batch: bool = False,
) -> ExportSpec:
    """The form in which a target wants a run.

    Args:
        name: A key of `TARGETS`.
        run: The run.
        input: One of the target's inputs; its default when empty.
        precision: One of its precisions.
        embeddings: Give them as a second output.
        any_batch: Take any number of segments at once, where no program asks for one at a time.

    Raises:
        UserError: As `check_target`, or a choice that the program or the network does not have.
    """
    row = target_by_name(name)
    _check_choice(name, "input", input or row.inputs[0], row.inputs)
    _check_choice(name, "precision", precision, row.precisions)
    check_target(name, run, embeddings=embeddings)
    ear = input_contract(row, run.frontend)
    if ear is None:  # check_target has refused it
        raise RuntimeError(name)
    batch = 1 if _loops(run, row) else ear.batch
    if any_batch and batch == 1:
        if ear.sample_rate_hz and not ear.accepts_batch_of_one:
            raise UserError(f"{name} gives one segment at a time: leave out --any_batch, or take --target tflite.")
        if _loops(run, row):
            raise UserError(
                f"A recurrent network ({run.experiment.model.name}) is converted to TFLite for one segment at a time: "
                "leave out --any_batch, or export with --target onnx."
            )
        batch = None
    outputs = ("predictions", "embeddings") if embeddings else ("predictions",)
    answers = "log_odds" if ear.own_sigmoid and run.activation == "softmax" else ear.output_kind
    return ExportSpec(row.format, input or row.inputs[0], precision, batch, answers, outputs, ear.axes)


def check_target(name: str, run: "Run", *, embeddings: bool = False) -> list[str]:
    """Refuse a run that the program would not load, or would load and misread.

    Args:
        name: A key of `TARGETS`.
        run: The run.
        embeddings: Whether the artifact is to give them.

    Returns:
        What its user should know though it is no fault, a sentence each.

    Raises:
        UserError: What the program demands, what the run is, and the nearest setting that works.
    """
    row = target_by_name(name)
    ear = input_contract(row, run.frontend)
    if ear is None:
        raise UserError(_why_input_differs(name, row, run))
    if ear.max_classes and len(run.classes) > ear.max_classes:
        raise UserError(
            f"{name} takes a model of more than {ear.max_classes:,} classes for its own with some appended, and would "
            f"name them wrongly; this run has {len(run.classes):,}. Train on fewer classes, or export with "
            "--target tflite."
        )
    if ear.batch is None and not ear.accepts_batch_of_one and _loops(run, row):
        raise UserError(_no_batch(name, run))
    if embeddings and ear.embeddings:
        _check_width(name, ear, run)
    if row.by_scientific_name:
        _check_names(name, run)
    if ear.own_sigmoid and run.activation == "softmax":
        return [
            f"{name} holds every class against a threshold by itself, and this run was trained with one label a clip: "
            "its confidences of a segment add up to 1, so that birds heard at once share it. Train with "
            "data.multi_label=true where several sing."
        ]
    return []


def input_contract(row: Target, frontend: schema.FrontEnd) -> InputContract | None:
    """The first way a target hears that fits a front-end; None where none does."""
    return next((ear for ear in row.inputs_accepted if ear.accepts(frontend)), None)


def _loops(run: "Run", row: Target) -> bool:
    return row.format == "tflite" and models.family_row(run.experiment.model.name).recurrent


def _no_batch(name: str, run: "Run") -> str:
    others = ", ".join(family for family, row in models.FAMILIES.items() if not row.recurrent)
    way = ""
    if name == "birdnet":
        way = f"train at {BIRDNET_30} ({_settings(BIRDNET_30)}), where {name} asks for one segment at a time, or "
    return (
        f"{name} asks for any number of segments at once, and a recurrent network ({run.experiment.model.name}) is "
        f"converted for one at a time; {way}take another model.name ({others}), or export with --target tflite."
    )


def _why_input_differs(name: str, row: Target, run: "Run") -> str:
    spec = run.frontend
    ways = " or ".join(str(ear) for ear in row.inputs_accepted)
    for ear in row.inputs_accepted:  # right rate and length, other features
        unequal = ear.differing_fields(spec)
        if ear.exact_fields and (spec.preset == ear.preset or spec.sample_rate_hz == ear.sample_rate_hz) and unequal:
            from birdnet_fs.frontend.presets import preset

            wanted = preset(ear.preset)
            first = unequal[0]
            return (
                f"{name} makes its features itself, as the front-end {ear.preset} does, and this run's differ in "
                f"{', '.join(f'frontend.{n}' for n in unequal[:4])}{' and more' if len(unequal) > 4 else ''} "
                f"({first} is {getattr(spec, first)!r}, not {getattr(wanted, first)!r}): train with "
                f"frontend={ear.preset}, or export with --target tflite."
            )
    near = min(
        row.inputs_accepted,
        key=lambda ear: (ear.sample_rate_hz != spec.sample_rate_hz, ear.segment_s != spec.segment_s),
    )
    if near.exact_fields:
        settings = f"frontend={near.preset}"
    elif near.sample_rate_hz == spec.sample_rate_hz:
        settings = f"frontend.segment_s={near.segment_s:g}"
    else:
        settings = _settings(near)
    return (
        f"{name} hears {ways}; this run hears {spec.segment_s:g} s at {spec.sample_rate_hz:,} Hz: train with "
        f"{settings}, or export with --target tflite."
    )


def _settings(contract: InputContract) -> str:
    return f"frontend={contract.preset} {contract.overrides}".strip()


def _check_width(name: str, contract: InputContract, run: "Run") -> None:
    width = _embedding_width(run)
    if width == contract.embeddings:
        return
    fitting = ", ".join(n for n in models.names() if models.embedding_width(n) == contract.embeddings)
    raise UserError(
        f"{name} takes embeddings of {contract.embeddings:,} numbers from a model that hears {contract}; those of "
        f"{models.resolve(run.experiment.model.name)} have {width:,}. Export without --embeddings, or train a network whose "
        f"embeddings have {contract.embeddings:,} ({fitting})."
    )


def _check_names(name: str, run: "Run") -> None:
    from birdnet_fs.export.targets.labels import label_lines

    lines = label_lines(run.classes)
    if lines[0].count("_") != 1:
        raise UserError(
            f"{name} cuts scientific names off its labels only where the first of them holds one '_', between "
            f"scientific and common name. Received: {lines[0]!r}; rename that class."
        )
    names = [line.partition("_")[0] for line in lines]
    human = next(
        (one for one in names if one.startswith("Yell" if len(names) > N_PRIVACY_CHECKED else HUMAN_NAMES)), None
    )
    if human is not None:
        raise UserError(
            f"{name} takes a class that begins with {', '.join(HUMAN_NAMES)} for a human voice, and drops every segment "
            f"in which that is among the {N_PRIVACY_CHECKED} best (more with PRIVACY_THRESHOLD), with the ones beside it. "
            f"Received: {human!r} among {len(names)} classes; rename it (a scientific name in front), or export with "
            "--target tflite."
        )
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise UserError(
            f"{name} knows classes by what stands before '_' alone; {twice!r} is that of several. Rename them, or "
            "export with --target tflite."
        )


def _embedding_width(run: "Run") -> int:
    """Numbers in an embedding of a run; its network is built for this, without weights."""
    from birdnet_fs.runs.run import build_network

    return int(models.with_outputs(build_network(run.experiment, len(run.classes)), ["embedding"]).output.shape[-1])


def _check_choice(name: str, what: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UserError(
            f"--{what} must be one of {', '.join(allowed)} for {name}.{nearest(value, allowed)} Received: {value!r}"
        )
