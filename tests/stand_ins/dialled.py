"""A backend whose style is a known function of strength, trigger and guidance, and an encoder that reads it back.

Pictures are the synthetic world's, always right, with patches in the upper corners, whose brightness says how much
style there is, and in the lower ones, which say how the picture answers to guidance. The encoder's distances are linear
in the style, so that positions are what the backend was told.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from lorabench.evaluation.judge_set import JudgeSet
from lorabench.generation.protocol import Made
from lorabench.generation.synthetic import FaultSpec, SyntheticBackend
from lorabench.judges.oracle_detector import OracleDetector
from lorabench.records.config import CandidateConfig, Config, ModelConfig, TrainingSetConfig
from lorabench.records.plan import Arm, GenerationSettings, PlannedCell, StylePhrases
from lorabench.records.results import BaseInfo

STYLE = StylePhrases(trigger="a zvq drawing of", plain="a flat illustration of", neutral="a photo of")
TRIGGER = "zvq"
PATCH = 4
"""Side of a patch in pixels: too small for the oracle to call it an object."""
DARK, LIGHT = 64.0, 192.0
"""Grey levels of a patch at 0 and 1: near enough to the pictures' own to leave their contrast alone."""
JITTER = 0.06
"""Largest deviation of a picture's style from the curve, by case and seed."""

Curve = Callable[[float], float]


def configured(model: ModelConfig, *, cache_dir: Path) -> DialledBackend:
    """The backend as the registry makes it: the base's name says what the candidate does."""
    del cache_dir
    return DialledBackend(BEHAVIOURS[model.base])


def linear(strength: float) -> float:
    """Style grows evenly up to the working strength."""
    return min(strength, 1.0)


def threshold(at: float) -> Curve:
    """Nothing below a strength, everything above."""
    return lambda strength: 1.0 if strength >= at else 0.0


def saturating(at: float) -> Curve:
    """Everything is there at a low strength already."""
    return lambda strength: min(strength / at, 1.0)


@dataclass(frozen=True)
class Behaviour:
    """What the candidate does."""

    style: Curve = linear
    needs_trigger: bool = True
    placebo_works: bool = False
    breaks_from: float = math.inf
    """Strength from which the second object is missing."""
    grey_from: float = math.inf
    """Strength from which pictures lose nine tenths of their contrast."""
    burnt_from: float = math.inf
    """Strength from which colours are burnt."""
    guidance_gain: float = 1.0
    """Answer to guidance in shares of the base's."""
    limbs_at: float = 0.0
    """Guidance up to which figures have a part too many."""


BEHAVIOURS = {
    "healthy": Behaviour(),
    "at-full-only": Behaviour(style=threshold(0.9)),
    "always-on": Behaviour(needs_trigger=False),
    "deaf": Behaviour(guidance_gain=0.0),
}


