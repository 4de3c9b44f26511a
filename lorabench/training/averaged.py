"""Averaged weights (EMA) shown in place of the live ones, without touching the average.

Two kinds are known. Objects with `copy_to(parameters)` and `shadow_params`: `diffusers.training_utils.EMAModel`,
`torch_ema.ExponentialMovingAverage`. Objects with a `module` that is a copy of the live one:
`torch.optim.swa_utils.AveragedModel`. The live values are kept and put back by the guard, so that a trainer's own
`store()` is not overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lorabench.training.guard_errors import EmaMismatchError


@dataclass(frozen=True, slots=True)
class Averaged:
    """Where averaged weights go.

    Attributes:
        live: Parameters in training, in the order of the average.
        average: The same number of tensors, of the same shapes.
    """

    live: tuple[Any, ...]
    average: tuple[Any, ...]

    def show(self) -> None:
        """Overwrite the live values with the averaged ones."""
        for one, value in zip(self.live, self.average, strict=True):
            one.data.copy_(value.data)


def averaged(
    ema: Any, *, modules: Sequence[Any], candidates: Iterable[Sequence[Any]], stated: Sequence[Any] = ()
) -> Averaged:
    """Find the live parameters of an average.

    Args:
        ema: The average.
        modules: Modules in training, for an average that is a module.
        candidates: Lists of parameters that an average without names may have been made from; the first that fits.
        stated: The list it was made from, where the user says so.

    Raises:
        EmaMismatchError: None fits, or the object is of another kind.
    """
    kind = type(ema).__name__
    if callable(getattr(ema, "copy_to", None)) and hasattr(ema, "shadow_params"):
        shadows = tuple(ema.shadow_params)
        lists = [tuple(stated)] if stated else [tuple(one) for one in candidates]
        fitting = next((live for live in lists if _shapes(live) == _shapes(shadows)), None)
        if fitting is None:
            sizes = " or ".join(str(size) for size in dict.fromkeys(len(one) for one in lists)) or "none"
            raise EmaMismatchError(kind, reason=f"it has {len(shadows)} tensors, the training {sizes}")
        return Averaged(fitting, shadows)
    if hasattr(ema, "module") and hasattr(ema, "n_averaged"):
        return _of_module(ema, modules)
    raise EmaMismatchError(
        kind, reason="it has neither copy_to and shadow_params, as EMAModel has, nor module and n_averaged"
    )


def _of_module(ema: Any, modules: Sequence[Any]) -> Averaged:
    average = dict(ema.module.named_parameters())
    for module in modules:
        live = dict(module.named_parameters())
        if live.keys() == average.keys() and _shapes(live.values()) == _shapes(average[name] for name in live):
            return Averaged(tuple(live.values()), tuple(average[name] for name in live))
    raise EmaMismatchError(type(ema).__name__, reason="no module in training has the same named parameters")


def _shapes(tensors: Iterable[Any]) -> list[tuple[int, ...]]:
    return [tuple(one.shape) for one in tensors]
