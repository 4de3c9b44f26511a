"""`demo --train` with a stand-in for the training: what it says, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lorabench import callback
from lorabench.cli import app
from lorabench.records.course import Action, Course, Decision, Evaluation, Reason
from lorabench.storage.course_folder import CourseFolder
from lorabench.training import demonstration


class NoTraining:
    """Steps that cost nothing."""

    pipeline = optimizer = None

    def __init__(self, dataset: str, *, lr: float) -> None:
        assert dataset == "overtrained"
        assert lr > 0

    def step(self) -> float:
        return 0.5


class Judge:
    """Says STOP at a step, or never."""

    stops_at = 40

    def __init__(self, config: Any, **_: object) -> None:
        self.folder = CourseFolder(config.course.folder)
        self.every = config.course.every_n_steps
        self.course = Course(identity="x")
        self.decision = Decision(sentence="Nothing was judged yet.", training_step=0)

    def on_train_begin(self) -> Decision:
        return self.decision

    def on_step_end(self, training_step: int, *, loss: float) -> Decision:
        if training_step % self.every == 0:
            stop = training_step == self.stops_at
            self.decision = Decision(
                action=Action.STOP if stop else Action.CONTINUE,
                reason=Reason.PERSISTENT if stop else Reason.HEALTHY,
                sentence="Prompts are followed less." if stop else "All is well.",
                training_step=training_step,
            )
            judged = Evaluation(training_step=training_step, decision=self.decision)
            self.course = self.course.model_copy(update={"evaluations": (*self.course.evaluations, judged)})
        return self.decision

    @property
    def should_stop(self) -> bool:
        return self.decision.action is Action.STOP

    def finish(self) -> None:
        self.folder.save(self.course)


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(demonstration, "WorldTraining", NoTraining)
    monkeypatch.setattr(callback, "Monitor", Judge)
    return lambda: CliRunner().invoke(app, ["demo", "--train", "-q", "-o", str(tmp_path)])


def test_each_decision_is_told_and_a_stopped_training_ends_with_0(train: Any, tmp_path: Path) -> None:
    done = train()

    assert done.exit_code == 0, done.output
    assert "step 20  loss 0.500  CONTINUE: All is well." in done.stderr
    assert "step 40  loss 0.500  STOP: Prompts are followed less." in done.stderr
    assert "persistent" in done.stdout
    page = Path(done.stdout.splitlines()[-1].removeprefix("report: "))
    assert page.is_relative_to(tmp_path)
    assert "Prompts are followed less." in page.read_text(encoding="utf-8")


def test_a_training_that_is_never_stopped_ends_with_1(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Judge, "stops_at", 10_000)

    done = train()

    assert done.exit_code == 1
    assert done.stderr.count("CONTINUE") == 15
