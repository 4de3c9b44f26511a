"""A run in a terminal: verdict, gates, reasons, worst cases, and what it cost."""

from __future__ import annotations

import io
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lorabench.records.comparison import Outcome, Verdict
from lorabench.records.results import Results
from lorabench.report.case_view import CaseReader, CaseView
from lorabench.report.file_findings import file_findings
from lorabench.report.notation import (
    DASH,
    OUTCOME_MARKS,
    counted,
    given,
    interval,
    metric_words,
    p_value,
    plain,
    seconds,
    signed,
)
from lorabench.report.run_view import missing_rows

N_WORST: Final = 5
STYLES: Final[dict[Outcome, str]] = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.UNMEASURED: "dim",
}


def render_terminal(results: Results) -> RenderableType:
    """Render a run as one compact block for a `rich` console.

    Colour only repeats what marks and words say, so nothing is lost where the console has none. No text of the run is
    read as markup, and control characters are taken out.

    Args:
        results: The run.

    Returns:
        Something to print on a `rich.console.Console`.
    """
    parts: list[RenderableType] = [_verdict(results), _subject(results)]
    parts += [Text(f"! {plain(sentence)}", style="yellow") for sentence in file_findings(results.candidate)]
    if results.gates:
        parts.append(Padding(_gates(results.gates), (1, 0)))
    parts += [Text(f"  {number}. {plain(r)}") for number, r in enumerate(results.verdict.reasons, start=1)]
    worst = [view for view in CaseReader(results).read_all() if view.flags or view.harm > 0][:N_WORST]
    if worst:
        parts += [Text(f"\nWorst {counted(len(worst), 'case')}", style="bold"), _worst(worst)]
    parts += [Text(), *(Text(line, style="dim") for line in _gaps(results)), _cost(results)]
    return Group(*parts)


def terminal_text(results: Results, *, width: int = 100) -> str:
    """The same block as plain text, without colour.

    Args:
        results: The run.
        width: Columns of the terminal.
    """
    return to_text(render_terminal(results), width=width)


def to_text(renderable: RenderableType, *, width: int) -> str:
    """Anything for a console, as plain text."""
    console = Console(file=io.StringIO(), width=width, no_color=True, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def outcome_text(outcome: Outcome) -> Text:
    """An outcome as mark and word, coloured."""
    return Text(f"{OUTCOME_MARKS[outcome]} {outcome.value}", style=STYLES[outcome])


def _verdict(results: Results) -> Text:
    return Text.assemble(outcome_text(results.verdict.outcome), "  ", (plain(results.verdict.headline), "bold"))


def _subject(results: Results) -> Text:
    candidate = results.candidate
    who = "no candidate"
    if candidate is not None:
        at = f", training step {candidate.training_step}" if candidate.training_step is not None else ""
        who = f"{plain(candidate.name)} ({candidate.digest[:12]}{at})"
    suite = f"{results.suite.name} version {results.suite.version}"
    partial = "" if results.verdict.complete else "; PARTIAL"
    return Text(f"{who} on {plain(results.base.name)}, suite {suite}{partial}", style="dim")


def _gates(gates: tuple[Verdict, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Gate", overflow="fold")
    for name in ("Difference", "Interval", "Margin", "Cases", "p, Holm"):
        table.add_column(name, justify="right", no_wrap=True)
    for gate in gates:
        table.add_row(outcome_text(gate.outcome), _gate_name(gate), *(Text(cell) for cell in _gate_cells(gate)))
    return table


def _gate_name(gate: Verdict) -> Text:
    metric = metric_words(gate.metric) + (f", {plain(gate.family)}" if gate.family else "")
    return Text.assemble(gate.gate, "" if gate.gate == gate.metric and not gate.family else (f"\n{metric}", "dim"))


def _gate_cells(gate: Verdict) -> list[str]:
    k = gate.comparison
    if k is None:
        return [DASH, DASH, given(gate.margin), DASH, DASH]
    spread = interval(k.low, k.high)
    return [signed(k.estimate), spread, given(gate.margin), str(k.n_cases), p_value(gate.p_adjusted)]


def _worst(views: list[CaseView]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for view in views:
        told = "; ".join(plain(flag.text) for flag in view.flags)
        harmed = view.harm_metric is not None and view.harm > 0
        harm = f"{metric_words(view.harm_metric or '')} {view.harm:.1f} × margin" if harmed else ""
        table.add_row(Text(view.case.id), Text("; ".join(filter(None, (told, harm)))))
    return table


def _gaps(results: Results) -> list[str]:
    lines = []
    for row in missing_rows(results):
        what = "no picture" if row.metric is None else f"{row.metric} not measured"
        where = [*row.families, *([counted(len(row.cells), "cell")] if row.cells else [])]
        place = f" ({plain(', '.join(where))})" if where else ""
        lines.append(f"{what}{place}: {plain(row.reason)}")
    return lines


def _cost(results: Results) -> Text:
    p = results.provenance
    spent = seconds(sum(p.timings.values()))
    made = f"{counted(p.n_generated, 'picture')} made, {p.n_from_cache} from the cache"
    return Text(f"{made}, {spent}; exit code {results.verdict.exit_code}", style="dim")
