"""On what a training runs and how, as far as the live pipeline shows it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from lorabench.generation.families import FAMILIES
from lorabench.records.step_times import TrainingSetup

if TYPE_CHECKING:
    from lorabench.records.config import CourseConfig

_HALF: Final = {"bfloat16": "bf16", "float16": "fp16"}


def setup_of(pipeline: Any, course: CourseConfig) -> TrainingSetup:
    """What can be seen; what cannot stays None, and no finding is built on it.

    Weights in float32 say nothing of the precision of the computation, which autocast may lower.

    Args:
        pipeline: The live pipeline; None where only files are seen.
        course: Resolution and batch size, where they are stated.
    """
    stated = {"resolution": course.training_resolution, "batch_size": course.training_batch_size}
    if pipeline is None:
        return TrainingSetup(**stated, system=sys.platform)
    denoiser = getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None)
    parameter = None if denoiser is None else next(iter(denoiser.parameters()), None)
    family = FAMILIES.get(type(pipeline).__name__)
    checkpointing = getattr(denoiser, "gradient_checkpointing", None)
    return TrainingSetup(
        **stated,
        gpu=_gpu(parameter),
        family=None if family is None else family.name,
        mixed_precision=None if parameter is None else _HALF.get(str(parameter.dtype).removeprefix("torch.")),
        gradient_checkpointing=checkpointing if isinstance(checkpointing, bool) else None,
        memory_used_share=_memory_used(parameter),
        system=sys.platform,
    )


def _gpu(parameter: Any) -> str | None:
    if parameter is None or parameter.device.type not in ("cpu", "cuda"):
        return None
    if parameter.device.type == "cpu":
        return "cpu"
    import torch

    return str(torch.cuda.get_device_name(parameter.device))


def _memory_used(parameter: Any) -> float | None:
    if parameter is None or parameter.device.type != "cuda":
        return None
    import torch

    free, total = torch.cuda.mem_get_info(parameter.device)
    return 1.0 - float(free) / float(total)
