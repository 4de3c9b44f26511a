"""A diagnosis as readers see it: on the page of a run, in a terminal, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from lorabench.records.diagnosis import Diagnosis, Evidence, LikelyCause
from lorabench.records.results import Results
from lorabench.report.markdown import escape
from lorabench.report.notation import number, plain, signed

EFFORT_WORDS: Final = {"setting": "a setting", "training": "another training", "data": "work on the data"}
STRENGTH_STYLES: Final = {"strong": "bold red", "likely": "yellow", "possible": "dim"}
N_MISSING: Final = 4
"""Ways to know more that are told per cause."""


@dataclass(frozen=True, slots=True)
class FindingsView:
    """A diagnosis beside the run that it is about."""

    diagnosis: Diagnosis
    stale: bool
    """Made from other results than those shown."""


def findings_view(diagnosis: Diagnosis | None, results: Results) -> FindingsView | None:
    """The view of a diagnosis; None where there is none."""
    if diagnosis is None:
        return None
    return FindingsView(diagnosis, stale=diagnosis.results_digest != results.content_digest())


def evidence_text(one: Evidence) -> str:
    """What was found, and what it weighs."""
    return f"{plain(one.fact.quote)} ({signed(one.weight)})"


def render_diagnosis(diagnosis: Diagnosis) -> RenderableType:
    """Render a diagnosis as one block for a `rich` console.

    Args:
        diagnosis: The diagnosis.

    Returns:
        Something to print on a `rich.console.Console`.
    """
    parts: list[RenderableType] = [Text(plain(diagnosis.headline), style="bold")]
    for place, cause in enumerate(diagnosis.causes, start=1):
        title = f"\n{place}. {plain(cause.name)}"
        parts.append(Text.assemble((title, "bold"), "  ", (cause.strength, STRENGTH_STYLES[cause.strength])))
        parts += [Text(f"   {line}") for line in _lines(cause)]
    if diagnosis.risks:
        parts.append(Text("\nRisks in data and settings, without a symptom so far", style="bold"))
        parts += [Text(f"   {line}") for risk in diagnosis.risks for line in _risk_lines(risk)]
    if diagnosis.unexplained and diagnosis.causes:
        failed = ", ".join(diagnosis.unexplained)
        parts.append(Text(f"\nFailed too, and taken up by no cause named here: {failed}", style="dim"))
    if diagnosis.leads:
        parts.append(Text("\nCould bring about what no cause explains, and is not shown so far", style="bold"))
        parts += [Text(f"   {line}") for lead in diagnosis.leads for line in _lead_lines(lead)]
    parts.append(Text(f"\nRead: {', '.join(diagnosis.sources)}. Scores add up evidence; they are no probabilities."))
    return Group(*parts)


def diagnosis_markdown(diagnosis: Diagnosis) -> str:
    """Render a diagnosis as Markdown, a heading and a list per cause."""
    lines = ["### Diagnosis\n", f"{escape(diagnosis.headline)}\n"]
    for place, cause in enumerate(diagnosis.causes, start=1):
        lines.append(f"{place}. **{escape(cause.name)}** ({cause.strength}, score {number(cause.score)})")
        lines += [f"    - {escape(line)}" for line in _lines(cause)]
    if diagnosis.risks:
        lines.append("\nRisks in data and settings, without a symptom so far:\n")
        lines += [f"- {escape(line)}" for risk in diagnosis.risks for line in _risk_lines(risk)]
    if diagnosis.leads:
        lines.append("\nCould bring about what no cause explains, and is not shown so far:\n")
        lines += [f"- {escape(line)}" for lead in diagnosis.leads for line in _lead_lines(lead)]
    return "\n".join(lines) + "\n"


def _lines(cause: LikelyCause) -> Iterator[str]:
    yield plain(cause.because)
    yield from (f"for: {evidence_text(one)}" for one in cause.supporting)
    yield from (f"against: {evidence_text(one)}" for one in cause.opposing)
    for gap in cause.missing[:N_MISSING]:
        why = f" ({plain(gap.reason)})" if gap.reason else ""
        yield f"not known: {', '.join(gap.facts)}{why}; to know: {gap.measure}"
    if cause.covers:
        yield f"one finding with: {', '.join(cause.covers)}"
    yield from (f"do ({EFFORT_WORDS[fix.effort]}): {plain(fix.do)}" for fix in cause.fixes)
    yield f"sources: {'; '.join(plain(source) for source in cause.sources)}"


def _risk_lines(risk: LikelyCause) -> Iterator[str]:
    told = "; ".join(evidence_text(one) for one in risk.supporting)
    yield f"{plain(risk.name)}: {told}"


def _lead_lines(lead: LikelyCause) -> Iterator[str]:
    against = "; ".join(evidence_text(one) for one in lead.opposing)
    yield f"{plain(lead.name)}: {plain(lead.because)}" + (f" Against it: {against}." if against else "")
    yield from (f"to know: {gap.measure}" for gap in lead.missing[:N_MISSING])
