"""Inputs of an enrolled run, so that the same command given again keeps it and another one does not.

`enrollment.json` in the run folder holds the identity of the base run, the clips of the support and the background with
their labels, times, sizes and fingerprints, and the options.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from birdnet_fs.core.files import write_text
from birdnet_fs.data.changes import clip_changes, file_changes, file_states
from birdnet_fs.data.copies import with_fingerprints
from birdnet_fs.data.manifest import Clip
from birdnet_fs.runs.run import Run, run_identity

ENROLLMENT = "enrollment.json"
_PARTS = ("support", "background")


def enrollment_inputs(
    run: Run, support: Sequence[Clip], background: Sequence[Clip], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Collect what an enrollment starts from, for `write_enrollment_inputs` and `enrollment_changes`.

    Args:
        run: The base run.
        support: Clips of the new classes.
        background: Clips without any of the classes.
        options: Further arguments, as JSON.

    Returns:
        A JSON object.
    """
    parts = {name: with_fingerprints(clips) for name, clips in zip(_PARTS, (support, background), strict=True)}
    return {
        "format": 1,
        "run": run_identity(run.path),
        "options": json.loads(json.dumps(options)),
        "files": {path: list(state) for path, state in file_states(c.path for p in parts.values() for c in p).items()},
        **{
            name: [[os.fspath(c.path), c.onset_s, c.offset_s, list(c.labels), c.fingerprint] for c in clips]
            for name, clips in parts.items()
        },
    }


def write_enrollment_inputs(folder: Path, inputs: Mapping[str, Any]) -> None:
    """Write the enrollment.json of a run."""
    # names of files may hold bytes that are not UTF-8, which JSON in ASCII keeps
    write_text(folder / ENROLLMENT, json.dumps(inputs, indent=1) + "\n")


def enrollment_changes(folder: Path, inputs: Mapping[str, Any]) -> list[str] | None:
    """Compare what an enrolled run was made from with what the present command starts from.

    Args:
        folder: The run folder.
        inputs: JSON object of the inputs of the present command, from `enrollment_inputs`.

    Returns:
        Texts such as "2 recordings added"; none when nothing has changed. None when the run does not state what it was
        made from.
    """
    try:
        old = json.loads((folder / ENROLLMENT).read_text(encoding="utf-8"))
        if old["format"] != 1:
            return None
        before, known = _clips(old), {c.path: c.fingerprint for part in _clips(old).values() for c in part}
        states = {path: (int(state[0]), int(state[1])) for path, state in old["files"].items()}
        found = [] if old["run"] == inputs["run"] else ["the base run changed"]
        options = {**old["options"], **inputs["options"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    changed = [name for name in options if old["options"].get(name) != inputs["options"].get(name)]
    found += [f"--{name} changed" for name in changed]
    files = {path: (state[0], state[1]) for path, state in inputs["files"].items()}
    texts, moved = file_changes(states, files, {os.fspath(path): text for path, text in known.items()})
    return [*found, *clip_changes(before, _clips(inputs), moved), *texts]


def _clips(inputs: Mapping[str, Any]) -> dict[str, list[Clip]]:
    return {
        name: [
            replace(Clip(Path(path), onset_s, offset_s, tuple(labels)), fingerprint=fingerprint)
            for path, onset_s, offset_s, labels, fingerprint in inputs[name]
        ]
        for name in _PARTS
    }
