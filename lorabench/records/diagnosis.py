"""What ails a run: facts, the causes they speak for and against, and what to do. Written beside `results.json`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, FiniteFloat, StringConstraints

from lorabench.records.record import Identifier, Record, Sha256

DIAGNOSIS_SCHEMA_VERSION: Final = 1

FactName = Annotated[
    str,
    StringConstraints(
        pattern=r"^(gate|harm|metric|change|run|course|sweep|adapter|audit)\.[a-z0-9][a-z0-9._-]*$", max_length=120
    ),
]
"""Kind and name: `gate.copy`, `audit.duplicate_share`."""

Effort = Literal["setting", "training", "data"]
"""Least first: another setting of what is there, another training, work on pictures and captions."""

Source = Literal["run", "course", "sweep", "adapter", "audit"]


class Fact(Record):
    """One thing that is known, with the words and numbers a report quotes."""

    name: FactName
    value: FiniteFloat | str
    """A number, or a word such as `FAIL` or `yes`."""
    quote: str


class Evidence(Record):
    """A fact that moved the score of a cause."""

    fact: Fact
    condition: str
    """What was asked of it: `gate.copy is FAIL`."""
    weight: FiniteFloat
    """Added to the score; negative where it speaks against the cause."""


class Gap(Record):
    """Facts that would tell, and are not known."""

    facts: tuple[FactName, ...]
    measure: str
    """How to come to know them."""
    reason: str | None = None
    """Why they are not known, where something tried."""


class Fix(Record):
    """Something to do about it."""

    effort: Effort
    do: str


class LikelyCause(Record):
    """One cause, with all that speaks for it and against it."""

    cause: Identifier
    name: str
    because: str
    """How it brings the symptoms about."""
    score: FiniteFloat
    """Sum of the weights; above 0 a cause is named."""
    strength: Literal["strong", "likely", "possible"]
    supporting: tuple[Evidence, ...]
    opposing: tuple[Evidence, ...]
    missing: tuple[Gap, ...]
    fixes: tuple[Fix, ...]
    sources: tuple[str, ...]
    covers: tuple[Identifier, ...] = ()
    """Causes that would be named too, and are part of this one finding."""


class Diagnosis(Record):
    """Everything that was found out about what ails a run."""

    schema_version: Literal[1] = DIAGNOSIS_SCHEMA_VERSION
    run_id: str
    candidate: str | None
    results_digest: Sha256
    """Digest of the results that were read."""
    causes_digest: Sha256
    """Digest of the table of causes."""
    sources: tuple[Source, ...]
    """What was read."""
    headline: str
    causes: tuple[LikelyCause, ...]
    """Most likely first."""
    risks: tuple[LikelyCause, ...] = ()
    """Of data and settings, without a symptom in the pictures so far."""
    unexplained: tuple[Identifier, ...] = ()
    """Gates that failed and that no cause named here takes up."""
    leads: tuple[LikelyCause, ...] = ()
    """Causes that bring such a gate's failure about, and that nothing else shows so far: where to look next."""
    facts: tuple[Fact, ...] = ()
    unknown: dict[str, str] = Field(default_factory=dict)
    """Fact to the reason why it is not known, where something tried."""
