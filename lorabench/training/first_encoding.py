"""A first call of the text encoders, before a guard records what they look like."""

from __future__ import annotations

from typing import Any, Final

from lorabench.generation.families import FAMILIES
from lorabench.records.plan import GenerationSettings
from lorabench.training.guard_state import Generators

_TOKENS: Final = 16
_TEXT_ENCODERS: Final = ("text_encoder", "text_encoder_2")


def encode_once(pipeline: Any) -> None:
    """Encode a prompt, if the text encoders are there.

    At their first call transformers' text encoders hang hooks on themselves, for the hidden states, and keep them. A
    guard would take that for a change by the evaluation. The global generators are left as they were.

    Args:
        pipeline: A diffusers pipeline of a known family.
    """
    import torch

    present = {name: getattr(pipeline, name) for name in _TEXT_ENCODERS if hasattr(pipeline, name)}
    if any(encoder is None for encoder in present.values()):
        return
    family = FAMILIES[type(pipeline).__name__]
    tokens = _TOKENS if "max_sequence_length" in family.accepts else None
    generators = Generators()
    try:
        with torch.no_grad():
            family.encode(pipeline, "a picture", settings=GenerationSettings(max_sequence_length=tokens))
    finally:
        generators.restore()
