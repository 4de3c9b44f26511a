"""What a pilot found: how far a metric's values spread on one's own base, and what that allows to decide."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, FiniteFloat, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lorabench.records.record import Identifier, Record

PILOT_SCHEMA_VERSION: Final = 1


class Ranged(Record):
    """An estimate and the range that holds the truth with the pilot's confidence."""

    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat | None
    """None where the pilot sets no upper end."""


class Spread(Record):
    """The control's values of a metric."""

    mean: FiniteFloat
    between: Ranged | None
    """Standard deviation between cases."""
    within: Ranged | None
    """Standard deviation between seeds of one case."""
    n_cases: PositiveInt
    n_pictures: PositiveInt
    halves: Ranged | None = None
    """Mean difference of two halves of the control's own seeds, over cases: its truth is 0."""


class Difference(Record):
    """A paired difference, candidate minus control, or what stands for it."""

    source: Literal["adapter", "base alone", "index"]
    """`adapter`: measured, with common noise. `base alone`: two arms that share nothing but the case. `index`: one
    number per run, from its own interval."""
    rho: Ranged | None = None
    """Correlation of control and candidate between seeds of one case."""
    seed_sd: Ranged | None = None
    """Standard deviation between seeds of one case."""
    case_sd: Ranged | None = None
    """Standard deviation of the true difference between cases; None where only an adapter could tell."""
    standard_error: Ranged
    """Of the mean difference at the suite's size."""
    n_cases: PositiveInt
    n_seeds: PositiveInt
    """Of the suite."""


class Advice(Record):
    """What a gate can show at this size, and what it would need."""

    gate: Identifier
    margin: PositiveFloat
    """In force now."""
    smallest_margin: Ranged
    """Shown at this size by a candidate as good as the control, with the pilot's power."""
    cases_needed: Ranged
    """For the margin in force."""
    seeds_needed: PositiveInt | None
    """Per case, for the margin in force with as many cases; None where more seeds cannot."""
    suggested_margin: PositiveFloat
    false_stops: Ranged | None = None
    """Share of simulated healthy trainings that would be stopped; None for gates that stop none."""
    reasons: tuple[str, ...]


class MetricPilot(Record):
    """One metric of the pilot."""

    metric: Identifier
    metric_version: PositiveInt | None = None
    control: Spread | None = None
    difference: Difference | None = None
    advice: Advice | None = None
    unmeasured: str | None = None
    """Why something of this is missing."""


class Pilot(Record):
    """Everything a pilot found out."""

    schema_version: Literal[1] = PILOT_SCHEMA_VERSION
    suite: Identifier
    base: str
    adapter: str | None
    run_id: str
    n_cases: PositiveInt
    n_seeds: PositiveInt
    """Seeds per case of the pilot."""
    suite_seeds: PositiveInt
    """Seeds per case for which the advice is."""
    confidence_level: Annotated[float, Field(gt=0.0, lt=1.0)]
    significance_level: Annotated[float, Field(gt=0.0, lt=1.0)]
    """One-sided, of a PASS."""
    power: Annotated[float, Field(gt=0.0, lt=1.0)]
    n_generated: NonNegativeInt
    n_from_cache: NonNegativeInt
    seconds: NonNegativeFloat = 0.0
    metrics: tuple[MetricPilot, ...]
