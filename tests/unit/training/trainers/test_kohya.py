"""A stand-in for sd-scripts' trainer and a monitor that takes notes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lorabench.training.trainers.inside import MissingHookError, NothingHeardError, UnsuitedTrainingError
from lorabench.training.trainers.kohya import KohyaMonitor
from tests.stand_ins import sd_scripts
from tests.stand_ins.tiny_linear import TinyLinear
from tests.unit.training.noting_monitor import NotingMonitor


class NetworkTrainer(sd_scripts.NetworkTrainer):
    subject_class = TinyLinear


def train(monitor: NotingMonitor, folder: Path, trainer_class: type = NetworkTrainer, **more: Any) -> Any:
    KohyaMonitor(monitor).train(trainer_class, sd_scripts.arguments(folder, **more))
    return sd_scripts.NetworkTrainer.made


def test_steps_of_the_optimiser_are_told_once_with_the_mean_loss_of_their_batches(tmp_path: Path) -> None:
    monitor = NotingMonitor()
    losses: list[float] = []

    class Noted(NetworkTrainer):
        def process_batch(self, batch: Any, network: Any, *, is_train: bool = True) -> torch.Tensor:
            loss = super().process_batch(batch, network, is_train=is_train)
            losses.extend([loss.item()] if is_train else [])
            return loss

    trainer = train(monitor, tmp_path, Noted, max_train_steps=4, gradient_accumulation_steps=2)

    assert monitor.heard == ["begin", "step 1", "step 2", "step 3", "step 4", "finish"]
    means = [(losses[k] + losses[k + 1]) / 2 for k in range(0, 8, 2)]
    assert [monitor.losses[step][0] for step in (1, 2, 3, 4)] == pytest.approx(means)
    assert trainer.sampled == [(0, 0), (None, 1), (None, 2), (1, 2), (None, 3), (None, 4), (2, 4)]
    assert (tmp_path / "out" / "style.safetensors").is_file()


def test_stop_leaves_the_training_before_it_saves_again(tmp_path: Path) -> None:
    monitor = NotingMonitor(stop_at=3)

    trainer = train(monitor, tmp_path)

    assert monitor.heard == ["begin", "step 1", "step 2", "step 3", "finish"]
    assert trainer.accelerator.ended
    assert not (tmp_path / "out").exists()


def test_network_is_handed_over_and_written_as_the_trainer_would(tmp_path: Path) -> None:
    monitor = NotingMonitor()

    trainer = train(monitor, tmp_path, save_precision="bf16")
    file = monitor.adapter.save(tmp_path / "live" / "a.safetensors")

    assert monitor.modules == (trainer.network,)
    assert monitor.pipeline is None
    saved = load_file(file)
    assert set(saved) == set(trainer.network.state_dict())
    assert {one.dtype for one in saved.values()} == {torch.bfloat16}
    assert [one.name for one in file.parent.iterdir()] == ["a.safetensors"]


def test_a_version_without_process_batch_is_watched_without_its_loss() -> None:
    watched = KohyaMonitor(NotingMonitor()).watched(_Without)

    assert "process_batch" not in vars(watched)


class _Without:
    """The least that can be watched."""

    def train(self, args: Any) -> None:
        pass

    def sample_images(self, accelerator: Any, args: Any, epoch: Any, global_step: int, *rest: Any) -> None:
        pass

    def post_process_network(self, args: Any, network: Any) -> None:
        pass


def test_training_of_which_no_step_is_heard_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NothingHeardError, match="it heard of none: either none was made, or this version calls"):
        KohyaMonitor(NotingMonitor()).train(_Without, None)


def test_class_without_the_hook_is_refused_by_name() -> None:
    class Renamed:
        def train(self, args: Any) -> None: ...
        def make_samples(self) -> None: ...

    with pytest.raises(
        MissingHookError, match=r"sd-scripts needs Renamed\.sample_images; found no such attribute in .*"
    ):
        KohyaMonitor(NotingMonitor()).watched(Renamed)


def test_hook_with_other_parameters_is_refused_with_those_it_has() -> None:
    class Changed(_Without):
        def sample_images(self, step: int, context: Any) -> None:  # type: ignore[override]
            pass

    needed = r"Changed\.sample_images with the parameters accelerator, args, epoch, global_step"
    with pytest.raises(
        MissingHookError, match=needed + r"; found sample_images\(self, step, context\).*lorabench watch"
    ):
        KohyaMonitor(NotingMonitor()).watched(Changed)


def test_steps_without_a_network_are_refused(tmp_path: Path) -> None:
    class Other(_Without):
        def train(self, args: Any) -> None:
            self.sample_images(None, args, None, 1)

    with pytest.raises(MissingHookError, match="post_process_network before the first step; found no such call"):
        KohyaMonitor(NotingMonitor()).train(Other, SimpleNamespace())


def test_deepspeed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsuitedTrainingError, match=r"found DeepSpeed.*lorabench watch"):
        train(NotingMonitor(), tmp_path, deepspeed=True)


def test_error_of_the_trainer_goes_its_way_and_the_course_stays_open(tmp_path: Path) -> None:
    class Broken(NetworkTrainer):
        def process_batch(self, batch: Any, network: Any, *, is_train: bool = True) -> torch.Tensor:
            raise ZeroDivisionError

    monitor = NotingMonitor()

    with pytest.raises(ZeroDivisionError):
        train(monitor, tmp_path, Broken)
    assert monitor.heard == ["begin"]


SCRIPT = """
import train_network

