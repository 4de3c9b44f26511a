"""`gate` and `report`: commands that read results. Neither needs torch or a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench.cli import output
from lorabench.cli.options import NoTrainingImages, PageLayout
from lorabench.cli.sweep_pages import is_sweep, sweep_beside, write_sweep_page
from lorabench.cli.verdicts import Format, Judged, combined, show_verdict
from lorabench.errors import ExitCode, SpecError
from lorabench.report.layout import BUDGET_BYTES, Layout

if TYPE_CHECKING:
    from lorabench.records.results import Results

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, or its results.json.")]


class OneFileError(SpecError):
    """Several runs, and one file for all their reports."""

    def __init__(self, path: Path, n_runs: int) -> None:
        super().__init__(f"one report file must hold one run; found {n_runs} runs for {path}. Name a folder instead.")
        self.path, self.n_runs = path, n_runs


class LayoutTargetError(SpecError):
    """A folder is asked for, under the name of a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"with --layout folder the output must be a folder; found the file name {path}. Drop its suffix."
        )
        self.path = path


class OneFileOnlyError(SpecError):
    """Pages of courses and sweeps come in one form."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"--layout folder must be asked for runs only; found {path}, a course or a sweep, whose page is one file. "
            "Leave --layout out for it."
        )
        self.path = path


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
    layout: PageLayout = Layout.AUTO,
) -> None:
    """Render the HTML page of runs, or of the courses of trainings, again: from their files alone."""
    courses = [run for run in runs if is_course(run)]
    sweeps = [run for run in runs if is_sweep(run)]
    if (courses or sweeps) and to is not None and is_page(to) and len(runs) > 1:
        raise OneFileError(to, len(runs))
    if layout is Layout.FOLDER and (courses or sweeps):
        raise OneFileOnlyError((courses or sweeps)[0])
    form = layout_at(to, layout)
    read = [read_judged(run) for run in runs if run not in courses and run not in sweeps]
    for one, target in zip(read, report_targets(to, read) if read else [], strict=True):
        written = write_report(
            one.results,
            folder=one.results_path.parent,
            target=target,
            training=not no_training_images,
            max_edge=max_edge or 256,
            layout=form,
        )
        output.data(str(written))
    for course in courses:
        output.data(str(_write_course(course, to=to, max_edge=max_edge or 128)))
    for one_sweep in sweeps:
        output.data(str(write_sweep_page(one_sweep, to=to, max_edge=max_edge or 160)))


def read_judged(run: Path) -> Judged:
    """Results of a run folder or of a results file.

    Raises:
        SpecError: There are none that can be read.
    """
    from lorabench.storage.run_folder import read_results

    path = run / "results.json" if run.is_dir() else run
    pages = (path.with_name("report.html"), path.with_name("report") / "index.html")
    return Judged(read_results(path), path, next((page for page in pages if page.is_file()), None))


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
    if not is_page(to):
        return [to / f"{one.results.run_id}.html" for one in judged]
    if len(judged) > 1:
        raise OneFileError(to, len(judged))
    return [to]


def layout_at(to: Path | None, layout: Layout) -> Layout:
    """The form of a page that goes to `to`: whoever names a file gets a file.

    Raises:
        LayoutTargetError: A folder is asked for under the name of a file.
    """
    if to is None or not is_page(to):
        return layout
    if layout is Layout.FOLDER:
        raise LayoutTargetError(to)
    return Layout.SINGLE


def write_report(
    results: Results,
    *,
    folder: Path,
    target: Path,
    training: bool = True,
    max_edge: int = 256,
    layout: Layout = Layout.AUTO,
) -> Path:
    """Render a run whose pictures, and diagnosis if there is one, lie in `folder`, with a sweep that lies beside it.

    Returns:
        The page: `target`, or the `index.html` of a folder of that name.
    """
    from lorabench.report.html import write_html
    from lorabench.storage.diagnosis_files import read_diagnosis

    sweep, picture = sweep_beside(folder, results)
    written = write_html(
        results,
        target,
        picture=picture,
        training_images_included=training,
        max_edge=max_edge,
        diagnosis=read_diagnosis(folder),
        sweep=sweep,
        layout=layout,
    )
    tell_size(written, target=target, layout=layout)
    return written


def tell_size(written: Path, *, target: Path, layout: Layout) -> None:
    """Say that a page became a folder by itself, or is a file that should have."""
    if layout is Layout.AUTO and written != target:
        output.message(
            f"note: as one file the page would be past {_mib(BUDGET_BYTES)}: it is the folder {written.parent}"
        )
    elif layout is not Layout.FOLDER and written.stat().st_size > BUDGET_BYTES:
        output.message(
            f"note: {written} is {_mib(written.stat().st_size)}, past {_mib(BUDGET_BYTES)}; --layout folder keeps its "
            "pictures beside it"
        )


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.0f} MiB"


def is_page(path: Path) -> bool:
    """Whether this is the name of a page, not of a folder."""
    return path.suffix.lower() in (".html", ".htm")


def _write_course(course: Path, *, to: Path | None, max_edge: int) -> Path:
    """The page of a course: in its folder, in the file asked for, or in the folder asked for under the course's own."""
    from lorabench.training.course_page import PAGE, write_course_page

    folder = (course if course.is_dir() else course.parent).resolve()
    if to is None or is_page(to):
        return write_course_page(course, to=to, max_edge=max_edge)
    return write_course_page(course, to=to / f"{folder.parent.name}-{folder.name}-{PAGE}", max_edge=max_edge)
