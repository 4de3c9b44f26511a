"""A stand-in for SimpleTuner's `Trainer`: an adapter of peft's, and the method that ends a training on request."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from lorabench.generation.live_backend import save_live_adapter
from tests.stand_ins.tiny_flux import TARGETS, TinyFlux


class Model:
    MODEL_TYPE = SimpleNamespace(value="transformer")

    def __init__(self, subject: TinyFlux) -> None:
        self._subject = subject

    def get_trained_component(self) -> Any:
        return self._subject.pipeline.transformer


class Trainer:
    """`settings` stands for the configuration that the real one reads for itself."""

    settings: Any = None
    made: Any = None
    subject_class: Any = TinyFlux

    def __init__(self, exit_on_error: bool = False) -> None:
        Trainer.made = self
        self.config, self.should_abort, self.cleaned = self.settings, False, False
        self.state = {"global_step": 0}

    def init_model(self) -> None:
        torch.manual_seed(self.config.seed)
        self.subject = self.subject_class()
        from peft import LoraConfig  # after the subject has mended torchvision

        self.model = Model(self.subject)
        transformer = self.subject.pipeline.transformer
        transformer.add_adapter(LoraConfig(r=4, lora_alpha=4, lora_dropout=0.1, target_modules=TARGETS.pattern))
        transformer.train()
        self.weights = [one for one in transformer.parameters() if one.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=self.config.learning_rate)

    def abort(self) -> None:
        self.should_abort = True

    def _exit_on_signal(self) -> None:
        if self.should_abort:
            raise StopIteration("asked to stop")

    def _compute_model_prediction_loss(self, prepared_batch: Any) -> tuple[torch.Tensor, dict[str, Any]]:
        return self.subject.loss(), {}

    def train(self) -> None:
        while self.state["global_step"] < self.config.max_train_steps:
            for _ in range(self.config.gradient_accumulation_steps):
                self._exit_on_signal()
                loss, _ = self._compute_model_prediction_loss({})
                loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.state["global_step"] += 1
        self.save_final()

    def save_final(self) -> None:
        folder = Path(self.config.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_live_adapter(self.subject.pipeline, folder / "pytorch_lora_weights.safetensors")

    def cleanup(self) -> None:
        self.cleaned = True


def run_training(trainer: Trainer) -> None:
    trainer._exit_on_signal()
    trainer.init_model()
    trainer.train()


def settings(folder: Path, **more: Any) -> Any:
    stated = {
        "seed": 3,
        "learning_rate": 1e-5,
        "max_train_steps": 6,
        "gradient_accumulation_steps": 1,
        "model_type": "lora",
        "lora_type": "standard",
        "output_dir": str(folder / "out"),
    }
    return SimpleNamespace(**{**stated, **more})
