"""A stand-in for ai-toolkit's training process and network: their hooks and switches, written anew."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.stand_ins.sd_scripts import Accelerator
from tests.stand_ins.tiny_flux import Layer, TinyFlux


class ToolkitLayer(Layer):
    """Acts only while its network is active."""

    def __init__(self, linear: torch.nn.Linear, network: ToolkitNetwork) -> None:
        super().__init__(linear)
        self._network, self._linear = [network], [linear]

    def apply_to(self) -> None:
        linear = self._linear[0]
        self.org_forward, linear.forward = linear.forward, self.forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        network = self._network[0]
        if not network.is_active or network.multiplier == 0:
            return self.org_forward(x)
        return self.org_forward(x) + self.delta(x) * network.torch_multiplier


class ToolkitNetwork(torch.nn.Module):
    """Saved in peft's layout, without alpha."""

    def __init__(self, subject: TinyFlux) -> None:
        super().__init__()
        self.is_active, self.is_merged_in, self._multiplier = False, False, 1.0
        self.torch_multiplier = torch.tensor([1.0])
        self.text_encoder_loras: list[Any] = []
        self.unet_loras = []
        for path, linear in subject.targets():
            layer = ToolkitLayer(linear, self)
            self.add_module("transformer$$" + path.replace(".", "$$"), layer)
            self.unet_loras.append(layer)

    def apply_to(self) -> None:
        for layer in self.unet_loras:
            layer.apply_to()

    @property
    def multiplier(self) -> float:
        return self._multiplier

    @multiplier.setter
    def multiplier(self, value: float) -> None:
        if value != self._multiplier:
            self._multiplier, self.torch_multiplier = value, torch.tensor([value])

    def __enter__(self) -> None:
        self.is_active = True

    def __exit__(self, *_: object) -> None:
        self.is_active = False

    def save_weights(self, file: str, dtype: torch.dtype = torch.float16, metadata: Any = None) -> None:
        torch.rand(1)  # nobody forbids a saver to draw
        tensors = {}
        for key, value in self.state_dict().items():
            name = key.replace("lora_down", "lora_A").replace("lora_up", "lora_B").replace("$$", ".")
            if not name.endswith(".alpha"):
                tensors[name] = value.detach().clone().to("cpu", dtype)
        save_file(tensors, file, metadata)

    def load_weights(self, file: str) -> None:
        own = self.state_dict()
        for key in own:
            name = key.replace("lora_down", "lora_A").replace("lora_up", "lora_B").replace("$$", ".")
            if not name.endswith(".alpha"):
                own[key].copy_(load_file(file)[name])


class SDTrainer:
    """One process of a job; `config` holds what the job's configuration would."""

    subject_class: Any = TinyFlux

    def __init__(self, process_id: int, job: Any, config: dict[str, Any]) -> None:
        self.config, self.step_num, self.done = config, 0, False
        self.accelerator = Accelerator()
        self.accelerator.unwrap_model = lambda model: model
        self.is_grad_accumulation_step, self.is_caching_text_embeddings = False, False
        self.train_config = SimpleNamespace(unload_text_encoder=False, steps=config["steps"])
        self.save_config = SimpleNamespace(dtype=config.get("dtype", "float32"))
        self.ema = None

    def hook_before_train_loop(self) -> None:
        pass

    def hook_train_loop(self, batch: Any) -> dict[str, float]:
        with self.network:
            loss = self.subject.loss()
            loss.backward()
        if not self.is_grad_accumulation_step:
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if self.ema is not None:
                self.ema.update()
        return {"loss": loss.item()}

    def end_step_hook(self) -> None:
        pass

    def done_hook(self) -> None:
        self.done = True

    def run(self) -> None:
        torch.manual_seed(self.config["seed"])
        self.subject = self.subject_class()
        pipe = self.subject.pipeline
        self.sd = SimpleNamespace(
            unet=pipe.transformer,
            vae=pipe.vae,
            text_encoder=self.subject.text_encoders,
            tokenizer=[pipe.tokenizer, pipe.tokenizer_2],
        )
        self.network = ToolkitNetwork(self.subject)
        self.network.apply_to()
        self.network.train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.config["lr"])
        if self.config.get("ema"):
            self.ema = Average(list(self.network.parameters()))
        self.hook_before_train_loop()
        for step in range(self.step_num, self.train_config.steps):
            self.is_grad_accumulation_step = bool((step + 1) % self.config.get("gather", 1))
            self.step_num = step
            self.hook_train_loop([None])
            self.step_num = step + 1
            self.end_step_hook()
        self.accelerator.end_training()
        folder = Path(self.config["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        self.network.save_weights(str(folder / "style.safetensors"))
        self.done_hook()


class Average:
    """Averaged weights, with the members by which they are known."""

    def __init__(self, parameters: list[Any]) -> None:
        self._parameters = parameters
        self.shadow_params = [one.detach().clone() for one in parameters]

    def update(self) -> None:
        with torch.no_grad():
            for shadow, one in zip(self.shadow_params, self._parameters, strict=True):
                shadow.lerp_(one, 0.1)

    def copy_to(self, parameters: Any = None) -> None:
        for shadow, one in zip(self.shadow_params, self._parameters, strict=True):
            one.data.copy_(shadow)
