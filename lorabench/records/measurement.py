"""Numbers on pictures and on sets of pictures. What is missing is an `Unmeasured`, never a zero."""

from __future__ import annotations

from typing import Literal

from pydantic import FiniteFloat, NonNegativeInt, PositiveInt

from lorabench.records.plan import Arm, Cell
from lorabench.records.record import Identifier, Record


class Metric(Record):
    """The facts printed beside a metric's numbers. Its function is found in the registry under `name`."""

    name: Identifier
    version: PositiveInt
    """Bumped whenever a reported number can change; a baseline of another version gives no verdict."""
    higher_is_better: bool
    unit: str
    level: Literal["cell", "set"] = "cell"
    """`cell`: one number per picture. `set`: one number per arm."""
    summary: str = ""


class Measurement(Record):
    """One metric's value on one cell. Always finite."""

    cell: Cell
    metric: Identifier
    metric_version: PositiveInt
    value: FiniteFloat


class Unmeasured(Record):
    """Why a metric has no value: on one cell, on one family, or at all."""

    metric: Identifier
    reason: str
    cell: Cell | None = None
    family: str | None = None


class SetMeasurement(Record):
    """One metric's value on all pictures of an arm, with an interval over cases."""

    metric: Identifier
    metric_version: PositiveInt
    arm: Arm
    scale: FiniteFloat = 0.0
    family: str | None = None
    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    confidence_level: FiniteFloat
    n_cases: NonNegativeInt
    n_pictures: NonNegativeInt
    method: str


class Neighbour(Record):
    """The training picture nearest to a cell's picture."""

    cell: Cell
    training_index: NonNegativeInt
    mirrored: bool
    distance: FiniteFloat
    """LPIPS distance."""
    ratio: FiniteFloat | None
    """Distance over the mean distance of the next neighbours; None where too few training pictures exist."""
    is_copy: bool | None
    """Below the calibrated threshold; None where none could be calibrated."""


class SelfTest(Record):
    """Whether a judge beats chance on the control pictures of a family, by foil kind."""

    judge: Identifier
    family: str
    foil_kind: str | None
    win_rate: FiniteFloat
    chance: FiniteFloat
    p_value: FiniteFloat
    n_cases: NonNegativeInt
    usable: bool
