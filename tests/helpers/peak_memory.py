"""Most memory that torch allocates on the CPU during a call, from the events of its profiler."""

from collections.abc import Callable
from itertools import accumulate

import torch


def peak_bytes(call: Callable[[], object]) -> int:
    """Largest sum of the allocations and releases of tensors so far, in bytes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))
