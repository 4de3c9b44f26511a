"""How large the updates of a LoRA file are, layer by layer, beside the base's own weights.

An update dW = scaling * B A is never formed: with B = Q R and A^T = P S its singular values are those of the small
matrix R S^T, which has as many rows as the LoRA has ranks.

References:
    O. Roy and M. Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007, 606-610.
    B. Iglewicz and D. Hoaglin, How to detect and handle outliers, ASQC 1993 (robust z with the median deviation).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lorabench.generation.adapter import AdaptedModule, AdapterFile
from lorabench.generation.base_weights import BaseWeights
from lorabench.generation.placement import Placed
from lorabench.records.adapter_health import ModuleNorms

LARGEST_HALF: Final = 65504.0
"""Largest finite float16."""
_SMALLEST_HALF: Final = 2.0**-25
"""Half of the smallest float16 above zero: what is not larger rounds to zero."""
_FEWEST: Final = 8
"""Modules that an outlier must stand out from."""
_QUIETEST: Final = 0.1
"""Smallest scale of the logarithms of norms; modules that are all alike have none of their own."""


def singular_values(down: NDArray[np.floating], up: NDArray[np.floating], *, scaling: float) -> NDArray[np.float64]:
    """Singular values of an update, largest first.

    Args:
        down: A, (r, inputs) or (r, inputs, height, width).
        up: B, (outputs, r) or (outputs, r, 1, 1).
        scaling: Factor on the product.

    Returns:
        (min(r, inputs, outputs),) or fewer, not negative.
    """
    a = down.reshape(down.shape[0], -1).astype(np.float64)  # (r, d)
    b = up.reshape(up.shape[0], -1).astype(np.float64)  # (o, r)
    if a.shape[0] != b.shape[1]:
        msg = f"A and B must have the same rank; found {a.shape[0]} and {b.shape[1]}"
        raise ValueError(msg)
    left, right = np.asarray(np.linalg.qr(b, mode="r")), np.asarray(np.linalg.qr(a.T, mode="r"))
    core = left @ right.T  # (min(o, r), min(d, r))
    values: NDArray[np.float64] = np.linalg.svd(core, compute_uv=False) * abs(scaling)
    return values


def effective_rank(values: NDArray[np.floating]) -> float:
    """Exp of the entropy of singular values that are normalised to a sum of 1; 0 where all are zero.

    Args:
        values: (r,), not negative.
    """
    total = float(values.sum())
    if total <= 0:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def module_norms(
    adapter: AdapterFile, *, placed: Sequence[Placed] = (), base: BaseWeights | None = None
) -> tuple[ModuleNorms, ...]:
    """Norms of every module of a file.

    Args:
        adapter: The file.
        placed: Where its modules lie in the base; empty without a base.
        base: The base's weights; None leaves relative norms unmeasured.

    Returns:
        One entry per module of the file, in its order.
    """
    layers: dict[str, list[str]] = {}
    for one in placed:
        layers.setdefault(one.module.key, []).append(one.layer)
    found = [_norms(adapter, module, layers=layers.get(module.key, []), base=base) for module in adapter.modules]
    scores = _robust_z({one.module: one.relative_norm or one.update_norm for one in found if one.update_norm > 0})
    return tuple(one.model_copy(update={"outlier_z": scores.get(one.module)}) for one in found)


def _norms(
    adapter: AdapterFile, module: AdaptedModule, *, layers: Sequence[str], base: BaseWeights | None
) -> ModuleNorms:
    down, up = adapter.down(module), adapter.up(module)
    values = singular_values(down, up, scaling=module.scaling)
    update_norm = float(np.sqrt((values**2).sum()))
    base_norm = _base_norm(layers, base)
    largest = max(float(np.abs(down).max()), float(np.abs(up).max()), float(values.max()))
    smallest = min(float(np.abs(down).max()), float(np.abs(up).max()))
    return ModuleNorms(
        module=module.key,
        layers=tuple(layers),
        rank=module.rank,
        scaling=module.scaling,
        update_norm=update_norm,
        top_singular_value=float(values.max()),
        effective_rank=effective_rank(values),
        base_norm=base_norm,
        relative_norm=update_norm / base_norm if base_norm else None,
        overflows_half=largest > LARGEST_HALF,
        lost_in_half=0 < smallest <= _SMALLEST_HALF,
    )


def _base_norm(layers: Sequence[str], base: BaseWeights | None) -> float | None:
    norms = [] if base is None else [base.norm(layer) for layer in layers]
    known = [norm for norm in norms if norm is not None]
    return math.hypot(*known) if known and len(known) == len(norms) else None


def _robust_z(norms: Mapping[str, float]) -> dict[str, float]:
    """Distance of each logarithm from their median, in median deviations scaled to a normal's standard deviation."""
    if len(norms) < _FEWEST:
        return {}
    logs = {name: math.log(norm) for name, norm in norms.items()}
    middle = statistics.median(logs.values())
    scale = max(1.4826 * statistics.median(abs(log - middle) for log in logs.values()), _QUIETEST)
    return {name: (log - middle) / scale for name, log in logs.items()}
