"""A pipeline around modules that a trainer loaded itself, as the base's own folder would have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorabench.errors import MeasurementError
from lorabench.generation.families import FAMILIES
from lorabench.judges.torchvision_compat import declare_missing_operators


class PartsError(MeasurementError):
    """A trainer's modules are not those of the base's pipeline."""


def pipeline_around(parts: Mapping[str, Any], *, base: str) -> Any:
    """Put modules into a pipeline of the base's class, with the base's scheduler. Nothing is loaded but that.

    Args:
        parts: Modules and tokenizers by the names that diffusers gives them.
        base: Folder or hub id of the base, a diffusers pipeline.

    Returns:
        The pipeline; the modules are those given.

    Raises:
        PartsError: The base is no such pipeline, is of another kind, or a part is missing.
    """
    declare_missing_operators()
    import diffusers

    try:
        index = diffusers.DiffusionPipeline.load_config(base)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        msg = f"a live pipeline needs its base's folder or hub id under base in [model]; found {base!r} ({reason})."
        raise PartsError(msg) from error
    kind = str(index.get("_class_name"))
    if kind not in FAMILIES:
        known = ", ".join(FAMILIES)
        msg = f"a live pipeline must be one of {known}; {base} is a {kind}. Judge the saved files instead."
        raise PartsError(msg)
    wanted = {name for name, entry in index.items() if isinstance(entry, list | tuple) and entry[0] is not None}
    missing = sorted(wanted - parts.keys() - {"scheduler", "safety_checker", "feature_extractor", "image_encoder"})
    if missing:
        found = ", ".join(missing)
        msg = f"a live {kind} needs {found}; this training does not hold them. Judge the saved files instead."
        raise PartsError(msg)
    scheduler = getattr(diffusers, index["scheduler"][1]).from_pretrained(base, subfolder="scheduler")
    extra: dict[str, Any] = {}
    if kind == "StableDiffusionPipeline":
        extra = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if kind == "StableDiffusionXLPipeline":
        extra = {"add_watermarker": False}
    given = {name: part for name, part in parts.items() if name in wanted}
    return getattr(diffusers, kind)(scheduler=scheduler, **given, **extra)