class FluxNetworkTrainer(train_network.NetworkTrainer):
    pass

def setup_parser():
    import argparse
    parser = argparse.ArgumentParser()
    parser.add_argument("--config_file")
    return parser
"""
BASE = """
from tests.unit.training.trainers.test_kohya import NetworkTrainer as StandIn

class NetworkTrainer(StandIn):
    pass
"""
TOOLS = """
from pathlib import Path
from tests.stand_ins.sd_scripts import arguments

def verify_command_line_training_args(args):
    assert args.config_file

def read_config_from_file(args, parser):
    return arguments(Path(args.config_file).parent, max_train_steps=2, epochs=1)
"""


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out like that of sd-scripts."""
    folder = tmp_path / "sd-scripts"
    (folder / "library").mkdir(parents=True)
    (folder / "library" / "__init__.py").touch()
    for name, text in {"flux_train_network": SCRIPT, "train_network": BASE, "library/train_util": TOOLS}.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("flux_train_network", "train_network", "library", "library.train_util"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield folder
    for name in ("flux_train_network", "train_network", "library", "library.train_util"):
        sys.modules.pop(name, None)


def test_launch_runs_the_script_with_its_own_command_line(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = NotingMonitor()
    monkeypatch.setattr(sys, "argv", ["train_with_lorabench.py", "--config_file", str(scripts / "my.toml")])

    KohyaMonitor(monitor).launch("flux_train_network")

    assert monitor.heard == ["begin", "step 1", "step 2", "finish"]
    assert type(sd_scripts.NetworkTrainer.made).__name__ == "WatchedFluxNetworkTrainer"


def test_launch_from_another_folder_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    with pytest.raises(MissingHookError, match="with flux_train_network; found no module flux_train_network from"):
        KohyaMonitor(NotingMonitor()).launch("flux_train_network")


def test_script_with_two_trainers_is_refused(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = SCRIPT + "\nclass OtherTrainer(train_network.NetworkTrainer):\n    pass\n"
    (scripts / "flux_train_network.py").write_text(second)

    with pytest.raises(MissingHookError, match=r"one subclass of .* found FluxNetworkTrainer, OtherTrainer"):
        KohyaMonitor(NotingMonitor()).launch("flux_train_network")
