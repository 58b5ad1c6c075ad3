"""`birdnet-fs estimate`: call density and precision of every class from a verified sample."""

from pathlib import Path
from typing import Annotated

import typer


def estimate(
    folder: Annotated[Path, typer.Argument(help="Folder of birdnet-fs sample, whose sheet.csv is filled in.")],
) -> None:
    """Estimate call density and precision with intervals of 95 %.

    The density is the share of all windows in which the class calls, the precision that of the windows that the tables
    hold. Clips with the verdict unsure, and those without one, are left out. The rows are written to
    FOLDER/estimates.csv. Navine et al. 2024, https://doi.org/10.3389/fbirs.2024.1380636.
    """
    from birdnet_fs.cli.checks import check_exists

    check_exists(folder=folder)
    from birdnet_fs.analysis.verification.report import ESTIMATES, interval_text, write_estimates

    rows = write_estimates(folder)
    print(f"{'class':40} {'verified':>8}  {'call density':26}  {'precision':26}")
    for row in rows:
        verified = row["n_yes"] + row["n_no"]
        print(
            f"{row['label'][:40]:40} {verified:8d}  {interval_text(row, 'density'):26}  "
            f"{interval_text(row, 'precision'):26}"
        )
    print(folder / ESTIMATES)
