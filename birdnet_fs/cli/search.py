"""`birdnet-fs search`: the windows of a store that are most similar to examples."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import locked


@locked("output")
def search(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder of a store (birdnet-fs embed).")],
    examples: Annotated[
        list[Path], typer.Argument(metavar="EXAMPLE...", help="Recordings of the sound to look for, cut closely.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for neighbors.csv and the clips.")],
    top: Annotated[int, typer.Option(help="Number of results.")] = 50,
    encoder: Annotated[
        Path | None, typer.Option(help="Encoder of the store, if it is no longer at the path that the store names.")
    ] = None,
    recordings: Annotated[
        Path | None, typer.Option(help="Folder that was embedded, to cut clips from; without it, no clips are cut.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of the encoder; 0 = default of the runtime.")] = 0,
) -> None:
    """Find the windows that are most similar to any of the examples, by cosine similarity of embeddings.

    Consecutive windows of a recording are one result. Nothing is approximated.
    """
    from birdnet_fs.core.files import check_output

    if top < 1:
        raise UserError(f"--top must be 1 or more. Received: {top}")
    check_output(output)
    from birdnet_fs.core.progress import say
    from birdnet_fs.search import neighbors, results
    from birdnet_fs.search.examples import embed_examples
    from birdnet_fs.search.store import open_store

    opened = open_store(store)
    queries = embed_examples(opened.header, examples, encoder=encoder, threads=threads)
    found = neighbors.best_windows(opened, neighbors.similarities(opened, queries), top)
    clips, problems = [""] * len(found), list[str]()
    if recordings is not None:
        clips, problems = results.write_clips(output / results.CLIPS, found, recordings)
    results.write_table(output / results.TABLE, found, clips)
    for problem in problems:
        say(problem)
    for rank, each in enumerate(found[:10], 1):
        print(f"{rank:3d}  {each.similarity:.3f}  {each.start_s:9.1f} s  {each.recording}")
    print(f"{len(found)} results of {len(opened)} windows; {output / results.TABLE}")
