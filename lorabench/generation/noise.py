"""Initial noise: decided by case and seed alone, so that all arms start from the same one and can be compared in pairs.

Independent of arm, scale, batch size, order, length of the suite, device and dtype: each cell has its own generator
on the CPU and draws in float32.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from lorabench.records.plan import Cell

if TYPE_CHECKING:
    import torch

NOISE_RECIPE: Final = "case+seed/1"
"""Goes into cache keys; a change of the recipe changes all pictures."""


def noise_seed(cell: Cell) -> int:
    """Seed of a cell's generator: the first 63 bits of SHA-256 over case and seed.

    >>> noise_seed(Cell(arm="B1", case="a", seed=1)) == noise_seed(Cell(arm="L1", case="a", seed=1, scale=1.0))
    True
    """
    digest = hashlib.sha256(f"{NOISE_RECIPE}\0{cell.case}\0{cell.seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_of(cell: Cell) -> torch.Generator:
    """A fresh generator on the CPU, private to the cell."""
    import torch

    return torch.Generator(device="cpu").manual_seed(noise_seed(cell))


def draw_noise(generator: torch.Generator, shape: tuple[int, ...]) -> Any:
    """Standard normal noise of a cell: a float32 tensor of the shape, on the CPU."""
    import torch

    return torch.randn(shape, generator=generator, dtype=torch.float32)
