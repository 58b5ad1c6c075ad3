"""Two processes with other settings write one folder at the same time: the tables are always those of one of them."""

import multiprocessing
from pathlib import Path

import two_writers
from level_model import LevelModel, write_wav

from birdnet_fs.analysis.analyze import analyze

N_ROUNDS = 20
SETTINGS = (0.1, 0.9)


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.results.csv")}


def count_mixtures(place: Path, *, naive: bool) -> tuple[int, list[str]]:
    """Number of the rounds that left tables of neither, and the messages of the processes that were refused."""
    for number in range(8):
        write_wav(place / "rec" / f"{number}.wav", 4, seed=number)
    wanted = []
    for value in SETTINGS:
        analyze(LevelModel().engine, [place / "rec"], place / f"alone{value}", min_confidence=value)
        wanted.append(tables(place / f"alone{value}"))
    assert len(wanted[0]) == 8 and all(wanted[0][name] != wanted[1][name] for name in wanted[0])
    processes = multiprocessing.get_context("spawn")
    barrier, answers = processes.Barrier(2), processes.Queue()
    workers = [
        processes.Process(
            target=two_writers.analyze_in_rounds,
            args=(place / "rec", place / "out", value, N_ROUNDS, barrier, answers, naive),
        )
        for value in SETTINGS
    ]
    for worker in workers:
        worker.start()
    given = [answers.get(timeout=200) for _ in range(2 * N_ROUNDS)]
    for worker in workers:
        worker.join(60)
    return (
        sum(tables(place / "out" / str(number)) not in wanted for number in range(N_ROUNDS)),
        [said for *_, said in given if said],
    )


def test_two_writers_leave_no_mixture(tmp_path: Path) -> None:
    n_mixtures, refused = count_mixtures(tmp_path, naive=False)
    assert n_mixtures == 0
    assert refused and all("is being written by another process (" in said for said in refused)
    assert not list(tmp_path.rglob("*.lock"))
