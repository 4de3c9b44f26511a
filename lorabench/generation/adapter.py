"""Reads a LoRA file without a model: which modules it adapts, with which matrices, how strongly.

Understood are the layouts of diffusers and PEFT (`….lora_A.weight`, with and without prefix), of diffusers before
2023 (`….lora.down.weight`), of cloneofsimo/lora (`unet:7:down`), of kohya's sd-scripts
(`lora_unet_….lora_down.weight`) and of ComfyUI (`diffusion_model.…`). What a file means by its module names is
decided in `placement`, against the real base.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from lorabench.generation.adapter_errors import (
    NeverTrainedError,
    NoLoraKeysError,
    NotFiniteError,
    UnpairedWeightsError,
    UnsupportedAdapterError,
)
from lorabench.generation.alpha import Strength, strengths
from lorabench.generation.safetensors_file import Floats, NotFoundError, SafetensorsFile, read_safetensors
from lorabench.generation.training_header import training_header
from lorabench.records.results import AdapterInfo

DENOISER: Final = "denoiser"
"""The component that denoises, whatever the pipeline calls it (`transformer`, `unet`)."""

Naming = Literal["dotted", "flattened", "ordinal"]
Part = Literal["down", "up", "alpha"]

_FOLDER_FILES: Final = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
_WEIGHT: Final = re.compile(
    r"^(?P<base>.+?)\.(?:lora_(?P<ab>[AB])(?:\.(?!weight$)\w+)?|lora_(?P<kohya>down|up)"
    r"|(?:lora|lora_linear_layer)\.(?P<old>down|up))\.weight$"
)
_PROCESSOR: Final = re.compile(r"^(?P<base>.+)\.processor\.(?P<leaf>to_[qkv]|to_out)_lora\.(?P<old>down|up)\.weight$")
_ORDINAL: Final = re.compile(r"^(?P<base>(?:unet|text_encoder):\d+):(?P<old>down|up)$")
_OTHER_METHODS: Final = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lora_mid": "Tucker-decomposed LoCon",
    "oft_": "OFT",
    "boft_": "BOFT",
    "vera_lambda": "VeRA",
    "lora_embedding_": "embedding LoRA",
}
_PREFIXES: Final = (
    ("base_model.model.", None),
    ("model.diffusion_model.", DENOISER),
    ("diffusion_model.", DENOISER),
    ("transformer.", DENOISER),
    ("unet.", DENOISER),
    ("text_encoders.clip_l.transformer.", "text_encoder"),
    ("text_encoders.clip_g.transformer.", "text_encoder_2"),
    ("text_encoders.t5xxl.transformer.", "text_encoder_2"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder.", "text_encoder"),
    ("lora_unet_", DENOISER),
    ("lora_transformer_", DENOISER),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te3_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
)
_STEP_IN_NAME: Final = (
    re.compile(r"^checkpoint-(\d+)$"),
    re.compile(r"-step(\d{8})$"),
    re.compile(r"_(\d{9})$"),
)


@dataclass(frozen=True, slots=True)
class AdaptedModule:
    """One pair of matrices of a file, and what the file says about its place."""

    key: str
    """As in the file, without the ending; for messages."""
    component: str
    """`denoiser`, `text_encoder` or `text_encoder_2`."""
    name: str
    """The module's name without component: dotted, flattened with underscores, or a running number."""
    naming: Naming
    down_key: str
    up_key: str
    n_inputs: int
    n_outputs: int
    rank: int
    alpha: float
    scaling: float
    """What the product is multiplied by at scale 1: alpha / rank, or alpha / sqrt(rank) for rank-stabilised LoRA."""


@dataclass(frozen=True, slots=True, eq=False)
class AdapterFile:
    """A LoRA file, read and checked. Holds its numbers in memory; needs no model."""

    path: Path
    info: AdapterInfo
    modules: tuple[AdaptedModule, ...]
    unused: tuple[str, ...]
    """Tensors that no LoRA layer takes: learned tokens, biases, whole layers. Such a file can be read, not scored."""
    source: SafetensorsFile

    def down(self, module: AdaptedModule) -> Floats:
        """A: (rank, inputs), or (rank, inputs, height, width) of a convolution."""
        return self.source.read(module.down_key)

    def up(self, module: AdaptedModule) -> Floats:
        """B: (outputs, rank), or (outputs, rank, 1, 1) of a convolution."""
        return self.source.read(module.up_key)


