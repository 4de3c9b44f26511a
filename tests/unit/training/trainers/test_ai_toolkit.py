"""A stand-in for ai-toolkit's process and a monitor that takes notes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lorabench.training.trainers.ai_toolkit import ToolkitMonitor, ToolkitSwitch, extension
from lorabench.training.trainers.inside import MissingHookError, NothingHeardError, UnsuitedTrainingError
from tests.stand_ins import ai_toolkit
from tests.stand_ins.tiny_linear import TinyLinear
from tests.unit.training.noting_monitor import NotingMonitor

PLACE = "extensions_built_in.sd_trainer"


class Process(ai_toolkit.SDTrainer):
    subject_class = TinyLinear


def run(monitor: NotingMonitor, folder: Path, *, live: bool = False, process_class: type = Process, **more: Any) -> Any:
    config = {"seed": 1, "lr": 0.1, "steps": 4, "folder": str(folder / "out"), **more}
    process = ToolkitMonitor(monitor, live=live).watched(process_class)(0, None, config)
    process.run()
    return process


@pytest.fixture
def toolkit(monkeypatch: pytest.MonkeyPatch) -> None:
    """ai-toolkit's own extensions, as far as they are asked for."""
    module: Any = ModuleType(PLACE)
    module.AI_TOOLKIT_EXTENSIONS = [SimpleNamespace(uid="diffusion_trainer", get_process=lambda: Process)]
    monkeypatch.setitem(sys.modules, "extensions_built_in", ModuleType("extensions_built_in"))
    monkeypatch.setitem(sys.modules, PLACE, module)


def test_steps_are_told_with_the_weights_untouched_before_the_first(tmp_path: Path) -> None:
    class Looks(NotingMonitor):
        def on_train_begin(self) -> None:
            super().on_train_begin()
            assert all(not one.lora_up.weight.any() for one in self.modules[0].unet_loras)

    monitor = Looks()

    process = run(monitor, tmp_path)

    assert monitor.heard == ["begin", "step 1", "step 2", "step 3", "step 4", "finish"]
    assert all(loss is not None for loss in monitor.losses.values())
    assert monitor.modules == (process.network,)
    assert monitor.optimizer is process.optimizer
    assert process.done


def test_steps_that_only_gather_gradients_are_not_told(tmp_path: Path) -> None:
    monitor = NotingMonitor()

    run(monitor, tmp_path, gather=2)

    assert monitor.heard == ["begin", "step 2", "step 4", "finish"]


def test_stop_leaves_the_process_before_it_saves_again(tmp_path: Path) -> None:
    monitor = NotingMonitor(stop_at=2)

    process = run(monitor, tmp_path)

    assert monitor.heard == ["begin", "step 1", "step 2", "finish"]
    assert process.accelerator.ended
    assert process.done
    assert not (tmp_path / "out").exists()


def test_training_of_which_no_step_is_heard_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NothingHeardError, match="inside ai-toolkit must hear of every step"):
        run(NotingMonitor(), tmp_path, steps=0)


def test_want_of_memory_is_told_at_once_and_not_taken_for_a_bad_batch(tmp_path: Path) -> None:
    class Full(NotingMonitor):
        def on_train_begin(self) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    with pytest.raises(UnsuitedTrainingError, match=r"no room for pictures \(CUDA out of memory.*live=False"):
        run(Full(), tmp_path)


def test_average_is_handed_over_and_the_file_says_whose_it_is(tmp_path: Path) -> None:
    monitor = NotingMonitor()

    process = run(monitor, tmp_path, ema=True, dtype="bf16")
    file = monitor.adapter.save(tmp_path / "a.safetensors")

    assert monitor.ema is process.ema
    assert {one.dtype for one in load_file(file).values()} == {torch.bfloat16}
    with safe_open(file, framework="pt") as opened:
        assert "ai-toolkit" in opened.metadata()["software"]


def test_extension_stands_for_a_process_of_the_toolkit(toolkit: None, tmp_path: Path) -> None:
    monitors = [NotingMonitor(), NotingMonitor()]
    made = extension(monitors.pop, live=False)
    process_class = made.get_process()

    for _ in range(2):
        process_class(0, None, {"seed": 1, "lr": 0.1, "steps": 2, "folder": str(tmp_path / "out")}).run()

    assert made.uid == "lorabench"
    assert issubclass(process_class, Process)
    assert monitors == []


def test_extension_for_an_unknown_process_names_the_known_ones(toolkit: None) -> None:
    with pytest.raises(MissingHookError, match="the extension 'new_trainer'; found diffusion_trainer"):
        extension(NotingMonitor, base="new_trainer").get_process()


