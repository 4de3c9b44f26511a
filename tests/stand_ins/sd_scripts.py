"""A stand-in for sd-scripts' `NetworkTrainer`: the hooks it has, called when it calls them. No line of it is theirs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file

from tests.stand_ins.tiny_flux import Layer, TinyFlux


class Accelerator:
    """What is asked of accelerate's."""

    is_main_process = True
    sync_gradients = True

    def __init__(self) -> None:
        self.ended = False

    def end_training(self) -> None:
        self.ended = True


class KohyaLayer(Layer):
    """Takes the place of the linear layer's `forward`."""

    def __init__(self, linear: torch.nn.Linear, **more: Any) -> None:
        super().__init__(linear, **more)
        self.multiplier, self.org_module = 1.0, [linear]

    def apply_to(self) -> None:
        linear = self.org_module[0]
        self.org_forward, linear.forward = linear.forward, self.forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.org_forward(x) + self.delta(x) * self.multiplier


class KohyaNetwork(torch.nn.Module):
    """Saved with kohya's keys."""

    def __init__(self, subject: TinyFlux) -> None:
        super().__init__()
        self.unet_loras = []
        for path, linear in subject.targets():
            layer = KohyaLayer(linear)
            self.add_module("lora_unet_" + path.replace(".", "_"), layer)
            self.unet_loras.append(layer)

    def apply_to(self) -> None:
        for layer in self.unet_loras:
            layer.apply_to()

    def save_weights(self, file: str, dtype: torch.dtype | None, metadata: dict[str, str]) -> None:
        """Draws and changes the mode, as nobody forbids a saver."""
        torch.rand(1)
        self.eval()
        state = {key: value.detach().clone().to("cpu") for key, value in self.state_dict().items()}
        save_file({key: value if dtype is None else value.to(dtype) for key, value in state.items()}, file, metadata)


class NetworkTrainer:
    """Trains `args.max_train_steps` optimiser steps of `args.gradient_accumulation_steps` batches."""

    made: Any = None
    subject_class: Any = TinyFlux

    def __init__(self) -> None:
        NetworkTrainer.made = self
        self.sampled: list[tuple[int | None, int]] = []

    def sample_images(
        self, accelerator: Any, args: Any, epoch: Any, global_step: int, device: Any, vae: Any, tokenizers: Any,
        text_encoder: Any, unet: Any,
    ) -> None:  # fmt: skip
        self.sampled.append((epoch, global_step))

    def post_process_network(self, args: Any, accelerator: Any, network: Any, text_encoders: Any, unet: Any) -> None:
        pass

    def process_batch(self, batch: Any, network: Any, *, is_train: bool = True) -> torch.Tensor:
        return self.subject.loss()

    def train(self, args: Any) -> None:
        torch.manual_seed(args.seed)
        self.subject, self.accelerator = self.subject_class(), Accelerator()
        parts = self.subject.pipeline
        self.network = KohyaNetwork(self.subject)
        self.post_process_network(args, self.accelerator, self.network, self.subject.text_encoders, parts.transformer)
        self.network.apply_to()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=args.learning_rate)
        self.network.train()
        place = (torch.device("cpu"), parts.vae, [], self.subject.text_encoders, parts.transformer)
        self.sample_images(self.accelerator, args, 0, 0, *place)
        global_step = 0
        for epoch in range(args.epochs):
            for _ in range(args.max_train_steps // args.epochs):
                for _ in range(args.gradient_accumulation_steps):
                    loss = self.process_batch(None, self.network, is_train=True)
                    loss.backward()
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
                global_step += 1
                self.sample_images(self.accelerator, args, None, global_step, *place)
            with torch.no_grad():
                self.process_batch(None, self.network, is_train=False)
            self.sample_images(self.accelerator, args, epoch + 1, global_step, *place)
        self.accelerator.end_training()
        folder = Path(args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.network.save_weights(str(folder / f"{args.output_name}.safetensors"), None, {})


def arguments(folder: Path, **more: Any) -> Any:
    stated = {
        "seed": 3,
        "learning_rate": 1e-5,
        "max_train_steps": 6,
        "epochs": 2,
        "gradient_accumulation_steps": 1,
        "output_dir": str(folder / "out"),
        "output_name": "style",
        "save_precision": None,
        "deepspeed": False,
    }
    return SimpleNamespace(**{**stated, **more})
