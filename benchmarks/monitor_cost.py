"""What the monitor costs a training of the embedded model, at the default cadence and budget.

The same training three times, one after the other: alone, with the monitor and empty caches, and with the monitor
again, which finds control pictures and features made.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from lorabench.callback import Monitor
from lorabench.evaluation.demonstration import world_config
from lorabench.storage.course_folder import CourseFolder
from lorabench.storage.shipped import shipped_data, shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.training.demonstration import WorldTraining

DATASET = "healthy"
LEARNING_RATE = 1e-4


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    n_steps = parser.parse_args(argv).steps
    alone, alone_cpu, _ = _trained(n_steps, None)
    print(f"alone: {n_steps} steps in {alone:.0f} s ({alone_cpu:.0f} s of processor time)")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "warm"):
            wall, cpu, looks = _trained(n_steps, Path(folder) / name, cache_dir=Path(folder) / "cache")
            judging = CourseFolder(Path(folder) / name).events()[-1]["judging_seconds"]
            print(
                f"{name}: {wall:.0f} s ({cpu:.0f} s), {wall / alone:.2f} times the training alone "
                f"({cpu / alone_cpu:.2f} by processor time); "
                f"looks (step, seconds): {looks}; looks take {judging:.0f} s, "
                f"{judging / (wall - judging):.1%} of the training's time"
            )


Looks = list[tuple[int, float]]


def _trained(n_steps: int, folder: Path | None, *, cache_dir: Path | None = None) -> tuple[float, float, Looks]:
    """Wall and processor seconds of a training, and the step and seconds of each look."""
    training = WorldTraining(DATASET, lr=LEARNING_RATE)
    monitor = None if folder is None else _monitor(training, folder, cache_dir=cache_dir)
    wall, cpu = time.perf_counter(), time.process_time()
    for training_step in range(1, n_steps + 1):
        loss = training.step()
        if monitor is not None:
            monitor.on_step_end(training_step, loss=loss)
    if monitor is not None:
        monitor.finish(settle=False)
    evaluations = () if monitor is None else monitor.course.evaluations
    looks = [(one.training_step, round(one.seconds, 1)) for one in evaluations]
    return time.perf_counter() - wall, time.process_time() - cpu, looks


def _monitor(training: WorldTraining, folder: Path, *, cache_dir: Path | None) -> Monitor:
    suite = read_suite(shipped_suite_path("world/screen")).suite
    dataset = shipped_data(f"fixtures/datasets/{DATASET}")
    config = world_config(None, training=dataset, runs_dir=folder / "runs", cache_dir=cache_dir)
    course = config.course.model_copy(update={"folder": folder})
    return Monitor(
        config.model_copy(update={"course": course}),
        suite=suite,
        pipeline=training.pipeline,
        optimizer=training.optimizer,
    )


if __name__ == "__main__":
    main()
