"""What a LoRA file shows without a picture: how large its updates are, what is missing, what it was trained on."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, FiniteFloat, NonNegativeFloat, NonNegativeInt, PositiveInt

from lorabench.records.record import Record, UnitFloat


class AdapterVerdict(StrEnum):
    """What is wrong with a file, in one word."""

    HEALTHY = "healthy"
    """Nothing was found. No promise: pictures decide."""
    DEAD = "dead"
    """It changes nothing, or less than half precision rounds off."""
    PARTIAL = "partial"
    """Some of its modules are zero, or some blocks are missing."""
    EXPLODING = "exploding"
    """NaN, infinity, or updates that outweigh the base."""


class ModuleNorms(Record):
    """One pair of matrices of the file: the update dW = scaling * B A at scale 1."""

    module: str
    """As in the file."""
    layers: tuple[str, ...] = ()
    """The base's layers that it adapts, several where the file fuses them; empty without a base."""
    rank: PositiveInt
    scaling: FiniteFloat
    update_norm: NonNegativeFloat
    """Frobenius norm of dW."""
    top_singular_value: NonNegativeFloat
    """Of dW."""
    effective_rank: NonNegativeFloat
    """exp of the entropy of the normalised singular values, 1 to rank; 0 for a zero update."""
    base_norm: NonNegativeFloat | None = None
    """Frobenius norm of the base's weights there; None where they were not read."""
    relative_norm: NonNegativeFloat | None = None
    """Update norm over base norm."""
    outlier_z: FiniteFloat | None = None
    """How far the module's norm lies from those of the others: robust z of its logarithm; None for few or for zero."""
    overflows_half: bool = False
    """An entry or the top singular value is beyond float16's range."""
    lost_in_half: bool = False
    """Not zero, but all of A or all of B rounds to zero in float16."""


class MissingModules(Record):
    """Modules of one kind that the file adapts in some blocks and not in others."""

    pattern: str
    """Name with N for the number of a block."""
    n_present: PositiveInt
    n_expected: PositiveInt
    first_missing: tuple[str, ...]


class AdapterHealth(Record):
    """The examination of a file in short: verdict, reasons, and the figures behind them."""

    verdict: AdapterVerdict
    reasons: tuple[str, ...] = ()
    """Why, one sentence each; empty where healthy."""
    remarks: tuple[str, ...] = ()
    """Worth knowing, and no reason for a verdict."""
    base_compared: bool = False
    """Whether the base's own weights were read."""
    n_modules: NonNegativeInt
    n_zero: NonNegativeInt = 0
    zero_share: UnitFloat = 0.0
    """Modules whose update is zero; those that a base never uses are left out."""
    missing: tuple[MissingModules, ...] = ()
    update_norm: NonNegativeFloat | None = None
    """Frobenius norm of all updates together."""
    relative_norm: NonNegativeFloat | None = None
    """The same over the norm of all adapted weights of the base."""
    largest_relative_norm: NonNegativeFloat | None = None
    largest_module: str | None = None
    """Whose relative norm (without a base: whose norm) is the largest."""
    top_singular_value: NonNegativeFloat | None = None
    median_effective_rank: NonNegativeFloat | None = None
    outliers: tuple[str, ...] = ()
    """Modules far above the others."""


class BaseRelation(StrEnum):
    """How the base in use relates to the one that a file names."""

    SAME = "same"
    OTHER_VARIANT = "other_variant"
    """One family, another member: dev and schnell, distilled and de-distilled."""
    OTHER_FAMILY = "other_family"
    UNKNOWN = "unknown"
    """The file says too little."""


class TrainedOn(Record):
    """What a file says about the base it was trained on."""

    family: str | None = None
    """`flux`, `flux2`, `sdxl`, `sd15`, or another trainer's word."""
    variant: str | None = None
    """`dev`, `schnell`, `krea`, `de-distilled`, ..."""
    name: str | None = None
    """Name, path's end or hub id."""
    short_hash: str | None = None
    """First characters of the old checkpoint hash that sd-scripts writes."""
    said_by: dict[str, str] = Field(default_factory=dict)
    """Entry of the header or of a file beside it, to what stands there."""


class BaseMatch(Record):
    """The base in use beside the one that the file names."""

    relation: BaseRelation
    trained_on: TrainedOn
    sentence: str


class Examination(Record):
    """All that `lorabench inspect` found out about one file."""

    name: str
    health: AdapterHealth
    modules: tuple[ModuleNorms, ...] = ()
    base: str | None = None
    """Name of the base it was held against."""
    base_match: BaseMatch | None = None
