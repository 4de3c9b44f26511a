"""A stand-in for OneTrainer: callbacks that swallow errors, commands, a trainer with its setup and its saver."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file

from tests.stand_ins.tiny_flux import Layer, TinyFlux


class TrainCallbacks:
    """Errors of a callback are lost."""

    def __init__(self) -> None:
        self._progress: Callable[..., None] = lambda *_: None

    def set_on_update_train_progress(self, on_update_train_progress: Callable[..., None]) -> None:
        self._progress = on_update_train_progress

    def on_update_train_progress(self, progress: Any, max_step: int, max_epoch: int) -> None:
        with contextlib.suppress(Exception):
            self._progress(progress, max_step, max_epoch)


class TrainCommands:
    def __init__(self) -> None:
        self._stop = False

    def stop(self) -> None:
        self._stop = True

    def get_stop_command(self) -> bool:
        return self._stop


class HookedLayer(Layer):
    def __init__(self, prefix: str, linear: torch.nn.Linear) -> None:
        super().__init__(linear)
        self.prefix, self._linear = prefix, [linear]

    def hook_to_module(self) -> None:
        linear = self._linear[0]
        self.orig_forward, linear.forward = linear.forward, self.forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.orig_forward(x) + self.delta(x)


class Wrapper:
    """The adapter of one part of the model; no module itself."""

    def __init__(self, subject: TinyFlux) -> None:
        self.lora_modules = {path: HookedLayer(f"transformer.{path}", linear) for path, linear in subject.targets()}

    def hook_to_module(self) -> None:
        for layer in self.lora_modules.values():
            layer.hook_to_module()

    def parameters(self) -> list[Any]:
        return [one for layer in self.lora_modules.values() for one in layer.parameters()]


class Average:
    """Averaged weights of OneTrainer's kind."""

    def __init__(self, parameters: list[Any]) -> None:
        self.ema_parameters = [one.detach().clone() for one in parameters]

    def step(self, parameters: list[Any]) -> None:
        with torch.no_grad():
            for average, one in zip(self.ema_parameters, parameters, strict=True):
                average.lerp_(one, 0.1)

    def copy_ema_to(self, parameters: list[Any], store_temp: bool = True) -> None:
        for average, one in zip(self.ema_parameters, parameters, strict=True):
            one.data.copy_(average)


class Model:
    subject_class: Any = TinyFlux

    def __init__(self) -> None:
        self.subject = self.subject_class()
        self.transformer_lora, self.ema, self.optimizer = Wrapper(self.subject), None, None
        self.moves: list[str] = []

    def adapters(self) -> list[Wrapper]:
        return [] if self.transformer_lora is None else [self.transformer_lora]

    def evict(self) -> None:
        self.moves.append("evicted")


class Setup:
    def setup_train_device(self, model: Model, config: Any) -> None:
        model.moves.append("on the device")

    def calculate_loss(self, model: Model, batch: Any, data: Any, config: Any) -> torch.Tensor:
        return model.subject.loss()


class Saver:
    """Writes layers with their alpha."""

    def save(
        self, model: Model, model_type: Any, output_model_format: Any, output_model_destination: str, dtype: Any
    ) -> None:
        torch.rand(1)  # nobody forbids a saver to draw
        tensors = {}
        for layer in model.transformer_lora.lora_modules.values():
            for name, value in layer.state_dict().items():
                tensors[f"{layer.prefix}.{name}"] = value.detach().clone().to("cpu", dtype)
        Path(output_model_destination).parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, output_model_destination, {"ot_branch": "stand-in"})


class GenericTrainer:
    """Steps are micro-batches, as there."""

    def __init__(self, config: Any, callbacks: TrainCallbacks, commands: TrainCommands) -> None:
        self.config, self.callbacks, self.commands = config, callbacks, commands
        self.ended = False

    def start(self) -> None:
        torch.manual_seed(self.config.seed)
        self.model = Model()
        self.model_setup, self.model_saver = Setup(), Saver()
        self.parameters = self.model.transformer_lora.parameters()
        self.model.transformer_lora.hook_to_module()
        self.model.optimizer = torch.optim.AdamW(self.parameters, lr=self.config.learning_rate)
        if self.config.ema:
            self.model.ema = Average(self.parameters)

    def train(self) -> None:
        progress = SimpleNamespace(global_step=0)
        for _ in range(self.config.epochs):
            if self.commands.get_stop_command():
                return
            for _ in range(self.config.batches):
                loss = self.model_setup.calculate_loss(self.model, None, {}, self.config)
                (loss / self.config.gradient_accumulation_steps).backward()
                if (progress.global_step + 1) % self.config.gradient_accumulation_steps == 0:
                    self.model.optimizer.step()
                    self.model.optimizer.zero_grad(set_to_none=True)
                    if self.model.ema is not None:
                        self.model.ema.step(self.parameters)
                with torch.no_grad():
                    self.model_setup.calculate_loss(self.model, None, {}, self.config)
                progress.global_step += 1
                self.callbacks.on_update_train_progress(progress, self.config.batches, self.config.epochs)
                if self.commands.get_stop_command():
                    return
            self.callbacks.on_update_train_progress(progress, self.config.batches, self.config.epochs)

    def end(self) -> None:
        self.ended = True
        self.model.evict()


def configuration(**more: Any) -> Any:
    stated = {
        "seed": 3,
        "learning_rate": 1e-5,
        "epochs": 2,
        "batches": 3,
        "gradient_accumulation_steps": 1,
        "ema": False,
        "multi_gpu": False,
        "model_type": "FLUX_DEV_1",
        "output_model_format": "DIFFUSERS_LORA",
        "output_dtype": SimpleNamespace(torch_dtype=lambda: torch.float32),
    }
    return SimpleNamespace(**{**stated, **more})
