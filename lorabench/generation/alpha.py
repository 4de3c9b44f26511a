"""How strong a LoRA is: alpha, from wherever a trainer may have put it.

In this order: a tensor beside the weights; the PEFT configuration in the header, or beside the file; kohya's header
entry; a rule of the layout or of the trainer that is named in the header; what the user states. Nothing is guessed:
loaded with the wrong alpha, an adapter makes plausible pictures at the wrong strength.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorabench.generation.adapter_errors import AlphaContradictionError, AlphaUnknownError, UnsupportedAdapterError
from lorabench.generation.safetensors_file import SafetensorsFile


@dataclass(frozen=True, slots=True)
class Strength:
    """Alpha, and the factor on the product of the matrices at scale 1."""

    alpha: float
    scaling: float


def strengths(
    name: str,
    ranks: Mapping[str, int],
    *,
    source: SafetensorsFile,
    keys: Mapping[str, str],
    layout: str,
    stated: float | None,
) -> dict[str, Strength]:
    """Strength of every module.

    Args:
        name: Of the adapter, for messages.
        ranks: Module to rank.
        source: The file.
        keys: Module to the key of its alpha tensor, where there is one.
        layout: The file's layout.
        stated: What the user says alpha is, or None.

    Returns:
        Module to strength.

    Raises:
        AlphaUnknownError: Neither the file nor the user says alpha.
        AlphaContradictionError: They say different things.
        UnsupportedAdapterError: The header says that it is DoRA.
    """
    configs = _peft_configs(source)
    if any(config.get("use_dora") for config in configs.values()):
        raise UnsupportedAdapterError(name, method="DoRA", example="use_dora in its configuration")
    known: dict[str, Strength] = {}
    for module, rank in ranks.items():
        strength = _of_module(module, rank, source=source, keys=keys, configs=configs, layout=layout)
        if strength is None and stated is None:
            raise AlphaUnknownError(name, ranks=sorted(set(ranks.values())))
        known[module] = strength or Strength(float(stated or 0.0), float(stated or 0.0) / rank)
    found = sorted({strength.alpha for strength in known.values()})
    if stated is not None and found != [stated]:
        raise AlphaContradictionError(name, stated=stated, found=found)
    return known


def _of_module(
    module: str,
    rank: int,
    *,
    source: SafetensorsFile,
    keys: Mapping[str, str],
    configs: Mapping[str, Mapping[str, Any]],
    layout: str,
) -> Strength | None:
    if module in keys:
        return _plain(float(source.read(keys[module]).reshape(-1)[0]), rank)
    if (strength := _from_peft(module, rank, configs)) is not None:
        return strength
    if (text := source.metadata.get("ss_network_alpha")) is not None and _is_number(text):
        return _plain(float(text), rank)
    trainer = source.metadata.get("software", "")
    if layout == "cloneofsimo" or "ai-toolkit" in trainer or "ot_branch" in source.metadata:
        # cloneofsimo/lora adds the product as it is; ai-toolkit sets alpha = rank where it writes none; OneTrainer
        # multiplies alpha / rank into the matrices where it writes none.
        return _plain(float(rank), rank)
    return None


def _plain(alpha: float, rank: int) -> Strength:
    return Strength(alpha, alpha / rank)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _peft_configs(source: SafetensorsFile) -> dict[str, dict[str, Any]]:
    """PEFT configurations by component prefix; the empty prefix holds for all modules."""
    text = source.metadata.get("lora_adapter_metadata")
    beside = source.path.with_name("adapter_config.json")
    if text is None and source.path.name == "adapter_model.safetensors" and beside.is_file():
        text = beside.read_text(encoding="utf-8")
    try:
        flat = json.loads(text) if text is not None else {}
    except json.JSONDecodeError:
        return {}
    configs: dict[str, dict[str, Any]] = {}
    for key, value in flat.items() if isinstance(flat, dict) else ():
        prefix, dot, entry = key.partition(".")
        configs.setdefault(prefix if dot else "", {})[entry if dot else key] = value
    return configs


def _from_peft(module: str, rank: int, configs: Mapping[str, Mapping[str, Any]]) -> Strength | None:
    component, _, rest = module.partition(".")
    config = configs.get(component) or configs.get("")
    if config is None or not isinstance(config.get("lora_alpha"), int | float):
        return None
    alpha = float(config["lora_alpha"])
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", rest) or re.match(rf"(.*\.)?({pattern})$", module):
            alpha = float(value)
            break
    root = math.sqrt(rank) if config.get("use_rslora") else rank
    return Strength(alpha, alpha / root)
