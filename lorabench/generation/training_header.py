"""What a LoRA file's header says about its training: few entries, short, without paths and without words of prompts.

Entries keep sd-scripts' names (`ss_*`), in which most files speak. What OneTrainer (`ot_config`), ai-toolkit
(`training_info`) and sd-scripts' lists of data sets say is put under the same names; diffusers' scripts say nothing.
A results file holds these entries, so it can be given to others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeGuard

LONGEST: Final = 120
"""Characters kept of an entry."""
N_PICTURES: Final = "n_pictures"
"""Training pictures without repeats; an entry of our own, for sd-scripts' count holds every repeat."""

_NUMBERS: Final = (
    "ss_network_dim",
    "ss_network_alpha",
    "ss_network_dropout",
    "ss_learning_rate",
    "ss_unet_lr",
    "ss_text_encoder_lr",
    "ss_lr_warmup_steps",
    "ss_steps",
    "ss_max_train_steps",
    "ss_epoch",
    "ss_num_epochs",
    "ss_num_train_images",
    "ss_num_reg_images",
    "ss_num_batches_per_epoch",
    "ss_total_batch_size",
    "ss_batch_size_per_device",
    "ss_gradient_accumulation_steps",
    "ss_gradient_checkpointing",
    "ss_cache_latents",
    "ss_resolution",
    "ss_guidance_scale",
    "ss_discrete_flow_shift",
    "ss_noise_offset",
    "ss_min_snr_gamma",
    "ss_caption_dropout_rate",
    "ss_clip_skip",
    "ss_seed",
)
_WORDS: Final = (
    "ss_base_model_version",
    "ss_network_module",
    "ss_optimizer",
    "ss_lr_scheduler",
    "ss_mixed_precision",
    "ss_timestep_sampling",
    "ss_model_prediction_type",
    "modelspec.architecture",
)
_NUMBER: Final = re.compile(r"^[\[(]?[-+0-9.eE, ]+[\])]?$|^(?:true|false|none)$", re.IGNORECASE)
_WORD: Final = re.compile(r"^[\w][\w .,:;=+()\[\]{}'\"-]*$", re.ASCII)
_RATES_OF_PARTS: Final = (
    ("unet", "ss_unet_lr"),
    ("transformer", "ss_unet_lr"),
    ("text_encoder", "ss_text_encoder_lr"),
)
_PRECISIONS: Final = {"BFLOAT_16": "bf16", "FLOAT_16": "fp16", "FLOAT_32": "no"}


def training_header(metadata: Mapping[str, str]) -> dict[str, str]:
    """The settings of a training that a header states and that may be handed on.

    Args:
        metadata: Entries of a safetensors header.

    Returns:
        Name to text of at most `LONGEST` characters. An entry that is no number where a number belongs, or that holds
        a slash, a backslash or a line break, is left out: it could be a path or a prompt.
    """
    found = {name: text for name in _NUMBERS if (text := _matching(_NUMBER, metadata.get(name)))}
    found |= {name: text for name in _WORDS if (text := _matching(_WORD, metadata.get(name)))}
    for source in (_software, _of_data_sets, _of_one_trainer, _of_ai_toolkit):
        for name, value in source(metadata):
            if name not in found and (text := _matching(_WORD, str(value))):
                found[name] = text
    return found


def _matching(pattern: re.Pattern[str], text: str | None) -> str | None:
    text = (text or "").strip()[:LONGEST].rstrip()
    return text if pattern.match(text) else None


def _software(metadata: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Name and version; ai-toolkit writes them, and where it is to be had, as JSON."""
    text = metadata.get("software", "")
    said = _object(text)
    if said:
        yield "software", " ".join(str(said[key]) for key in ("name", "version") if said.get(key))
    elif text:
        yield "software", text


def _of_data_sets(metadata: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Batch size, resolution and number of pictures out of sd-scripts' lists, whose folders' names stay out."""
    sets = [one for one in _list(metadata.get("ss_datasets")) if isinstance(one, dict)]
    sizes = [size for one in sets if _is_count(size := one.get("batch_size_per_device"))]
    if sizes:
        yield "ss_batch_size_per_device", max(sizes)
    resolutions = [one["resolution"] for one in sets if isinstance(one.get("resolution"), list)]
    if resolutions:
        yield "ss_resolution", ", ".join(str(edge) for edge in max(resolutions, key=str)[:2])
    folders = [one for one in _object(metadata.get("ss_dataset_dirs")).values() if isinstance(one, dict)]
    subsets = [part for one in sets for part in one.get("subsets") or () if isinstance(part, dict)]
    shown = [one for one in subsets if not one.get("is_reg")] or folders
    counts = [count for one in shown if _is_count(count := one.get("img_count"))]
    if counts:
        yield N_PICTURES, sum(counts)


def _of_one_trainer(metadata: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """OneTrainer's configuration, where the user has it written into the file."""
    said = _object(metadata.get("ot_config"))
    if not said:
        return
    if said.get("learning_rate_scaler", "NONE") == "NONE":  # else the rate that is written is not the one in use
        yield from _numbers(said, learning_rate="ss_learning_rate")
        for part, name in _RATES_OF_PARTS:
            inner = said.get(part)
            if isinstance(inner, dict) and inner.get("train") is not False:
                yield from _numbers(inner, learning_rate=name)
    yield from _numbers(
        said,
        epochs="ss_num_epochs",
        batch_size="ss_batch_size_per_device",
        gradient_accumulation_steps="ss_gradient_accumulation_steps",
        offset_noise_weight="ss_noise_offset",
        resolution="ss_resolution",
    )
    optimiser = said.get("optimizer")
    if isinstance(optimiser, dict) and optimiser.get("optimizer"):
        yield "ss_optimizer", optimiser["optimizer"]
    if (precision := _PRECISIONS.get(str(said.get("train_dtype")))) is not None:
        yield "ss_mixed_precision", precision
    if "FLUX" in str(said.get("model_type")) and isinstance(said.get("transformer"), dict):
        yield from _numbers(said["transformer"], guidance_scale="ss_guidance_scale")


def _of_ai_toolkit(metadata: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    yield from _numbers(_object(metadata.get("training_info")), step="ss_steps", epoch="ss_epoch")


def _numbers(said: Mapping[str, Any], **names: str) -> Iterator[tuple[str, Any]]:
    """Entries that are numbers, or texts of one, under their names in sd-scripts."""
    for key, name in names.items():
        value = said.get(key)
        if not isinstance(value, bool) and (isinstance(value, int | float) or _matching(_NUMBER, str(value or ""))):
            yield name, value


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _object(text: str | None) -> dict[str, Any]:
    found = _json(text)
    return found if isinstance(found, dict) else {}


def _list(text: str | None) -> list[Any]:
    found = _json(text)
    return found if isinstance(found, list) else []


def _json(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except (json.JSONDecodeError, RecursionError):
        return None
