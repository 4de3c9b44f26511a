"""`gate`, `report`, `compare`: commands that read results. None needs torch or a model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabench.cli import output
from lorabench.cli.options import NoTrainingImages
from lorabench.cli.sweep_pages import is_sweep, write_sweep_page
from lorabench.cli.verdicts import Format, Judged, combined, pictures_of, show_verdict
from lorabench.errors import ExitCode, SpecError

if TYPE_CHECKING:
    from lorabench.records.results import Results
    from lorabench.report.compare import GateChange

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, or its results.json.")]


class ComparisonFormat(StrEnum):
    """How two runs are printed."""

    HUMAN = "human"
    JSON = "json"
    MARKDOWN = "markdown"


class OneFileError(SpecError):
    """Several runs, and one file for all their reports."""

    def __init__(self, path: Path, n_runs: int) -> None:
        super().__init__(f"one report file must hold one run; found {n_runs} runs for {path}. Name a folder instead.")
        self.path, self.n_runs = path, n_runs


def gate(
    run: RunArgument,
    style: Annotated[Format, typer.Option("--format", help="How the verdict is printed.")] = Format.HUMAN,
    suite_file: Annotated[
        Path | None, typer.Option(help="Suite file that annotations of --format github point into.")
    ] = None,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="A failed gate ends with 0; whatever else is wrong keeps its code.")
    ] = False,
) -> None:
    """Print the verdict of a finished run and exit with its code."""
    judged = read_judged(run)
    if suite_file is not None:
        from lorabench.storage.suite_files import read_suite

        loaded = read_suite(suite_file)
        judged = Judged(judged.results, judged.results_path, judged.report_path, suite_file.as_posix(), loaded.line_of)
    show_verdict(judged, style)
    code = combined([judged.results.verdict.exit_code])
    raise typer.Exit(ExitCode.PASSED if exit_zero and code is ExitCode.FAILED else code)


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders or their results.json; folders of courses and sweeps too."),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File for one run, folder for several; else report.html in each run folder."
        ),
    ] = None,
    no_training_images: NoTrainingImages = False,
    max_edge: Annotated[
        int | None,
        typer.Option(min=16, max=4096, help="Longest edge of the pictures, in pixels: 256, of courses 128."),
    ] = None,
) -> None:
    """Render the HTML page of runs, or of the courses of trainings, again: from their files alone."""
    courses = [run for run in runs if is_course(run)]
    sweeps = [run for run in runs if is_sweep(run)]
    if (courses or sweeps) and to is not None and _is_page(to) and len(runs) > 1:
        raise OneFileError(to, len(runs))
    read = [read_judged(run) for run in runs if run not in courses and run not in sweeps]
    for one, target in zip(read, report_targets(to, read) if read else [], strict=True):
        write_report(
            one.results,
            folder=one.results_path.parent,
            target=target,
            training=not no_training_images,
            max_edge=max_edge or 256,
        )
        output.data(str(target))
    for course in courses:
        output.data(str(_write_course(course, to=to, max_edge=max_edge or 128)))
    for one_sweep in sweeps:
        output.data(str(write_sweep_page(one_sweep, to=to, max_edge=max_edge or 160)))


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Run folder or results.json.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Run folder or results.json.")],
    style: Annotated[ComparisonFormat, typer.Option("--format", help="How it is printed.")] = ComparisonFormat.HUMAN,
) -> None:
    """Put two runs side by side, gate by gate. Decides nothing: each verdict is its own run's."""
    from lorabench.report.compare import obstacles, render_compare, render_compare_markdown

    a, b = (read_judged(path).results for path in (first, second))
    if style is ComparisonFormat.JSON:
        gates = changes_as_json(a, b)
        output.json_data({"first": a.run_id, "second": b.run_id, "obstacles": list(obstacles(a, b)), "gates": gates})
    elif style is ComparisonFormat.MARKDOWN:
        output.data(render_compare_markdown(a, b))
    else:
        output.show(render_compare(a, b))


def changes_as_json(a: Results, b: Results) -> list[dict[str, Any]]:
    """Every gate of two runs beside each other, in plain JSON types."""
    from lorabench.report.compare import gate_changes

    return [_change(change) for change in gate_changes(a, b)]


def read_judged(run: Path) -> Judged:
    """Results of a run folder or of a results file.

    Raises:
        SpecError: There are none that can be read.
    """
    from lorabench.storage.run_folder import read_results

    path = run / "results.json" if run.is_dir() else run
    page = path.with_name("report.html")
    return Judged(read_results(path), path, page if page.is_file() else None)


def is_course(path: Path) -> bool:
    """Whether this is the course of a training and no run: its folder, or its `course.json`."""
    if path.is_dir():
        return (path / "course.json").is_file() and not (path / "results.json").exists()
    return path.name == "course.json"


def report_targets(to: Path | None, judged: list[Judged]) -> list[Path]:
    """Where each run's page goes: the file asked for, a file in the folder asked for, or the run folder.

    Raises:
        OneFileError: One file is asked for, for several runs.
    """
    if to is None:
        return [one.results_path.with_name("report.html") for one in judged]
    if not _is_page(to):
        return [to / f"{one.results.run_id}.html" for one in judged]
    if len(judged) > 1:
        raise OneFileError(to, len(judged))
    return [to]


def write_report(results: Results, *, folder: Path, target: Path, training: bool = True, max_edge: int = 256) -> None:
    """Render a run whose pictures, and diagnosis if there is one, lie in `folder`."""
    from lorabench.report.html import write_html
    from lorabench.storage.diagnosis_files import read_diagnosis

    write_html(
        results,
        target,
        picture=pictures_of(folder),
        training_images_included=training,
        max_edge=max_edge,
        diagnosis=read_diagnosis(folder),
    )


def _is_page(path: Path) -> bool:
    return path.suffix.lower() in (".html", ".htm")


def _write_course(course: Path, *, to: Path | None, max_edge: int) -> Path:
    """The page of a course: in its folder, in the file asked for, or in the folder asked for under the course's own."""
    from lorabench.training.course_page import PAGE, write_course_page

    folder = (course if course.is_dir() else course.parent).resolve()
    if to is None or _is_page(to):
        return write_course_page(course, to=to, max_edge=max_edge)
    return write_course_page(course, to=to / f"{folder.parent.name}-{folder.name}-{PAGE}", max_edge=max_edge)


def _change(change: GateChange) -> dict[str, Any]:
    sides = {"before": change.before, "after": change.after}
    return {
        "gate": change.gate,
        "metric": change.metric,
        **{name: None if side is None else side.outcome.value for name, side in sides.items()},
        "change": change.change,
        "note": change.note,
    }
