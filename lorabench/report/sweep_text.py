"""A sweep in a terminal and as Markdown: verdict, gates, what each axis says, guards at each strength."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lorabench.records.comparison import Outcome, Verdict
from lorabench.records.sweep import GuardAt, StrengthPoint, Sweep
from lorabench.report import markdown
from lorabench.report.notation import DASH, given, interval, p_value, plain, signed
from lorabench.report.sweep_view import guidance_sentences, range_text, strength_sentences
from lorabench.report.terminal import outcome_text

GATE_HEADER: Final = ("Verdict", "Gate", "Value", "Interval", "Margin", "Cases", "p, Holm")
BROKEN: Final = {Outcome.FAIL: "x", Outcome.PASS: "ok", Outcome.INCONCLUSIVE: "?", Outcome.UNMEASURED: DASH}


def render_terminal_sweep(sweep: Sweep) -> RenderableType:
    """A sweep as one compact block for a `rich` console; nothing of it is read as markup."""
    verdict = sweep.verdict
    parts: list[RenderableType] = [
        Text.assemble(outcome_text(verdict.outcome), "  ", (plain(verdict.headline), "bold")),
        Text(subject(sweep), style="dim"),
        Padding(_grid(GATE_HEADER, [_gate_row(gate) for gate in sweep.gates]), (1, 0)),
    ]
    if sweep.strength is not None and sweep.strength.points:
        header = strength_header(sweep.strength.points)
        parts.append(_grid(header, [strength_row(point) for point in sweep.strength.points]))
    parts += [Text(plain(f"- {sentence}")) for sentence in sentences(sweep)]
    return Group(*parts)


def markdown_sweep(sweep: Sweep) -> str:
    """A sweep as Markdown."""
    gates = markdown.table(GATE_HEADER, [_gate_row(gate) for gate in sweep.gates])
    told = "\n".join(f"- {markdown.escape(sentence)}" for sentence in sentences(sweep))
    points = () if sweep.strength is None else sweep.strength.points
    strengths = markdown.table(strength_header(points), [strength_row(one) for one in points]) if points else ""
    head = f"**{sweep.verdict.outcome.value}** {markdown.escape(sweep.verdict.headline)}"
    return "\n\n".join(part for part in (head, markdown.escape(subject(sweep)), gates, strengths, told) if part) + "\n"


def subject(sweep: Sweep) -> str:
    """What was swept, in a line."""
    made = f"{sweep.provenance.n_generated} pictures made, {sweep.provenance.n_from_cache} from the cache"
    return (
        f"{sweep.candidate.name} ({sweep.candidate.digest[:12]}) on {sweep.base.name}, {len(sweep.cases)} cases x "
        f"{len(sweep.seeds)} seeds of {sweep.suite}, style read with {sweep.style_source or 'nothing'}; {made}."
    )


def sentences(sweep: Sweep) -> list[str]:
    """What the axes say, then what could not be measured."""
    told: list[str] = []
    if sweep.strength is not None:
        told += [f"strength: {one}" for one in strength_sentences(sweep.strength)]
    told += [f"strength: {curve.name} {_onset(curve.onset)}" for curve in sweep.curves if curve.onset is not None]
    if sweep.guidance is not None:
        told += [f"guidance: {one}" for one in guidance_sentences(sweep.guidance)]
    if sweep.trigger is not None:
        told.append(f"trigger: {sweep.trigger.sentence}")
        if sweep.trigger.effect is not None:
            told.append(
                f"trigger: effect {range_text(sweep.trigger.effect)}, placebo ({sweep.trigger.placebo}) "
                f"{range_text(sweep.trigger.placebo_effect)}, style without it {range_text(sweep.trigger.neutral)}."
            )
    if sweep.tractability is not None:
        told.append(sweep.tractability.sentence)
    return told + [f"{one.metric} not measured: {one.reason}" for one in sweep.unmeasured]


def strength_header(points: Sequence[StrengthPoint]) -> tuple[str, ...]:
    """Columns of the table of strengths."""
    return ("Strength", "Usable", "Style position", *(guard.guard for guard in points[0].guards))


def strength_row(point: StrengthPoint) -> list[str]:
    """One strength: is it usable, its style, each guard's harm and whether it is broken."""
    return [
        f"{point.strength:g}",
        point.usable.value,
        range_text(point.position),
        *(_guard(guard) for guard in point.guards),
    ]


def _guard(guard: GuardAt) -> str:
    mark = BROKEN[guard.outcome]
    return mark if guard.harm is None else f"{signed(guard.harm.value)} {mark}"


def _gate_row(gate: Verdict) -> list[str]:
    found = gate.comparison
    name = gate.gate
    if found is None:
        return [gate.outcome.value, name, DASH, DASH, given(gate.margin), DASH, DASH]
    return [
        gate.outcome.value,
        name,
        signed(found.estimate),
        interval(found.low, found.high),
        given(gate.margin),
        str(found.n_cases),
        p_value(gate.p_adjusted),
    ]


def _onset(strength: float | None) -> str:
    return f"is shown to be beyond its margin from strength {strength:g} on."


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    return table
