"""`demo --train`: a LoRA is trained on the embedded model with the monitor attached, until the monitor stops it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from lorabench.cli import output
from lorabench.errors import ExitCode
from lorabench.records.course import Action

if TYPE_CHECKING:
    from lorabench.callback import Monitor
    from lorabench.evaluation.observer import Observer
    from lorabench.records.course import Decision
    from lorabench.training.demonstration import WorldTraining

DATASET: Final = "overtrained"
LEARNING_RATE: Final = 5e-4
MOST_STEPS: Final = 300
EVERY: Final = 20
EACH: Final = 3
"""Every third case of the screen: enough to see what goes wrong here, in a third of the time. The finalists are judged
on the others."""


def demonstrate_training(folder: Path, *, cache_dir: Path | None, quiet: bool) -> ExitCode:
    """Train on sixteen drawings of one composition, judging as it goes, and print the course.

    Args:
        folder: Of the course; must not hold one of another training.
        cache_dir: Instead of the user's cache.
        quiet: No progress.

    Returns:
        0 if the monitor stopped the training, 1 if it let it go to the end.
    """
    from lorabench.cli.course import show_course
    from lorabench.cli.progress import observing
    from lorabench.training.course_page import write_course_page
    from lorabench.training.demonstration import WorldTraining

    output.message(f"Training on the drawings of the over-trained adapter, judged every {EVERY} steps.")
    training = WorldTraining(DATASET, lr=LEARNING_RATE)
    with observing(quiet=quiet) as observer:
        monitor = _monitor(training, folder=folder, cache_dir=cache_dir, observer=observer)
        decision = monitor.on_train_begin()
        for training_step in range(1, MOST_STEPS + 1):
            loss = training.step()
            before, decision = decision, monitor.on_step_end(training_step, loss=loss)
            if decision is not before:
                _tell(decision, loss=loss)
            if monitor.should_stop:
                break
        monitor.finish()
    show_course(monitor.course, folder=folder)
    output.data(f"report: {write_course_page(folder)}")
    return ExitCode.PASSED if decision.action is Action.STOP else ExitCode.FAILED


def _tell(decision: Decision, *, loss: float) -> None:
    output.message(f"step {decision.training_step}  loss {loss:.3f}  {decision.action.value}: {decision.sentence}")


def _monitor(training: WorldTraining, *, folder: Path, cache_dir: Path | None, observer: Observer) -> Monitor:
    from lorabench.callback import Monitor
    from lorabench.evaluation.demonstration import SUITE, world_config
    from lorabench.storage.shipped import shipped_data
    from lorabench.storage.suite_files import find_suites, read_suite
    from lorabench.training.settling import FINAL

    suite = read_suite(find_suites([SUITE])[0]).suite
    screen = suite.model_copy(update={"cases": suite.cases[::EACH]})
    others = tuple(case for case in suite.cases if case not in screen.cases)
    held_back = suite.model_copy(update={"name": FINAL, "cases": others})
    dataset = shipped_data(f"fixtures/datasets/{DATASET}")
    config = world_config(None, training=dataset, runs_dir=folder / "runs", cache_dir=cache_dir)
    course = config.course.model_copy(update={"every_n_steps": EVERY, "budget": 1e6, "folder": folder})
    return Monitor(
        config.model_copy(update={"course": course}),
        suite=screen,
        final_suite=held_back,
        pipeline=training.pipeline,
        optimizer=training.optimizer,
        observer=observer,
    )
