"""Two processes in stand-ins of the trainers: both hear of every step and stop together, one opens and closes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch.multiprocessing as mp

from lorabench.training.ranks import Ranks
from lorabench.training.trainers.ai_toolkit import ToolkitMonitor
from lorabench.training.trainers.kohya import KohyaMonitor
from lorabench.training.trainers.simpletuner import SimpleTunerMonitor
from tests.stand_ins import ai_toolkit, sd_scripts, simpletuner
from tests.stand_ins.tiny_linear import TinyLinear
from tests.unit.training.noting_monitor import NotingMonitor
from tests.unit.training.trainers.test_simpletuner import Plain


class Agreeing(NotingMonitor):
    """Rank 0 decides to stop at step 3; the others wait for its word."""

    def on_step_end(self, training_step: int, *, loss: Any = None, grad_norm: Any = None) -> None:
        super().on_step_end(training_step, loss=loss, grad_norm=grad_norm)
        ranks = Ranks.here()
        self.should_stop = ranks.agree(int(training_step == 3 and ranks.leads)) == 1


def process(rank: int, folder: Path) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    monitors = {name: Agreeing() for name in ("sd-scripts", "ai-toolkit", "simpletuner")}
    own = folder / str(rank)

    kohya = type("NetworkTrainer", (sd_scripts.NetworkTrainer,), {"subject_class": TinyLinear})
    KohyaMonitor(monitors["sd-scripts"]).train(kohya, sd_scripts.arguments(own))

    toolkit = type("SDTrainer", (ai_toolkit.SDTrainer,), {"subject_class": TinyLinear})
    config = {"seed": 1, "lr": 0.1, "steps": 6, "folder": str(own)}
    ToolkitMonitor(monitors["ai-toolkit"], live=False).watched(toolkit)(0, None, config).run()

    trainer_class = type("Trainer", (Plain,), {"settings": simpletuner.settings(own)})
    SimpleTunerMonitor(monitors["simpletuner"]).train(trainer_class, run=simpletuner.run_training)

    heard = {name: one.heard for name, one in monitors.items()}
    (folder / f"{rank}.json").write_text(json.dumps(heard))
    dist.destroy_process_group()


def test_processes_hear_alike_and_stop_together(tmp_path: Path) -> None:
    mp.spawn(process, args=(tmp_path,), nprocs=2)

    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    steps = ["step 1", "step 2", "step 3"]
    assert all(heard == ["begin", *steps, "finish"] for heard in first.values())
    assert all(heard == steps for heard in second.values())
