"""`compare`: runs beside each other, on a terminal or as a page. Needs neither torch nor a model, decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabench.cli import output
from lorabench.cli.options import PageLayout
from lorabench.cli.reporting import is_page, layout_at, read_judged, tell_size
from lorabench.cli.verdicts import Judged, pictures_of
from lorabench.report.layout import Layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorabench.records.results import Results
    from lorabench.report.compare import GateChange


PAGE = "comparison.html"
"""Name of the page in a folder."""


class ComparisonFormat(StrEnum):
    """How runs are printed."""

    HUMAN = "human"
    JSON = "json"
    MARKDOWN = "markdown"


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="A B...", help="Run folders or their results.json.")],
    style: Annotated[ComparisonFormat, typer.Option("--format", help="How it is printed.")] = ComparisonFormat.HUMAN,
    page: Annotated[
        Path | None,
        typer.Option("--html", metavar="PATH", help="Write a page with pictures there instead: file, or folder."),
    ] = None,
    max_edge: Annotated[
        int, typer.Option(min=16, max=4096, help="Longest edge of the page's pictures, in pixels.")
    ] = 256,
    layout: PageLayout = Layout.AUTO,
) -> None:
    """Put runs side by side, gate by gate, against the first. Decides nothing: each verdict is its own run's."""
    from lorabench.report.several_view import RunCountError

    if len(runs) < 2:
        raise RunCountError(len(runs))
    judged = [read_judged(path) for path in runs]
    if page is not None:
        _write_page(judged, page, max_edge=max_edge, layout=layout)
    elif len(judged) == 2:
        _print_two(judged[0].results, judged[1].results, style)
    else:
        _print_several([one.results for one in judged], style)


def changes_as_json(a: Results, b: Results) -> list[dict[str, Any]]:
    """Every gate of two runs beside each other, in plain JSON types."""
    from lorabench.report.compare import gate_changes

    return [_change(change) for change in gate_changes(a, b)]


def _print_two(a: Results, b: Results, style: ComparisonFormat) -> None:
    from lorabench.report.compare import obstacles, render_compare, render_compare_markdown

    if style is ComparisonFormat.JSON:
        gates = changes_as_json(a, b)
        output.json_data({"first": a.run_id, "second": b.run_id, "obstacles": list(obstacles(a, b)), "gates": gates})
    elif style is ComparisonFormat.MARKDOWN:
        output.data(render_compare_markdown(a, b))
    else:
        output.show(render_compare(a, b))


def _print_several(results: Sequence[Results], style: ComparisonFormat) -> None:
    from lorabench.report.several_text import render_several_markdown, render_several_text, several_as_json
    from lorabench.report.several_view import SeveralRuns

    several = SeveralRuns(results)
    if style is ComparisonFormat.JSON:
        output.json_data(several_as_json(several))
    elif style is ComparisonFormat.MARKDOWN:
        output.data(render_several_markdown(several))
    else:
        output.show(render_several_text(several))


def _write_page(judged: Sequence[Judged], to: Path, *, max_edge: int, layout: Layout) -> None:
    from lorabench.report.several_html import write_several

    form = layout_at(to, layout)
    sources = [pictures_of(one.results_path.parent) for one in judged]

    def picture(sha256: str) -> NDArray[np.uint8] | None:
        return next((pixels for source in sources if (pixels := source(sha256)) is not None), None)

    target = to if is_page(to) else to / PAGE
    written = write_several([one.results for one in judged], target, picture=picture, max_edge=max_edge, layout=form)
    tell_size(written, target=target, layout=form)
    output.data(str(written))


def _change(change: GateChange) -> dict[str, Any]:
    sides = {"before": change.before, "after": change.after}
    return {
        "gate": change.gate,
        "metric": change.metric,
        **{name: None if side is None else side.outcome.value for name, side in sides.items()},
        "change": change.change,
        "note": change.note,
    }
