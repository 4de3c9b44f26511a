"""What is to be made: arms, cells, settings, and the plan that lists them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, FiniteFloat, PositiveInt

from lorabench.records.record import Identifier, Record


class Arm(StrEnum):
    """Who makes the picture, from which form of the prompt."""

    BASE = "B0"
    """Base, neutral prompt."""
    CONTROL = "B1"
    """Base, plain style phrase: the control for all questions about damage."""
    CANDIDATE = "L1"
    """Candidate, trigger phrase: what is under test."""
    NEUTRAL = "L0"
    """Candidate, neutral prompt: does the style leak without its trigger?"""

    @property
    def uses_adapter(self) -> bool:
        """Whether the adapter is active in this arm."""
        return self in (Arm.CANDIDATE, Arm.NEUTRAL)


class StylePhrases(Record):
    """What each arm puts into the `{style}` slot."""

    trigger: str = ""
    """In the candidate's arm; what the adapter was trained to answer to."""
    plain: str = ""
    """In the control arm; the style in words the base understands."""
    neutral: str = ""
    """In the neutral arms (B0, L0); usually nothing."""

    def of(self, arm: Arm) -> str:
        """The phrase of an arm."""
        return {Arm.CANDIDATE: self.trigger, Arm.CONTROL: self.plain}.get(arm, self.neutral)


class Cell(Record):
    """One picture to make: arm, case, seed, adapter scale (0 where the arm uses no adapter)."""

    arm: Arm
    case: Identifier
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    scale: FiniteFloat = 0.0

    @property
    def key(self) -> str:
        """`L1/spatial-001/seed7/x1`: short, stable, for messages and maps in JSON."""
        return f"{self.arm.value}/{self.case}/seed{self.seed}/x{self.scale:g}"


class GenerationSettings(Record):
    """Everything the sampler is told besides prompt and noise. None leaves a parameter at the pipeline's default."""

    height: PositiveInt = 512
    width: PositiveInt = 512
    num_inference_steps: PositiveInt = 28
    guidance_scale: FiniteFloat | None = None
    true_cfg_scale: FiniteFloat | None = None
    negative_prompt: str | None = None
    max_sequence_length: PositiveInt | None = None


class PlannedCell(Record):
    """A cell with the prompt it is made from."""

    cell: Cell
    prompt: str


class Plan(Record):
    """All cells of a run in the order of suite, seed and arm."""

    suite_digest: str
    settings: GenerationSettings
    cells: tuple[PlannedCell, ...]
