"""How long the optimiser steps of a training take, on what, and whether that is usual."""

from __future__ import annotations

from enum import StrEnum

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lorabench.records.record import Record


class StepBlock(Record):
    """Consecutive optimiser steps."""

    first: NonNegativeInt
    last: NonNegativeInt
    n: PositiveInt
    low: NonNegativeFloat
    """Lower quartile, in seconds per step."""
    median: NonNegativeFloat
    high: NonNegativeFloat
    """Upper quartile."""


class StepTimes(Record):
    """Time of the training's own steps, looks at it left out."""

    n_steps: PositiveInt
    median: NonNegativeFloat
    """Seconds per optimiser step."""
    low: NonNegativeFloat
    """Lower quartile."""
    high: NonNegativeFloat
    """Upper quartile."""
    block_size: PositiveInt
    blocks: tuple[StepBlock, ...]


class TrainingSetup(Record):
    """On what a training runs and how, as far as it can be seen; None where it cannot."""

    gpu: str | None = None
    """As the driver names it; `cpu` without one."""
    family: str | None = None
    """`flux`, `flux2`, `sdxl`, `sd15`."""
    resolution: PositiveInt | None = None
    """Edge of a square of as many pixels as a training picture has."""
    batch_size: PositiveInt | None = None
    """Pictures per optimiser step and device, accumulation included."""
    mixed_precision: str | None = None
    """`bf16`, `fp16` or `no`."""
    gradient_checkpointing: bool | None = None
    latents_cached: bool | None = None
    text_encoder_cached: bool | None = None
    dataloader_workers: NonNegativeInt | None = None
    attention: str | None = None
    """`sdpa`, `xformers`, `flash`, or `plain`."""
    offloaded: bool | None = None
    """Whether weights move between the host's memory and the device."""
    memory_used_share: NonNegativeFloat | None = None
    """Of the device's memory, by all processes; near 1 it may spill into the host's."""
    system: str | None = None
    """`linux`, `win32`, `darwin`."""


class StepTimeChange(Record):
    """A lasting rise of the step time within one training."""

    training_step: NonNegativeInt
    """The first step of the slower part."""
    before: PositiveFloat
    """Median seconds per step."""
    after: PositiveFloat
    ratio: PositiveFloat


class StepTimeFigure(Record):
    """What others measured: one line of the table of expected step times."""

    family: str
    gpu: str
    resolution: PositiveInt
    batch_size: PositiveInt = 1
    seconds: tuple[PositiveFloat, PositiveFloat]
    """Fastest and slowest that the source calls normal, per optimiser step."""
    conditions: str
    source: str


class StepTimeVerdict(StrEnum):
    """How the step time stands."""

    USUAL = "usual"
    SLOW = "slow"
    """Far over what others measured on such a device."""
    SLOWING = "slowing"
    """It rose within this training and stayed up."""
    UNKNOWN = "unknown"
    """No rise was seen, and there is no figure to compare with."""


class SlowCause(Record):
    """One possible cause of a slow training."""

    name: str
    seen: bool
    """Whether the setup shows it; otherwise it is to be looked for."""
    sentence: str


class StepTimeFinding(Record):
    """What can be said of a training's step time."""

    verdict: StepTimeVerdict
    sentence: str
    ratio: PositiveFloat | None = None
    """Step time over the slowest usual one; None without a figure."""
    change: StepTimeChange | None = None
    evaluation_share: NonNegativeFloat | None = None
    """Time of looks over time of training."""
    causes: tuple[SlowCause, ...] = ()
    """Those that are seen first."""
    figure: StepTimeFigure | None = None
