"""What is decided: the default gates, their margins and their order.

Primary gates share one error rate (Holm); each further group of kinds (style, artifact, content, diversity) has one of
its own. A run whose LoRA changes nothing fails with a probability of at most that times the number of groups, however
the gates depend on each other; since a FAIL also takes an estimate beyond the margin, it is far less in practice.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from lorabench.errors import SpecError
from lorabench.records.config import GateConfig
from lorabench.records.suite import AnatomyCheck, PaletteCheck, Suite

Kind = Literal[
    "broken",
    "copy",
    "prompt",
    "anatomy",
    "style",
    "artifact",
    "content",
    "diversity",
    "strength",
    "guidance",
    "trigger",
]
PRIMARY_KINDS: Final = ("copy", "prompt", "anatomy")
Allowance = Literal["none", "training_mean", "training_p95"]
"""A level of the training pictures that the candidate may have whatever its control has."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One decision of a run."""

    name: str
    kind: Kind
    """Its place in the order broken → copy → prompt → anatomy → style → artifact → content → diversity."""
    metric: str
    margin: float
    """Largest harm tolerated, in the metric's unit."""
    says: str
    """What a failure means, for the headline."""
    required: bool = True
    """Whether the run cannot pass while this gate is unmeasured or inconclusive, in a suite that holds cases for it.

    Any gate's FAIL fails the run.
    """
    support: tuple[float, float] | None = None
    """Smallest and largest difference the metric can take. Set for yes-or-no metrics, whose rare whole losses a
    t-interval would not see; graded scores need it no more than means do."""
    hard: bool = False
    """Decided without statistics: one broken picture whose control is whole is one too many."""
    by_default: bool = True
    """Whether it is decided where the settings do not name it."""
    against: Literal["control", "baseline"] = "control"
    """What the candidate is compared with."""
    allowance: Allowance = "none"
    """What the training style is allowed: harm is counted from the control or from this level of the training pictures,
    whichever is worse. A soft style may be soft."""

    @property
    def primary(self) -> bool:
        """Whether it shares the primary gates' error rate."""
        return self.kind in PRIMARY_KINDS and not self.hard

    @property
    def group(self) -> str:
        """Gates of one group share one error rate."""
        return "primary" if self.primary else self.kind


DEFAULT_GATES = (
    Gate("broken", "broken", "broken_rate", 0.01, "pictures are broken", support=(-1.0, 1.0), hard=True),
    Gate("copy", "copy", "copy_rate", 0.10, "training pictures are copied", support=(-1.0, 1.0)),
    Gate(
        "composition",
        "copy",
        "composition_copy_rate",
        0.20,
        "pictures are composed like the training pictures, whatever the prompt says",
        required=False,
        support=(-1.0, 1.0),
    ),
    Gate(
        "descriptor-copy",
        "copy",
        "descriptor_copy_rate",
        0.10,
        "training pictures come back mirrored, cropped, recoloured or otherwise edited",
        required=False,
        support=(-1.0, 1.0),
    ),
    Gate(
        "part-copy",
        "copy",
        "part_copy_rate",
        0.10,
        "parts of training pictures come back on another ground",
        required=False,
        support=(-1.0, 1.0),
    ),
    Gate("prompt", "prompt", "prompt_following_score", 0.10, "prompts are followed less"),
    Gate("anatomy", "anatomy", "anatomy_score", 0.30, "figures have the wrong number of parts"),
    Gate("palette", "style", "palette_compliance_score", 0.15, "colours asked for are not given"),
    Gate("palette-collapse", "style", "palette_collapse", 0.40, "the palette no longer answers to the prompt"),
    Gate("photo-bleed", "style", "photo_bleed", 0.50, "photo texture bleeds into the style", required=False),
    Gate("foils", "style", "foil_accuracy_score", 0.20, "the prompt is no longer told from its foils", required=False),
    Gate("brand", "style", "brand_distance", 0.50, "the brand's palette is not kept", required=False),
    Gate(
        "blur",
        "artifact",
        "edge_sigma",
        0.25,
        "edges are drawn softer",
        required=False,
        allowance="training_mean",
    ),
    Gate(
        "bokeh",
        "artifact",
        "bokeh_share",
        0.15,
        "parts of the pictures are out of focus",
        required=False,
        allowance="training_mean",
    ),
    Gate(
        "halo",
        "artifact",
        "jpeg_halo",
        0.50,
        "edges have halos as JPEG leaves them",
        required=False,
        allowance="training_p95",
    ),
    Gate(
        "saturation",
        "artifact",
        "mean_chroma",
        0.02,
        "colours are more saturated",
        required=False,
        allowance="training_mean",
    ),
    Gate(
        "clipping",
        "artifact",
        "clipped_share",
        0.05,
        "colours are burnt out",
        required=False,
        allowance="training_mean",
    ),
    Gate(
        "hot-tiles",
        "artifact",
        "tile_sigma",
        0.30,
        "grain or pores appear in places",
        required=False,
        allowance="training_mean",
    ),
    Gate(
        "photo-look",
        "artifact",
        "photo_probability",
        0.25,
        "pictures look like photographs",
        required=False,
        allowance="training_mean",
    ),
    Gate(
        "lettering",
        "content",
        "lettering_rate",
        0.05,
        "lettering appears that nobody asked for",
        required=False,
        support=(-1.0, 1.0),
    ),
    Gate(
        "lettering-leak",
        "content",
        "lettering_leak_rate",
        0.05,
        "lettering of the training pictures comes back",
        required=False,
        support=(-1.0, 1.0),
    ),
    Gate(
        "invented",
        "content",
        "surplus_objects",
        0.25,
        "things appear that nobody asked for",
        required=False,
        support=(-2.0, 2.0),
    ),
    Gate("clutter", "content", "empty_space_clutter", 0.05, "space that should be empty is filled", required=False),
    Gate("seed-collapse", "diversity", "seed_collapse", 0.50, "every seed gives the same picture", required=False),
    Gate(
        "prompt-collapse", "diversity", "composition_collapse", 0.50, "every prompt gives one picture", required=False
    ),
    Gate(
        "style-colours",
        "diversity",
        "training_palette_distance",
        0.25,
        "the technique is learned and the colours are not",
        required=False,
        # Where the plain style phrase already gives the style, candidate and control are alike, and both differ from
        # the training pictures by what they show: that reads as colours not learned.
        by_default=False,
    ),
    Gate(
        "worst-slice",
        "diversity",
        "worst_subject_slice",
        0.25,
        "one kind of subject comes out far worse",
        required=False,
    ),
    Gate("identity", "diversity", "identity_drift", 0.50, "the character is not kept", required=False),
)
"""In the order of testing and naming. Margins are chosen for use, from what a person would not accept; see
`docs/gates.md`. None is fitted to an adapter."""

