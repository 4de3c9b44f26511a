"""`run`: make the pictures, measure, judge, write results and report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabench.cli import output
from lorabench.cli.guarding import print_error
from lorabench.cli.options import (
    Assignments,
    CacheFolder,
    Captions,
    ConfigFile,
    NoTrainingImages,
    RunsFolder,
    Suites,
    TrainingFolder,
    load_settings,
    whole_numbers,
    words,
)
from lorabench.cli.reporting import OneFileError, report_targets, write_report
from lorabench.cli.verdicts import Format, Judged, combined, show_verdict
from lorabench.errors import MeasurementError, SpecError

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
    base: Annotated[str | None, typer.Option(help="Base model: folder of a diffusers pipeline, or a hub id.")] = None,
    lora: Annotated[str | None, typer.Option(metavar="PATH", help="The adapter under test: file or folder.")] = None,
    scale: Annotated[float | None, typer.Option(help="Adapter scale.")] = None,
    alpha: Annotated[float | None, typer.Option(help="LoRA alpha, for files that state none.")] = None,
    trigger: Annotated[str | None, typer.Option(help="Trigger phrase: fills {style} for the candidate.")] = None,
    plain_style: Annotated[
        str | None, typer.Option(help="The style in plain words: fills {style} for the control.")
    ] = None,
    neutral: Annotated[str | None, typer.Option(help="Fills {style} in the neutral arms; usually nothing.")] = None,
    training_folder: TrainingFolder = None,
    captions: Captions = None,
    detector: Annotated[
        str | None, typer.Option(help="oracle, owlv2:<folder or id>, grounding-dino:<folder or id>.")
    ] = None,
    clip: Annotated[str | None, typer.Option(help="CLIP: open_clip model name, or local-dir:<folder>.")] = None,
    clip_pretrained: Annotated[str | None, typer.Option(help="open_clip tag, or path to weights.")] = None,
    lpips_weights: Annotated[Path | None, typer.Option(metavar="FILE", help="Trunk weights of LPIPS.")] = None,
    device: Annotated[str | None, typer.Option(help="Where base and judges run: auto, cpu, cuda, cuda:1, mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, float16, bfloat16.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=0, help="Most pictures made at once; 0 lets the backend choose.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N,N,...", help="Instead of the suite's seeds.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first cases; the run is then partial (exit code 5).")
    ] = None,
    arms: Annotated[str | None, typer.Option(metavar="ARM,...", help="Of B0, B1, L1, L0; B1 and L1 decide.")] = None,
    baseline: Annotated[str | None, typer.Option(metavar="NAME", help="Compare with this baseline too.")] = None,
    no_baseline: Annotated[bool, typer.Option("--no-baseline", help="Ignore the baseline of the settings.")] = False,
    cache_dir: CacheFolder = None,
    runs_dir: RunsFolder = None,
    config_file: ConfigFile = None,
    assignments: Assignments = None,
    cache_only: Annotated[
        bool, typer.Option("--cache-only", help="Make no picture; those not cached count as failed.")
    ] = False,
    style: Annotated[Format, typer.Option("--format", help="How the verdict is printed.")] = Format.HUMAN,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="PATH", help="Report file, or folder; else in the run folder.")
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no HTML page.")] = False,
    no_training_images: NoTrainingImages = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")] = False,
) -> None:
    """Judge an adapter against its base on held-out prompts.

    The same command after an interruption goes on where it stopped.
    """
    stated = {
        "model.base": base,
        "model.device": device,
        "model.dtype": dtype,
        "model.batch_size": batch_size,
        "candidate.lora": lora,
        "candidate.scale": scale,
        "candidate.alpha": alpha,
        "style.trigger": trigger,
        "style.plain": plain_style,
        "style.neutral": neutral,
        "training_set.folder": training_folder,
        "training_set.captions": captions,
        "judges.detector": detector,
        "judges.clip": clip,
        "judges.clip_pretrained": clip_pretrained,
        "judges.lpips_weights": lpips_weights,
        "judges.device": device,
        "seeds": whole_numbers("--seeds", seeds),
        "limit": limit,
        "arms": words(arms),
        "baseline": baseline,
        "cache_dir": cache_dir,
        "runs_dir": runs_dir,
    }
    config, _ = load_settings(stated, config_file=config_file, assignments=assignments, quiet=quiet)
    if no_baseline:
        config = config.model_copy(update={"baseline": None})
    chosen = chosen_suites(suites, config)
    if style is Format.JUNIT and len(chosen) > 1:
        raise OneDocumentError(len(chosen))
    if report is not None and report.suffix and len(chosen) > 1:
        raise OneFileError(report, len(chosen))
    done = _evaluate_all(
        config, chosen, command=shlex.join(["lorabench", *ctx.obj]), cache_only=cache_only, quiet=quiet
    )
    judged = [one for one in done if isinstance(one, Judged)]
    if not no_report:
        judged = _with_reports(judged, to=report, training=not no_training_images)
    failures = [one for one in done if isinstance(one, Failure)]
    _show_all(judged, failures, style)
    raise typer.Exit(
        combined([*(one.results.verdict.exit_code for one in judged), *(f.error.exit_code for f in failures)])
    )


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


def _with_reports(judged: list[Judged], *, to: Path | None, training: bool) -> list[Judged]:
    targets = report_targets(to, judged)
    for one, target in zip(judged, targets, strict=True):
        write_report(one.results, folder=one.results_path.parent, target=target, training=training)
    return [replace(one, report_path=target) for one, target in zip(judged, targets, strict=True)]


def _show_all(judged: Sequence[Judged], failures: Sequence[Failure], style: Format) -> None:
    for failure in failures:
        print_error(failure.error)
    if style is Format.JSON:
        output.json_data(_summary(judged, failures))
        return
    for one in judged:
        show_verdict(one, style)
        if style is Format.HUMAN:
            output.data(f"results: {one.results_path}")
            if one.report_path is not None:
                output.data(f"report:  {one.report_path}")


def _summary(judged: Sequence[Judged], failures: Sequence[Failure]) -> dict[str, Any]:
    codes = [*(one.results.verdict.exit_code for one in judged), *(one.error.exit_code for one in failures)]
    return {
        "exit_code": int(combined(codes)),
        "runs": [one.as_json() for one in judged],
        "errors": [{"suite": one.suite, "message": str(one.error)} for one in failures],
    }


def _shown_path(path: Path) -> str:
    """A path from the working directory where it lies below it: annotations need it so."""
    here = Path.cwd()
    return (path.resolve().relative_to(here) if path.resolve().is_relative_to(here) else path).as_posix()
