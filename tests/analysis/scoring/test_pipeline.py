"""Jobs on several threads: order, errors, failures, an early end, and how much is held at once."""

import threading
import time

import pytest

from birdnet_fs.analysis.scoring.pipeline import AHEAD, Job, run_jobs
from birdnet_fs.core.errors import UserError


def job_of(numbers, closed=None):
    def batches():
        try:
            for number in numbers:
                if isinstance(number, Exception):
                    raise number
                yield number
        finally:
            if closed is not None:
                closed.append(list(numbers))

    return Job(batches())


def slowly(number):
    time.sleep(0.001 * (number % 3))  # later batches are done before earlier ones
    return number * number


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_results_are_in_order_for_any_number_of_threads(n_workers):
    many = [range(first, first + first % 7) for first in range(30)]
    done = list(run_jobs(map(job_of, many), slowly, n_workers=n_workers))
    assert [job.results for job in done] == [[number * number for number in numbers] for numbers in many]
    assert all(job.error is None for job in done)


@pytest.mark.parametrize("n_workers", [1, 3])
def test_an_error_ends_its_recording_alone(n_workers):
    def score(number):
        if number == 7:
            raise UserError("seven")
        return number

    broken = job_of([1, 2, OSError("decoder"), 3])
    jobs = [job_of([0, 1]), broken, job_of([6, 7, 8, 9]), job_of([4, 5])]
    done = list(run_jobs(jobs, score, n_workers=n_workers))
    assert [type(job.error) for job in done] == [type(None), OSError, UserError, type(None)]
    assert done[0].results == [0, 1] and done[3].results == [4, 5] and done == jobs


@pytest.mark.parametrize("n_workers", [1, 3])
def test_a_failure_is_raised_behind_what_was_done_and_ends_the_threads(n_workers):
    def score(number):
        if number == 40:
            raise KeyboardInterrupt
        return number

    before, found = threading.active_count(), []
    with pytest.raises(KeyboardInterrupt):
        for job in run_jobs((job_of([number]) for number in range(100)), score, n_workers=n_workers):
            found += job.results
    assert found == list(range(len(found))) and len(found) >= 40 - n_workers
    assert threading.active_count() == before


def test_a_caller_that_stops_early_ends_the_threads_and_closes_the_recordings():
    before, closed = threading.active_count(), []
    running = run_jobs((job_of([number] * 5, closed) for number in range(100)), lambda number: number, n_workers=2)
    assert next(running).results == [0] * 5
    running.close()
    assert threading.active_count() == before
    assert closed and len(closed) <= 1 + 2 * AHEAD


def test_recordings_are_begun_as_they_are_needed():
    begun = []

    def jobs():
        for number in range(50):
            begun.append(number)
            yield job_of([number])

    for number, _ in enumerate(run_jobs(jobs(), lambda number: number, n_workers=2)):
        assert len(begun) <= number + 1 + 2 * AHEAD
    assert len(begun) == 50


def test_one_recording_is_decoded_while_it_is_scored_and_few_batches_are_held():
    both, held, most = threading.Barrier(2, timeout=10), [], []

    def batches():
        for number in range(40):
            if number == 5:
                both.wait()  # with the scoring of batch 3
            held.append(number)
            most.append(len(held))
            yield number

    def score(number):
        if number == 3:
            both.wait()
        held.remove(number)
        return number

    [job] = run_jobs([Job(batches())], score, n_workers=2)
    assert job.results == list(range(40)) and max(most) <= 4
