"""An audit of training pictures in a terminal: facts by subject, what is peculiar, what was not measured."""

from __future__ import annotations

from collections import Counter
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lorabench.records.audit import AUDIT_FACTS, Audit
from lorabench.report.notation import DASH, counted, number, percent, plain

N_NAMED: Final = 4
"""Pictures named per mark."""


def render_audit(found: Audit) -> RenderableType:
    """Render an audit as one block for a `rich` console.

    Args:
        found: The audit.

    Returns:
        Something to print on a `rich.console.Console`.
    """
    trigger = f", trigger “{plain(found.trigger)}”" if found.trigger else ""
    head = Text(f"{counted(len(found.pictures), 'training picture')} in {plain(found.folder)}{trigger}", style="bold")
    parts: list[RenderableType] = [head, Padding(_facts(found), (1, 0))]
    parts += [Text(line) for line in peculiar(found)]
    parts += [Text(f"{one.name} repeats {one.of} ({one.how}, by {one.by})") for one in found.duplicates]
    parts += [Text(f"not measured: {name}: {plain(why)}", style="dim") for name, why in found.unmeasured.items()]
    return Group(*parts)


def fact_text(name: str, value: float) -> str:
    """A fact's value with its unit.

    >>> fact_text("duplicate_share", 0.25), fact_text("n_pictures", 12.0)
    ('25 %', '12 pictures')
    """
    unit = AUDIT_FACTS[name][0]
    if unit == "share":
        return percent(value)
    return f"{f'{value:.0f}' if value == round(value) else number(value)} {unit}"


def peculiar(found: Audit) -> tuple[str, ...]:
    """Each mark with the pictures that have it, most frequent first."""
    counts = Counter(mark for one in found.pictures for mark in one.marks)
    lines = []
    for mark, n in counts.most_common():
        names = [plain(one.name) for one in found.pictures if mark in one.marks]
        more = f" and {n - N_NAMED} more" if n > N_NAMED else ""
        lines.append(f"{mark.replace('-', ' ')}: {', '.join(names[:N_NAMED])}{more}")
    return tuple(lines)


def _facts(found: Audit) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("Fact")
    table.add_column("Value", justify="right", no_wrap=True)
    for name, (_, meaning) in AUDIT_FACTS.items():
        value = fact_text(name, found.facts[name]) if name in found.facts else DASH
        table.add_row(Text(meaning), Text(value, style="" if name in found.facts else "dim"))
    return table
