"""A LoRA training on the embedded model: what `demo --train` and the tests watch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.records.plan import GenerationSettings
from lorabench.storage.shipped import shipped_data
from lorabench.training.objectives import family_of, objective_of

TARGETS: Final = r".*blocks\.\d+\.attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
BATCH: Final = 4
_LEVELS: Final = (1.8, 1.3)
"""Mean and spread of the logit of the noise level: mostly noise, where composition and style are decided."""


class WorldTraining:
    """An adapter of the embedded base, trained on a set of its world's pictures. The same seed gives the same bits.

    Attributes:
        pipeline: A FluxPipeline whose transformer holds the adapter `default`.
        optimizer: AdamW over the adapter.
        weights: The adapter's parameters.
        generator: Draws batches and noise.
    """

    def __init__(self, dataset: str | Path, *, lr: float, rank: int = 8, seed: int = 3) -> None:
        """Load the base and the training set.

        Args:
            dataset: Name of a folder of `fixtures/datasets`, or any folder of pictures with `captions.jsonl`.
            lr: Learning rate.
            rank: Of the adapter; alpha is the same.
            seed: Of the adapter's first values, the batches and the noise.

        Raises:
            MeasurementError: The embedded model is not installed.
        """
        import torch

        declare_missing_operators()
        from diffusers import FluxPipeline
        from peft import LoraConfig

        self.pipeline = FluxPipeline.from_pretrained(shipped_data("fixtures/models/tiny-flux"))
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline.transformer.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.pipeline.transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS))
        self.weights = [p for p in self.pipeline.transformer.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=lr)
        self.generator = torch.Generator().manual_seed(seed)
        self._objective = objective_of(self.pipeline)
        folder = dataset if isinstance(dataset, Path) else shipped_data(f"fixtures/datasets/{dataset}")
        self._latents, self._texts = self._encoded(folder)

    def step(self) -> float:
        """One optimiser step on a random batch; its loss."""
        import torch

        rows = torch.randint(len(self._latents), (BATCH,), generator=self.generator)
        levels = torch.sigmoid(_LEVELS[0] + _LEVELS[1] * torch.randn(BATCH, generator=self.generator))
        levels, clean = levels[:, None, None, None], self._latents[rows]
        noise = torch.randn(clean.shape, generator=self.generator)
        noised = self._objective.mix(self.pipeline, clean, noise, levels=levels)
        text = tuple(part[rows] for part in self._texts)
        made = self._objective.predict(self.pipeline, noised, levels=levels, text=text, guidance_scale=1.0)
        loss = (made - self._objective.target(self.pipeline, clean, noise, levels=levels)).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def _encoded(self, folder: Path) -> tuple[Any, tuple[Any, ...]]:
        """Latents (n, c, h, w) of the pictures and features of their captions."""
        import torch

        lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        pictures = [np.asarray(Image.open(folder / row["file_name"]).convert("RGB")) for row in rows]
        family, settings = family_of(self.pipeline), GenerationSettings(max_sequence_length=24)
        with torch.no_grad():
            latents = torch.cat([self._objective.latents(self.pipeline, picture) for picture in pictures])
            features = [family.encode(self.pipeline, row["text"], settings=settings) for row in rows]
        return latents, tuple(torch.cat(part) for part in zip(*features, strict=True))
