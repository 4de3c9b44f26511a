"""What was made: one image per cell, or the reason why there is none."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveInt

from lorabench.records.plan import Cell
from lorabench.records.record import Record, Sha256


class Image(Record):
    """A picture in the store."""

    cell: Cell
    sha256: Sha256
    """Over the decoded pixels (shape and bytes), not over the file."""
    cache_key: Sha256
    """Names everything that made the picture."""
    height: PositiveInt
    width: PositiveInt
    from_cache: bool = False
    generation_seconds: NonNegativeFloat = 0.0
    broken: str | None = None
    """What was wrong with it before it became whole numbers (NaN, infinity); None if nothing was."""


class FailedCell(Record):
    """A cell without a picture."""

    cell: Cell
    reason: str


class Images(Record):
    """The pictures of a plan. Every planned cell is in exactly one of the two lists."""

    made: tuple[Image, ...] = ()
    failed: tuple[FailedCell, ...] = ()
