"""Two processes, one judge: both stop at the same step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch.multiprocessing as mp

from lorabench.callback import Monitor
from lorabench.evaluation.demonstration import world_config
from lorabench.records.course import Action, Decision, Reason
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite


class StopsAtFour(Monitor):
    """Judges without pictures: everything is well until step 4."""

    def _ensure_open(self, *, restart: bool = False) -> Any:
        return None

    def _loss_is_finite(self, training_step: int, loss: Any, grad_norm: Any) -> bool:
        return True

    def evaluate(self, training_step: int, *, checkpoint: str | None = None) -> Decision:
        action = Action.STOP if training_step >= 4 else Action.CONTINUE
        reason = Reason.PERSISTENT if action is Action.STOP else Reason.HEALTHY
        self.decision = Decision(action=action, reason=reason, sentence=f"{action}", training_step=training_step)
        self._cadence.screened(training_step, seconds=0.0)
        return self.decision


def process(rank: int, folder: Path) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    suite = read_suite(shipped_suite_path("world/screen")).suite
    config = world_config(None, training=None, runs_dir=folder / "runs")
    config = config.model_copy(
        update={"course": config.course.model_copy(update={"folder": folder / "course", "every_n_steps": 2})}
    )
    monitor = StopsAtFour(config, suite=suite, pipeline=None)
    seen = []
    for training_step in range(1, 10):
        seen.append(monitor.on_step_end(training_step, loss=1.0).action.value)
        if monitor.should_stop:
            break
    if rank == 1:
        assert monitor.on_train_begin() == monitor.decision
        assert monitor.state_dict() == {}
        monitor.load_state_dict({})
        assert monitor.finish().training_step is None
    (folder / f"{rank}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()


def test_rank_zero_judges_and_all_stop_together(tmp_path: Path) -> None:
    mp.spawn(process, args=(tmp_path,), nprocs=2)

    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert seen[0] == seen[1] == ["CONTINUE"] * 3 + ["STOP"]