@dataclass(frozen=True, slots=True)
class _Key:
    base: str
    part: Part


def read_adapter(path: Path | str, *, alpha: float | None = None) -> AdapterFile:
    """Read a LoRA file and check all that can be checked without a base.

    Args:
        path: A .safetensors file, or a folder that holds one under a trainer's usual name.
        alpha: States alpha for a file that carries none.

    Returns:
        The adapter.

    Raises:
        SpecError: No such file, a pickle, not a safetensors file, another method than LoRA, alpha unknown or
            contradicted.
        MeasurementError: Truncated, without LoRA weights, unpaired, not finite, or never trained.
    """
    place = locate(Path(path))
    source = read_safetensors(place)
    name = _display_name(place)
    keys = {key: parsed for key in source.tensors if (parsed := _parse(key)) is not None}
    _refuse_other_methods(name, source.tensors)
    weights = _paired(name, keys, source)
    _check_finite(name, source, keys)
    layout = _layout([key for key, parsed in keys.items() if parsed.part != "alpha"])
    shapes = {base: source.tensors[pair["down"]].shape[0] for base, pair in weights.items()}
    found = strengths(name, shapes, source=source, keys=_alpha_keys(keys), layout=layout, stated=alpha)
    modules = tuple(_module(base, pair, source=source, strength=found[base]) for base, pair in weights.items())
    _check_trained(name, source, modules)
    info = _info(name, place, source=source, modules=modules, layout=layout)
    return AdapterFile(place, info, modules, tuple(sorted(source.tensors.keys() - keys.keys())), source)


def locate(path: Path) -> Path:
    """The file that a path means: itself, or a folder's adapter under a trainer's usual name.

    Raises:
        NotFoundError: Neither is there.
    """
    if path.is_file():
        return path
    for name in _FOLDER_FILES:
        if (path / name).is_file():
            return path / name
    raise NotFoundError(path)


def split_component(base: str) -> tuple[str, str, Naming]:
    """Split the name of a module in a file into component, name and kind of naming."""
    if ":" in base:
        prefix, _, number = base.partition(":")
        return (DENOISER if prefix == "unet" else prefix), number, "ordinal"
    for prefix, component in _PREFIXES:
        if base.startswith(prefix):
            rest = base[len(prefix) :]
            if component is None:
                return split_component(rest)
            return component, rest, ("flattened" if prefix.startswith("lora_") else "dotted")
    return ("text_encoder" if base.startswith("text_model.") else DENOISER), base, "dotted"


def _parse(key: str) -> _Key | None:
    if match := _ORDINAL.match(key):
        return _Key(match["base"], "down" if match["old"] == "down" else "up")
    if match := _PROCESSOR.match(key):
        leaf = "to_out.0" if match["leaf"] == "to_out" else match["leaf"]
        return _Key(f"{match['base']}.{leaf}", "down" if match["old"] == "down" else "up")
    if match := _WEIGHT.match(key):
        down = match["ab"] == "A" or "down" in (match["kohya"], match["old"])
        return _Key(match["base"], "down" if down else "up")
    if key.endswith(".alpha"):
        return _Key(key.removesuffix(".alpha").removesuffix(".lora"), "alpha")
    return None


def _refuse_other_methods(name: str, tensors: Iterable[str]) -> None:
    for key in tensors:
        for mark, method in _OTHER_METHODS.items():
            if f".{mark}" in key:
                raise UnsupportedAdapterError(name, method=method, example=key)


def _paired(name: str, keys: Mapping[str, _Key], source: SafetensorsFile) -> dict[str, dict[str, str]]:
    weights: dict[str, dict[str, str]] = {}
    for key, parsed in keys.items():
        if parsed.part != "alpha":
            weights.setdefault(parsed.base, {})[parsed.part] = key
    if not weights:
        raise NoLoraKeysError(name, found=sorted(source.tensors))
    problems = [problem for base, pair in weights.items() if (problem := _problem(base, pair, source))]
    if problems:
        raise UnpairedWeightsError(name, problems=problems)
    return dict(sorted(weights.items()))


