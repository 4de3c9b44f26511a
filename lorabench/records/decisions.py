"""`decisions.json`: what a reviewer decided on a report, bound to the pictures and numbers that were looked at."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, NonNegativeInt, StringConstraints

from lorabench.records.record import Identifier, Record, Sha256

DECISIONS_SCHEMA_VERSION: Final = 1
Decision = Literal["accept", "reject"]
BlindArm = Literal["L1", "B1"]
Comment = Annotated[str, StringConstraints(max_length=20_000)]


class CaseDecision(Record):
    """What was decided on one case, and on which pictures."""

    case: Identifier
    decision: Decision | None = None
    """None: only a comment."""
    comment: Comment = ""
    pictures: dict[str, Sha256] = Field(default_factory=dict)
    """Seed to the digest of the candidate's picture."""


class Preference(Record):
    """One blind comparison of candidate and control."""

    case: Identifier
    seed: NonNegativeInt
    left: BlindArm
    right: BlindArm
    position: NonNegativeInt
    """Place in the random order in which pairs were shown."""
    preferred: Literal["left", "right", "tie"]
    arm: BlindArm | None
    """Whose picture was preferred; None for a tie."""


class Decisions(Record):
    """All that a reviewer said of one run."""

    schema_version: Literal[1] = DECISIONS_SCHEMA_VERSION
    run_id: str
    results_digest: Sha256
    suite_digest: Sha256
    candidate_digest: Sha256 | None
    decided_at: str
    """UTC, ISO 8601."""
    decision: Decision | None = None
    """On the run as a whole; None: not decided."""
    comment: Comment = ""
    cases: tuple[CaseDecision, ...] = ()
    preferences: tuple[Preference, ...] = ()

    @property
    def rejected(self) -> tuple[str, ...]:
        """Cases that were rejected."""
        return tuple(one.case for one in self.cases if one.decision == "reject")
