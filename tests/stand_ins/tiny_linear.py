"""A model of two linear layers in the place of the embedded one, where only the calls are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch


class TinyLinear:
    """Has the members of `TinyFlux`."""

    def __init__(self) -> None:
        layers = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 3)).requires_grad_(False)
        self.pipeline: Any = SimpleNamespace(transformer=layers, vae=None, tokenizer=None, tokenizer_2=None)
        self.text_encoders: list[Any] = []

    def targets(self) -> Iterator[tuple[str, torch.nn.Linear]]:
        yield from ((name, module) for name, module in self.pipeline.transformer.named_children())

    def loss(self) -> torch.Tensor:
        return self.pipeline.transformer(torch.rand(2, 3)).square().mean()
