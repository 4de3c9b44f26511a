"""What a detector saw in one picture; the oracle of the mini world returns the same record."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lorabench.records.record import Record, UnitFloat


class Detection(Record):
    """One object found in a picture."""

    label: str
    """Class name, lower case, as suites write it (`circle`, `dog`, `hand`)."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels; x grows to the right, y downwards."""
    score: UnitFloat
    """Confidence of the detector, 0 to 1."""
    color: str | None = None
    """Name of the object's colour, where the detector reads one."""
    count: Annotated[int, Field(ge=0)] | None = None
    """Parts counted on the object (fingers of a hand, limbs of a person), where the detector counts them."""