def test_extension_outside_of_the_toolkit_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, PLACE, raising=False)

    with pytest.raises(MissingHookError, match=r"AI_TOOLKIT_EXTENSIONS; found No module named 'extensions_built_in'"):
        extension(NotingMonitor).get_process()


def test_process_without_the_hooks_is_refused() -> None:
    with pytest.raises(MissingHookError, match=r"ai-toolkit needs .*end_step_hook; found no such attribute"):
        ToolkitMonitor(NotingMonitor()).watched(type("Process", (), {"run": None, "hook_train_loop": None}))


def test_training_of_the_whole_model_is_refused(tmp_path: Path) -> None:
    class Whole(Process):
        def hook_before_train_loop(self) -> None:
            self.network = None

    with pytest.raises(
        UnsuitedTrainingError,
        match="inside ai-toolkit judges a LoRA that one process can write; found no network: the whole",
    ):
        run(NotingMonitor(), tmp_path, process_class=Whole)


@pytest.mark.parametrize("where", ["unloaded", "cached"])
def test_live_pictures_are_refused_without_text_encoders(where: str, tmp_path: Path) -> None:
    class Gone(Process):
        def hook_before_train_loop(self) -> None:
            self.train_config.unload_text_encoder = where == "unloaded"
            self.is_caching_text_embeddings = where == "cached"

    with pytest.raises(UnsuitedTrainingError, match=r"text encoders that are taken away .* live=False"):
        run(NotingMonitor(), tmp_path, live=True, process_class=Gone)


def test_live_pictures_are_refused_for_a_merged_network(tmp_path: Path) -> None:
    class Merged(Process):
        def hook_before_train_loop(self) -> None:
            self.network.is_merged_in = True

    with pytest.raises(UnsuitedTrainingError, match="a network that is merged into the base"):
        run(NotingMonitor(), tmp_path, live=True, process_class=Merged)


@pytest.fixture
def network() -> Any:
    made = ai_toolkit.ToolkitNetwork(TinyLinear())
    made.subject = None
    for one in made.unet_loras:
        torch.nn.init.normal_(one.lora_up.weight)
    return made


def test_switch_acts_with_a_strength_and_leaves_the_network_as_it_was(network: Any) -> None:
    subject = TinyLinear()
    network = ai_toolkit.ToolkitNetwork(subject)
    network.apply_to()
    network.eval()
    for one in network.unet_loras:
        torch.nn.init.normal_(one.lora_up.weight)
    switch = ToolkitSwitch(network, subject.pipeline, write=lambda path: None)
    x = torch.ones(1, 3)
    made = {}
    for state in (None, 0.0, 0.5, 1.0):
        switch.switch(state)
        made[state] = subject.pipeline.transformer(x)
    switch.release()

    assert torch.equal(made[None], made[0.0])
    assert not torch.equal(made[0.5], made[1.0])
    assert not torch.equal(made[None], made[1.0])
    assert (network.is_active, network.multiplier) == (False, 1.0)
    assert not switch.changes_text


def test_earlier_file_is_shown_and_the_live_weights_come_back(network: Any, tmp_path: Path) -> None:
    switch = ToolkitSwitch(
        network, SimpleNamespace(), write=lambda path: network.save_weights(str(path), torch.float32)
    )
    earlier = [one.detach().clone() for one in network.parameters()]
    file = switch.save(tmp_path / "a.safetensors")
    with torch.no_grad():
        for one in network.parameters():
            one.add_(1.0)
    live = [one.detach().clone() for one in network.parameters()]

    with switch.shown(file):
        shown = [one.detach().clone() for one in network.parameters()]

    assert all(torch.equal(one, other) for one, other in zip(shown, earlier, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), live, strict=True))


class Placed:
    """Stands for a module on a device."""

    def __init__(self, device: str) -> None:
        self.device = device

    def parameters(self) -> Any:
        return iter([SimpleNamespace(device=self.device)])

    def to(self, device: str) -> None:
        self.device = device


def test_modules_put_aside_are_at_hand_for_an_evaluation_and_go_back(network: Any) -> None:
    parts = {"transformer": Placed("cuda:0"), "vae": Placed("cpu"), "text_encoder": Placed("cuda:0"), "tokenizer": 1}
    pipeline = SimpleNamespace(components=parts, transformer=parts["transformer"])
    switch = ToolkitSwitch(network, pipeline, write=lambda path: None)

    with switch.room():
        inside = parts["vae"].device

    assert (inside, parts["vae"].device, parts["text_encoder"].device) == ("cuda:0", "cpu", "cuda:0")
