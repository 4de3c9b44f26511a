"""Wall time of a call, the best of a few: other work on the machine only ever adds."""

from __future__ import annotations

import time
from collections.abc import Callable


def best_seconds(call: Callable[[], object], *, repeats: int = 3) -> float:
    """Smallest wall time of `repeats` calls."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return best
