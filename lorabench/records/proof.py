"""`manifest.json` of a zoo, and `prove.json`: what the harness found in adapters whose truth is known."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, FiniteFloat, NonNegativeFloat, NonNegativeInt, PositiveInt, StringConstraints

from lorabench.records.record import Identifier, Record

ZOO_SCHEMA_VERSION: Final = 1
PROOF_SCHEMA_VERSION: Final = 1
HEALTHY: Final = "healthy"
Half = Literal["fix", "report"]
"""Thresholds may be changed on one half; figures are published from the other."""
FileName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]


class ZooEntry(Record):
    """One adapter of a zoo, as it was trained or as a fault was put into a healthy one."""

    name: FileName
    """Of the adapter's file and of its training set, but for a planted fault."""
    failure: Identifier
    """`healthy`, or what is wrong with it."""
    half: Half
    story: str
    """How it was made, in a sentence."""
    cause: str = ""
    """What the diagnosis ought to name first; empty where it is not asked."""
    must: tuple[Identifier, ...] = ()
    """Gates of which at least one has to fail."""
    errors: tuple[str, ...] = ()
    """Names of errors with which the file may be refused instead; that counts as caught."""
    may: tuple[Identifier, ...] = ()
    """Gates that are right to fail with it; any other failure is a false alarm."""
    sweep: bool = False
    """Whether strength, guidance and trigger are swept as well."""
    holds: bool = True
    """Whether it became what it was planned to be; if not it is not counted."""
    host: FileName | None = None
    """For a planted fault: the adapter it is put into, or whose pictures it spoils."""
    fault: FileName | None = None
    """For a planted fault: its name."""
    ocr: bool = False
    """Whether lettering has to be read."""
    suite: str = "world/screen"
    """The shipped suite whose prompts it is judged on."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """How it was trained."""
    truth: dict[str, Any] = Field(default_factory=dict)
    """What is true of it, by the oracle on prompts that no suite holds."""

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.failure == HEALTHY

    @property
    def file(self) -> str:
        """Name of the adapter whose file and training set are read."""
        return self.host or self.name


class Zoo(Record):
    """All adapters of a zoo."""

    schema_version: Literal[1] = ZOO_SCHEMA_VERSION
    sampling_steps: PositiveInt = 4
    """Of the pictures by which the adapters are judged."""
    adapters: Annotated[tuple[ZooEntry, ...], Field(min_length=1)]


class GateReading(Record):
    """What one gate said of one adapter."""

    gate: Identifier
    outcome: Literal["PASS", "FAIL", "INCONCLUSIVE", "UNMEASURED"]
    harm: FiniteFloat | None = None
    """Positive is worse, in the metric's unit."""
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    margin: FiniteFloat
    reason: str = ""
    """Only where nothing was measured."""


class ProofRow(Record):
    """One adapter, judged."""

    key: str
    """Digest of all that decides the row; a row with another key is made again."""
    name: FileName
    failure: Identifier
    half: Half
    refused: str = ""
    """The error's name, where the adapter's file was refused."""
    message: str = ""
    """What the error said."""
    gates: tuple[GateReading, ...] = ()
    caught: bool
    """At least one gate that must fail did, or the file was refused with an error that must come."""
    false_alarms: tuple[Identifier, ...] = ()
    """Gates that failed without cause."""
    headline: str = ""
    seconds: NonNegativeFloat = 0.0

    @property
    def failed(self) -> tuple[str, ...]:
        """Gates that failed."""
        return tuple(one.gate for one in self.gates if one.outcome == "FAIL")


class Rate(Record):
    """A share with its interval (Wilson)."""

    hits: NonNegativeInt
    n: NonNegativeInt
    low: FiniteFloat
    high: FiniteFloat

    @property
    def value(self) -> float | None:
        """The share; None of nothing."""
        return self.hits / self.n if self.n else None


class FailureRates(Record):
    """One failure in one half."""

    failure: Identifier
    half: Half
    recall: Rate
    """Caught, of all that hold."""
    false_alarms: Rate
    """Adapters with a gate that failed without cause."""
    missed: tuple[FileName, ...] = ()


class HalfRates(Record):
    """One half as a whole."""

    half: Half
    recall: Rate
    healthy_alarms: Rate
    """Healthy adapters with a gate that failed without cause."""
    other_alarms: Rate
    """Faulty adapters with a gate that failed without cause."""


class Proof(Record):
    """`prove.json`: rows and rates."""

    schema_version: Literal[1] = PROOF_SCHEMA_VERSION
    lorabench_version: str
    confidence_level: FiniteFloat
    gates: dict[str, FiniteFloat]
    """Gate to its margin."""
    rows: tuple[ProofRow, ...]
    failures: tuple[FailureRates, ...]
    halves: tuple[HalfRates, ...]
    not_counted: tuple[FileName, ...] = ()
    """Adapters that did not become what they were planned to be."""
