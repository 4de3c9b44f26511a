"""Two trainings on sets made by a seed: captions of other pictures are stopped, true captions are not."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from lorabench.callback import Monitor
from lorabench.evaluation.demonstration import world_config
from lorabench.records.course import Action, Course
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.training.demonstration import WorldTraining

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SETS = runpy.run_path(str(ROOT / "benchmarks" / "training_sets.py"))
N_EVALUATIONS = 4
EVERY = 15


def course_of(kind: str, *, lr: float, folder: Path, cache_dir: Path) -> Course:
    """The course of a training that ends when it is stopped; eight cases of two shapes each, four sampling steps."""
    SETS["write_set"](SETS["Recipe"](kind, 7, n_pictures=24, lr=lr, rank=8), folder / "set")
    suite = read_suite(shipped_suite_path("world/screen")).suite
    cases = [case for case in suite.cases if case.family in ("spatial", "multi_subject")][:8]
    config = world_config(None, training=None, runs_dir=folder / "runs", cache_dir=cache_dir)
    course = {"every_n_steps": EVERY, "budget": 1e6, "confirmation_factor": 2, "folder": folder / "course"}
    changes = {
        "course": config.course.model_copy(update=course),
        "generation": config.generation.model_copy(update={"num_inference_steps": 4}),
        "judges": config.judges.model_copy(update={"clip": ""}),
    }
    training = WorldTraining(folder / "set", lr=lr, seed=7)
    monitor = Monitor(
        config.model_copy(update=changes),
        suite=suite.model_copy(update={"cases": tuple(cases)}),
        pipeline=training.pipeline,
        optimizer=training.optimizer,
    )
    for training_step in range(1, N_EVALUATIONS * EVERY + 1):
        monitor.on_step_end(training_step, loss=training.step())
        if monitor.should_stop:
            break
    monitor.finish()
    return monitor.course


def test_captions_of_other_pictures_stop_a_training(world_cache: Path, tmp_path: Path) -> None:
    course = course_of("shuffled", lr=2e-3, folder=tmp_path, cache_dir=world_cache)

    last = course.evaluations[-1].decision
    assert last.action is Action.STOP, [one.decision.sentence for one in course.evaluations]
    assert "prompt" in last.gates


def test_true_captions_do_not(world_cache: Path, tmp_path: Path) -> None:
    course = course_of("varied", lr=1e-4, folder=tmp_path, cache_dir=world_cache)

    assert [one.decision.action for one in course.evaluations] == [Action.CONTINUE] * N_EVALUATIONS
    assert all(one.screen for one in course.evaluations), "nothing was measured: the test shows nothing then"
