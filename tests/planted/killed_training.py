"""A training with the monitor attached, as a program of its own that can be killed: what `test_monitor_killed` runs.

Saves its state every three steps, judges every four, and says what it is about to do.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from lorabench.callback import Monitor
from lorabench.evaluation.demonstration import world_config
from lorabench.evaluation.observer import Observer
from lorabench.storage.atomic import write_bytes
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.training.demonstration import WorldTraining

LAST, SAVED_EVERY, JUDGED_EVERY = 13, 3, 4


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Announcing(Observer):
    """Says when pictures of a checkpoint begin to be made."""

    def stage_started(self, stage: str, total: int) -> None:
        say(f"stage {stage}")


def monitor_of(training: WorldTraining, folder: Path, *, cache_dir: Path) -> Monitor:
    screen = read_suite(shipped_suite_path("world/screen")).suite
    cases = [case for case in screen.cases if case.family in ("spatial", "multi_subject")][:4]
    config = world_config(None, training=None, runs_dir=folder / "runs", cache_dir=cache_dir)
    course = {"every_n_steps": JUDGED_EVERY, "budget": 1e6, "n_seeds": 1, "folder": folder / "course", "finalists": 0}
    config = config.model_copy(
        update={
            "course": config.course.model_copy(update=course),
            "judges": config.judges.model_copy(update={"clip": ""}),
        }
    )
    suite = screen.model_copy(update={"cases": tuple(cases)})
    return Monitor(config, suite=suite, pipeline=training.pipeline, optimizer=training.optimizer, observer=Announcing())


def save(path: Path, training: WorldTraining, monitor: Monitor, *, training_step: int) -> None:
    state = {
        "training_step": training_step,
        "weights": [one.detach().clone() for one in training.weights],
        "optimizer": training.optimizer.state_dict(),
        "generator": training.generator.get_state(),
        "monitor": json.dumps(monitor.state_dict()),
    }
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    partial.replace(path)


def restore(path: Path, training: WorldTraining, monitor: Monitor) -> int:
    if not path.exists():
        return 0
    state: dict[str, Any] = torch.load(path, weights_only=True)
    with torch.no_grad():
        for one, saved in zip(training.weights, state["weights"], strict=True):
            one.copy_(saved)
    training.optimizer.load_state_dict(state["optimizer"])
    training.generator.set_state(state["generator"])
    monitor.load_state_dict(json.loads(state["monitor"]))
    return int(state["training_step"])


def main(folder: Path, cache_dir: Path) -> None:
    torch.set_num_threads(1)
    training = WorldTraining("overtrained", lr=2e-4)
    monitor = monitor_of(training, folder, cache_dir=cache_dir)
    start = restore(folder / "state.pt", training, monitor)
    say(f"from {start}")
    for training_step in range(start + 1, LAST + 1):
        loss = training.step()
        say(f"step {training_step}")
        monitor.on_step_end(training_step, loss=loss)
        if training_step % SAVED_EVERY == 0:
            save(folder / "state.pt", training, monitor, training_step=training_step)
    monitor.finish()
    weights = torch.cat([one.detach().flatten() for one in training.weights])
    write_bytes(folder / "weights.bin", weights.numpy().tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
