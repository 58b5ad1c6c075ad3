"""The export specification for a target program, and the checks that a run fits that program.

A run that a program cannot load, or would load and misread, is refused before any conversion; the message names the
nearest setting that works. The requirements of each program are data (table.py).
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.text import escaped
from birdnet_fs.export.calibrated_output import maps_for_graph
from birdnet_fs.export.encoder_part import encoder_part
from birdnet_fs.export.spec import ExportSpec
from birdnet_fs.export.targets import check_encoder
from birdnet_fs.export.targets.table import BIRDNET_30, TARGETS, InputContract, Target
from birdnet_fs.schema import networks

if TYPE_CHECKING:
    from birdnet_fs.runs.run import Run

HUMAN_NAMES = ("Human", "Conversation", "Speech", "Yell")  # beginnings of names that BirdNET-Pi treats as a human voice
# It looks for them among this many best classes, or among 60 for each percent of its PRIVACY_THRESHOLD.
N_PRIVACY_CHECKED = 10


def target_by_name(name: str) -> Target:
    """The row of a target.

    Args:
        name: A key of `TARGETS`.

    Returns:
        The row.

    Raises:
        UserError: There is no such target; the message names the nearest one.
    """
    if name not in TARGETS:
        raise UserError(f"--target must be one of {', '.join(TARGETS)}.{nearest(name, TARGETS)} Received: {name!r}")
    return TARGETS[name]


def check_options(name: str, precisions: Sequence[str] | None, input: str) -> None:
    """Refuse options that no run can be exported with.

    Args:
        name: A key of `TARGETS`.
        precisions: Precisions of the artifacts; None = the default.
        input: "waveform", "features", or "" for the default.

    Raises:
        UserError: There is no such target, or it has no such precision or input.
    """
    row = target_by_name(name)
    if precisions is not None and not precisions:
        raise UserError(f"--precision must name one or more of {', '.join(row.precisions)}. Received: nothing")
    for precision in precisions or ():
        _check_choice(name, "precision", precision, row.precisions)
    _check_choice(name, "input", input or row.inputs[0], row.inputs)


def export_spec(
    name: str,
    run: "Run",
    *,
    input: str = "",
    precision: str = "fp32",
    embeddings: bool = False,
    any_batch: bool = False,
    fft: str = "builtin",
) -> ExportSpec:
    """The specification of the file that a target loads.

    Args:
        name: A key of `TARGETS`.
        run: The run.
        input: One of the target's inputs. Default: its first.
        precision: One of the target's precisions. Default: "fp32".
        embeddings: Add the embedding as a second output. Default: false.
        any_batch: Accept any number of segments per call. Default: as the target requires.
        fft: A key of `spec.FFTS`. Default: "builtin".

    Returns:
        The specification.

    Raises:
        UserError: `check_target` refuses the run, or the target or the network does not support an option.
    """
    row = target_by_name(name)
    _check_choice(name, "input", input or row.inputs[0], row.inputs)
    _check_choice(name, "precision", precision, row.precisions)
    check_target(name, run, embeddings=embeddings)
    contract = input_contract(row, run.frontend)
    if contract is None:  # unreachable: check_target raises for such a run
        raise RuntimeError(name)
    if (part := encoder_part(run)) is not None:
        check_encoder.check_options(part, input=input, precision=precision, any_batch=any_batch)
        batch = part.batch
    else:
        batch = 1 if _loops(run, row) else contract.batch
    if any_batch and batch == 1:
        if contract.sample_rate_hz and not contract.accepts_batch_of_one:
            raise UserError(
                f"{name} passes one segment per call: leave out --any_batch, or export with --target tflite."
            )
        if _loops(run, row):
            raise UserError(
                f"A recurrent network ({run.experiment.model.name}) is converted to TFLite for one segment per call: "
                "leave out --any_batch, or export with --target onnx."
            )
        batch = None
    outputs = ("predictions", "embeddings") if embeddings else ("predictions",)
    output_kind = "log_odds" if contract.applies_sigmoid and run.activation == "softmax" else contract.output_kind
    # a program that computes the features itself makes probabilities of the output in its own way
    calibrated = not contract.exact_fields and maps_for_graph(run) is not None
    format, input = row.format, input or row.inputs[0]
    return ExportSpec(format, input, precision, batch, output_kind, outputs, contract.axes, fft, calibrated)


def check_target(name: str, run: "Run", *, embeddings: bool = False) -> list[str]:
    """Check that a target can load a run and reads it correctly.

    Args:
        name: A key of `TARGETS`.
        run: The run.
        embeddings: Whether the artifact has embeddings as a second output. Default: false.

    Returns:
        Warnings, one sentence each.

    Raises:
        UserError: The target cannot load the run or would misread it. The message holds the requirement, the property
            of the run and the nearest setting that works.
    """
    row, part = target_by_name(name), encoder_part(run)
    if part is not None:
        check_encoder.check_encoder(name, row, part)
    contract = input_contract(row, run.frontend)
    if contract is None:
        raise UserError(_why_input_differs(name, row, run))
    if contract.max_classes and len(run.classes) > contract.max_classes:
        raise UserError(
            f"{name} treats a model of more than {contract.max_classes:,} classes as its own with classes appended, "
            f"and would name them wrongly; this run has {len(run.classes):,}. Train on fewer classes, or export with "
            "--target tflite."
        )
    if contract.batch is None and not contract.accepts_batch_of_one and _loops(run, row):
        raise UserError(_no_batch(name, run))
    if part is not None:
        check_encoder.check_batch(name, contract, part)
    if embeddings and contract.embeddings:
        _check_width(name, contract, run)
    if row.by_scientific_name:
        _check_names(name, run)
    warnings = check_encoder.remarks(part) if part is not None else []
    commas = [one for one in run.classes if "," in one or '"' in one]
    if row.plain_commas and commas:
        warnings.append(
            f"{name} writes names into its CSV and Kaleidoscope tables without quotes, so that those of "
            f"{len(commas)} classes have more columns than the header (the first: {escaped(commas[0])!r}); use its "
            "Raven tables, or rename those classes."
        )
    if contract.applies_sigmoid and run.activation == "softmax" and maps_for_graph(run) is None:
        warnings.append(
            f"{name} compares every class with a threshold separately, but this run was trained with one label per "
            "clip: its confidences in a segment add up to 1, so that species calling at once share it. Train with "
            "data.multi_label=true where several species call at once."
        )
    return warnings


def input_contract(row: Target, frontend: schema.FrontEnd) -> InputContract | None:
    """The first input format of a target that fits a front-end.

    Args:
        row: The target.
        frontend: Front-end of the run.

    Returns:
        The contract, or None where none fits.
    """
    return next((contract for contract in row.inputs_accepted if contract.accepts(frontend)), None)


def _loops(run: "Run", row: Target) -> bool:
    return row.format == "tflite" and networks.family_row(run.experiment.model.name).recurrent


def _no_batch(name: str, run: "Run") -> str:
    others = ", ".join(family for family, row in networks.FAMILIES.items() if not row.recurrent)
    remedy = ""
    if name == "birdnet":
        remedy = f"train at {BIRDNET_30} ({_settings(BIRDNET_30)}), where {name} passes one segment per call, or "
    return (
        f"{name} passes any number of segments per call, but a recurrent network ({run.experiment.model.name}) is "
        f"converted for one; {remedy}use another model.name ({others}), or export with --target tflite."
    )


def _why_input_differs(name: str, row: Target, run: "Run") -> str:
    spec = run.frontend
    accepted = " or ".join(str(contract) for contract in row.inputs_accepted)
    for contract in row.inputs_accepted:  # right rate and length, other features
        differing = contract.differing_fields(spec)
        if (
            contract.exact_fields
            and (spec.preset == contract.preset or spec.sample_rate_hz == contract.sample_rate_hz)
            and differing
        ):
            from birdnet_fs.frontend.presets import preset

            wanted = preset(contract.preset)
            first = differing[0]
            return (
                f"{name} computes its features itself, with the front-end {contract.preset}, and this run's differ in "
                f"{', '.join(f'frontend.{n}' for n in differing[:4])}{' and more' if len(differing) > 4 else ''} "
                f"({first} is {getattr(spec, first)!r}, not {getattr(wanted, first)!r}): train with "
                f"frontend={contract.preset}, or export with --target tflite."
            )
    closest = min(
        row.inputs_accepted,
        key=lambda contract: (contract.sample_rate_hz != spec.sample_rate_hz, contract.segment_s != spec.segment_s),
    )
    if closest.exact_fields:
        settings = f"frontend={closest.preset}"
    elif closest.sample_rate_hz == spec.sample_rate_hz:
        settings = f"frontend.segment_s={closest.segment_s:g}"
    else:
        settings = _settings(closest)
    return (
        f"{name} reads {accepted}; this run reads {spec.segment_s:g} s at {spec.sample_rate_hz:,} Hz: train with "
        f"{settings}, or export with --target tflite."
    )


def _settings(contract: InputContract) -> str:
    return f"frontend={contract.preset} {contract.overrides}".strip()


def _check_width(name: str, contract: InputContract, run: "Run") -> None:
    width = _embedding_width(run)
    if width == contract.embeddings:
        return
    if run.experiment.model.encoder:
        raise UserError(
            f"{name} reads embeddings of {contract.embeddings:,} numbers from a model for {contract}; those of the "
            f"encoder have {width:,}. Export without --embeddings."
        )
    fitting = ", ".join(n for n in networks.names() if networks.embedding_width(n) == contract.embeddings)
    raise UserError(
        f"{name} reads embeddings of {contract.embeddings:,} numbers from a model for {contract}; those of "
        f"{networks.resolve(run.experiment.model.name)} have {width:,}. Export without --embeddings, or train a "
        f"network whose embeddings have {contract.embeddings:,} ({fitting})."
    )


def _check_names(name: str, run: "Run") -> None:
    from birdnet_fs.export.targets.labels import label_lines

    names = [line.partition("_")[0] for line in label_lines(run.classes)]
    human = next(
        (one for one in names if one.startswith("Yell" if len(names) > N_PRIVACY_CHECKED else HUMAN_NAMES)), None
    )
    if human is not None:
        raise UserError(
            f"{name} treats a class that begins with {', '.join(HUMAN_NAMES)} as a human voice, and drops every "
            f"segment with one among the {N_PRIVACY_CHECKED} best (more with PRIVACY_THRESHOLD), and its neighbors. "
            f"Received: {human!r} among {len(names)} classes; rename it (a scientific name in front), or export with "
            "--target tflite."
        )
    repeated = next((one for one, times in Counter(names).items() if times > 1), None)
    if repeated is not None:
        raise UserError(
            f"{name} identifies classes by the part of their name before '_' alone; {repeated!r} occurs more than "
            "once. Rename those classes, or export with --target tflite."
        )


def _embedding_width(run: "Run") -> int:
    """Width of the embedding of a run; its network is built for this, without weights."""
    from birdnet_fs import models
    from birdnet_fs.runs.run import build_network

    network = build_network(run.experiment, len(run.classes), run.input_shape, run.n_own_scores)
    return int(models.with_outputs(network, ["embedding"]).output.shape[-1])


def _check_choice(name: str, what: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UserError(
            f"--{what} must be one of {', '.join(allowed)} for {name}.{nearest(value, allowed)} Received: {value!r}"
        )
