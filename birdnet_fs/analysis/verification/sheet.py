"""The sheet that a person fills in, and the strata that belong to it.

`sheet.csv` has one row per clip in random order, without scores, so that the verdict does not depend on them, and an
empty column `verdict`: yes, no or unsure. `sample.json` holds the strata of every class, and which clip is of which.
"""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

from birdnet_fs.analysis.verification.estimate import StratumCounts
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped, unmark_formula

SHEET, SAMPLE, CLIPS = "sheet.csv", "sample.json", "clips"
COLUMNS = ("clip", "label", "verdict", "start_in_clip_s", "end_in_clip_s", "path", "start_s", "end_s")
VERDICTS = ("yes", "no", "unsure")
FORMAT = 1


def read_sample(folder: Path) -> dict[str, Any]:
    """Read the strata of a sample.

    Args:
        folder: Folder written by `birdnet-fs sample`.

    Returns:
        Content of sample.json.

    Raises:
        UserError: The file is missing, damaged or of another version.
    """
    try:
        found = json.loads((folder / SAMPLE).read_text(encoding="utf-8"))
        if found["format"] != FORMAT or not isinstance(found["classes"], list):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"A folder written by `birdnet-fs sample` was expected. Received: {escaped(folder)}, whose {SAMPLE} is "
            "missing or cannot be read."
        ) from None
    return dict(found)


def read_verdicts(folder: Path) -> dict[str, str]:
    """Read the sheet.

    Args:
        folder: Folder of the sample.

    Returns:
        Verdict by clip: one of VERDICTS, or "" where there is none yet.

    Raises:
        UserError: The sheet is missing, lacks a column, names a clip twice or has another verdict.
    """
    path = folder / SHEET
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            rows = list(csv.DictReader(file, delimiter=";" if head.count(";") > head.count(",") else ","))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The sheet {escaped(path)} cannot be read ({error}); save it as CSV in UTF-8.") from None
    found: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        if "clip" not in row or "verdict" not in row:
            raise UserError(f"The sheet {escaped(path)} must have the columns clip and verdict.")
        clip, verdict = unmark_formula(row["clip"] or ""), (row["verdict"] or "").strip().lower()
        if verdict and verdict not in VERDICTS:
            raise UserError(
                f"{escaped(path)} row {number}: the verdict must be yes, no or unsure, or empty. Received: {verdict!r}"
            )
        if clip in found:
            raise UserError(f"{escaped(path)} row {number}: the clip {clip!r} is there twice.")
        found[clip] = verdict
    return found


def count_verdicts(
    sample: dict[str, Any], verdicts: dict[str, str]
) -> dict[str, tuple[list[StratumCounts], Counter[str]]]:
    """Count verdicts by class and stratum.

    Args:
        sample: Content of sample.json, from `read_sample`.
        verdicts: Verdict by clip, from `read_verdicts`; a clip that is not there has no verdict.

    Returns:
        For each class, the counts of its strata, and how many clips have each verdict ("" = none).

    Raises:
        UserError: The sheet has no clip of the sample.
    """
    clips = [clip for row in sample["classes"] for stratum in row["strata"] for clip in stratum["clips"]]
    if clips and not any(clip in verdicts for clip in clips):
        raise UserError(f"The sheet names none of the {len(clips)} clips of {SAMPLE}; they belong to another sample.")
    found = {}
    for row in sample["classes"]:
        strata, all_verdicts = [], Counter[str]()
        for stratum in row["strata"]:
            counted = Counter(verdicts.get(clip, "") for clip in stratum["clips"])
            all_verdicts += counted
            verified = counted["yes"] + counted["no"]
            strata.append(StratumCounts(stratum["number"], stratum["n_windows"], verified, counted["yes"]))
        found[row["label"]] = (strata, all_verdicts)
    return found
