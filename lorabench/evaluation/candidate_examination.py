"""What the candidate's file shows without a picture, beside what it says about itself."""

from __future__ import annotations

from pathlib import Path

from lorabench.errors import LorabenchError
from lorabench.generation.adapter import AdapterFile
from lorabench.generation.adapter_examination import examine
from lorabench.generation.base_weights import BaseWeights, open_base_weights
from lorabench.generation.protocol import Backend, OnDisk
from lorabench.generation.training_base import match_base, trained_on
from lorabench.records.results import AdapterInfo


def examined(adapter: AdapterFile, *, backend: Backend, cache_dir: Path) -> AdapterInfo:
    """The candidate with its norms in short and with the base it was trained on, beside the one in use.

    Args:
        adapter: The candidate, as it was scored.
        backend: What made the pictures; its base's weights are read if they lie in a folder.
        cache_dir: Remembers the norms of a base.

    Returns:
        The file's own record with `health` and `base_match`.
    """
    folder = backend.base_folder if isinstance(backend, OnDisk) else None
    weights = None if folder is None else _weights(folder, cache_dir)
    try:
        health = examine(adapter, base=weights).health
    except LorabenchError:  # scored through another layout's names than a folder shows: norms stay without a base
        health = examine(adapter, base=None).health
    if weights is not None:
        weights.remember()
    base = backend.base_info()
    match = match_base(trained_on(adapter), base.name if folder is None else folder, family=base.family)
    return adapter.info.model_copy(update={"health": health, "base_match": match})


def _weights(folder: Path, cache_dir: Path) -> BaseWeights | None:
    try:
        return open_base_weights(folder, memory=cache_dir / "base-norms")
    except (LorabenchError, OSError):  # pictures could be made without these files, so norms may do without them
        return None
