"""What a monitor asks of an adapter in training, whichever library made it.

peft's adapters are known to the live backend. Trainers with networks of their own (kohya's, ai-toolkit's, OneTrainer's)
give an object with these methods instead.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


class AdapterWriter(Protocol):
    """An adapter that can be written down. That is enough to judge it by its file."""

    def save(self, path: Path) -> object:
        """Write the adapter as it is now, as its trainer would: a .safetensors file that `read_adapter` reads."""

    def room(self) -> AbstractContextManager[object]:
        """Around an evaluation: what must lie elsewhere meanwhile is moved there, and back."""


class AdapterSwitch(AdapterWriter, Protocol):
    """An adapter that acts in a live pipeline and can be switched off there."""

    @property
    def changes_text(self) -> bool:
        """Whether it adapts a text encoder, so that features of prompts depend on it."""

    def switch(self, strength: float | None) -> None:
        """None takes the adapter out of the network; a number lets it act, times its own strength.

        Touches neither weights nor `requires_grad`.
        """

    def release(self) -> None:
        """Leave it as it was found."""

    def shown(self, path: Path) -> AbstractContextManager[object]:
        """Let it carry an earlier state of its own, written by `save`, and come back to the bit."""
