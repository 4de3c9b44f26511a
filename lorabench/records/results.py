"""`results.json`: all that a report, a baseline or a later comparison reads. Needs neither torch nor a model."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, FiniteFloat, NonNegativeFloat, NonNegativeInt

from lorabench.records.adapter_health import AdapterHealth, BaseMatch
from lorabench.records.comparison import Comparison, Outcome, Verdict
from lorabench.records.detection import Detection
from lorabench.records.images import FailedCell, Image
from lorabench.records.measurement import Measurement, Metric, Neighbour, SelfTest, SetMeasurement, Unmeasured
from lorabench.records.plan import Cell, GenerationSettings, PlannedCell, StylePhrases
from lorabench.records.record import Record, Sha256
from lorabench.records.suite import Suite

RESULTS_SCHEMA_VERSION: Final = 1


class AdapterInfo(Record):
    """What a LoRA file says about itself, and the digest of its tensors."""

    name: str
    digest: Sha256
    layout: str
    """`diffusers`, `kohya`, `comfyui`, `peft`, ..."""
    n_modules: NonNegativeInt
    ranks: tuple[int, ...]
    """Distinct ranks, ascending."""
    alphas: tuple[FiniteFloat, ...]
    """Distinct alphas, ascending."""
    targets: tuple[str, ...]
    """Distinct module name endings that are adapted."""
    text_encoder: bool
    training_step: NonNegativeInt | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    """Allow-listed header entries (rank, alpha, base version, software); never the whole header."""
    health: AdapterHealth | None = None
    """What the file shows without a picture; None where it was not examined."""
    base_match: BaseMatch | None = None
    """The base in use beside the one that the file names."""


class BaseInfo(Record):
    """The model without adapter."""

    name: str
    family: str
    digest: str
    dtype: str
    device_class: str


class TrainingPicture(Record):
    """One picture of the training set; stored beside the run under its digest."""

    index: NonNegativeInt
    name: str
    sha256: Sha256
    caption: str | None = None


class CellDetections(Record):
    """What the detector saw on one cell."""

    cell: Cell
    detections: tuple[Detection, ...]


class CheckOutcome(Record):
    """One check of a case on one cell: passed, failed, or why it could not be scored."""

    cell: Cell
    check_index: NonNegativeInt
    passed: bool | None
    reason: str


class Provenance(Record):
    """What made the numbers: allow-listed, never the environment."""

    lorabench_version: str
    created_at: str
    """UTC, ISO 8601."""
    versions: dict[str, str]
    """Package name to version."""
    judges: dict[str, str]
    """Judge name to digest of its weights."""
    hardware_class: str
    timings: dict[str, NonNegativeFloat]
    """Stage to seconds."""
    n_generated: NonNegativeInt
    n_from_cache: NonNegativeInt
    command: str


class RunVerdict(Record):
    """The whole run in one outcome and one sentence."""

    outcome: Outcome
    headline: str
    reasons: tuple[str, ...]
    exit_code: int
    complete: bool
    identical: bool = False


class Results(Record):
    """Everything one run found out."""

    schema_version: Literal[1] = RESULTS_SCHEMA_VERSION
    run_id: str
    suite: Suite
    style: StylePhrases
    settings: GenerationSettings
    base: BaseInfo
    candidate: AdapterInfo | None
    plan: tuple[PlannedCell, ...]
    images: tuple[Image, ...]
    failed: tuple[FailedCell, ...] = ()
    training: tuple[TrainingPicture, ...] = ()
    metrics: tuple[Metric, ...]
    measurements: tuple[Measurement, ...]
    set_measurements: tuple[SetMeasurement, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    detections: tuple[CellDetections, ...] = ()
    checks: tuple[CheckOutcome, ...] = ()
    palettes: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Cell key or `training` to its dominant colours as hex, most frequent first."""
    self_tests: tuple[SelfTest, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    gates: tuple[Verdict, ...] = ()
    verdict: RunVerdict
    provenance: Provenance
