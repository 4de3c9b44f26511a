"""Finds the place of every module of an adapter file in the base, and checks that it fits there.

The base is given as its linear and convolution layers: full name (`transformer.…`, `unet.…`, `text_encoder.…`) to the
weight's shape, in the order of the model. Names of other layouts are looked up, not rewritten: for each layer of the
base all names under which the layouts know it are listed, flattened with underscores if need be, so that no name has
to be taken apart at underscores. Fused layers (q, k and v in one matrix) are split by the base's real widths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lorabench.generation.adapter import DENOISER, AdaptedModule, AdapterFile
from lorabench.generation.adapter_errors import (
    PartialFitError,
    ShapeMismatchError,
    UnusedWeightsError,
    WrongFamilyError,
)
from lorabench.generation.safetensors_file import Floats

Shapes = Mapping[str, tuple[int, ...]]

DENOISERS: Final = ("transformer", "unet")

_DOUBLE: Final = (
    ("img_attn.qkv", ("attn.to_q", "attn.to_k", "attn.to_v")),
    ("txt_attn.qkv", ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")),
    ("img_attn.proj", ("attn.to_out.0",)),
    ("txt_attn.proj", ("attn.to_add_out",)),
    ("img_mlp.0", ("ff.net.0.proj",)),
    ("img_mlp.2", ("ff.net.2",)),
    ("txt_mlp.0", ("ff_context.net.0.proj",)),
    ("txt_mlp.2", ("ff_context.net.2",)),
    ("img_mlp.0", ("ff.linear_in",)),
    ("img_mlp.2", ("ff.linear_out",)),
    ("txt_mlp.0", ("ff_context.linear_in",)),
    ("txt_mlp.2", ("ff_context.linear_out",)),
    ("img_mod.lin", ("norm1.linear",)),
    ("txt_mod.lin", ("norm1_context.linear",)),
)
"""Black Forest Labs' names inside `double_blocks.N`, to diffusers' inside `transformer_blocks.N`."""
_SINGLE: Final = (
    ("linear1", ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")),
    ("linear1", ("attn.to_qkv_mlp_proj",)),
    ("linear2", ("proj_out",)),
    ("linear2", ("attn.to_out",)),
    ("modulation.lin", ("norm.linear",)),
)
_FLUX_TOP: Final = (
    ("img_in", "x_embedder"),
    ("txt_in", "context_embedder"),
    ("time_in.in_layer", "time_text_embed.timestep_embedder.linear_1"),
    ("time_in.out_layer", "time_text_embed.timestep_embedder.linear_2"),
    ("vector_in.in_layer", "time_text_embed.text_embedder.linear_1"),
    ("vector_in.out_layer", "time_text_embed.text_embedder.linear_2"),
    ("guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1"),
    ("guidance_in.out_layer", "time_text_embed.guidance_embedder.linear_2"),
    ("time_in.in_layer", "time_guidance_embed.timestep_embedder.linear_1"),
    ("time_in.out_layer", "time_guidance_embed.timestep_embedder.linear_2"),
    ("guidance_in.in_layer", "time_guidance_embed.guidance_embedder.linear_1"),
    ("guidance_in.out_layer", "time_guidance_embed.guidance_embedder.linear_2"),
    ("single_stream_modulation.lin", "single_stream_modulation.linear"),
    ("double_stream_modulation_img.lin", "double_stream_modulation_img.linear"),
    ("double_stream_modulation_txt.lin", "double_stream_modulation_txt.linear"),
    ("final_layer.linear", "proj_out"),
    ("final_layer.adaLN_modulation.1", "norm_out.linear"),
)
_SWAPPED_HALVES: Final = frozenset({"norm_out.linear"})
"""diffusers keeps scale before shift here, Black Forest Labs shift before scale."""

_RESNET: Final = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_FAMILY_MARKS: Final = (
    ("FLUX", re.compile(r"double_blocks|single_blocks|single_transformer_blocks")),
    ("a Stable Diffusion UNet", re.compile(r"down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block")),
    ("another transformer", re.compile(r"transformer_blocks|^blocks[._]|layers[._]\d")),
)


@dataclass(frozen=True, slots=True)
class Placed:
    """One layer of the base that a module of the file adapts."""

    layer: str
    """Full name: component, dot, path."""
    module: AdaptedModule
    rows: tuple[int, int]
    """Which rows of B belong to this layer; all of them unless the file fuses several layers."""
    swap_halves: bool = False
    """The two halves of the rows change places."""

    def up(self, adapter: AdapterFile) -> Floats:
        """B of this layer: (outputs, rank, ...)."""
        rows = adapter.up(self.module)[self.rows[0] : self.rows[1]]
        return np.roll(rows, rows.shape[0] // 2, axis=0) if self.swap_halves else rows


@dataclass(frozen=True, slots=True)
class _Target:
    layers: tuple[str, ...]
    swap_halves: bool = False


def check_fit(adapter: AdapterFile, module_shapes: Shapes) -> tuple[Placed, ...]:
    """Place every module of an adapter in the base.

    Args:
        adapter: The file.
        module_shapes: The base's linear and convolution layers in the model's order: full name to weight shape,
            (outputs, inputs) or (outputs, inputs, height, width).

    Returns:
        The adapted layers. A fused module of the file gives several.

    Raises:
        UnusedWeightsError: The file holds weights that no LoRA layer takes.
        WrongFamilyError: No module of the file is in the base.
        PartialFitError: Some are not.
        ShapeMismatchError: All are, but widths differ.
    """
    if adapter.unused:
        raise UnusedWeightsError(adapter.info.name, unused=adapter.unused)
    names = _Names(module_shapes)
    targets = {module: names.find(module) for module in adapter.modules}
    missing = [module.key for module, found in targets.items() if not found]
    if len(missing) == len(targets):
        raise WrongFamilyError(adapter.info.name, found=missing, guess=_guess(missing))
    if missing:
        raise PartialFitError(
            adapter.info.name, n_fitting=len(targets) - len(missing), n_modules=len(targets), missing=missing
        )
    return _widths_checked(adapter, targets, module_shapes)


def _widths_checked(
    adapter: AdapterFile, targets: Mapping[AdaptedModule, Sequence[_Target]], shapes: Shapes
) -> tuple[Placed, ...]:
    placed: list[Placed] = []
    problems: list[str] = []
    for module, choices in targets.items():
        fitting = next((target for target in choices if _fits(module, target, shapes)), None)
        if fitting is None:
            problems.append(_describe(module, choices[0], shapes))
            continue
        placed.extend(_split(module, fitting, shapes))
    layers = [one.layer for one in placed]
    problems += [f"{layer} (adapted twice)" for layer in sorted(set(layers)) if layers.count(layer) > 1]
    if problems:
        raise ShapeMismatchError(adapter.info.name, problems=problems)
    return tuple(placed)


def _fits(module: AdaptedModule, target: _Target, shapes: Shapes) -> bool:
    inputs = {shapes[layer][1] for layer in target.layers}
    return inputs == {module.n_inputs} and sum(shapes[layer][0] for layer in target.layers) == module.n_outputs


def _describe(module: AdaptedModule, target: _Target, shapes: Shapes) -> str:
    outputs = "+".join(str(shapes[layer][0]) for layer in target.layers)
    has = f"{outputs} x {shapes[target.layers[0]][1]}"
    return f"{module.key} (file {module.n_outputs} x {module.n_inputs}, base {has})"


def _split(module: AdaptedModule, target: _Target, shapes: Shapes) -> Iterator[Placed]:
    start = 0
    for layer in target.layers:
        stop = start + shapes[layer][0]
        yield Placed(layer, module, (start, stop), swap_halves=target.swap_halves)
        start = stop


def _guess(keys: Sequence[str]) -> str | None:
    for family, mark in _FAMILY_MARKS:
        if any(mark.search(key) for key in keys):
            return family
    return None


class _Names:
    """All names of the base's layers, in every layout."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._dotted: dict[str, list[_Target]] = {}
        self._flattened: dict[str, list[_Target]] = {}
        for name, target in _all_names(tuple(shapes)):
            self._dotted.setdefault(name, []).append(target)
            self._flattened.setdefault(_flatten(name), []).append(target)
        self._ordinal = _ordinals(shapes)

    def find(self, module: AdaptedModule) -> Sequence[_Target]:
        """Places that the module's name may mean; none if the base has no such layer."""
        if module.naming == "ordinal":
            order = self._ordinal.get(module.component, ())
            index = int(module.name)
            return [_Target((order[index],))] if index < len(order) else []
        book, name = (
            (self._flattened, f"{module.component}_{module.name}")
            if module.naming == "flattened"
            else (self._dotted, f"{module.component}.{module.name}")
        )
        return book.get(name, ())


