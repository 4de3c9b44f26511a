"""Where a judge runs, and how to run it without touching what it shares the process with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def resolve_device(device: str) -> str:
    """`auto` becomes `cuda` where there is one, else `cpu`; anything else is returned as it is."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def untouched_random_state() -> Iterator[None]:
    """Networks draw random weights while they are built, on the CPU; give the global generator back as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        yield


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Run without gradients, in float32: no autocast, no TF32, no bfloat16 products, whatever training switched on.

    Near-duplicates differ by 1e-6 to 1e-4; TF32 alone has an error of that size. The settings are put back as they
    were.
    """
    import torch

    places = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,
        torch.backends.mkldnn.matmul,
        torch.backends.mkldnn.conv,
    )
    before = [place.fp32_precision for place in places]
    with torch.no_grad(), torch.autocast(device_type=torch.device(device).type, enabled=False):
        try:
            for place in places:
                place.fp32_precision = "ieee"
            yield
        finally:
            for place, precision in zip(places, before, strict=True):
                place.fp32_precision = precision
