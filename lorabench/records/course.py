"""The course of a training: what was judged at each checkpoint, and what was decided on it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field, FiniteFloat, NonNegativeFloat, NonNegativeInt, PositiveFloat

from lorabench.records.record import Identifier, Record
from lorabench.records.step_times import StepTimes, TrainingSetup

COURSE_SCHEMA_VERSION: Final = 1

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class Action(StrEnum):
    """What a training loop should do."""

    CONTINUE = "CONTINUE"
    REJECT = "REJECT"
    """Go on training, but never ship this checkpoint."""
    STOP = "STOP"


class Reason(StrEnum):
    """Why."""

    HEALTHY = "healthy"
    ALARM = "alarm"
    """A screen alarmed; fresh seeds did not confirm it."""
    CONFIRMED = "confirmed"
    """Harm beyond a margin was confirmed at this checkpoint, not yet often enough to stop."""
    PERSISTENT = "persistent"
    """Confirmed often enough among the last checkpoints."""
    CATASTROPHE = "catastrophe"
    """Confirmed far beyond the margin, or copies beyond any doubt: no need to see it twice."""
    NOT_FINITE = "not_finite"
    """NaN or infinity in loss, gradients or weights."""
    BROKEN_PICTURES = "broken_pictures"
    DEAD_ADAPTER = "dead_adapter"
    """After step 0 the adapter still changes nothing, or its file cannot be used."""
    SELF_TEST = "self_test"
    """At step 0 the adapter's pictures are not the base's."""
    NOT_MEASURED = "not_measured"
    """The evaluation failed; training goes on unless asked otherwise."""


class GuardReading(Record):
    """One guard at one checkpoint: how much worse than the control, and how sure.

    `harm` is oriented: positive is worse, in the metric's unit.
    """

    gate: Identifier
    metric: Identifier
    harm: FiniteFloat
    standard_error: NonNegativeFloat
    margin: PositiveFloat
    n_cases: NonNegativeInt
    low: FiniteFloat
    """Lower end of the interval of `harm`."""
    high: FiniteFloat
    p_beyond_margin: Probability
    """One-sided p-value of 'the harm is within the margin'; small means shown to be beyond it."""


class Decision(Record):
    """What to do after a checkpoint, and why, for a program and for a person."""

    action: Action = Action.CONTINUE
    reason: Reason = Reason.HEALTHY
    sentence: str
    training_step: NonNegativeInt
    gates: tuple[Identifier, ...] = ()
    """Guards that speak against the checkpoint."""


class PolicyState(Record):
    """All that the stopping rule remembers between checkpoints."""

    cusum: dict[Identifier, NonNegativeFloat] = Field(default_factory=dict)
    """Gate to its cumulated excess over the margin, in standard errors."""
    confirmed: tuple[bool, ...] = ()
    """Whether each of the last checkpoints was confirmed as worse, oldest first."""


class Evaluation(Record):
    """One checkpoint, judged, or the reason why it was not."""

    training_step: NonNegativeInt
    checkpoint: str | None = None
    """File or folder that a trainer wrote; None for the live adapter."""
    kept: str | None = None
    """Our own copy of the adapter, out of reach of the trainer's pruning."""
    adapter_digest: str | None = None
    seeds: tuple[NonNegativeInt, ...] = ()
    screen: tuple[GuardReading, ...] = ()
    alarmed: tuple[Identifier, ...] = ()
    confirmation_seeds: tuple[NonNegativeInt, ...] = ()
    confirmation: tuple[GuardReading, ...] = ()
    unmeasured: dict[str, str] = Field(default_factory=dict)
    """Guard or signal to the reason why it has no number here."""
    signals: dict[str, FiniteFloat] = Field(default_factory=dict)
    """Means over the screen's pictures by metric, losses and drift: what the course is drawn from."""
    run_ids: tuple[str, ...] = ()
    """Folders with pictures and numbers."""
    seconds: NonNegativeFloat = 0.0
    decision: Decision


class Settlement(Record):
    """The finalists, judged again on seeds, and where there were any on prompts, that had no part in choosing them."""

    suite: str
    """Name of the suite with the prompts."""
    held_back: bool
    """Whether its prompts were never used by a screen."""
    evaluations: tuple[Evaluation, ...]
    """One per finalist; only these figures may be reported as those of the best checkpoint."""
    best: NonNegativeInt | None = None
    """Training step of the best; None while none is shown to be within every margin."""
    sentence: str


class Course(Record):
    """All evaluations of one training, in order, and what the rule remembers."""

    schema_version: Literal[1] = COURSE_SCHEMA_VERSION
    identity: str
    """Digest of suite, metrics' versions, margins and base: another identity is another course."""
    evaluations: tuple[Evaluation, ...] = ()
    policy: PolicyState = PolicyState()
    best: NonNegativeInt | None = None
    """Training step of the best checkpoint so far; None while none passes."""
    settlement: Settlement | None = None
    """Of the last time the finalists were judged again; None before that, and once training went on after it."""
    unsettled: str | None = None
    """Why they could not be judged again, if that was tried; the best is then the screens' choice."""
    step_times: StepTimes | None = None
    """Of the training's own steps; None beside a trainer, and in courses of earlier versions."""
    setup: TrainingSetup | None = None
    """On what the training runs, as far as it can be seen from inside."""
