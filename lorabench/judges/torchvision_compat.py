"""Make torchvision importable beside a torch build that its compiled operators do not match.

What: torchvision describes two of its compiled operators (`torchvision::nms` and `torchvision::qnms`) to torch while it
is being imported. If its compiled library cannot be loaded, because it was built for CUDA and torch for the CPU or
because the versions differ, those operators do not exist and the import ends in `RuntimeError: operator
torchvision::nms does not exist`. open_clip, lpips, timm and parts of transformers, peft and diffusers import
torchvision and fail with it.

Why: none of the judges calls a compiled operator of torchvision (boxes are suppressed by our own lines, pictures are
decoded by Pillow), so a mere declaration is all that is needed.

When harmless: always. Where the compiled library loads, nothing is declared. Where it does not, the two operators get a
signature and no implementation: calling one still raises `NotImplementedError`, as it must.
"""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_LOCK = threading.Lock()
_KEPT: list[Any] = []
"""Libraries whose declarations live as long as the process; a collected `Library` takes its declarations away."""


def declare_missing_operators() -> tuple[str, ...]:
    """Declare torchvision's `nms` and `qnms` to torch where the compiled ones cannot be loaded.

    Call it before anything imports torchvision. May be called any number of times, from any thread.

    Returns:
        The names declared by this call; empty where torchvision's own are there, where an earlier call declared them,
        or where torchvision is not installed.
    """
    with _LOCK:
        folder = _torchvision_folder()
        if folder is None or _compiled_operators_load(folder):
            return ()
        import torch

        missing = tuple(name for name in _OPERATORS if not _declared(name))
        if missing:
            library = torch.library.Library("torchvision", "FRAGMENT")
            for name in missing:
                library.define(name + _SIGNATURE)
            _KEPT.append(library)
        return missing


def _torchvision_folder() -> Path | None:
    """Where torchvision is installed, found without importing it."""
    spec = importlib.util.find_spec("torchvision")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _compiled_operators_load(folder: Path) -> bool:
    """Whether torchvision's compiled library fits this torch. Loading it here is what torchvision does itself later."""
    import torch

    if _KEPT:
        return False
    if all(_declared(name) for name in _OPERATORS):
        return True
    for library in sorted((*folder.glob("_C*.so"), *folder.glob("_C*.pyd"), *folder.glob("_C*.dylib"))):
        try:
            torch.ops.load_library(str(library))
        except (ImportError, OSError):
            continue
        if all(_declared(name) for name in _OPERATORS):
            return True
    return False


def _declared(name: str) -> bool:
    import torch

    return hasattr(torch.ops.torchvision, name)
