"""What a sweep decides. Gates of one axis share one error rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from lorabench.evaluation.gates import Gate
from lorabench.metrics.guidance import ANATOMY_GUIDANCE_LOSS, GUIDANCE_COLLAPSE, GUIDANCE_HAZE
from lorabench.metrics.strength import LOW_STRENGTH_ARTIFACTS, LOW_STRENGTH_LOSS, OVERCOOK_HARM, STYLE_SHORTFALL
from lorabench.metrics.trigger import LEAST_EFFECT, MOST_LEAK, STYLE_LEAK, TRIGGER_SHORTFALL
from lorabench.records.config import GateConfig

USABLE_POSITION: Final = 0.6
"""Style position from which a strength is usable."""
LOW_SHARE: Final = 0.25
"""Share of the gain that must be there at seven tenths of the working strength."""

SWEEP_GATES: Final = (
    Gate(
        "strength-window",
        "strength",
        STYLE_SHORTFALL.name,
        1 - USABLE_POSITION,
        "no strength gives the style without breaking a guard",
        required=False,
    ),
    Gate(
        "low-strength",
        "strength",
        LOW_STRENGTH_LOSS.name,
        1 - LOW_SHARE,
        "the style is there at full strength only",
        required=False,
    ),
    Gate(
        "overcooked", "strength", OVERCOOK_HARM.name, 1.0, "a little more strength already does damage", required=False
    ),
    Gate(
        "artifact-at-any-strength",
        "strength",
        LOW_STRENGTH_ARTIFACTS.name,
        1.0,
        "artefacts are there at the lowest strength already",
        required=False,
    ),
    Gate("guidance", "guidance", GUIDANCE_COLLAPSE.name, 0.5, "pictures no longer answer to guidance", required=False),
    Gate("haze", "guidance", GUIDANCE_HAZE.name, 0.4, "pictures are hazy at every guidance", required=False),
    Gate(
        "anatomy-guidance",
        "guidance",
        ANATOMY_GUIDANCE_LOSS.name,
        0.2,
        "figures fall apart at low guidance",
        required=False,
    ),
    Gate("trigger", "trigger", TRIGGER_SHORTFALL.name, 1 - LEAST_EFFECT, "the trigger is ignored", required=False),
    Gate("style-leak", "trigger", STYLE_LEAK.name, MOST_LEAK, "the style is on without its trigger", required=False),
)
"""In the order of naming. Margins are what a person would not accept; see `docs/sweep.md`. None is fitted to an
adapter."""


def configured_sweep_gates(changes: Mapping[str, GateConfig]) -> tuple[Gate, ...]:
    """The sweep's gates with a configuration's margins, without those it turns off.

    Names of other gates are passed over: a run has checked them.

    Args:
        changes: Gate name to what is changed about it.
    """
    return tuple(
        _changed(gate, changes.get(gate.name, GateConfig()))
        for gate in SWEEP_GATES
        if changes.get(gate.name, GateConfig()).enabled
    )


def _changed(gate: Gate, change: GateConfig) -> Gate:
    return replace(
        gate,
        margin=gate.margin if change.margin is None else change.margin,
        required=gate.required if change.required is None else change.required,
    )
