"""Monitors inside stand-ins of the trainers that have networks and loops of their own.

The stand-ins have those trainers' hooks and train the embedded model for real; the trainers themselves are not run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from lorabench.callback import Monitor
from lorabench.evaluation.demonstration import world_config
from lorabench.records.course import Action, Reason
from lorabench.records.suite import Suite
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.training.trainers.ai_toolkit import extension
from lorabench.training.trainers.kohya import KohyaMonitor
from lorabench.training.trainers.onetrainer import OneTrainerMonitor
from lorabench.training.trainers.simpletuner import SimpleTunerMonitor
from tests.stand_ins import ai_toolkit, onetrainer, sd_scripts, simpletuner

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")]

HEALTHY, SPOILT = 1e-5, 5e-2
STEPS = 6


@dataclass(frozen=True)
class Ended:
    """A training after its end: its adapter, its optimiser, torch's generator, and what it would have saved last."""

    weights: list[torch.Tensor]
    optimizer: torch.optim.Optimizer
    generator: torch.Tensor
    final_file: Path | None

    @classmethod
    def of(cls, weights: Any, optimizer: Any, final: Path | None) -> Ended:
        values = [one.detach().clone() for one in weights]
        return cls(values, optimizer, torch.get_rng_state(), final if final and final.exists() else None)


def with_sd_scripts(monitor: Monitor | None, folder: Path, *, lr: float) -> Ended:
    args = sd_scripts.arguments(folder, learning_rate=lr, max_train_steps=STEPS, gradient_accumulation_steps=2)
    if monitor is None:
        sd_scripts.NetworkTrainer().train(args)
    else:
        KohyaMonitor(monitor).train(sd_scripts.NetworkTrainer, args)
    trainer = sd_scripts.NetworkTrainer.made
    assert trainer.accelerator.ended
    return Ended.of(trainer.network.parameters(), trainer.optimizer, Path(args.output_dir) / "style.safetensors")


def with_ai_toolkit(monitor: Monitor | None, folder: Path, *, lr: float, live: bool = True, **more: Any) -> Ended:
    config = {"seed": 3, "lr": lr, "steps": STEPS, "folder": str(folder / "out"), **more}
    process_class: Any = ai_toolkit.SDTrainer
    if monitor is not None:
        with pytest.MonkeyPatch.context() as patch:
            place = "lorabench.training.trainers.ai_toolkit._process_class"
            patch.setattr(place, lambda uid: ai_toolkit.SDTrainer)
            process_class = extension(lambda: monitor, live=live).get_process()
    process = process_class(0, None, config)
    process.run()
    assert process.done
    return Ended.of(process.network.parameters(), process.optimizer, folder / "out" / "style.safetensors")


def with_ai_toolkit_by_file(monitor: Monitor | None, folder: Path, *, lr: float) -> Ended:
    return with_ai_toolkit(monitor, folder, lr=lr, live=False, ema=lr == HEALTHY, gather=2, steps=2 * STEPS)


