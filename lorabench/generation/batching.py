"""Makes cells in batches: halves them when memory runs out, and lets a failure land on its own cell."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lorabench.generation.protocol import Made, Picture
from lorabench.records.plan import PlannedCell

MakePictures = Callable[[Sequence[PlannedCell]], Sequence[Picture]]

_FAILURES: Final = (RuntimeError, ValueError, IndexError, ArithmeticError, MemoryError)
"""What a sampler raises because of its input or its memory; everything else is a defect and goes up."""
_MEMORY_WORDS: Final = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    out_of_memory: bool


class Batches:
    """Batches that never grow again once memory ran out, so that a run pays for the discovery once."""

    def __init__(self, largest: int, *, free_memory: Callable[[], object] = gc.collect) -> None:
        """`largest`: pictures made jointly at first. `free_memory`: called after memory ran out.

        Raises:
            ValueError: `largest` is not positive.
        """
        if largest < 1:
            msg = f"a batch must hold at least one picture, got {largest}. State a positive batch size."
            raise ValueError(msg)
        self.size = largest
        self._free_memory = free_memory

    def run(self, cells: Sequence[PlannedCell], make: MakePictures) -> Iterator[Made]:
        """Make all cells, in order.

        Args:
            cells: Cells that can be made jointly.
            make: Gives one picture per cell, in the cells' order.

        Yields:
            Each cell once, with its picture or with the reason why there is none.
        """
        waiting = deque(cells)
        while waiting:
            batch = [waiting.popleft() for _ in range(min(self.size, len(waiting)))]
            started = time.perf_counter()
            outcome = _attempt(batch, make)
            seconds = (time.perf_counter() - started) / len(batch)
            if not isinstance(outcome, _Failure):
                yield from (Made(cell, picture, seconds=seconds) for cell, picture in zip(batch, outcome, strict=True))
            elif len(batch) == 1:
                yield Made(batch[0], None, failure=outcome.reason, seconds=seconds)
            elif outcome.out_of_memory:
                self._free_memory()
                self.size = len(batch) // 2
                waiting.extendleft(reversed(batch))
            else:
                yield from self._one_by_one(batch, make)

    def _one_by_one(self, batch: Sequence[PlannedCell], make: MakePictures) -> Iterator[Made]:
        for cell in batch:
            started = time.perf_counter()
            outcome = _attempt([cell], make)
            seconds = time.perf_counter() - started
            if isinstance(outcome, _Failure):
                yield Made(cell, None, failure=outcome.reason, seconds=seconds)
            else:
                yield Made(cell, outcome[0], seconds=seconds)


def _attempt(batch: Sequence[PlannedCell], make: MakePictures) -> Sequence[Picture] | _Failure:
    try:
        return make(batch)
    except _FAILURES as error:
        text = " ".join(str(error).split())[:300]
        memory = isinstance(error, MemoryError) or any(words in text.lower() for words in _MEMORY_WORDS)
        label = "out of memory, even for one picture" if memory and len(batch) == 1 else type(error).__name__
        return _Failure(f"{label}: {text}" if text else label, memory)
