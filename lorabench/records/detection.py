"""What a detector saw in one picture, and what a text reader read there."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lorabench.records.record import Record, UnitFloat


class Detection(Record):
    """One object found in a picture, by a detector or by the mini world's oracle."""

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


class Lettering(Record):
    """One piece of lettering found in a picture, legible or not."""

    text: str
    """What the reader makes of it; empty where it makes nothing of it."""
    score: UnitFloat
    """How sure the reader is of the text, 0 to 1; 0 without text."""
    likeness: UnitFloat
    """How sure the detector is that this is lettering at all, whatever it says; 0 to 1."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels, upright around it; x grows to the right, y downwards."""
    script: str
    """Script of the text (`Latin`, `Cyrillic`, `Han`, ...), or `unknown` where the text is not to be relied on."""
