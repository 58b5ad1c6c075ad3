"""Support of exports: every family in every precision, on every runtime, by both converters, as a Markdown table.

    python benchmarks/support_matrix.py runs/families/*/fold0 [--environment device/bin/python --environment ...]
        [--n_segments 200] [--output runs/support] [--write]

The runs are those of `benchmarks/families.py`, or any others. Each network reads features, because the front-end in
front of it is the same float32 graph for all. `--write` puts the table into export/README.md. What is measured already
lies in `--output` and is kept, one JSON file a run. Environments: see export/README.md.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.core.progress import say
from birdnet_fs.export.convert_and_verify import ParityReport, convert_and_verify
from birdnet_fs.export.parity.compare import RuntimeParity
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs, make_parity_inputs
from birdnet_fs.export.runtimes.environments import Environment, find_environments, find_runtimes
from birdnet_fs.export.spec import ExportSpec
from birdnet_fs.export.targets.check import TARGETS
from birdnet_fs.models import resolve
from birdnet_fs.runs.run import Run, load_run

README = Path(__file__).resolve().parents[1] / "export" / "README.md"
BEGIN, END = "<!-- support matrix: made by benchmarks/support_matrix.py -->", "<!-- end of the support matrix -->"
SECOND = "onnx2tf, "  # in front of the runtime's name
N_CALIBRATION = 200
_OVER = re.compile(r"^no: .*\(tolerance .*\) \(([^()]+)\)$")  # a refused file, with its measurements
_LOG = re.compile(r"; (see|its log is) \S+")  # gone with the folder of the work


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--environment", action="append", default=[], type=Path)
    parser.add_argument("--n_segments", type=int, default=200)
    parser.add_argument("--output", type=Path, default=Path("runs/support"))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    places = find_environments(given.environment)
    found = {}
    for folder in given.runs:
        run = load_run(folder)
        name = resolve(run.experiment.model.name)
        file = given.output / f"{name.replace('/', '_')}.json"
        if not file.is_file():
            given.output.mkdir(parents=True, exist_ok=True)
            write_json(file, cells_of(run, given.n_segments, places))
        found[name] = json.loads(file.read_text(encoding="utf-8"))
    text = table(found)
    print(text)
    if given.write:
        before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        README.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def cells_of(run: Run, n_segments: int, places: Sequence[Environment]) -> dict[str, dict[str, str]]:
    """Precision -> runtime -> what was measured, or why there is nothing."""
    probe = make_parity_inputs(run, n_segments=n_segments, n_calibration=N_CALIBRATION)
    # a network trained for minutes answers silence by chance: real segments in place of the made ones
    probe.waveforms[: len(EDGE_NAMES)] = probe.waveforms[len(EDGE_NAMES) : 2 * len(EDGE_NAMES)]
    found: dict[str, dict[str, str]] = {}
    for target in ("tflite", "onnx"):
        forms = [ExportSpec(target, "features", precision, 1) for precision in TARGETS[target].precisions]
        try:
            cells = {proof.spec.precision: said(proof) for proof in tried(run, probe, forms, places)}
        except UserError:  # one of them does not work: one by one
            cells = {form.precision: said_of(run, probe, form, places) for form in forms}
        for precision, row in cells.items():
            found.setdefault(precision, {}).update(row)
    return found


def said_of(run: Run, probe: ParityInputs, form: ExportSpec, places: Sequence[Environment]) -> dict[str, str]:
    """The cells of one form; where it fails on one runtime, each by itself beside the one that must be there."""
    try:
        return said(*tried(run, probe, [form], places))
    except UserError:
        return alone(run, probe, form, places)


def alone(run: Run, probe: ParityInputs, form: ExportSpec, places: Sequence[Environment]) -> dict[str, str]:
    """Each runtime by itself, so that one that fails does not hide another."""
    cells: dict[str, str] = {}
    for runtime in find_runtimes(form.format, places):
        package = runtime.engine.removesuffix("-default")
        same = [place for place in places[1:] if place.python == runtime.python]
        others = [Environment(place.python, {package: place.packages[package]}) for place in same]
        try:
            (proof,) = tried(run, probe, [form], [places[0], *others])
            cells.update({name: text for name, text in said(proof).items() if not name.startswith(SECOND)})
        except UserError as error:
            cells.setdefault(runtime.name, f"no: {error}")
    return cells


def tried(
    run: Run, probe: ParityInputs, forms: Sequence[ExportSpec], places: Sequence[Environment]
) -> list[ParityReport]:
    """Convert and measure."""
    precisions = [form.precision for form in forms]
    with tempfile.TemporaryDirectory() as work:
        proofs, _ = convert_and_verify(run, probe, forms, Path(work), places, second_route_for=precisions)
    return list(proofs.values())


def said(proof: ParityReport) -> dict[str, str]:
    """A cell per runtime."""
    cells = {name: cell(numbers) for name, numbers in proof.by_runtime.items()}
    if proof.spec.format == "tflite":
        cells |= {SECOND + name: cell(numbers) for name, numbers in proof.second_route.items()}
        if proof.no_second_route:
            for name in proof.by_runtime:
                cells.setdefault(SECOND + name, f"no: {proof.no_second_route}")
    return cells


def cell(numbers: RuntimeParity) -> str:
    """The largest difference of a logit and, where 8 bits make one of another kind, of the macro AUROC."""
    text = f"{numbers.max_abs:.0e}"
    if numbers.precision in ("dynamic", "int8"):
        text = f"{numbers.mean_abs:.2g}, top-1 {numbers.top1_agreement:.0%}"
        if numbers.auroc_artefact is not None and numbers.auroc_reference is not None:
            text += f", AUROC {numbers.auroc_artefact - numbers.auroc_reference:+.3f}"
    return f"no: {'; '.join(numbers.failures)} ({text})" if numbers.failures else text


def table(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Rows: family and precision; columns: runtimes; reasons as notes below."""
    columns = list(dict.fromkeys(name for cells in found.values() for row in cells.values() for name in row))
    notes: dict[str, int] = {}
    lines = [f"| network | precision | {' | '.join(columns)} |", f"|---|---|{'---|' * len(columns)}"]
    for name, rows in found.items():
        for precision, cells in rows.items():
            texts = [cells.get(column, "not tried") for column in columns]
            for i, text in enumerate(texts):
                if over := _OVER.match(text):
                    texts[i] = f"over tolerance: {over[1]}"
                elif text.startswith("no: "):
                    note = notes.setdefault(_LOG.sub("", text.removeprefix("no: ")), len(notes) + 1)
                    texts[i] = f"no [{note}]"
            lines.append(f"| `{name}` | {precision} | {' | '.join(texts)} |")
    return "\n".join([*lines, "", *(f"[{number}] {reason}  " for reason, number in notes.items())])


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        say(str(error))
        raise SystemExit(1) from None
