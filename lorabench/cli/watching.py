"""`watch`: judge the checkpoints that a trainer writes, beside any trainer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench.cli import output
from lorabench.cli.course import CourseFormat, Style, show_course
from lorabench.cli.options import (
    Alpha,
    Assignments,
    Base,
    CacheFolder,
    Captions,
    ConfigFile,
    CourseDir,
    Device,
    PlainStyle,
    Quiet,
    ScreenSuite,
    TrainingFolder,
    Trigger,
    load_settings,
    stated_settings,
)
from lorabench.errors import LorabenchError, MeasurementError

if TYPE_CHECKING:
    from lorabench.evaluation.observer import Observer
    from lorabench.records.config import Config
    from lorabench.records.course import Course, Evaluation, PolicyState
    from lorabench.storage.course_folder import CourseFolder
    from lorabench.training.checkpoint_files import Listing
    from lorabench.training.stop_actions import ProcessIdentity, StopAction
    from lorabench.training.trackers import Destination
    from lorabench.training.watching import Judge


class JudgingFailedError(MeasurementError):
    """Judging a checkpoint ended in an error that nobody foresaw."""

    def __init__(self, error: Exception) -> None:
        found = " ".join(str(error).split())[:400].rstrip(".") or "no message"
        super().__init__(
            f"judging must end with a verdict; it ended with {type(error).__name__}: {found}. "
            f"`lorabench run --lora` on the same file shows where."
        )


@dataclass(frozen=True, slots=True)
class Judging:
    """What a watch needs to judge."""

    judge: Judge
    identity: str
    """Digest of everything that makes evaluations comparable."""
    best: Callable[[Sequence[Evaluation]], int | None]
    finalists: Callable[[Sequence[Evaluation]], Sequence[int]] = lambda _evaluations: ()
    settle: Callable[[Course], Course] = lambda course: course
    """The finalists judged again."""


def make_judging(config: Config, *, observer: Observer) -> Judging:
    """The judge of the settings; base and judges are loaded when the first checkpoint is there.

    Raises:
        SpecError: Suite or settings are wrong.
    """
    from lorabench.storage.suite_files import find_suites, read_suite
    from lorabench.training.checkpoint_judging import STYLE, CheckpointJudge
    from lorabench.training.choosing import choose
    from lorabench.training.settling import final_suite, settle_course

    suite = read_suite(find_suites([config.course.suite])[0]).suite
    judge = CheckpointJudge(config, suite=suite, observer=observer)

    def best(evaluations: Sequence[Evaluation]) -> int | None:
        return choose(evaluations, style_signal=STYLE).training_step

    def finalists(evaluations: Sequence[Evaluation]) -> tuple[int, ...]:
        return choose(evaluations, style_signal=STYLE).finalists

    def settle(course: Course) -> Course:
        return settle_course(course, judge=judge, suite=final_suite(config.course, suite))

    return Judging(judge.judge_file, judge.identity, best, finalists, settle)


Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The trainer's output folder; may not exist yet.")]
Name = Annotated[str | None, typer.Option(help="Which training, where the folder holds several.")]
FinalStep = Annotated[int | None, typer.Option(min=0, help="Training step of a final file that does not say its own.")]
StepsPerEpoch = Annotated[
    int | None, typer.Option(min=1, help="Optimiser steps per epoch, for files that say only their epoch.")
]
Once = Annotated[bool, typer.Option("--once", help="Judge what is there, then end.")]
Finalists = Annotated[
    bool | None,
    typer.Option(
        "--finalists/--no-finalists",
        help="Judge the best checkpoints again at the end, on other prompts and seeds. Default: unless --once.",
    ),
]
LookEvery = Annotated[float, typer.Option(min=0.1, help="Seconds between looks into the folder.")]
Settle = Annotated[float, typer.Option(min=0.0, help="Seconds for which a file must have been left alone.")]
OnStop = Annotated[str | None, typer.Option(metavar="CMD", help="Command for the shell when the training should stop.")]
StopFile = Annotated[Path | None, typer.Option(metavar="FILE", help="File to write when the training should stop.")]
StopPid = Annotated[
    int | None, typer.Option(metavar="PID", help="Process to interrupt then; the watch ends when it ends.")
]
Restart = Annotated[bool, typer.Option("--restart", help="Move a course of other settings aside and begin a new one.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Judge again what could not be measured before.")]
ListOnly = Annotated[
    bool, typer.Option("--list", help="Only say which checkpoints are recognised, and why others are not.")
]


def watch(
    folder: Folder,
    *,
    base: Base = None,
    suite: ScreenSuite = None,
    alpha: Alpha = None,
    trigger: Trigger = None,
    plain_style: PlainStyle = None,
    training_folder: TrainingFolder = None,
    captions: Captions = None,
    device: Device = None,
    course_dir: CourseDir = None,
    cache_dir: CacheFolder = None,
    config_file: ConfigFile = None,
    assignments: Assignments = None,
    name: Name = None,
    final_step: FinalStep = None,
    steps_per_epoch: StepsPerEpoch = None,
    once: Once = False,
    finalists: Finalists = None,
    interval: LookEvery = 30.0,
    settle: Settle = 5.0,
    on_stop: OnStop = None,
    stop_file: StopFile = None,
    stop_pid: StopPid = None,
    restart: Restart = False,
    retry_failed: RetryFailed = False,
    list_only: ListOnly = False,
    style: Style = CourseFormat.HUMAN,
    quiet: Quiet = False,
) -> None:
    """Judge a trainer's checkpoints as they are written, in the order of training; say when to stop.

    Ends with 1 when the training should stop or the newest checkpoint is rejected, with 3 when the newest could not be
    measured. Started again after any interruption, it goes on where it was.
    """
    stated = stated_settings(locals()) | {"course.suite": suite, "course.folder": course_dir}
    from lorabench.training.checkpoint_files import find_checkpoints
    from lorabench.training.watching import NothingFoundError, exit_code_of, of_one_training

    def find(training: str | None) -> Listing:
        return find_checkpoints(folder, name=training, final_step=final_step, steps_per_epoch=steps_per_epoch)

    look = of_one_training(find, name=name)
    if list_only:
        _show_listing(look())
        return
    process, actions = _actions(on_stop, stop_file, stop_pid)
    config, _ = load_settings(stated, config_file=config_file, assignments=assignments, quiet=quiet)
    last_look = not once if finalists is None else finalists
    wishes = _Wishes(folder, once, last_look, interval, settle, restart, retry_failed, quiet)
    course = _watched(look, config, wishes, process=process, actions=actions)
    if not course.evaluations:
        raise NothingFoundError(folder, listing=look())
    show_course(course, folder=config.course.folder, style=style)
    raise typer.Exit(exit_code_of(course))


@dataclass(frozen=True, slots=True)
class _Wishes:
    """Options that are no settings."""

    folder: Path
    once: bool
    last_look: bool
    interval: float
    settle: float
    restart: bool
    retry_failed: bool
    quiet: bool


def _watched(
    look: Callable[[], Listing],
    config: Config,
    wishes: _Wishes,
    *,
    process: ProcessIdentity | None,
    actions: Sequence[StopAction],
) -> Course:
    from functools import partial

    from lorabench.cli.progress import observing
    from lorabench.storage.course_folder import CourseFolder
    from lorabench.training.checkpoint_files import weights_digest
    from lorabench.training.stop_actions import is_running
    from lorabench.training.watching import Surroundings, Watch, WatchSettings

    look()  # a folder that cannot be watched is told before anything is loaded
    place = CourseFolder(config.course.folder)
    trackers = _Trackers(config, place)
    settings = WatchSettings(
        once=wishes.once,
        last_look=wishes.last_look,
        interval_seconds=wishes.interval,
        settle_seconds=wishes.settle,
        keep=config.course.keep,
        stop=config.course.stop,
        stop_on_error=config.course.on_error == "stop",
        retry_unmeasured=wishes.retry_failed,
    )
    with observing(quiet=wishes.quiet) as observer, place.claimed():
        judging, page = make_judging(config, observer=observer), _Page(place, say=observer.note)
        course = place.load(judging.identity, restart=wishes.restart)
        surroundings = Surroundings(
            find=look,
            judge=_judge_of(judging),
            best=judging.best,
            finalists=judging.finalists,
            settle=judging.settle,
            recorded=trackers.evaluated,
            digest=partial(weights_digest, alpha=config.candidate.alpha),
            actions=actions,
            training_goes_on=lambda: process is None or is_running(process),
            say=observer.note,
            now=time.time,
            sleep=page.then_sleep,
        )
        observer.note(f"watching {wishes.folder}; the course is in {place.folder}")
        trackers.tell(lambda one: one.start())
        try:
            return Watch(place, course, surroundings=surroundings, settings=settings).run()
        finally:
            trackers.tell(lambda one: one.finish())
            page.refresh()


class _Trackers:
    """The trackers of the settings; one that fails is noted and told nothing more."""

    def __init__(self, config: Config, place: CourseFolder) -> None:
        from lorabench.training.trackers import destinations

        course = config.course
        self._place = place
        self._open = list(destinations(course.trackers, project=course.tracker_project, folder=course.folder))

    def evaluated(self, evaluation: Evaluation) -> None:
        """Tell of an evaluation."""
        self.tell(lambda one: one.evaluated(evaluation, runs_dir=self._place.folder / "runs"))

    def tell(self, send: Callable[[Destination], None]) -> None:
        """Tell each of them."""
        for one in tuple(self._open):
            try:
                with output.stdout_for_data():
                    send(one)
            except Exception as error:
                self._open.remove(one)
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
                self._place.event("tracker_failed", tracker=one.name, reason=reason)


class _Page:
    """The course's page, written whenever the watch has time and the course has changed."""

    def __init__(self, place: CourseFolder, *, say: Callable[[str], None]) -> None:
        self._place, self._say = place, say
        self._seen: int | None = None

    def refresh(self) -> None:
        """Write it; what keeps it from being written is said, and ends no watch."""
        from lorabench.training.course_page import write_course_page

        try:
            changed = self._place.course_path.stat().st_mtime_ns
        except OSError:  # nothing was judged yet
            return
        if changed == self._seen:
            return
        self._seen = changed
        try:
            self._say(f"report: {write_course_page(self._place.folder)}")
        except Exception as error:
            self._say(f"the course's page was not written: {' '.join(str(error).split())[:400]}")

    def then_sleep(self, seconds: float) -> None:
        """Refresh it, then wait."""
        self.refresh()
        time.sleep(seconds)


