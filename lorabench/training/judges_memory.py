"""Whether the judges' networks stay on the GPU between two evaluations, or make room for the training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lorabench.training.objectives import denoiser_of

if TYPE_CHECKING:
    from lorabench.records.config import CourseConfig
    from lorabench.training.checkpoint_judging import CheckpointJudge

SPARE_BYTES: Final = 4 * 2**30
"""With less than this left on the GPU the judges go: a step's activations vary, and running out ends a training."""


def free_judges_where_short(judge: CheckpointJudge, pipeline: Any, settings: CourseConfig) -> bool:
    """Forget the judges' networks where little memory is left, or as the settings say.

    Args:
        judge: Loads them again when it needs them.
        pipeline: Its device is asked.
        settings: `free_judges`.

    Returns:
        Whether they were freed.
    """
    if settings.free_judges == "never":
        return False
    if settings.free_judges == "auto":
        left = free_bytes(next(denoiser_of(pipeline).parameters()).device)
        if left is None or left >= SPARE_BYTES:
            return False
    judge.free_judges()
    return True


def free_bytes(device: Any) -> int | None:
    """Memory that is free on a GPU, our own unused cache included; None for other devices."""
    import torch

    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + unused)
