"""`birdnet-fs classify predict`: a submission to a competition."""

from pathlib import Path
from typing import Annotated

import typer


def predict(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT.csv", help="Submission to write.")],
    birdclef_root: Annotated[
        Path,
        typer.Option(
            help="Folder of the competition: test.csv (row_id, file_id, bird, end_time: a submission row_id,target) or "
            "sample_submission.csv (one column per class), and test_soundscapes."
        ),
    ],
    classifier_source: Annotated[Path, typer.Option(help="Folder of birdnet-fs classify train.")],
    embedding_checkpoint: Annotated[
        str, typer.Option(help="Where the embedding of the classifier is now; default: where it was.")
    ] = "",
    threshold: Annotated[float, typer.Option(help="Lowest probability of a True, 0..1.")] = 0.5,
    threads: Annotated[int, typer.Option(help="CPU threads of the embedding; 0 = default of the runtime.")] = 0,
) -> None:
    """Score the windows that a competition asks for. A row is never left out, whatever recordings are missing.

    OUTPUT.ledger.csv lists every window and every missing recording. The exit status is 1 when no window was scored.
    """
    from birdnet_fs.analysis.competition.predict_trees import predict_submission
    from birdnet_fs.cli.checks import check_file_output, check_numbers
    from birdnet_fs.core.progress import say
    from birdnet_fs.core.text import escaped
    from birdnet_fs.motifs.classifier.model import open_classifier

    check_file_output(output)
    check_numbers(threshold=(threshold, 0, 1), threads=(threads, 0, 1024))
    classifier = open_classifier(classifier_source, embedding=embedding_checkpoint, threads=threads)
    report, ledger = predict_submission(classifier, birdclef_root, output, threshold=threshold)
    ledger.write(output.with_suffix(".ledger.csv"))
    for line in report.lines:
        say(line)
    print(f"{report.n_rows} rows, {report.n_rows - report.n_without_scores} with scores; {escaped(output)}")
    if report.n_without_scores == report.n_rows:
        raise typer.Exit(1)