def _judge_of(judging: Judging) -> Judge:
    """A judge whose every failure is a `MeasurementError`, with the memory of what failed set free."""

    def judge(path: Path, *, training_step: int, course: Course) -> tuple[Evaluation, PolicyState]:
        try:
            with output.stdout_for_data():
                return judging.judge(path, training_step=training_step, course=course)
        except LorabenchError:
            raise
        except Exception as error:
            _free_memory()
            raise JudgingFailedError(error) from error

    return judge


def _free_memory() -> None:
    import gc
    import sys

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _actions(
    on_stop: str | None, stop_file: Path | None, stop_pid: int | None
) -> tuple[ProcessIdentity | None, list[StopAction]]:
    """What to do on STOP, and the training's process if it is known.

    Raises:
        StopProcessError: It is not a process that may be interrupted.
    """
    from lorabench.training.stop_actions import interrupt_process, own_process, run_command, touch_file

    actions: list[StopAction] = []
    if on_stop is not None:
        actions.append(run_command(on_stop))
    if stop_file is not None:
        actions.append(touch_file(stop_file))
    process = None if stop_pid is None else own_process(stop_pid)
    if process is not None:
        actions.append(interrupt_process(process))
    return process, actions


def _show_listing(listing: Listing) -> None:
    rows = [
        [str(one.training_step), one.path.name, "final" if one.final else "checkpoint", one.note]
        for one in listing.checkpoints
    ]
    rows += [["", left.path.name, "not complete", left.reason] for left in listing.waiting]
    rows += [["", left.path.name, "not recognised", left.reason] for left in listing.unrecognised]
    rows += [["", name, "another training", f"--name {name} watches it"] for name in listing.others]
    output.table(["Step", "File", "What it is", "Note"], rows)
