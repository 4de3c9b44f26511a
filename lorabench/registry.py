"""Names of metrics, judges, backends and trainers, resolved only when they are asked for.

A registry maps a name to `"module:attribute"`. Nothing heavy is imported by listing names. Other distributions add to
it through the entry point groups `lorabench.metrics`, `lorabench.judges`, `lorabench.backends` and
`lorabench.trainers`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from lorabench.errors import SpecError


class UnknownNameError(SpecError):
    """A name that no registry entry has."""

    def __init__(self, group: str, name: str, known: list[str]) -> None:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
        super().__init__(f"{group} must be registered; found no {name!r}. {hint}")
        self.group, self.name, self.known = group, name, known


class Registry:
    """Names of one kind of part, to the place where the part lives."""

    def __init__(self, group: str, builtin: Mapping[str, str]) -> None:
        """`group` is the entry point group; `builtin` maps names to `"module:attribute"`."""
        self.group = group
        self._builtin = dict(builtin)

    def names(self) -> list[str]:
        """All names, built in ones first, each group sorted."""
        return [*sorted(self._builtin), *sorted(self._plugins().keys() - self._builtin.keys())]

    def load(self, name: str) -> Any:
        """Import and return the part.

        Raises:
            UnknownNameError: No such name; the message suggests the nearest one.
        """
        target = self._builtin.get(name) or self._plugins().get(name)
        if target is None:
            raise UnknownNameError(self.group, name, self.names())
        module, _, attribute = target.partition(":")
        return getattr(import_module(module), attribute)

    def _plugins(self) -> dict[str, str]:
        """Without the extras that an entry point may name after its place."""
        return {entry.name: f"{entry.module}:{entry.attr}" for entry in entry_points(group=self.group)}


METRICS = Registry(
    "lorabench.metrics",
    {
        "broken_rate": "lorabench.metrics.broken:BROKEN_RATE",
        "nearest_training_distance": "lorabench.metrics.memorisation:NEAREST_TRAINING_DISTANCE",
        "composition_copy_rate": "lorabench.metrics.structure:COMPOSITION_COPY_RATE",
        "composition_collapse": "lorabench.metrics.structure:COMPOSITION_COLLAPSE",
        "neighbour_ratio": "lorabench.metrics.memorisation:NEIGHBOUR_RATIO",
        "copy_rate": "lorabench.metrics.memorisation:COPY_RATE",
        "descriptor_ratio": "lorabench.metrics.descriptor_copies:DESCRIPTOR_RATIO",
        "descriptor_copy_rate": "lorabench.metrics.descriptor_copies:DESCRIPTOR_COPY_RATE",
        "tile_copy_share": "lorabench.metrics.tile_copies:TILE_COPY_SHARE",
        "part_copy_rate": "lorabench.metrics.tile_copies:PART_COPY_RATE",
        "largest_tile_distance": "lorabench.metrics.tile_copies:LARGEST_TILE_DISTANCE",
        "memorisation_gap": "lorabench.metrics.memorisation:MEMORISATION_GAP",
        "prompt_following_score": "lorabench.metrics.prompt_following:PROMPT_FOLLOWING_SCORE",
        "prompt_exact_score": "lorabench.metrics.prompt_following:PROMPT_EXACT_SCORE",
        "clip_text_similarity": "lorabench.metrics.text_similarity:CLIP_TEXT_SIMILARITY",
        "foil_accuracy_score": "lorabench.metrics.foils:FOIL_ACCURACY_SCORE",
        "foil_win_rate": "lorabench.metrics.foils:FOIL_WIN_RATE",
        "lettering_rate": "lorabench.metrics.lettering:LETTERING_RATE",
        "lettering_share": "lorabench.metrics.lettering:LETTERING_SHARE",
        "lettering_leak_rate": "lorabench.metrics.lettering:LETTERING_LEAK_RATE",
        "surplus_objects": "lorabench.metrics.invented:SURPLUS_OBJECTS",
        "empty_space_clutter": "lorabench.metrics.clutter:EMPTY_SPACE_CLUTTER",
        "clutter_components": "lorabench.metrics.clutter:CLUTTER_COMPONENTS",
        "ambient_density": "lorabench.metrics.clutter:AMBIENT_DENSITY",
        "ambient_position": "lorabench.metrics.clutter:AMBIENT_POSITION",
        "anatomy_score": "lorabench.metrics.anatomy:ANATOMY_SCORE",
        "part_count_error": "lorabench.metrics.anatomy:PART_COUNT_ERROR",
        "palette_compliance_score": "lorabench.metrics.palette:PALETTE_COMPLIANCE_SCORE",
        "palette_collapse": "lorabench.metrics.palette:PALETTE_COLLAPSE",
        "palette_pull": "lorabench.metrics.palette:PALETTE_PULL",
        "smooth_zone_sigma": "lorabench.metrics.texture:SMOOTH_ZONE_SIGMA",
        "flat_fraction": "lorabench.metrics.texture:FLAT_FRACTION",
        "photo_bleed": "lorabench.metrics.texture:PHOTO_BLEED",
        "tile_sigma": "lorabench.metrics.texture:TILE_SIGMA",
        "edge_sigma": "lorabench.metrics.sharpness:EDGE_SIGMA",
        "bokeh_share": "lorabench.metrics.sharpness:BOKEH_SHARE",
        "jpeg_halo": "lorabench.metrics.halo:JPEG_HALO",
        "chroma_halo": "lorabench.metrics.halo:CHROMA_HALO",
        "luma_ring": "lorabench.metrics.halo:LUMA_RING",
        "mean_chroma": "lorabench.metrics.saturation:MEAN_CHROMA",
        "clipped_share": "lorabench.metrics.saturation:CLIPPED_SHARE",
        "rms_contrast": "lorabench.metrics.saturation:RMS_CONTRAST",
        "style_shortfall": "lorabench.metrics.strength:STYLE_SHORTFALL",
        "low_strength_loss": "lorabench.metrics.strength:LOW_STRENGTH_LOSS",
        "overcook_harm": "lorabench.metrics.strength:OVERCOOK_HARM",
        "low_strength_artifacts": "lorabench.metrics.strength:LOW_STRENGTH_ARTIFACTS",
        "guidance_collapse": "lorabench.metrics.guidance:GUIDANCE_COLLAPSE",
        "guidance_haze": "lorabench.metrics.guidance:GUIDANCE_HAZE",
        "anatomy_guidance_loss": "lorabench.metrics.guidance:ANATOMY_GUIDANCE_LOSS",
        "trigger_shortfall": "lorabench.metrics.trigger:TRIGGER_SHORTFALL",
        "style_leak": "lorabench.metrics.trigger:STYLE_LEAK",
        "seed_collapse": "lorabench.metrics.diversity:SEED_COLLAPSE",
        "case_spread_ratio": "lorabench.metrics.diversity:CASE_SPREAD_RATIO",
        "eta_squared": "lorabench.metrics.diversity:ETA_SQUARED",
        "vendi_ratio": "lorabench.metrics.diversity:VENDI_RATIO",
        "worst_subject_slice": "lorabench.metrics.subject_slices:WORST_SUBJECT_SLICE",
        "training_palette_distance": "lorabench.metrics.training_palette:TRAINING_PALETTE_DISTANCE",
        "brand_distance": "lorabench.metrics.training_palette:BRAND_DISTANCE",
        "photo_probability": "lorabench.metrics.photo_look:PHOTO_PROBABILITY",
        "identity_similarity": "lorabench.metrics.identity:IDENTITY_SIMILARITY",
        "identity_drift": "lorabench.metrics.identity:IDENTITY_DRIFT",
        "identity_consistency": "lorabench.metrics.identity:IDENTITY_CONSISTENCY",
        "style_similarity": "lorabench.metrics.style_similarity:STYLE_SIMILARITY",
    },
)
"""Each name leads to a `records.measurement.Metric` instance with that name."""

JUDGES = Registry(
    "lorabench.judges",
    {
        "clip": "lorabench.judges.clip:ClipEncoder",
        "lpips": "lorabench.judges.lpips_embedding:LpipsEncoder",
        "sscd": "lorabench.judges.copy_descriptor:CopyDescriptor",
        "oracle": "lorabench.judges.oracle_detector:OracleDetector",
        "rapidocr": "lorabench.judges.text_reader:RapidTextReader",
        "owlv2": "lorabench.judges.transformers_detector:Owlv2Detector",
        "grounding-dino": "lorabench.judges.transformers_detector:GroundingDinoDetector",
    },
)

BACKENDS = Registry(
    "lorabench.backends",
    {
        "diffusers": "lorabench.generation.diffusers_backend:DiffusersBackend",
        "synthetic": "lorabench.generation.synthetic:SyntheticBackend",
    },
)

TRAINERS = Registry(
    "lorabench.trainers",
    {
        "huggingface": "lorabench.training.trainers.huggingface:MonitorCallback",
        "lightning": "lorabench.training.trainers.lightning:MonitorCallback",
        "sd-scripts": "lorabench.training.trainers.kohya:KohyaMonitor",
        "ai-toolkit": "lorabench.training.trainers.ai_toolkit:ToolkitMonitor",
        "onetrainer": "lorabench.training.trainers.onetrainer:OneTrainerMonitor",
        "simpletuner": "lorabench.training.trainers.simpletuner:SimpleTunerMonitor",
    },
)
"""Each name leads to what hangs a `Monitor` on that trainer: a callback, made by calling it with the monitor."""
