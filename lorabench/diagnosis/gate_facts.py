"""Gates as facts, wherever they were decided."""

from __future__ import annotations

from collections.abc import Iterator

from lorabench.records.comparison import Comparison, Outcome, Verdict
from lorabench.records.diagnosis import Fact


def gate_facts(gate: Verdict, *, place: str = "") -> Iterator[tuple[Fact, str | None]]:
    """A gate as facts, each with the reason why it is not known, if so.

    Args:
        gate: The verdict.
        place: Put before what is quoted, where it is not the run.
    """
    decided = gate.outcome in (Outcome.PASS, Outcome.FAIL)
    quote = f"{place}{gate.gate} {gate.outcome.value}: {gate.reason.removeprefix(f'{gate.gate}: ')}"
    yield Fact(name=f"gate.{gate.gate}", value=gate.outcome.value, quote=quote), None if decided else quote
    if decided and gate.comparison is not None:
        harm = -gate.comparison.oriented()[0] / gate.margin
        quote = f"{place}{gate.gate} {harm:.2g} margins: {compared(gate.comparison)}"
        yield Fact(name=f"harm.{gate.gate}", value=harm, quote=quote), None


def compared(one: Comparison) -> str:
    """A comparison as a report quotes it."""
    against = {"B1": "against the control", "B0": "against the base", "none": ""}.get(
        one.reference, f"against {one.reference}"
    )
    levels = ""
    if one.candidate_mean is not None and one.reference_mean is not None:
        levels = f", {one.candidate_mean:.3g} and {one.reference_mean:.3g}"
    return f"{one.metric} {one.estimate:+.3g} ({one.low:+.3g} to {one.high:+.3g}) {against}{levels}".rstrip()
