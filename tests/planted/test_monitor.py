"""A training of the embedded model with the monitor attached: stopped when it goes bad, resumed, never ended by us."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lorabench.callback import Monitor, OtherCourseError
from lorabench.evaluation.demonstration import world_config
from lorabench.records.course import Action, Reason
from lorabench.records.suite import Suite
from lorabench.storage.heldout import HeldOutError
from lorabench.storage.shipped import shipped_data, shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.training.demonstration import WorldTraining
from lorabench.training.trackers import Destination

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def suite() -> Suite:
    """Eight cases of two shapes each."""
    screen = read_suite(shipped_suite_path("world/screen")).suite
    cases = [case for case in screen.cases if case.family in ("spatial", "multi_subject")][:8]
    return screen.model_copy(update={"cases": tuple(cases)})


def training_of(*, lr: float) -> WorldTraining:
    return WorldTraining("overtrained", lr=lr)


@pytest.fixture
def monitor_of(suite: Suite, world_cache: Path, tmp_path: Path) -> Callable[..., Monitor]:
    def make(training: WorldTraining, **course: Any) -> Monitor:
        config = world_config(None, training=None, runs_dir=tmp_path / "runs", cache_dir=world_cache)
        settings = {"every_n_steps": 20, "budget": 1e6, "confirmation_factor": 2, "folder": tmp_path / "course"}
        config = config.model_copy(
            update={
                "course": config.course.model_copy(update={**settings, **course}),
                "judges": config.judges.model_copy(update={"clip": ""}),
            }
        )
        return Monitor.from_config(config, pipeline=training.pipeline, optimizer=training.optimizer, suite=suite)

    return make


def test_a_training_that_goes_bad_is_stopped_and_its_checkpoints_are_kept(
    monitor_of: Callable[..., Monitor], tmp_path: Path
) -> None:
    training = training_of(lr=5e-4)
    logged: list[tuple[int, dict[str, float]]] = []
    monitor = monitor_of(training)
    monitor._destinations = (Destination(lambda numbers, step: logged.append((step, dict(numbers)))),)
    decisions = []
    monitor.on_train_begin()
    for training_step in range(1, 201):
        decision = monitor.on_step_end(training_step, loss=training.step())
        if not decisions or decision != decisions[-1]:
            decisions.append(decision)
        if monitor.should_stop:
            break
    monitor.on_checkpoint("out/checkpoint", decisions[-1].training_step)
    choice = monitor.finish()

    assert len(logged) > 1, "stopped at the first look: the test shows nothing then"
    assert decisions[-1].action is Action.STOP
    assert decisions[-1].reason in (Reason.PERSISTENT, Reason.CATASTROPHE)
    assert "prompt" in decisions[-1].gates
    assert decisions[-1].training_step < 200
    # Eight prompts cannot show a harm of a tenth to be excluded, not even where none of them lost anything.
    assert choice.training_step is None
    assert choice.obstacle == "prompt"
    assert "prompt is not shown to be within its margin" in choice.sentence
    assert choice.nearest_miss is not None
    assert choice.nearest_miss < decisions[-1].training_step
    course = json.loads((tmp_path / "course" / "course.json").read_text())
    assert [one["training_step"] for one in course["evaluations"]] == [step for step, _ in logged]
    assert [one["checkpoint"] for one in course["evaluations"]][-2:] == [None, "out/checkpoint"]
    assert all(Path(one["kept"]).is_dir() for one in course["evaluations"] if one["alarmed"])
    assert all("lorabench/prompt/harm" in numbers for _, numbers in logged)
    opened = json.loads((tmp_path / "course" / "events.jsonl").read_text().splitlines()[0])
    assert opened["equals_base"]
    assert opened["drift"] == 0.0
    assert 0 < logged[0][1]["lorabench/drift"] < logged[-1][1]["lorabench/drift"]


def test_a_training_set_back_and_resumed_goes_on_without_a_duplicate_or_a_gap(
    monitor_of: Callable[..., Monitor], tmp_path: Path
) -> None:
    def run(until: int, *, stored: dict[str, Any] | None, start: int = 1, weights: Any = None) -> tuple[Any, Any, Any]:
        training = training_of(lr=1e-4)
        for _ in range(start - 1):
            training.step()
        monitor = monitor_of(training)
        if stored is not None:
            monitor.load_state_dict(stored)
        states = {}
        for training_step in range(start, until + 1):
            monitor.on_step_end(training_step, loss=training.step())
            states[training_step] = monitor.state_dict()
        monitor.finish()
        return monitor.course, states, monitor

    first, states, _ = run(45, stored=None)
    resumed, _, _ = run(65, stored=states[30], start=31)
    restarted, _, _ = run(65, stored=None)

    assert [one.training_step for one in first.evaluations] == [20, 40]
    assert [one.training_step for one in resumed.evaluations] == [20, 40, 60]
    assert resumed.evaluations[1].adapter_digest == first.evaluations[1].adapter_digest
    assert restarted.evaluations == resumed.evaluations
    events = [json.loads(line) for line in (tmp_path / "course" / "events.jsonl").read_text().splitlines()]
    assert [one["training_step"] for one in events if one["kind"] == "evaluated"].count(20) == 1


def test_failed_evaluation_is_recorded_and_training_goes_on(
    monitor_of: Callable[..., Monitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = training_of(lr=1e-4)
    monitor = monitor_of(training)
    monitor.on_train_begin()

    def out_of_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(monitor._ensure_open().judge, "measure", out_of_memory)
    training.step()
    decision = monitor.evaluate(1)

    assert decision.action is Action.CONTINUE
    assert decision.reason is Reason.NOT_MEASURED
    assert "out of memory" in monitor.course.evaluations[-1].unmeasured["everything"]
    assert all(p.requires_grad for p in training.weights)
    assert training.step() > 0


def test_failed_evaluation_stops_only_where_that_is_asked_for(
    monitor_of: Callable[..., Monitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = monitor_of(training_of(lr=1e-4), on_error="stop")
    monitor.on_train_begin()
    monkeypatch.setattr(monitor._ensure_open().judge, "judge_file", lambda *_, **__: 1 / 0)

    decision = monitor.evaluate(1)

    assert (decision.action, decision.reason) == (Action.STOP, Reason.NOT_MEASURED)
    assert "division by zero" in decision.sentence


def test_dead_adapter_stops_with_its_reason(monitor_of: Callable[..., Monitor]) -> None:
    monitor = monitor_of(training_of(lr=1e-4))

    decision = monitor.evaluate(20)

    assert (decision.action, decision.reason) == (Action.STOP, Reason.DEAD_ADAPTER)
    assert "changes nothing" in decision.sentence


def test_loss_that_is_not_finite_stops_at_once(monitor_of: Callable[..., Monitor]) -> None:
    monitor = monitor_of(training_of(lr=1e-4))

    decision = monitor.on_step_end(1, loss=float("nan"))

    assert (decision.action, decision.reason) == (Action.STOP, Reason.NOT_FINITE)


def test_stored_state_of_another_suite_is_refused_or_restarts(
    monitor_of: Callable[..., Monitor],
) -> None:
    monitor = monitor_of(training_of(lr=1e-4))
    state = monitor.state_dict()
    state["course"]["identity"] = "0" * 64

    with pytest.raises(OtherCourseError, match="must be judged alike"):
        monitor.load_state_dict(state)
    monitor.load_state_dict(state, restart=True)

    assert monitor.course.evaluations == ()


def test_a_suite_that_was_trained_on_is_refused_before_the_first_step(
    monitor_of: Callable[..., Monitor], suite: Suite, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    shutil.copytree(shipped_data("fixtures/datasets/overtrained"), pictures)
    rows = [json.loads(line) for line in (pictures / "captions.jsonl").read_text().splitlines()]
    rows[0]["text"] = suite.cases[0].render("a zvq drawing of")
    (pictures / "captions.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    monitor = monitor_of(training_of(lr=1e-4))
    training_set = monitor.config.training_set.model_copy(update={"folder": pictures})
    monitor.config = monitor.config.model_copy(update={"training_set": training_set})

    for _ in range(2):  # the second time as clearly as the first: nothing is left locked
        with pytest.raises(HeldOutError, match="must not be training captions; found 1"):
            monitor.on_train_begin()


def test_an_adapter_that_is_not_the_base_before_the_first_step_is_said_to_be(
    monitor_of: Callable[..., Monitor],
) -> None:
    training = training_of(lr=1e-3)
    training.step()
    decision = monitor_of(training).on_train_begin()

    assert (decision.action, decision.reason) == (Action.CONTINUE, Reason.SELF_TEST)
    assert decision.sentence.startswith("The adapter changes the base before anything was judged here")


def test_finalists_that_cannot_be_judged_again_leave_the_first_choice_and_say_so(
    monitor_of: Callable[..., Monitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = training_of(lr=1e-5)
    monitor = monitor_of(training)
    for training_step in range(1, 21):
        monitor.on_step_end(training_step, loss=training.step())
    monkeypatch.setattr(monitor._ensure_open().judge, "measure", lambda *_, **__: 1 / 0)
    choice = monitor.finish()

    assert "The finalists were not judged again: ZeroDivisionError: division by zero." in choice.sentence
    assert monitor.course.settlement is None
