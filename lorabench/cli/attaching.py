"""`attach`: run a training script of diffusers' with the monitor inside it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench.cli import output
from lorabench.cli.course import CourseFormat, Style, show_course
from lorabench.cli.options import (
    Assignments,
    CacheFolder,
    Captions,
    ConfigFile,
    CourseDir,
    PlainStyle,
    Quiet,
    ScreenSuite,
    TrainingFolder,
    Trigger,
    load_settings,
    stated_settings,
)
from lorabench.errors import ExitCode, LorabenchError

if TYPE_CHECKING:
    from lorabench.callback import Monitor
    from lorabench.evaluation.observer import Observer
    from lorabench.records.config import Config
    from lorabench.training.trainers.diffusers_scripts import LiveTraining, ScriptAttachment


def attach(
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="A training script, such as diffusers' examples.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGUMENT]...", help="The script's own command line.")
    ] = None,
    *,
    suite: ScreenSuite = None,
    trigger: Trigger = None,
    plain_style: PlainStyle = None,
    training_folder: TrainingFolder = None,
    captions: Captions = None,
    every: Annotated[int | None, typer.Option(min=1, help="Optimiser steps between evaluations.")] = None,
    advise: Annotated[bool, typer.Option("--advise", help="Record decisions, never stop the script.")] = False,
    course_dir: CourseDir = None,
    cache_dir: CacheFolder = None,
    config_file: ConfigFile = None,
    assignments: Assignments = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin a new history where a resumed one was judged by other settings.")
    ] = False,
    style: Style = CourseFormat.HUMAN,
    quiet: Quiet = False,
) -> None:
    """Run a training script with the monitor inside: it judges the live LoRA and ends the training when it must.

    The script is not changed. Options of this command stand before SCRIPT, the script's own behind it. On several
    processes: accelerate launch -m lorabench attach SCRIPT ...

    Ends with 1 when the training was stopped or its newest evaluation rejected it, with 3 when that could not be
    measured, with 5 when nothing was evaluated.
    """
    from lorabench.cli.progress import observing
    from lorabench.training.trainers.diffusers_scripts import ScriptAttachment

    stated = stated_settings(locals()) | {
        "course.suite": suite,
        "course.every_n_steps": every,
        "course.stop": False if advise else None,
        "course.folder": course_dir,
    }
    config, _ = load_settings(stated, config_file=config_file, assignments=assignments, quiet=quiet)
    with observing(quiet=quiet) as observer:
        make = _maker(config, observer=observer)
        attachment = ScriptAttachment(make, restart=restart, obey=config.course.stop, say=observer.note)
        _run(script, arguments or [], attachment)
    raise typer.Exit(_told(attachment, config, style=style))


def _run(script: Path, arguments: Sequence[str], attachment: ScriptAttachment) -> None:
    """The script's own errors are shown as Python shows them; it is the user's to read them."""
    from lorabench.training.trainers.diffusers_scripts import run_script

    try:
        run_script(script, arguments, attachment=attachment)
    except LorabenchError:
        raise
    except Exception as error:
        traceback.print_exception(error)
        raise typer.Exit(ExitCode.NOT_MEASURED) from error


def _maker(config: Config, *, observer: Observer) -> Callable[[LiveTraining], Monitor]:
    """Settings and suite are read now, so that a mistake in them is told before anything is loaded."""
    from lorabench.callback import Monitor
    from lorabench.storage.suite_files import find_suites, read_suite

    suite = read_suite(find_suites([config.course.suite])[0]).suite

    def make(live: LiveTraining) -> Monitor:
        return Monitor(
            _settings_of(config, live),
            suite=suite,
            pipeline=live.pipeline,
            adapter_name=live.adapter_name,
            optimizer=live.optimizer,
            observer=observer,
            trackers=live.trackers,
        )

    return make


def _settings_of(config: Config, live: LiveTraining) -> Config:
    """The base is the script's; so are the training pictures, unless others are named."""
    from lorabench.evaluation.engine import default_cache_dir

    update: dict[str, object] = {"model": config.model.model_copy(update={"base": live.base})}
    if config.training_set.folder is None and live.pictures is not None:
        update["training_set"] = config.training_set.model_copy(update={"folder": live.pictures})
    if live.half_precision:  # pictures of networks under autocast are not those of networks cast to half precision
        update["cache_dir"] = (config.cache_dir or default_cache_dir()) / "autocast"
    return config.model_copy(update=update)


def _told(attachment: ScriptAttachment, config: Config, *, style: CourseFormat) -> ExitCode:
    """Print the course and what the user now has; only the process that judged knows."""
    from lorabench.storage.course_folder import read_course
    from lorabench.training.watching import exit_code_of

    folder = config.course.folder
    if not attachment.leads:
        return ExitCode.PASSED
    code = ExitCode.INCOMPLETE
    if (folder / "course.json").exists():
        course = read_course(folder)
        show_course(course, folder=folder, style=style)
        code = exit_code_of(course)
    else:
        output.message(f"Nothing was evaluated: the training ended before step {config.course.every_n_steps}.")
    if attachment.monitor is None or attachment.stopped_at is None:
        return code
    output.message(
        f"Stopped at step {attachment.stopped_at}. {attachment.monitor.decision.sentence} The script ended by itself: "
        f"its last LoRA in {attachment.output} is the stopped one, not the best one."
    )
    return ExitCode.FAILED
