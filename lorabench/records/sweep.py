"""`sweep.json`: one candidate along strength, guidance and trigger, on a small panel of cases."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field, FiniteFloat, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lorabench.records.comparison import Outcome, Verdict
from lorabench.records.measurement import Unmeasured
from lorabench.records.plan import GenerationSettings, StylePhrases
from lorabench.records.record import Identifier, Record, Sha256
from lorabench.records.results import AdapterInfo, BaseInfo, Provenance, RunVerdict

SWEEP_SCHEMA_VERSION: Final = 1
STYLE: Final = "style_position"
"""Curve and guard of the style: 0 the control's look, 1 that of the training pictures."""

Axis = Literal["strength", "guidance", "trigger"]
"""Along what a candidate is swept."""
Dial = Literal["guidance_scale", "true_cfg_scale"]
"""The sampler's parameter that a guidance sweep turns."""


class Side(StrEnum):
    """Who makes the picture, and from which prompt."""

    BASE = "B0"
    """Base, neutral prompt."""
    CONTROL = "B1"
    """Base, plain style phrase."""
    UNTOUCHED = "B0T"
    """Base, the candidate's prompt: what strength 0 must equal to the bit."""
    CANDIDATE = "L1"
    """Candidate, trigger."""
    NEUTRAL = "L0"
    """Candidate, neutral prompt."""
    PLACEBO = "LP"
    """Candidate, the trigger's word replaced by one that means nothing."""


class PanelConfig(Record):
    """Which pictures a sweep makes."""

    axes: tuple[Axis, ...] = ("strength", "guidance", "trigger")
    strengths: Annotated[tuple[Annotated[float, Field(ge=0.0, le=10.0)], ...], Field(min_length=3)] = (
        0.0,
        0.25,
        0.5,
        0.7,
        1.0,
        1.25,
        1.5,
    )
    """Adapter scales; 0 and the candidate's own scale are added where they are missing."""
    guidances: Annotated[tuple[PositiveFloat, ...], Field(min_length=2)] = (1.0, 2.0, 3.5, 5.0, 7.0)
    """Values of the guidance parameter."""
    dial: Literal["auto", "guidance_scale", "true_cfg_scale"] = "auto"
    """Which parameter that is; `auto`: `true_cfg_scale` where the settings state one, else `guidance_scale`."""
    n_cases: Annotated[int, Field(ge=2)] = 12
    """Cases, by turns from the suite's families. With 8 of the mini world's only 6 have checks on objects: too few to
    trust a detector by."""
    n_seeds: PositiveInt = 2
    """The suite's first seeds."""
    n_anatomy_cases: NonNegativeInt = 8
    """Cases of the suite with figures, made at the lowest and at the usual guidance; 0 leaves them out."""
    trigger_word: str | None = None
    """The word of the trigger phrase that the placebo replaces; None lets the phrase's own rare words be replaced."""


class Estimated(Record):
    """A number with its interval over cases."""

    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    n_cases: NonNegativeInt


class PanelCase(Record):
    """One case of the panel."""

    id: Identifier
    family: str
    prompt: str
    """With the trigger phrase."""


class Shot(Record):
    """One picture."""

    side: Side
    case: Identifier
    seed: NonNegativeInt
    strength: FiniteFloat
    guidance: FiniteFloat | None
    """Value of the guidance parameter; None where the settings leave it at the pipeline's default."""
    sha256: Sha256
    """Of its pixels."""


class CurvePoint(Record):
    """A mean over cases at one strength or guidance."""

    at: FiniteFloat
    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat


class Curve(Record):
    """One number along one axis."""

    name: Identifier
    """`style_position`, or a metric's name."""
    axis: Literal["strength", "guidance"]
    side: Side
    unit: str
    higher_is_better: bool | None
    """None where a change in either direction may be meant."""
    points: tuple[CurvePoint, ...]
    fitted: tuple[FiniteFloat, ...] = ()
    """Isotonic fit at the same places; only for the style."""
    control: FiniteFloat | None = None
    """Mean of the control at the usual settings."""
    training: FiniteFloat | None = None
    """Level of the training pictures."""
    onset: FiniteFloat | None = None
    """First strength at which harm beyond the margin is shown."""
    suspected: FiniteFloat | None = None
    """First strength from which on harm beyond the margin cannot be ruled out."""
    slope: Estimated | None = None
    """Against the logarithm of the guidance."""


class GuardAt(Record):
    """One guard at one strength."""

    guard: Identifier
    metric: Identifier
    outcome: Outcome
    harm: Estimated | None
    """Positive is worse, in the metric's unit; None where it could not be measured."""
    margin: PositiveFloat
    p_harm: FiniteFloat = 1.0
    reason: str = ""


