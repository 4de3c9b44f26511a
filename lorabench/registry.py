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
        "prompt_following_score": "lorabench.metrics.prompt_following:PROMPT_FOLLOWING_SCORE",
        "prompt_exact_score": "lorabench.metrics.prompt_following:PROMPT_EXACT_SCORE",
        "clip_text_similarity": "lorabench.metrics.text_similarity:CLIP_TEXT_SIMILARITY",
        "foil_accuracy_score": "lorabench.metrics.foils:FOIL_ACCURACY_SCORE",
        "foil_win_rate": "lorabench.metrics.foils:FOIL_WIN_RATE",
        "anatomy_score": "lorabench.metrics.anatomy:ANATOMY_SCORE",
        "part_count_error": "lorabench.metrics.anatomy:PART_COUNT_ERROR",
        "palette_compliance_score": "lorabench.metrics.palette:PALETTE_COMPLIANCE_SCORE",
        "palette_collapse": "lorabench.metrics.palette:PALETTE_COLLAPSE",
        "palette_pull": "lorabench.metrics.palette:PALETTE_PULL",
        "smooth_zone_sigma": "lorabench.metrics.texture:SMOOTH_ZONE_SIGMA",
        "flat_fraction": "lorabench.metrics.texture:FLAT_FRACTION",
        "photo_bleed": "lorabench.metrics.texture:PHOTO_BLEED",
    },
)
"""Each name leads to a `records.measurement.Metric` instance with that name."""

JUDGES = Registry(
    "lorabench.judges",
    {
        "clip": "lorabench.judges.clip:ClipEncoder",
        "lpips": "lorabench.judges.lpips_embedding:LpipsEncoder",
        "oracle": "lorabench.judges.oracle_detector:OracleDetector",
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
