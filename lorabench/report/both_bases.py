"""One adapter on two bases: the one it was trained on and the one in use, gate by gate."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lorabench.records.comparison import Outcome, Verdict
from lorabench.records.results import Results
from lorabench.report import markdown
from lorabench.report.compare import GateChange, gate_changes
from lorabench.report.notation import DASH, plain, signed
from lorabench.report.terminal import outcome_text

_HEADER = ("Gate", "Training base", "Base in use", "Difference there", "Difference here", "Change", "Note")


def base_findings(trained: Results, used: Results) -> tuple[str, ...]:
    """What the change of base costs, in sentences.

    Args:
        trained: The run on the base that the adapter was trained on.
        used: The run on the base in use, of the same suite.

    Returns:
        One sentence at least. Differences are each base's own, candidate against control, so that a worse base alone
        does not make an adapter look worse.
    """
    there, here = plain(trained.base.name), plain(used.base.name)
    if trained.base.digest == used.base.digest:
        return (f"{there} and {here} are the same files: nothing can differ.",)
    changes = gate_changes(trained, used)
    lost = [one.gate for one in changes if _failed(one, after=True) and not _failed(one, after=False)]
    won = [one.gate for one in changes if _failed(one, after=False) and not _failed(one, after=True)]
    found = []
    if lost:
        found.append(f"Failing on {here} and not on {there}, where it was trained: {', '.join(lost)}.")
    if won:
        found.append(f"Failing on {there}, where it was trained, and not on {here}: {', '.join(won)}.")
    return tuple(found) or (f"The same gates fail on {there}, where it was trained, and on {here}.",)


def render_both_bases(trained: Results, used: Results) -> RenderableType:
    """Render both runs side by side for a `rich` console. Decides nothing: each verdict is its own run's.

    Args:
        trained: The run on the training base.
        used: The run on the base in use.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in _HEADER:
        table.add_column(name, overflow="fold", justify="right" if name in _HEADER[3:6] else "left")
    for one in _measured(trained, used):
        outcomes = [outcome_text(gate.outcome) if gate else Text(DASH) for gate in (one.before, one.after)]
        table.add_row(Text(one.gate), *outcomes, *(Text(cell) for cell in (*_numbers(one), one.note)))
    findings = [Text(f"! {sentence}", style="yellow") for sentence in base_findings(trained, used)]
    rest = [Text(line, style="dim") for line in _left_out(trained, used)]
    return Group(Text(f"\n{_title(trained, used)}", style="bold"), *findings, Padding(table, (1, 0)), *rest)


def render_both_bases_markdown(trained: Results, used: Results, *, size_limit: int = markdown.SIZE_LIMIT) -> str:
    """Render both runs side by side as Markdown.

    Args:
        trained: The run on the training base.
        used: The run on the base in use.
        size_limit: Longest result, in bytes of UTF-8.
    """
    rows = []
    for one in _measured(trained, used):
        outcomes = [markdown.outcome_words(gate.outcome) if gate else DASH for gate in (one.before, one.after)]
        rows.append([markdown.escape(one.gate), *outcomes, *_numbers(one), markdown.escape(one.note) or DASH])
    findings = "".join(f"- {markdown.escape(sentence)}\n" for sentence in base_findings(trained, used))
    table = markdown.table(_HEADER, rows, right=(3, 4, 5))
    rest = "".join(f"\n{markdown.escape(line)}\n" for line in _left_out(trained, used))
    text = f"## {markdown.escape(_title(trained, used))}\n\n{findings}\n{table}{rest}"
    return markdown.cap(text, size_limit=size_limit)


def _measured(trained: Results, used: Results) -> list[GateChange]:
    """Gates with a number on one of the bases at least."""
    return [one for one in gate_changes(trained, used) if any(_number(gate) for gate in (one.before, one.after))]


def _left_out(trained: Results, used: Results) -> list[str]:
    shown = {one.gate for one in _measured(trained, used)}
    names = [one.gate for one in gate_changes(trained, used) if one.gate not in shown]
    return [f"Measured on neither base: {', '.join(names)}."] if names else []


def _number(gate: Verdict | None) -> bool:
    return gate is not None and gate.comparison is not None


def _title(trained: Results, used: Results) -> str:
    who = "" if used.candidate is None else f"{plain(used.candidate.name)}: "
    return f"{who}trained on {plain(trained.base.name)}, used on {plain(used.base.name)}"


def _numbers(one: GateChange) -> list[str]:
    sides = [signed(gate.comparison.estimate) if gate and gate.comparison else DASH for gate in (one.before, one.after)]
    return [*sides, signed(one.change)]


def _failed(one: GateChange, *, after: bool) -> bool:
    gate = one.after if after else one.before
    return gate is not None and gate.outcome is Outcome.FAIL