def _flatten(name: str) -> str:
    component, _, rest = name.partition(".")
    return f"{component}_{rest.replace('.', '_')}"


def _all_names(layers: Sequence[str]) -> Iterator[tuple[str, _Target]]:
    present = set(layers)
    for layer in layers:
        component, _, path = layer.partition(".")
        if component not in DENOISERS:
            bare = path.removeprefix("text_model.")
            for name in dict.fromkeys((path, bare, f"text_model.{bare}")):
                yield f"{component}.{name}", _Target((layer,))
            continue
        yield f"{DENOISER}.{path}", _Target((layer,))
    for component in DENOISERS:
        for name, target in (*_flux_names(component, present), *_unet_names(component, layers)):
            yield f"{DENOISER}.{name}", target


def _flux_names(component: str, present: set[str]) -> Iterator[tuple[str, _Target]]:
    blocks = {
        match[0] for layer in present if (match := re.match(rf"{component}\.(single_)?transformer_blocks\.\d+", layer))
    }
    for block in blocks:
        number = block.rpartition(".")[2]
        single = ".single_transformer_blocks." in block
        for name, parts in _SINGLE if single else _DOUBLE:
            layers = tuple(f"{block}.{part}" for part in parts)
            if present.issuperset(layers):
                yield f"{'single_blocks' if single else 'double_blocks'}.{number}.{name}", _Target(layers)
    for name, path in _FLUX_TOP:
        if f"{component}.{path}" in present:
            yield name, _Target((f"{component}.{path}",), swap_halves=path in _SWAPPED_HALVES)


