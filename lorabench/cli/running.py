"""`run`: make the pictures, measure, judge, write results and report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabench.cli import output
from lorabench.cli.both_bases import both_bases_summary, on_training_base, show_both_bases
from lorabench.cli.guarding import print_error
from lorabench.cli.options import (
    Alpha,
    Arms,
    Assignments,
    Base,
    BaselineName,
    BatchSize,
    CacheFolder,
    CacheOnly,
    Captions,
    Clip,
    ClipPretrained,
    ConfigFile,
    Detector,
    Device,
    Dtype,
    Limit,
    Lora,
    LpipsWeights,
    Neutral,
    NoBaseline,
    NoReport,
    NoTrainingImages,
    PageLayout,
    PlainStyle,
    Quiet,
    ReportPath,
    RunsFolder,
    Scale,
    Seeds,
    Suites,
    TrainingBase,
    TrainingFolder,
    Trigger,
    load_settings,
    stated_settings,
    whole_numbers,
    words,
)
from lorabench.cli.reporting import OneFileError, layout_at, report_targets, write_report
from lorabench.cli.verdicts import Format, Judged, combined, show_verdict
from lorabench.errors import MeasurementError, SpecError
from lorabench.report.layout import Layout

if TYPE_CHECKING:
    from lorabench.evaluation.judge_set import JudgeSet
    from lorabench.evaluation.observer import Observer
    from lorabench.generation.protocol import Backend
    from lorabench.records.config import Config
    from lorabench.storage.suite_files import LoadedSuite


class NoSuiteError(SpecError):
    """Neither the command nor the settings name a suite."""

    def __init__(self) -> None:
        super().__init__(
            "a run needs a suite; none is named. Name a file, a folder or one of `lorabench list suites`, or "
            'write `suites = ["..."]` in lorabench.toml.'
        )


class OneDocumentError(SpecError):
    """JUnit for several suites at once."""

    def __init__(self, n_suites: int) -> None:
        super().__init__(
            f"--format junit prints one document for one suite; found {n_suites} suites. "
            "Run them one by one, or print each with `lorabench gate RUN --format junit`."
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """A suite without results."""

    suite: str
    error: MeasurementError


def run(
    ctx: typer.Context,
    suites: Suites = None,
    *,
    base: Base = None,
    training_base: TrainingBase = None,
    lora: Lora = None,
    scale: Scale = None,
    alpha: Alpha = None,
    trigger: Trigger = None,
    plain_style: PlainStyle = None,
    neutral: Neutral = None,
    training_folder: TrainingFolder = None,
    captions: Captions = None,
    detector: Detector = None,
    clip: Clip = None,
    clip_pretrained: ClipPretrained = None,
    lpips_weights: LpipsWeights = None,
    device: Device = None,
    dtype: Dtype = None,
    batch_size: BatchSize = None,
    seeds: Seeds = None,
    limit: Limit = None,
    arms: Arms = None,
    baseline: BaselineName = None,
    no_baseline: NoBaseline = False,
    cache_dir: CacheFolder = None,
    runs_dir: RunsFolder = None,
    config_file: ConfigFile = None,
    assignments: Assignments = None,
    cache_only: CacheOnly = False,
    style: Annotated[Format, typer.Option("--format", help="How the verdict is printed.")] = Format.HUMAN,
    report: ReportPath = None,
    no_report: NoReport = False,
    no_training_images: NoTrainingImages = False,
    layout: PageLayout = Layout.AUTO,
    quiet: Quiet = False,
) -> None:
    """Judge an adapter against its base on held-out prompts.

    The same command after an interruption goes on where it stopped. With a training base the verdict and the exit code
    are those on the base in use.
    """
    stated = stated_settings(locals()) | {"seeds": whole_numbers("--seeds", seeds), "arms": words(arms)}
    config, _ = load_settings(stated, config_file=config_file, assignments=assignments, quiet=quiet)
    if no_baseline:
        config = config.model_copy(update={"baseline": None})
    chosen = chosen_suites(suites, config)
    _check_one_page(len(chosen), style=style, report=report)
    layout_at(report, layout)  # a name that does not fit is refused before anything is made
    command = shlex.join(["lorabench", *ctx.obj])
    configs = [config, on_training_base(config)] if config.model.training_base else [config]
    done, *rest = (_evaluate_all(one, chosen, command=command, cache_only=cache_only, quiet=quiet) for one in configs)
    before = [one for part in rest for one in part]
    judged = [one for one in done if isinstance(one, Judged)]
    trained_on = [one for one in before if isinstance(one, Judged)]
    failures = [one for one in (*done, *before) if isinstance(one, Failure)]
    if not no_report:
        judged = _with_reports(judged, to=report, training=not no_training_images, layout=layout)
        trained_on = _with_reports(trained_on, to=None, training=not no_training_images, layout=layout)
    _show_all(judged, failures, style, trained_on=trained_on)
    raise typer.Exit(_exit_code(judged, failures))


def _check_one_page(n_suites: int, *, style: Format, report: Path | None) -> None:
    """Refuse one file for several suites, before anything is made.

    Raises:
        SpecError: It was asked for.
    """
    if n_suites > 1 and style is Format.JUNIT:
        raise OneDocumentError(n_suites)
    if n_suites > 1 and report is not None and report.suffix:
        raise OneFileError(report, n_suites)


def _exit_code(judged: Sequence[Judged], failures: Sequence[Failure]) -> int:
    """The code of all runs together."""
    codes = [*(one.results.verdict.exit_code for one in judged), *(one.error.exit_code for one in failures)]
    return int(combined(codes))


def chosen_suites(names: Sequence[str] | None, config: Config) -> list[LoadedSuite]:
    """The suites of the command, else of the settings; all are checked before anything is made.

    Raises:
        SpecError: There is none, or one is wrong.
    """
    from lorabench.storage.suite_files import find_suites, read_suite

    wanted = names or config.suites
    if not wanted:
        raise NoSuiteError
    return [read_suite(path) for path in find_suites(wanted)]


def evaluate_suite(
    config: Config,
    loaded: LoadedSuite,
    *,
    observer: Observer,
    backend: Backend | None,
    judges: JudgeSet | None,
    command: str,
    cache_only: bool = False,
) -> tuple[Judged, Backend, JudgeSet]:
    """Run one suite; hand back backend and judges, so that the next run need not load them again.

    Raises:
        LorabenchError: There is no verdict.
    """
    from lorabench.evaluation.engine import open_run

    with output.stdout_for_data():
        opened = open_run(
            config,
            suite=loaded.suite,
            observer=observer,
            backend=backend,
            judges=judges,
            line_of=loaded.line_of,
            cache_only=cache_only,
            command=command,
        )
        try:
            with opened.folder.claimed():
                results = opened.finish()
        finally:
            opened.close()
    judged = Judged(results, opened.folder.results_path, None, _shown_path(loaded.path), loaded.line_of)
    return judged, opened.backend, opened.judges


def _evaluate_all(
    config: Config, suites: Sequence[LoadedSuite], *, command: str, cache_only: bool, quiet: bool
) -> list[Judged | Failure]:
    from lorabench.cli.progress import observing

    done: list[Judged | Failure] = []
    backend, judges = None, None
    with observing(quiet=quiet) as observer:
        for loaded in suites:
            observer.seconds.clear()
            try:
                judged, backend, judges = evaluate_suite(
                    config,
                    loaded,
                    observer=observer,
                    backend=backend,
                    judges=judges,
                    command=command,
                    cache_only=cache_only,
                )
                done.append(judged)
            except MeasurementError as error:
                done.append(Failure(loaded.suite.name, error))
    return done


def _with_reports(judged: list[Judged], *, to: Path | None, training: bool, layout: Layout) -> list[Judged]:
    form = layout_at(to, layout)
    return [
        replace(
            one,
            report_path=write_report(
                one.results, folder=one.results_path.parent, target=target, training=training, layout=form
            ),
        )
        for one, target in zip(judged, report_targets(to, judged), strict=True)
    ]


def _show_all(
    judged: Sequence[Judged], failures: Sequence[Failure], style: Format, *, trained_on: Sequence[Judged] = ()
) -> None:
    for failure in failures:
        print_error(failure.error)
    if style is Format.JSON:
        output.json_data(_summary(judged, failures) | both_bases_summary(judged, trained_on))
        return
    for one in judged:
        show_verdict(one, style)
        if style is Format.HUMAN:
            output.data(f"results: {one.results_path}")
            if one.report_path is not None:
                output.data(f"report:  {one.report_path}")
    show_both_bases(judged, trained_on, style)


def _summary(judged: Sequence[Judged], failures: Sequence[Failure]) -> dict[str, Any]:
    return {
        "exit_code": _exit_code(judged, failures),
        "runs": [one.as_json() for one in judged],
        "errors": [{"suite": one.suite, "message": str(one.error)} for one in failures],
    }


def _shown_path(path: Path) -> str:
    """A path from the working directory where it lies below it: annotations need it so."""
    here = Path.cwd()
    return (path.resolve().relative_to(here) if path.resolve().is_relative_to(here) else path).as_posix()