def _problem(base: str, pair: Mapping[str, str], source: SafetensorsFile) -> str | None:
    for part, other in (("down", "up"), ("up", "down")):
        if part not in pair:
            return f"{base} ({other} without {part})"
    down, up = source.tensors[pair["down"]].shape, source.tensors[pair["up"]].shape
    if len(down) < 2 or len(up) < 2 or down[0] != up[1] or down[0] == 0:
        return f"{base} (down {list(down)}, up {list(up)})"
    return None


def _check_finite(name: str, source: SafetensorsFile, keys: Iterable[str]) -> None:
    bad = [key for key in sorted(keys) if not np.isfinite(source.read(key)).all()]
    if bad:
        raise NotFiniteError(name, tensors=bad)


def _check_trained(name: str, source: SafetensorsFile, modules: Sequence[AdaptedModule]) -> None:
    for module in modules:
        if module.scaling != 0 and source.read(module.up_key).any() and source.read(module.down_key).any():
            return
    raise NeverTrainedError(name, n_modules=len(modules))


def _alpha_keys(keys: Mapping[str, _Key]) -> dict[str, str]:
    return {parsed.base: key for key, parsed in keys.items() if parsed.part == "alpha"}


def _module(base: str, pair: Mapping[str, str], *, source: SafetensorsFile, strength: Strength) -> AdaptedModule:
    component, name, naming = split_component(base)
    down, up = source.tensors[pair["down"]].shape, source.tensors[pair["up"]].shape
    return AdaptedModule(
        key=base,
        component=component,
        name=name,
        naming=naming,
        down_key=pair["down"],
        up_key=pair["up"],
        n_inputs=down[1],
        n_outputs=up[0],
        rank=down[0],
        alpha=strength.alpha,
        scaling=strength.scaling,
    )


def _layout(keys: Sequence[str]) -> str:
    first = min(keys)
    if _ORDINAL.match(first):
        return "cloneofsimo"
    if any(key.startswith("lora_") for key in keys):
        return "kohya"
    if any("diffusion_model." in key for key in keys):
        return "comfyui"
    if any(".lora.down." in key or ".lora_linear_layer." in key or ".processor." in key for key in keys):
        return "diffusers-old"
    if first.startswith(("transformer.", "unet.", "text_encoder.", "text_encoder_2.")):
        return "diffusers"
    return "peft"


def _info(
    name: str, path: Path, *, source: SafetensorsFile, modules: Sequence[AdaptedModule], layout: str
) -> AdapterInfo:
    digest = source.digest()
    for module in modules:  # strength may come from the header or the command, and changes pictures
        digest.update(f"{module.key}\0{module.scaling!r}\0".encode())
    return AdapterInfo(
        name=name,
        digest=digest.hexdigest(),
        layout=layout,
        n_modules=len(modules),
        ranks=tuple(sorted({module.rank for module in modules})),
        alphas=tuple(sorted({module.alpha for module in modules})),
        targets=tuple(sorted({_ending(module) for module in modules})),
        text_encoder=any(module.component != DENOISER for module in modules),
        training_step=_training_step(path, source.metadata),
        metadata=training_header(source.metadata),
    )


def _ending(module: AdaptedModule) -> str:
    if module.naming == "ordinal":
        return module.component
    if module.naming == "flattened":
        return re.split(r"_\d+_", re.sub(r"_\d+$", "", module.name))[-1]
    return next((part for part in reversed(module.name.split(".")) if not part.isdigit()), module.name)


def _display_name(path: Path) -> str:
    return path.resolve().parent.name if path.name in _FOLDER_FILES else path.stem


def _training_step(path: Path, metadata: Mapping[str, str]) -> int | None:
    if metadata.get("ss_steps", "").isdigit():
        return int(metadata["ss_steps"])
    try:
        step = json.loads(metadata.get("training_info", "{}")).get("step")
    except (json.JSONDecodeError, AttributeError):
        step = None
    if isinstance(step, int) and step >= 0:
        return step
    for pattern in _STEP_IN_NAME:
        if match := pattern.search(_display_name(path)):
            return int(match[1])
    return None
