"""What a sweep over strengths, guidances and triggers says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from lorabench.diagnosis.gate_facts import gate_facts
from lorabench.records.diagnosis import Fact
from lorabench.records.sweep import StrengthFindings, Sweep, Tractability, TriggerFindings

SWEEP_FACTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "window_width": "width of the range of strengths that can be used, by the estimates; 0 for none",
        "window_place": "inside, below, above or none: the range of usable strengths beside the working one",
        "half_gain_strength": "smallest strength with half the style gained, over the working one",
        "low_share": "share of the style that is there at low strength",
        "gain": "style at the working strength over style at 0, in positions",
        "trigger": "works, leaks, always on, weak or undecided",
        "always_on": "style position of the candidate without the trigger",
        "usable_points": "points of courses and strengths that can be used, as a share of those looked at",
        "no_usable_point": "yes where every point is shown not to be usable",
    }
)
"""Facts `sweep.<name>`."""


def sweep_facts(sweep: Sweep) -> Iterator[tuple[Fact, str | None]]:
    """Facts of a sweep, its gates among them, each with the reason why it is not known, if so."""
    for gate in sweep.gates:
        yield from gate_facts(gate, place="sweep, ")
    parts = (
        *(_strength(sweep.strength) if sweep.strength else ()),
        *(_trigger(sweep.trigger) if sweep.trigger else ()),
        *(_points(sweep.tractability) if sweep.tractability else ()),
    )
    for name, value, said in parts:
        yield Fact(name=f"sweep.{name}", value=value, quote=said), None


def _strength(found: StrengthFindings) -> Iterator[tuple[str, float | str, str]]:
    if found.points:
        place = _place(found)
        window = "no strength is usable"
        if found.window is not None:
            window = f"usable from strength {found.window[0]:g} to {found.window[1]:g}"
        yield "window_width", found.width, f"sweep: {window}"
        yield "window_place", place, f"sweep: {window}, meant to be used at {found.working:g}"
    if found.half_gain_strength is not None and found.working > 0:
        share = found.half_gain_strength / found.working
        yield "half_gain_strength", share, f"sweep: half the style is there at strength {found.half_gain_strength:g}"
    if found.low_share is not None:
        value, at = found.low_share.value, found.low_strength
        yield "low_share", value, f"sweep: {value:.0%} of the style is there at strength {at:g}"
    if found.gain is not None:
        yield "gain", found.gain.value, f"sweep: style gained {found.gain.value:.2f} positions"


def _place(found: StrengthFindings) -> str:
    """Where the usable range lies, seen from the working strength."""
    if found.window is None:
        return "none"
    if found.window[1] < found.working:
        return "below"
    return "above" if found.window[0] > found.working else "inside"


def _trigger(found: TriggerFindings) -> Iterator[tuple[str, float | str, str]]:
    if found.reading not in ("undecided", "not measured"):
        yield "trigger", found.reading, f"sweep: {found.sentence or found.reading}"
    if found.neutral is not None:
        yield "always_on", found.neutral.value, f"sweep: style position {found.neutral.value:.2f} without the trigger"


def _points(found: Tractability) -> Iterator[tuple[str, float | str, str]]:
    if found.n_points:
        yield "usable_points", found.n_usable / found.n_points, f"sweep: {found.sentence}"
        yield "no_usable_point", "yes" if found.no_usable_point else "no", f"sweep: {found.sentence}"
