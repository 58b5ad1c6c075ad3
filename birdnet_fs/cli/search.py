"""`birdnet-fs search`: windows of a store that are similar to examples, hold a class, or are to be labeled next."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import locked

if TYPE_CHECKING:
    from birdnet_fs.search.label_selection import ClassScores
    from birdnet_fs.search.neighbors import FoundWindow, WindowScores
    from birdnet_fs.search.queries import Queries
    from birdnet_fs.search.store import Store

STRATEGY = "top-quantile"


@locked("output")
def search(
    store: Annotated[
        Path,
        typer.Argument(metavar="STORE", help="Folder of a store (birdnet-fs embed), or a database of perch-hoplite."),
    ],
    queries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[EXAMPLE...|RUN:CLASS...]",
            help="Recordings of the sound to look for, cut closely; or classes of a run on the encoder of the store "
            "(with --next also RUN, for all of its classes).",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the table, the clips and the page.")
    ] = None,
    top: Annotated[int, typer.Option(help="Number of results.")] = 50,
    next_: Annotated[
        int, typer.Option("--next", help="Instead of the best: this number of windows to label next; 0 = off.")
    ] = 0,
    by: Annotated[
        str,
        typer.Option(
            help="How --next chooses: top-quantile (the best windows and a spread of quantiles of each class), "
            "uncertainty, or diversity (which needs no example and no run)."
        ),
    ] = STRATEGY,
    labeled: Annotated[
        list[Path] | None,
        typer.Option(help="Table of labels; its windows are not chosen by --next again. May be repeated."),
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(
            help="Encoder of the store, if it is no longer at the path that the store names, or if a database of "
            "perch-hoplite does not name it."
        ),
    ] = None,
    card: Annotated[str, typer.Option(help="Card of --encoder; default: found by content.")] = "",
    recordings: Annotated[
        Path | None,
        typer.Option(help="Folder that was embedded, to cut clips from; without it, there are no clips and no page."),
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of the encoder; 0 = default of the runtime.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a table of OUTPUT in which labels were filled in.")
    ] = False,
) -> None:
    """Find the windows that are most similar to examples, that hold a class, or that are to be labeled next.

    Similarity is the cosine of embeddings, with the most similar of the examples; a class is scored by the head of the
    run. Consecutive windows of a recording are one result. Nothing is approximated. The table has an empty column
    "label"; with labels filled in, it is a table of labels for train and enroll.
    """
    from birdnet_fs.cli.checks import check_exists
    from birdnet_fs.core.files import check_output

    if output is None:
        raise UserError("The output folder is missing; add -o FOLDER for the table and the clips.")
    if top < 1 or next_ < 0:
        raise UserError(f"--top must be 1 or more, and --next 0 (off) or more. Received: {top} and {next_}")
    if not next_ and (by != STRATEGY or labeled):
        raise UserError("--by and --labeled choose what to label next; add --next N.")
    check_output(output)
    check_exists(**{"--recordings": recordings})
    from birdnet_fs.core.progress import say
    from birdnet_fs.search import neighbors, results
    from birdnet_fs.search.open_any_store import open_any_store
    from birdnet_fs.search.queries import read_queries

    table = output / (results.NEXT_TABLE if next_ else results.TABLE)
    if not overwrite:
        results.refuse_labeled(table)
    asked = read_queries(queries or [])
    opened = open_any_store(store, encoder=encoder, card=card)
    if next_:
        found = _next(opened, asked, next_, by, labeled or [], recordings, encoder, threads)
    else:
        found = neighbors.best_windows(opened, _scores(opened, asked, encoder, threads), top)
    clips, problems = [""] * len(found), list[str]()
    if recordings is not None:
        clips, problems = results.write_clips(output / results.CLIPS, found, recordings)
    results.write_table(table, found, clips, recordings=recordings)
    if recordings is not None:
        from birdnet_fs.reports.search import PAGE, write_search_page

        names = ", ".join(dict.fromkeys(each.query for each in found if each.query))
        title = ("To label next" if next_ else "Search") + (f": {names}" if names else "")
        write_search_page(
            output / PAGE, title=title, found=found, clips=clips, folder=output / results.CLIPS, table=table.name
        )
        say(f"page: {output / PAGE}")
    for problem in problems:
        say(problem)
    for rank, each in enumerate(found[:10], 1):
        score = "     " if each.score != each.score else f"{each.score:.3f}"
        print(f"{rank:3d}  {score}  {each.start_s:9.1f} s  {each.recording}  {each.chosen_as}".rstrip())
    print(f"{len(found)} {'windows to label next' if next_ else 'results'} of {len(opened)} windows; {table}")


def _scores(store: "Store", asked: "Queries", encoder: Path | None, threads: int) -> "WindowScores":
    from birdnet_fs.search import neighbors
    from birdnet_fs.search.examples import embed_examples

    if asked.run is not None:
        from birdnet_fs.search.class_scores import best_of_classes, class_scores, open_store_head

        head = open_store_head(store.header, asked.run, threads=threads)
        if not asked.classes:
            raise UserError(f"Name the class to look for, as {asked.run}:CLASS. Classes: {', '.join(head.classes)}")
        return best_of_classes(store, class_scores(head, asked.classes))
    if not asked.examples:
        raise UserError("Nothing to look for: give examples (recordings) or RUN:CLASS.")
    queries = embed_examples(store.header, asked.examples, encoder=encoder, threads=threads)
    return neighbors.similarities(store, queries, [example.name for example in asked.examples])


def _next(
    store: "Store",
    asked: "Queries",
    n: int,
    by: str,
    tables: list[Path],
    recordings: Path | None,
    encoder: Path | None,
    threads: int,
) -> "list[FoundWindow]":
    from birdnet_fs.search.label_selection import select_windows
    from birdnet_fs.search.labeled_windows import labeled_windows

    scores = _class_scores(store, asked, encoder, threads)
    names = scores.names if scores and scores.activation else ()
    labeled = labeled_windows(store, tables, recordings=recordings, classes=names)
    chosen = select_windows(store, n, by=by, scores=scores, labeled=labeled)
    from birdnet_fs.search.neighbors import found_window

    return [found_window(store, each, scores.names if scores else ()) for each in chosen]


def _class_scores(store: "Store", asked: "Queries", encoder: Path | None, threads: int) -> "ClassScores | None":
    if asked.run is not None:
        from birdnet_fs.search.class_scores import class_scores, open_store_head

        return class_scores(open_store_head(store.header, asked.run, threads=threads), asked.classes)
    if asked.examples:
        from birdnet_fs.search.examples import embed_examples, example_scores

        queries = embed_examples(store.header, asked.examples, encoder=encoder, threads=threads)
        return example_scores(store, queries, [example.name for example in asked.examples])
    return None