class DialledBackend:
    """Draws what a `Behaviour` says. Without adapter, or at strength 0, it is the base to the bit."""

    name = "dialled"
    needs_device = False

    def __init__(self, behaviour: Behaviour | None = None, *, dial: str = "guidance_scale") -> None:
        self.behaviour = behaviour or Behaviour()
        self.dial = dial
        self.n_drawn = 0
        self._right = SyntheticBackend(identical=True)
        self._wrong = SyntheticBackend(identical=True, faults=[FaultSpec("drop_second")])
        self._limbs = SyntheticBackend(identical=True, faults=[FaultSpec("wrong_parts")])

    def base_info(self) -> BaseInfo:
        return self._right.base_info()

    def fingerprint(self) -> Mapping[str, str]:
        told = [round(self.behaviour.style(strength / 20), 6) for strength in range(41)]
        rest = {key: str(value) for key, value in vars(self.behaviour).items() if key != "style"}
        return {**self._right.fingerprint(), "behaviour": repr((told, sorted(rest.items()), self.dial))}

    def load_candidate(self, adapter: Any) -> None:
        del adapter

    def round_trip(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [picture.copy() for picture in pictures]

    def generate(self, cells: Sequence[PlannedCell], *, settings: GenerationSettings) -> Iterator[Made]:
        for planned in cells:
            self.n_drawn += 1
            yield Made(planned, self._draw(planned, settings))

    def _draw(self, planned: PlannedCell, settings: GenerationSettings) -> np.ndarray:
        told, cell = self.behaviour, planned.cell
        strength = cell.scale if cell.arm.uses_adapter else 0.0
        guidance = getattr(settings, self.dial) or 3.5
        backend = self._right
        if strength >= told.breaks_from and strength > 0:
            backend = self._wrong
        elif strength > 0 and guidance <= told.limbs_at:
            backend = self._limbs
        arm = Arm.BASE if backend is self._right else Arm.CANDIDATE
        content = planned.prompt.partition(" of ")[2]  # one look for all phrases: only the patches tell the style
        same = PlannedCell(cell=cell.model_copy(update={"arm": arm, "scale": 0.0}), prompt=f"a photo of {content}")
        (made,) = backend.generate([same], settings=settings)
        assert made.picture is not None
        picture = made.picture.astype(np.float64)
        if strength > 0 and strength >= told.grey_from:
            picture = 128.0 + 0.1 * (picture - 128.0)
        if strength > 0 and strength >= told.burnt_from:
            grey = picture.mean(axis=2, keepdims=True)
            picture = np.clip(grey + 3.0 * (picture - grey), 0.0, 255.0)
        gain = told.guidance_gain if strength > 0 else 1.0
        picture = _stamped(picture, style=self._style(planned), guidance=gain * math.log2(guidance) / 4)
        return picture.round().astype(np.uint8)

    def _style(self, planned: PlannedCell) -> float:
        told, cell = self.behaviour, planned.cell
        strength = cell.scale if cell.arm.uses_adapter else 0.0
        meant = TRIGGER in planned.prompt or not told.needs_trigger
        if told.placebo_works and not planned.prompt.startswith(STYLE.neutral):
            meant = True
        level = told.style(strength) if strength > 0 and meant else 0.0
        spread = int.from_bytes(hashlib.sha256(f"{cell.case}/{cell.seed}".encode()).digest()[:2], "big") / 2**16 - 0.5
        return min(1.0, max(0.0, level + (2 * JITTER * spread if level > 0 else 0.0)))


class PatchEncoder:
    """Distances that are linear in the style patch: squared Euclidean, 2 - 2 style to a picture of full style."""

    name = "patches"
    weights_digest = "none"

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([_vector(picture) for picture in pictures]).astype(np.float32)


def _vector(picture: np.ndarray) -> np.ndarray:
    style, guidance = (
        min(max((float(patch.mean()) - DARK) / (LIGHT - DARK), 0.0), 1.0)
        for patch in (picture[:PATCH, :PATCH], picture[-PATCH:, :PATCH])
    )
    small = np.asarray(Image.fromarray(picture).resize((8, 8))).ravel() / 255.0
    return np.array([style, math.sqrt(1.0 - style**2), 0.4 * guidance, *(0.01 * small)])


def _grey(level: float) -> float:
    return DARK + level * (LIGHT - DARK)


def _stamped(picture: np.ndarray, *, style: float, guidance: float) -> np.ndarray:
    stamped = picture.copy()
    for columns in (slice(PATCH), slice(-PATCH, None)):  # on both sides: mirrored pictures are compared too
        stamped[:PATCH, columns] = _grey(style)
        stamped[-PATCH:, columns] = _grey(min(max(guidance, 0.0), 1.0))
    return stamped


def judges(*, detector: bool = True) -> JudgeSet:
    """The patch encoder and, if asked for, the world's oracle."""
    absent = {"clip": "no CLIP", "detector": "no detector"}
    return JudgeSet(lpips=PatchEncoder(), detector=OracleDetector() if detector else None, absent=absent)


def project(folder: Path, *, n_training: int = 12, size: int = 48) -> Config:
    """An adapter file, training pictures of full style, and settings that use them.

    Small pictures are read quickly; the oracle needs 128 pixels.
    """
    rng = np.random.default_rng(7)
    tensors = {
        "transformer.blocks.0.to_q.lora_A.weight": rng.normal(size=(2, 8)).astype(np.float32),
        "transformer.blocks.0.to_q.lora_B.weight": rng.normal(size=(8, 2)).astype(np.float32),
        "transformer.blocks.0.to_q.alpha": np.array(2.0, dtype=np.float32),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter.safetensors")
    (folder / "training").mkdir(exist_ok=True)
    for number in range(n_training):
        even = rng.integers(0, 255, size=(4, 4, 3)).astype(np.uint8)
        picture = np.asarray(Image.fromarray(even).resize((size, size), Image.Resampling.NEAREST)).astype(np.float64)
        stamped = _stamped(picture, style=1.0, guidance=math.log2(3.5) / 4)
        Image.fromarray(stamped.round().astype(np.uint8)).save(folder / "training" / f"{number:02d}.png")
    return Config(
        candidate=CandidateConfig(lora=str(folder / "adapter.safetensors")),
        style=STYLE,
        generation=GenerationSettings(height=size, width=size),
        training_set=TrainingSetConfig(folder=folder / "training"),
        cache_dir=folder / "cache",
        runs_dir=folder / "runs",
    )


def patches(net: str, *, weights: Path | None, device: str) -> PatchEncoder:
    """The encoder as the registry makes LPIPS."""
    del net, weights, device
    return PatchEncoder()
