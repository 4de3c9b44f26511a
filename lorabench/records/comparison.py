"""Candidate against reference, and what was decided on it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import AliasChoices, Field, FiniteFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lorabench.records.plan import Arm
from lorabench.records.record import Identifier, Record


class CaseDifference(Record):
    """Mean difference of one case over its seeds: candidate minus reference, raw sign."""

    case: Identifier
    difference: FiniteFloat
    n_pairs: PositiveInt


class Comparison(Record):
    """Candidate minus reference in the metric's unit, raw sign, with an interval over cases.

    For an index whose zero already is the reference (collapse, bleed), the value itself is the difference.
    """

    metric: Identifier
    metric_version: PositiveInt
    higher_is_better: bool
    unit: str
    candidate_arm: Arm
    reference: Literal["B0", "B1", "baseline", "training", "none"]
    family: str | None
    """None: all families pooled."""
    estimate: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    confidence_level: FiniteFloat
    p_harm: FiniteFloat
    """One-sided p-value of 'no harm'."""
    n_cases: NonNegativeInt
    n_pairs: NonNegativeInt
    method: str
    candidate_mean: FiniteFloat | None = None
    reference_mean: FiniteFloat | None = None
    correlation: FiniteFloat | None = None
    """Between candidate and reference over pairs: what the pairing was worth."""
    identical: bool = False
    """Every pair is exactly equal."""
    differences: tuple[CaseDifference, ...] = ()
    seen: str = ""
    """What the candidate's pictures show, in words, where numbers do not say it."""

    def oriented(self) -> tuple[float, float, float]:
        """Estimate, low, high with the sign turned so that higher is better."""
        if self.higher_is_better:
            return self.estimate, self.low, self.high
        return -self.estimate, -self.high, -self.low


class Outcome(StrEnum):
    """What was decided."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNMEASURED = "UNMEASURED"
    """No verdict exists: the sensor does not work here, or something is missing."""


class Verdict(Record):
    """The decision of one gate, with the sentence a report prints."""

    gate: Identifier
    metric: Identifier
    family: str | None
    outcome: Outcome
    reason: str
    margin: PositiveFloat
    primary: bool
    """Member of the Holm family."""
    required: bool = True
    """Whether an UNMEASURED or INCONCLUSIVE outcome of this gate keeps the run from passing."""
    comparison: Comparison | None = None
    p_adjusted: FiniteFloat | None = None
    cases_needed: NonNegativeInt | None = Field(
        default=None, validation_alias=AliasChoices("cases_needed", "pairs_needed")
    )
    """Further cases that would decide, where INCONCLUSIVE. The first results files call it `pairs_needed`."""