def _unet_names(component: str, layers: Sequence[str]) -> Iterator[tuple[str, _Target]]:
    """Names of a UNet's layers in the original code: numbered input, middle and output blocks."""
    numbers = [
        match[1] for layer in layers if (match := re.match(rf"{component}\.down_blocks\.0\.resnets\.(\d+)\.", layer))
    ]
    if not numbers:
        return
    per_block = len(set(numbers))
    with_attention = {
        m[1] for layer in layers if (m := re.match(rf"{component}\.(up_blocks\.\d+)\.attentions\.", layer))
    }
    for layer in layers:
        path = layer.removeprefix(f"{component}.")
        name = _original_unet_name(path, per_block, has_attention=path.rsplit(".upsamplers")[0] in with_attention)
        if name is not None:
            yield name, _Target((layer,))


def _original_unet_name(path: str, per_block: int, *, has_attention: bool) -> str | None:
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", path):
        index = int(match[2]) * 2 + (match[1] == "attentions")
        return f"middle_block.{index}.{_leaf(match[1], match[3])}"
    if not (
        match := re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", path)
    ):
        return None
    side, block, kind, index, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if side == "down":
        number = 1 + block * (per_block + 1) + (per_block if kind == "downsamplers" else index)
        return f"input_blocks.{number}.{int(kind == 'attentions')}.{_leaf(kind, rest)}"
    number = block * (per_block + 1) + (per_block if kind == "upsamplers" else index)
    place = {"resnets": 0, "attentions": 1, "upsamplers": 1 + has_attention}[kind]
    return f"output_blocks.{number}.{place}.{_leaf(kind, rest)}"


def _leaf(kind: str, rest: str) -> str:
    if kind == "resnets":
        return _RESNET.get(rest, rest)
    return "op" if kind == "downsamplers" else rest


def _ordinals(shapes: Shapes) -> dict[str, tuple[str, ...]]:
    """Layers in the order in which cloneofsimo/lora numbers them.

    In the UNet: q, k, v, out of self-attention, the gated projection, q, k, v, out of cross-attention, block by block,
    the middle block last. In the text encoder: the attention layers as they come.
    """
    unet = [layer for layer in shapes if layer.startswith("unet.") and _ordinal_rank(layer) is not None]
    unet.sort(
        key=lambda layer: ("mid_block" in layer, ".up_blocks." in layer, _block_number(layer), _ordinal_rank(layer))
    )
    text = [layer for layer in shapes if layer.startswith("text_encoder.") and ".self_attn." in layer]
    return {DENOISER: tuple(unet), "text_encoder": tuple(text)}


def _block_number(layer: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"(?:blocks|attentions)\.(\d+)", layer))


def _ordinal_rank(layer: str) -> float | None:
    leaves = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj",
              "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")  # fmt: skip
    return next((rank for rank, leaf in enumerate(leaves) if layer.endswith(leaf)), None)
