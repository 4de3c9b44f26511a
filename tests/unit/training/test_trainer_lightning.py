"""The real Lightning trainer, of both packages that hold one: a model of one weight, a monitor that takes notes."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from lorabench.callback import Monitor
from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.training.trainers.lightning import MonitorCallback, _callback_class
from tests.unit.training.noting_monitor import NotingMonitor

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def model(package: str, *, manual: bool = False) -> Any:
    declare_missing_operators()

    class OneWeight(import_module(package).LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))
            self.automatic_optimization = not manual
            self.seen: list[float] = []

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            loss = (self.weight * batch).square().mean()
            self.seen.append(loss.item())
            if manual and batch_idx % 2 == 1:
                optimizer = self.optimizers()
                self.manual_backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    return OneWeight()


def trainer(package: str, monitor: NotingMonitor, folder: Path, *, max_steps: int = 4, **settings: Any) -> Any:
    return import_module(package).Trainer(
        default_root_dir=folder,
        max_steps=max_steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[_callback_class(package)(monitor, restart=True)],
        **settings,
    )


def batches() -> Any:
    return torch.utils.data.DataLoader(torch.arange(1.0, 41.0), batch_size=2)


@pytest.mark.parametrize("package", PACKAGES)
def test_monitor_is_told_of_every_optimiser_step_with_the_mean_loss_of_its_batches(
    package: str, tmp_path: Path
) -> None:
    monitor, one = NotingMonitor(), model(package)

    trainer(package, monitor, tmp_path, accumulate_grad_batches=3).fit(one, batches())

    assert monitor.heard == ["begin", "step 1", "step 2", "step 3", "step 4", "finish"]
    means = [sum(one.seen[i : i + 3]) / 3 for i in (0, 3, 6, 9)]
    assert [monitor.losses[step][0] for step in (1, 2, 3, 4)] == pytest.approx(means)


def test_loss_of_a_step_made_by_hand_is_the_mean_of_its_batches(tmp_path: Path) -> None:
    monitor, one = NotingMonitor(), model(PACKAGES[0], manual=True)

    trainer(PACKAGES[0], monitor, tmp_path, max_steps=2).fit(one, batches())

    assert monitor.heard == ["begin", "step 1", "step 2", "finish"]
    assert monitor.losses[2][0] == pytest.approx((one.seen[2] + one.seen[3]) / 2)


@pytest.mark.parametrize("package", PACKAGES)
def test_stop_ends_the_training_at_that_step(package: str, tmp_path: Path) -> None:
    monitor = NotingMonitor(stop_at=3)

    training = trainer(package, monitor, tmp_path, max_steps=10)
    training.fit(model(package), batches())

    assert training.global_step == 3
    assert monitor.heard[-2:] == ["step 3", "finish"]


@pytest.mark.parametrize("package", PACKAGES)
def test_resumed_training_goes_on_from_the_state_in_the_checkpoint(package: str, tmp_path: Path) -> None:
    first = trainer(package, NotingMonitor(), tmp_path, max_steps=2)
    first.fit(model(package), batches())
    first.save_checkpoint(tmp_path / "at_2.ckpt")
    second = NotingMonitor()

    trainer(package, second, tmp_path, max_steps=4).fit(model(package), batches(), ckpt_path=tmp_path / "at_2.ckpt")

    assert second.heard == ["begin", "loaded step 2, restart True", "step 3", "step 4", "finish"]


def test_state_that_was_loaded_is_saved_again_where_no_training_has_begun(tmp_path: Path) -> None:
    callback = MonitorCallback(NotingMonitor())

    assert callback.state_dict() == {}
    callback.load_state_dict({"last_step": 7})
    assert callback.state_dict() == {"last_step": 7}


def test_monitor_gets_the_optimiser_of_the_trainer_unless_it_has_one(tmp_path: Path) -> None:
    without, own = NotingMonitor(), NotingMonitor(optimizer="its own")

    training = trainer(PACKAGES[0], without, tmp_path, max_steps=1)
    training.fit(model(PACKAGES[0]), batches())
    trainer(PACKAGES[0], own, tmp_path, max_steps=1).fit(model(PACKAGES[0]), batches())

    assert without.optimizer is training.optimizers[0]
    assert own.optimizer == "its own"


@pytest.mark.parametrize("package", PACKAGES)
def test_callback_is_one_of_the_package_in_use(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    declare_missing_operators()
    used = import_module(package)
    for name in PACKAGES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, used)

    assert isinstance(MonitorCallback(NotingMonitor()), used.Callback)


def test_noting_monitor_has_the_hooks_of_the_real_one() -> None:
    hooks = [name for name in vars(NotingMonitor) if not name.startswith("_")]

    assert len(hooks) == 6
    for name in hooks:
        noted, real = (inspect.signature(getattr(one, name)).parameters for one in (NotingMonitor, Monitor))
        assert [(p.name, p.kind) for p in noted.values()] == [(p.name, p.kind) for p in real.values()]
