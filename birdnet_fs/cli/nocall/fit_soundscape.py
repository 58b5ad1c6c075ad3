"""`birdnet-fs nocall fit-soundscape` and `fit-soundscape-cv`: fit a no-call model to labeled soundscapes."""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean, pstdev
from typing import Annotated

import typer

from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped

ROOT = Path("data/raw/birdclef-2021")
Output = Annotated[
    Path,
    typer.Argument(help="File of the model, as lgb.txt; lgb.metadata.json and lgb.ledger.csv are written beside it."),
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings for reading the labels, as data.where=set=birds10."),
]
Root = Annotated[
    Path,
    typer.Option(
        help="Folder of BirdCLEF-2021 (train_soundscape_labels.csv, train_soundscapes), or of any labeled windows."
    ),
]
Embedding = Annotated[
    str,
    typer.Option(
        help="Run folder, exported file with embeddings, foreign .tflite or .onnx encoder, or logmel (statistics of a "
        "log-mel spectrogram)."
    ),
]
Dim = Annotated[int, typer.Option(help="Width that the embedding must have; 0 = any.")]
Table = Annotated[str, typer.Option(help="Table of labels in the folder; empty = it is found.")]
HeadKind = Annotated[str, typer.Option(help="gbm (LightGBM), logistic, or mlp (a small network).")]
Split = Annotated[
    str, typer.Option(help="recordings, or rows as in the competition notes: a recording is then on both sides.")
]
Seed = Annotated[int, typer.Option(help="Seed of the splits.")]
Threads = Annotated[int, typer.Option(help="CPU threads of the embedding; 0 = default of the runtime.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing model.")]


def _verb(name: str, help_text: str, *, folds: bool) -> Callable[..., None]:
    """Make a verb; both have the same options."""

    def verb(
        output: Output,
        settings: Settings = None,
        birdclef_root: Root = ROOT,
        embedding_checkpoint: Embedding = "logmel",
        dim: Dim = 0,
        table: Table = "train_soundscape_labels.csv",
        head: HeadKind = "gbm",
        split: Split = "recordings",
        seed: Seed = 0,
        threads: Threads = 0,
        overwrite: Overwrite = False,
    ) -> None:
        from birdnet_fs.cli.checks import check_data_settings, check_file_output, check_numbers
        from birdnet_fs.core.settings import override
        from birdnet_fs.motifs.no_call.fit_soundscape import NoCallFit, fit_soundscape, soundscape_data
        from birdnet_fs.motifs.no_call.model import metadata_path
        from birdnet_fs.schema import Experiment

        check_file_output(output)
        check_data_settings(settings or ())
        check_numbers(dim=(dim, 0, 2**20), seed=(seed, 0, 2**64 - 1), threads=(threads, 0, 1024))
        fit = NoCallFit(embedding_checkpoint, dim=dim, head=head, split=split, folds=folds, seed=seed, threads=threads)
        data = override(Experiment(data=soundscape_data(birdclef_root, table)), settings or ()).data
        found = fit_soundscape(data, fit, output, overwrite=overwrite)
        for line in found.lines:
            print(line)
        aps = f"{fmean(found.fold_aps):.3f} + {pstdev(found.fold_aps):.3f}, of the test " if found.fold_aps else ""
        say(f"no-call AP {aps}{found.test_ap:.3f}; threshold {found.threshold:.3f} keeps 95 % of calls")
        print(f"{escaped(output)}\n{escaped(metadata_path(output))}")

    verb.__name__, verb.__doc__ = name, help_text
    return verb


fit_soundscape = _verb(
    "fit_soundscape",
    "Fit a no-call model on 85 % of labeled windows, with early stopping on 7.5 % and a test on 7.5 %.",
    folds=False,
)
fit_soundscape_cv = _verb(
    "fit_soundscape_cv",
    "Fit a no-call model with 5-fold cross-validation and early stopping on 90 % of labeled windows; test on 10 %.",
    folds=True,
)
