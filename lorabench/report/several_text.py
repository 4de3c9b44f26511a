"""Several runs beside each other in a terminal, as Markdown and as plain data."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lorabench.report import markdown
from lorabench.report.notation import DASH, metric_words, plain, signed
from lorabench.report.several_view import GateCell, SeveralRuns
from lorabench.report.terminal import outcome_text


def render_several_text(several: SeveralRuns) -> RenderableType:
    """Render several runs for a `rich` console, a column each.

    Args:
        several: The runs.

    Returns:
        Something to print on a `rich.console.Console`. It decides nothing: each verdict is its own run's.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("Gate", "Metric"):
        table.add_column(name, overflow="fold")
    for run in several.runs:
        table.add_column(run.letter, overflow="fold")
    for row in several.gates:
        cells = [_words(cell) for cell in row.cells]
        table.add_row(Text(row.gate), Text(metric_words(row.metric)), *cells)
    heads = [
        Text.assemble((f"{run.letter}  ", "dim"), plain(run.name), "  ", outcome_text(run.results.verdict.outcome))
        for run in several.runs
    ]
    warnings = [Text(f"! {text}", style="yellow") for text in several.obstacles]
    settings = [
        Text(f"{row.name}: {', '.join(plain(value or 'not told') for value in row.values)}", style="dim")
        for row in several.settings
    ]
    return Group(*heads, *warnings, *settings, Padding(table, (1, 0)))


def render_several_markdown(several: SeveralRuns, *, size_limit: int = markdown.SIZE_LIMIT) -> str:
    """Render several runs as Markdown.

    Args:
        several: The runs.
        size_limit: Longest result, in bytes of UTF-8.
    """
    letters = [run.letter for run in several.runs]
    heads = "".join(f"- {run.letter}: {markdown.escape(run.name)}, run {markdown.escape(run.results.run_id)}\n"
                    for run in several.runs)  # fmt: skip
    warnings = "".join(f"- **{markdown.escape(text)}**\n" for text in several.obstacles)
    gates = [
        [markdown.escape(row.gate), markdown.escape(row.metric), *(_markdown(cell) for cell in row.cells)]
        for row in several.gates
    ]
    settings = [
        [markdown.escape(row.name), *(markdown.escape(value or "not told") for value in row.values)]
        for row in several.settings
    ]
    text = f"## {len(letters)} runs\n\n{heads}{warnings}\n{markdown.table(('Gate', 'Metric', *letters), gates)}"
    if settings:
        text += f"\n### What differs\n\n{markdown.table(('Setting', *letters), settings)}"
    return markdown.cap(text, size_limit=size_limit)


def several_as_json(several: SeveralRuns) -> dict[str, Any]:
    """Runs, obstacles, gates and differing settings in plain JSON types."""
    return {
        "runs": [
            {"letter": run.letter, "run_id": run.results.run_id, "outcome": run.results.verdict.outcome.value}
            for run in several.runs
        ],
        "obstacles": list(several.obstacles),
        "shared_cases": [case.id for case in several.shared_cases],
        "settings": [{"name": row.name, "group": row.group, "values": list(row.values)} for row in several.settings],
        "gates": [
            {"gate": row.gate, "metric": row.metric, "runs": [_plain(cell) for cell in row.cells]}
            for row in several.gates
        ],
    }


def _words(cell: GateCell | None) -> Text:
    if cell is None:
        return Text(DASH)
    comparison = cell.verdict.comparison
    number = "" if comparison is None else f" {signed(comparison.estimate)}"
    return Text.assemble(outcome_text(cell.verdict.outcome), number, (f" ({cell.note})" if cell.note else "", "yellow"))


def _markdown(cell: GateCell | None) -> str:
    if cell is None:
        return DASH
    comparison = cell.verdict.comparison
    number = "" if comparison is None else f" {signed(comparison.estimate)}"
    note = f" ({markdown.escape(cell.note)})" if cell.note else ""
    return f"{markdown.outcome_words(cell.verdict.outcome)}{number}{note}"


def _plain(cell: GateCell | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    comparison = cell.verdict.comparison
    numbers = {name: getattr(comparison, name, None) for name in ("estimate", "low", "high")}
    return {"outcome": cell.verdict.outcome.value, **numbers, "margin": cell.verdict.margin, "note": cell.note}
