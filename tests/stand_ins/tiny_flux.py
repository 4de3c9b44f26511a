"""The embedded model in training, for the stand-ins: frozen base, a training set, a loss that draws from torch itself.

Each loss takes its randomness from torch's global generator, so that an evaluation which draws from it is found out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image

from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.records.plan import GenerationSettings
from lorabench.storage.shipped import shipped_data
from lorabench.training.objectives import family_of, objective_of

TARGETS = re.compile(r".*blocks\.\d+\.attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_v_proj)")
BATCH = 2


class TinyFlux:
    """Pipeline and data; the network is put in by the stand-in."""

    def __init__(self) -> None:
        declare_missing_operators()
        from diffusers import FluxPipeline

        self.pipeline = FluxPipeline.from_pretrained(shipped_data("fixtures/models/tiny-flux"))
        self.pipeline.set_progress_bar_config(disable=True)
        for part in (self.pipeline.transformer, self.pipeline.vae, *self.text_encoders):
            part.requires_grad_(False)
        self._objective = objective_of(self.pipeline)
        self._latents, self._texts = self._encoded()

    @property
    def text_encoders(self) -> list[Any]:
        return [self.pipeline.text_encoder, self.pipeline.text_encoder_2]

    def targets(self) -> Iterator[tuple[str, torch.nn.Linear]]:
        for path, module in self.pipeline.transformer.named_modules():
            if TARGETS.fullmatch(path):
                yield path, module

    def loss(self) -> torch.Tensor:
        rows = torch.randint(len(self._latents), (BATCH,))
        levels = torch.sigmoid(1.8 + 1.3 * torch.randn(BATCH))[:, None, None, None]
        clean, noise = self._latents[rows], torch.randn(self._latents[rows].shape)
        noised = self._objective.mix(self.pipeline, clean, noise, levels=levels)
        text = tuple(part[rows] for part in self._texts)
        made = self._objective.predict(self.pipeline, noised, levels=levels, text=text, guidance_scale=1.0)
        return (made - self._objective.target(self.pipeline, clean, noise, levels=levels)).square().mean()

    def _encoded(self) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        folder = shipped_data("fixtures/datasets/overtrained")
        lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()[:6]
        rows = [json.loads(line) for line in lines]
        pictures = [np.asarray(Image.open(folder / row["file_name"]).convert("RGB")) for row in rows]
        family, settings = family_of(self.pipeline), GenerationSettings(max_sequence_length=24)
        with torch.no_grad():
            latents = torch.cat([self._objective.latents(self.pipeline, picture) for picture in pictures])
            features = [family.encode(self.pipeline, row["text"], settings=settings) for row in rows]
        return latents, tuple(torch.cat(part) for part in zip(*features, strict=True))


class Layer(torch.nn.Module):
    """A low-rank layer beside a linear one, with dropout: the part that all these networks share."""

    def __init__(self, linear: torch.nn.Linear, *, rank: int = 4, alpha: float = 4.0, dropout: float = 0.1) -> None:
        super().__init__()
        self.lora_down = torch.nn.Linear(linear.in_features, rank, bias=False)
        self.lora_up = torch.nn.Linear(rank, linear.out_features, bias=False)
        torch.nn.init.zeros_(self.lora_up.weight)
        self.register_buffer("alpha", torch.tensor(alpha))
        self.rank, self.dropout = rank, torch.nn.Dropout(dropout)

    def delta(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.alpha / self.rank
        return self.lora_up(self.dropout(self.lora_down(x))) * scale
