"""Two runs beside each other, gate by gate."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lorabench.records.comparison import Outcome, Verdict
from lorabench.records.results import Results
from lorabench.report import markdown
from lorabench.report.notation import DASH, metric_words, plain, signed
from lorabench.report.terminal import outcome_text


@dataclass(frozen=True, slots=True)
class GateChange:
    """One gate in two runs."""

    gate: str
    metric: str
    before: Verdict | None
    after: Verdict | None
    change: float | None
    """Second minus first difference, in the metric's unit; None where the two cannot be subtracted."""
    note: str


def gate_changes(a: Results, b: Results) -> tuple[GateChange, ...]:
    """All gates of either run, in the order of the first.

    Args:
        a: First run.
        b: Second run.

    Returns:
        One entry per gate. Differences are subtracted only where metric, version and reference are the same.
    """
    before = {gate.gate: gate for gate in a.gates}
    after = {gate.gate: gate for gate in b.gates}
    return tuple(_change(name, before.get(name), after.get(name)) for name in dict.fromkeys((*before, *after)))


def obstacles(a: Results, b: Results) -> tuple[str, ...]:
    """What differs between two runs besides the candidate, and what is missing: numbers may differ for that alone."""
    partial = [f"the {name} run is partial" for name, run in (("first", a), ("second", b)) if not run.verdict.complete]
    return (*unlike(a, b), *partial)


def unlike(a: Results, b: Results) -> tuple[str, ...]:
    """What differs between two runs besides the candidate, so that their numbers may differ for that reason alone."""
    found = []
    if a.suite.content_digest() != b.suite.content_digest():
        first, second = (f"{run.suite.name} version {run.suite.version}" for run in (a, b))
        found.append(f"the suites differ: {first} against {second}")
    if a.base.digest != b.base.digest:
        found.append(f"the bases differ: {plain(a.base.name)} against {plain(b.base.name)}")
    if a.settings != b.settings:
        found.append("the generation settings differ")
    if a.style != b.style:
        found.append("the style phrases differ")
    if {p.cell for p in a.plan} != {p.cell for p in b.plan}:
        found.append("the planned cells differ")
    return tuple(found)


def render_compare(a: Results, b: Results) -> RenderableType:
    """Render two runs side by side for a `rich` console.

    Args:
        a: First run.
        b: Second run.

    Returns:
        Something to print on a `rich.console.Console`. It decides nothing: each verdict is its own run's.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("Gate", "Metric", "First", "Second"):
        table.add_column(name, overflow="fold")
    for name in ("Difference 1", "Difference 2", "Change"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Note", overflow="fold")
    for one in gate_changes(a, b):
        outcomes = [outcome_text(gate.outcome) if gate else Text(DASH) for gate in (one.before, one.after)]
        numbers = [Text(_difference(one.before)), Text(_difference(one.after)), Text(signed(one.change))]
        table.add_row(Text(one.gate), Text(metric_words(one.metric)), *outcomes, *numbers, Text(one.note))
    heads = (_head("First ", a), _head("Second", b))
    warnings = [Text(f"! {text}", style="yellow") for text in obstacles(a, b)]
    return Group(*heads, *warnings, Padding(table, (1, 0)))


def render_compare_markdown(a: Results, b: Results, *, size_limit: int = markdown.SIZE_LIMIT) -> str:
    """Render two runs side by side as Markdown.

    Args:
        a: First run.
        b: Second run.
        size_limit: Longest result, in bytes of UTF-8.
    """
    header = ("Gate", "Metric", "First", "Second", "Difference 1", "Difference 2", "Change", "Note")
    rows = [_row(one) for one in gate_changes(a, b)]
    heads = "".join(f"- {name}: {markdown.escape(_title(run))}\n" for name, run in (("first", a), ("second", b)))
    warnings = "".join(f"- **{markdown.escape(text)}**\n" for text in obstacles(a, b))
    text = f"## Two runs\n\n{heads}{warnings}\n{markdown.table(header, rows, right=(4, 5, 6))}"
    return markdown.cap(text, size_limit=size_limit)


def _change(name: str, before: Verdict | None, after: Verdict | None) -> GateChange:
    known = after or before
    if known is None:
        msg = f"a gate must stand in one of the two runs at least; {name!r} stands in neither"
        raise ValueError(msg)
    note = _note(before, after)
    if note or not before or not after or not before.comparison or not after.comparison:
        return GateChange(name, known.metric, before, after, None, note or _no_number(before, after))
    change = after.comparison.estimate - before.comparison.estimate
    return GateChange(name, known.metric, before, after, change, _worded(change, known, before.outcome, after.outcome))


def _note(before: Verdict | None, after: Verdict | None) -> str:
    if before is None or after is None:
        return "only in the second run" if before is None else "only in the first run"
    return incomparable(before, after)


def incomparable(before: Verdict, after: Verdict) -> str:
    """Why the numbers of two verdicts must not be subtracted; empty where they may."""
    if before.metric != after.metric:
        return f"metrics differ: {before.metric} against {after.metric}"
    a, b = before.comparison, after.comparison
    if a and b and a.metric_version != b.metric_version:
        return f"metric versions differ: {a.metric_version} against {b.metric_version}"
    if a and b and a.reference != b.reference:
        return f"references differ: {a.reference} against {b.reference}"
    return ""


def _no_number(before: Verdict | None, after: Verdict | None) -> str:
    without = [name for name, gate in (("first", before), ("second", after)) if gate and gate.comparison is None]
    return f"not measured in the {' and the '.join(without)} run"


def _worded(change: float, gate: Verdict, before: Outcome, after: Outcome) -> str:
    up = gate.comparison is not None and gate.comparison.higher_is_better
    direction = "" if change == 0 else ("better" if (change > 0) is up else "worse")
    turned = "" if before is after else f"{before.value} → {after.value}"
    return ", ".join(filter(None, (direction, turned)))


def _row(one: GateChange) -> list[str]:
    outcomes = [markdown.outcome_words(gate.outcome) if gate else DASH for gate in (one.before, one.after)]
    names = [markdown.escape(one.gate), markdown.escape(one.metric)]
    numbers = [_difference(one.before), _difference(one.after), signed(one.change)]
    return [*names, *outcomes, *numbers, markdown.escape(one.note) or DASH]


def _difference(gate: Verdict | None) -> str:
    return signed(gate.comparison.estimate) if gate and gate.comparison else DASH


def _title(run: Results) -> str:
    candidate = run.candidate
    return f"{candidate.name} ({candidate.digest[:12]}), run {run.run_id}" if candidate else f"run {run.run_id}"


def _head(name: str, run: Results) -> Text:
    return Text.assemble((f"{name}  ", "dim"), plain(_title(run)), "  ", outcome_text(run.verdict.outcome))