class StrengthPoint(Record):
    """What one strength is good for."""

    strength: FiniteFloat
    position: Estimated | None
    """Of the style; None where it could not be measured."""
    guards: tuple[GuardAt, ...]
    usable: Outcome
    """PASS: enough style is shown and no guard is broken. FAIL: too little style, or a broken guard, is shown."""
    obstacles: tuple[Identifier, ...]
    """What speaks against this strength: `style_position`, or guards."""


class StrengthFindings(Record):
    """How the candidate answers to its scale."""

    working: FiniteFloat
    """The scale at which it is meant to be used."""
    zero_is_base: bool | None
    """Whether strength 0 gives the base's pictures to the bit; None where a picture is missing."""
    gain: Estimated | None = None
    """Style at the working strength over style at 0, in positions."""
    low_strength: FiniteFloat | None = None
    """The strength at which `low_share` is read."""
    low_share: Estimated | None = None
    """Share of the gain that is there already at that strength."""
    half_gain_strength: FiniteFloat | None = None
    """a50: the smallest strength with half the gain, on the isotonic fit."""
    points: tuple[StrengthPoint, ...] = ()
    window: tuple[FiniteFloat, FiniteFloat] | None = None
    """Lowest and highest strength that are usable by the estimates; None where no strength is."""

    @property
    def width(self) -> float:
        """Of the usable window; 0 where there is none or it is a single strength."""
        return 0.0 if self.window is None else self.window[1] - self.window[0]


class GuidanceFindings(Record):
    """How the candidate answers to guidance, beside its base."""

    dial: Dial
    usual: FiniteFloat | None
    """Value in the settings; None where they leave it at the pipeline's default."""
    distance: str
    """What pictures at neighbouring values are compared with: `lpips`, or `palette and structure`."""
    response: Estimated | None = None
    """Mean distance between pictures at neighbouring values, candidate."""
    control_response: Estimated | None = None
    collapse: Estimated | None = None
    """1 - response / control's response: 0 as responsive as the base, 1 not at all."""
    haze: Estimated | None = None
    """Contrast lost even at the value where least is lost, as a log ratio."""
    anatomy: Estimated | None = None
    """Detectability lost against the base at low guidance, beyond what is lost at the usual one."""
    n_anatomy_cases: NonNegativeInt = 0


class TriggerFindings(Record):
    """What the trigger does."""

    placebo: str
    """The placebo phrase."""
    candidate: Estimated | None = None
    """Style position with the trigger."""
    neutral: Estimated | None = None
    """Style position without it: how far the style is always on."""
    effect: Estimated | None = None
    """Style with the trigger less style without it, in positions."""
    placebo_effect: Estimated | None = None
    """Style with a meaningless word less style without any, in positions."""
    picture_change: Estimated | None = None
    """Distance between pictures with and without trigger, in distances between seeds."""
    reading: Literal["works", "leaks", "always on", "weak", "undecided", "not measured"] = "not measured"
    sentence: str = ""


class Tractability(Record):
    """Whether any checkpoint, at any strength, can be used."""

    n_points: NonNegativeInt
    """Checkpoints of courses and strengths of sweeps that were looked at."""
    n_usable: NonNegativeInt
    n_open: NonNegativeInt = 0
    """Neither shown to be usable nor shown not to be."""
    obstacle: str | None = None
    """What stands in the way most often; None where nothing does."""
    counts: dict[str, NonNegativeInt] = Field(default_factory=dict)
    """Guard, or `style_position`, to the number of points it speaks against."""
    sentence: str

    @property
    def no_usable_point(self) -> bool:
        """Whether points were looked at and every one is shown not to be usable."""
        return self.n_points > 0 and self.n_usable == 0 and self.n_open == 0


class Sweep(Record):
    """Everything one sweep found out."""

    schema_version: Literal[1] = SWEEP_SCHEMA_VERSION
    sweep_id: str
    suite: Identifier
    suite_digest: str
    base: BaseInfo
    candidate: AdapterInfo
    style: StylePhrases
    settings: GenerationSettings
    panel: PanelConfig
    cases: tuple[PanelCase, ...]
    seeds: tuple[NonNegativeInt, ...]
    style_source: str | None = None
    """What style is read with: the judge's name; None where it cannot be."""
    shots: tuple[Shot, ...] = ()
    n_failed: NonNegativeInt = 0
    """Planned pictures that could not be made."""
    curves: tuple[Curve, ...] = ()
    strength: StrengthFindings | None = None
    guidance: GuidanceFindings | None = None
    trigger: TriggerFindings | None = None
    tractability: Tractability | None = None
    unmeasured: tuple[Unmeasured, ...] = ()
    gates: tuple[Verdict, ...] = ()
    verdict: RunVerdict
    provenance: Provenance
    seconds: NonNegativeFloat = 0.0
