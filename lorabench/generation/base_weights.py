"""The weights of a base, read one tensor at a time from a pipeline's folder, without torch and without a model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from lorabench.generation.base_files import NoSafetensorsError, read_model_index
from lorabench.generation.placement import DENOISERS
from lorabench.generation.safetensors_file import Tensor, read_places, read_squares
from lorabench.records.record import digest_of
from lorabench.storage.atomic import write_json

_COMPONENTS: Final = (*DENOISERS, "text_encoder", "text_encoder_2")
_DECLARED: Final = {"k_proj": 0, "v_proj": 1, "q_proj": 2, "out_proj": 3}
_VARIANT: Final = re.compile(r"\.(fp16|bf16|non_ema|ema)\b")


@dataclass(frozen=True, slots=True, eq=False)
class BaseWeights:
    """Where the base's linear and convolution weights lie. Only headers are in memory.

    Attributes:
        folder: Of the pipeline.
        shapes: Full name of a layer (`transformer.…`, `text_encoder.…`) to its weight's shape.
    """

    folder: Path
    shapes: Mapping[str, tuple[int, ...]]
    places: Mapping[str, tuple[Path, Tensor]]
    note: Path | None = None
    """Where norms are remembered."""
    _known: dict[str, float | None] = field(default_factory=dict)

    def norm(self, layer: str) -> float | None:
        """Frobenius norm of a layer's weight; None where it is stored in a type that is not read (8 bits, packed)."""
        if layer not in self._known:
            path, tensor = self.places[layer]
            squares = read_squares(path, tensor)
            self._known[layer] = None if squares is None else float(np.sqrt(squares))
        return self._known[layer]

    def remember(self) -> None:
        """Write down the norms that were read, so that a large base is read once."""
        if self.note is not None:
            write_json(self.note, dict(sorted(self._known.items())))


def open_base_weights(folder: Path, *, memory: Path | None = None) -> BaseWeights:
    """Read the headers of a pipeline's denoiser and text encoders.

    Args:
        folder: A diffusers pipeline.
        memory: Where norms are remembered by the files' paths, sizes and times of change; None reads them each time.

    Raises:
        BaseNotFoundError: There is no pipeline.
        NoSafetensorsError: Its weights are no safetensors files.
    """
    index = read_model_index(folder)
    places: dict[str, tuple[Path, Tensor]] = {}
    for component in _COMPONENTS:
        if component in index:
            for layer, place in _layers(folder / component, component):
                places.setdefault(layer, place)
    if not places:
        raise NoSafetensorsError(folder)
    ordered = sorted(places, key=_natural)
    note = None if memory is None else memory / f"{_name_of(places)}.json"
    return BaseWeights(folder, {layer: places[layer][1].shape for layer in ordered}, places, note, _remembered(note))


def _name_of(places: Mapping[str, tuple[Path, Tensor]]) -> str:
    files = sorted({path.resolve() for path, _ in places.values()})
    return digest_of([[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files])


def _remembered(note: Path | None) -> dict[str, float | None]:
    try:
        known = {} if note is None else json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _layers(folder: Path, component: str) -> Iterator[tuple[str, tuple[Path, Tensor]]]:
    """Weights of two dimensions and more; files of a variant (fp16) only where no other holds the layer."""
    for path in sorted(folder.glob("*.safetensors"), key=lambda one: (bool(_VARIANT.search(one.name)), one.name)):
        for key, tensor in read_places(path).items():
            if key.endswith(".weight") and len(tensor.shape) in (2, 4):
                yield f"{component}.{key.removesuffix('.weight')}", (path, tensor)


def _natural(name: str) -> list[tuple[int, str]]:
    """Order of the model: blocks by number, and attention in a text encoder as its class declares it."""
    name = re.sub(r"self_attn\.(\w+)$", lambda match: f"self_attn.{_DECLARED.get(match[1], match[1])}", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