UNWANTED_GATE: Final = {True: "palette-collapse", False: "brand"}
"""By whether the training palette is wanted whatever the prompt says: the gate that has no meaning then."""


SWEEP_GATE_NAMES: Final = (
    "strength-window",
    "low-strength",
    "overcooked",
    "artifact-at-any-strength",
    "guidance",
    "haze",
    "anatomy-guidance",
    "trigger",
    "style-leak",
)
"""Gates that `lorabench sweep` decides; a run knows their names, so that one file of settings serves both."""


class UnknownGateError(SpecError):
    """A configured gate does not exist."""

    def __init__(self, name: str) -> None:
        known = [*(gate.name for gate in DEFAULT_GATES), *SWEEP_GATE_NAMES]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
        super().__init__(f"[gates] must name existing gates; found {name!r}. {hint}")
        self.name = name


def configured_gates(
    changes: Mapping[str, GateConfig], *, suite: Suite | None = None, training: bool = True, brand: bool = False
) -> tuple[Gate, ...]:
    """The default gates with a configuration's margins, without those it turns off.

    Args:
        changes: Gate name to what is changed about it.
        suite: Gates for which it holds no case are not required, unless the configuration says so; None leaves all
            as they are.
        training: Whether training pictures are configured; without any the copy gate is not required, since there is
            nothing to measure it against.
        brand: Whether the training palette is wanted whatever the prompt says: then `brand` stands in for
            `palette-collapse`.

    Raises:
        UnknownGateError: The configuration names a gate that does not exist.
    """
    known = {*(gate.name for gate in DEFAULT_GATES), *SWEEP_GATE_NAMES}
    for name in changes:
        if name not in known:
            raise UnknownGateError(name)
    return tuple(
        _changed(gate, changes.get(gate.name, GateConfig()), suite=suite, training=training)
        for gate in DEFAULT_GATES
        if gate.name != UNWANTED_GATE[brand] and _is_wanted(gate, changes.get(gate.name))
    )


def has_cases_for(gate: Gate, suite: Suite) -> bool:
    """Whether a suite holds a case that the gate's metric can be read on."""
    checks = [check for case in suite.cases for check in case.checks]
    if gate.kind == "prompt":
        return any(not isinstance(check, AnatomyCheck | PaletteCheck) for check in checks)
    if gate.kind == "anatomy":
        return any(isinstance(check, AnatomyCheck) for check in checks)
    if gate.metric in ("palette_compliance_score", "palette_collapse", "brand_distance"):
        return any(isinstance(check, PaletteCheck) for check in checks)
    if gate.metric == "foil_accuracy_score":
        return any(case.foils for case in suite.cases)
    return True


def _is_wanted(gate: Gate, change: GateConfig | None) -> bool:
    return gate.by_default if change is None else change.enabled


def _changed(gate: Gate, change: GateConfig, *, suite: Suite | None, training: bool) -> Gate:
    required = gate.required and (suite is None or has_cases_for(gate, suite)) and (training or gate.kind != "copy")
    return replace(
        gate,
        margin=gate.margin if change.margin is None else change.margin,
        required=required if change.required is None else change.required,
    )
