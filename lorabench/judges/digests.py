"""Names for weights: what a network computes with, not the file it came in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any


def tensors_digest(tensors: Mapping[str, Any], *, settings: str = "") -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, in the order of their names.

    Two files that hold the same tensors under the same names have the same digest, whatever their format or metadata.

    Args:
        tensors: Name to torch tensor, on any device.
        settings: Whatever else changes what the network returns (tokenizer, preprocessing), as text.

    Returns:
        64 hexadecimal digits.
    """
    import torch

    digest = hashlib.sha256(settings.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()
