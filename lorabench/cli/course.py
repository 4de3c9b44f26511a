"""`history`: the course of a training, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lorabench.cli import output
from lorabench.cli.options import ConfigFile, load_settings

if TYPE_CHECKING:
    from lorabench.records.course import Course, Evaluation, GuardReading

LEGEND: Final = (
    "Guards: harm against the control, in margins; 1 is the largest tolerated, * alarmed, ! shown on fresh seeds."
)


class CourseFormat(StrEnum):
    """How a course is printed."""

    HUMAN = "human"
    JSON = "json"
    MARKDOWN = "markdown"


Style = Annotated[CourseFormat, typer.Option("--format", help="How the course is printed.")]


def history(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Course folder or course.json; else that of the settings.")
    ] = None,
    *,
    style: Style = CourseFormat.HUMAN,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the course as an HTML page as well.")
    ] = None,
    config_file: ConfigFile = None,
) -> None:
    """Print the course of a training: each checkpoint, what was decided and why, and which is the best."""
    from lorabench.storage.course_folder import read_course

    place = folder or load_settings({}, config_file=config_file, assignments=None)[0].course.folder
    show_course(read_course(place), folder=place if place.is_dir() else place.parent, style=style)
    if html is not None:
        from lorabench.training.course_page import write_course_page

        output.message(f"report: {write_course_page(place, to=html)}")


def show_course(course: Course, *, folder: Path, style: CourseFormat = CourseFormat.HUMAN) -> None:
    """Print a course on stdout.

    Args:
        course: The course.
        folder: Where it lies, for people.
        style: As a table, as JSON with every number, or as Markdown.
    """
    if style is CourseFormat.JSON:
        output.json_data(course.model_dump(mode="json"))
        return
    header, rows = _table(course)
    if style is CourseFormat.MARKDOWN:
        from lorabench.report.markdown import escape

        lines = [_markdown_row(header), _markdown_row(["---"] * len(header))]
        lines += [_markdown_row([cell.replace("*", r"\*") for cell in row]) for row in rows]
        output.data("\n\n".join(["\n".join(lines), *(escape(text) for text in _remarks(course, folder=folder))]))
        return
    output.table(header, rows)
    for text in _remarks(course, folder=folder):
        output.data(text)


def _table(course: Course) -> tuple[list[str], list[list[str]]]:
    gates = list(dict.fromkeys(reading.gate for one in course.evaluations for reading in one.screen))
    header = ["Step", "Best", "Decision", "Reason", *gates]
    rows = []
    for one in course.evaluations:
        best = "best" if one.training_step == course.best else ""
        reason = one.decision.reason.value.replace("_", " ")
        cells = [_guard(one, gate) for gate in gates]
        rows.append([str(one.training_step), best, one.decision.action.value, reason, *cells])
    return header, rows


def _guard(evaluation: Evaluation, gate: str) -> str:
    """Harm in margins, of the confirmation where there was one; a dash where there is no number."""
    from lorabench.report.notation import DASH, MINUS

    reading = _reading(evaluation.confirmation, gate) or _reading(evaluation.screen, gate)
    if reading is None:
        return DASH
    mark = "!" if gate in evaluation.decision.gates else "*" if gate in evaluation.alarmed else ""
    margins = round(reading.harm / reading.margin, 2) + 0.0  # no negative zero
    return f"{margins:.2f}".replace("-", MINUS) + mark


def _reading(readings: Sequence[GuardReading], gate: str) -> GuardReading | None:
    return next((reading for reading in readings if reading.gate == gate), None)


def _remarks(course: Course, *, folder: Path) -> list[str]:
    """Below the table: what the marks mean, the newest decision, the best checkpoint."""
    from lorabench.report.notation import plain
    from lorabench.training.settling import choice_of
    from lorabench.training.step_times import step_time_finding

    if not course.evaluations:
        return [f"Nothing was judged yet in {folder}."]
    choice = choice_of(course)
    why = [plain(choice.sentence)] if choice.training_step == course.best else []
    best = next((one for one in reversed(course.evaluations) if one.training_step == course.best), None)
    where = "" if best is None or best.kept is None else f", kept in {best.kept}"
    chosen = "Best: none so far." if best is None else f"Best: step {best.training_step}{where}."
    told = step_time_finding(course)
    steps = [] if told is None else [plain(told.sentence), *(f"- {plain(one.sentence)}" for one in told.causes)]
    legend = [LEGEND] if any(one.screen for one in course.evaluations) else []
    return [*legend, f"Newest: {plain(course.evaluations[-1].decision.sentence)}", chosen, *why, *steps]


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