def with_onetrainer(monitor: Monitor | None, folder: Path, *, lr: float) -> Ended:
    callbacks, commands = onetrainer.TrainCallbacks(), onetrainer.TrainCommands()
    config = onetrainer.configuration(learning_rate=lr, batches=STEPS // 2, ema=lr == HEALTHY)
    trainer = onetrainer.GenericTrainer(config, callbacks, commands)
    if monitor is not None:
        trainer = OneTrainerMonitor(monitor).watch(trainer, callbacks=callbacks, commands=commands)
    trainer.start()
    trainer.train()
    trainer.end()
    assert trainer.ended
    assert commands.get_stop_command() == (monitor is not None and monitor.should_stop)
    return Ended.of(trainer.parameters, trainer.model.optimizer, None)


def with_simpletuner(monitor: Monitor | None, folder: Path, *, lr: float) -> Ended:
    class Trainer(simpletuner.Trainer):
        settings = simpletuner.settings(folder, learning_rate=lr, max_train_steps=STEPS + 1)

    if monitor is None:
        simpletuner.run_training(Trainer())
    else:
        SimpleTunerMonitor(monitor).train(Trainer, run=simpletuner.run_training)
    trainer = simpletuner.Trainer.made
    assert trainer.cleaned == (monitor is not None)
    assert trainer.should_abort == (monitor is not None and monitor.should_stop)
    return Ended.of(trainer.weights, trainer.optimizer, folder / "out" / "pytorch_lora_weights.safetensors")


TRAINERS = [with_sd_scripts, with_ai_toolkit, with_ai_toolkit_by_file, with_onetrainer, with_simpletuner]


@pytest.fixture(scope="module")
def suite() -> Suite:
    """Eight cases of two shapes each; fewer would not test the judge."""
    screen = read_suite(shipped_suite_path("world/screen")).suite
    cases = [case for case in screen.cases if case.family in ("spatial", "multi_subject")][:8]
    return screen.model_copy(update={"cases": tuple(cases)})


@pytest.fixture
def monitor_of(suite: Suite, world_cache: Path, tmp_path: Path) -> Callable[..., Monitor]:
    def make(**course: Any) -> Monitor:
        config = world_config(None, training=None, runs_dir=tmp_path / "runs", cache_dir=world_cache)
        settings = {
            "every_n_steps": 3,
            "budget": 1e6,
            "n_seeds": 1,
            "confirmation_factor": 1,
            "finalists": 1,
            "free_judges": "always",
        }
        settings |= {"folder": tmp_path / "course", "final_seeds": 1, **course}
        config = config.model_copy(
            update={
                "course": config.course.model_copy(update=settings),
                "judges": config.judges.model_copy(update={"clip": ""}),
            }
        )
        return Monitor.from_config(config, suite=suite, final_suite=suite)

    return make


@pytest.mark.parametrize("train", TRAINERS)
def test_healthy_training_goes_on_and_ends_in_the_bits_of_one_without_monitor(
    train: Callable[..., Ended], monitor_of: Callable[..., Monitor], tmp_path: Path
) -> None:
    monitor = monitor_of()

    alone = train(None, tmp_path / "alone", lr=HEALTHY)
    judged = train(monitor, tmp_path / "judged", lr=HEALTHY)

    evaluations = monitor.course.evaluations
    assert [one.decision.action for one in evaluations] == [Action.CONTINUE] * len(evaluations)
    assert len(evaluations) > 1
    assert all(one.screen and "everything" not in one.unmeasured for one in evaluations)
    assert [one["kind"] for one in _events(tmp_path)][-2:] == ["settled", "finished"]
    assert all(torch.equal(one, other) for one, other in zip(alone.weights, judged.weights, strict=True))
    assert torch.equal(alone.generator, judged.generator)
    assert _equal(alone.optimizer.state_dict()["state"], judged.optimizer.state_dict()["state"])
    assert (alone.final_file is None) == (judged.final_file is None)


def test_without_the_guard_the_same_training_ends_elsewhere(
    monitor_of: Callable[..., Monitor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorabench.training.guard.undisturbed", lambda *_, **__: torch.no_grad())

    alone = with_sd_scripts(None, tmp_path / "alone", lr=HEALTHY)
    judged = with_sd_scripts(monitor_of(finalists=0), tmp_path / "judged", lr=HEALTHY)

    assert not all(torch.equal(one, other) for one, other in zip(alone.weights, judged.weights, strict=True))
    assert not torch.equal(alone.generator, judged.generator)


@pytest.mark.parametrize("train", TRAINERS)
def test_spoilt_training_is_stopped_as_its_trainer_stops(
    train: Callable[..., Ended], monitor_of: Callable[..., Monitor], tmp_path: Path
) -> None:
    monitor = monitor_of()

    ended = train(monitor, tmp_path / "spoilt", lr=SPOILT)

    assert monitor.should_stop
    assert monitor.decision.reason in (Reason.CATASTROPHE, Reason.BROKEN_PICTURES, Reason.PERSISTENT)
    assert len(monitor.course.evaluations) < 3
    assert ended.final_file is None
    assert _events(tmp_path)[-1]["kind"] == "finished"


def _events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "course" / "events.jsonl").read_text().splitlines()]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)
