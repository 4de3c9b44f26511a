"""A small world to run in: suites of few cases, an adapter file, training pictures, judges without weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PngFile
from safetensors.numpy import save_file

from lorabench.evaluation.engine import Run, open_run
from lorabench.evaluation.judge_set import JudgeSet
from lorabench.generation.synthetic import FaultSpec, SyntheticBackend
from lorabench.judges.oracle_detector import OracleDetector
from lorabench.records.config import CandidateConfig, Config, StatisticsConfig, TrainingSetConfig
from lorabench.records.plan import GenerationSettings, StylePhrases
from lorabench.records.suite import (
    AnatomyCheck,
    Case,
    CountCheck,
    Foil,
    ObjectCheck,
    PaletteCheck,
    RelationCheck,
    Suite,
)
from lorabench.world.drawing import draw
from lorabench.world.oracle import detect
from lorabench.world.scene import COLOURS, SHAPES, sample_scene

STYLE = StylePhrases(trigger="a zvq drawing of", plain="a flat illustration of", neutral="a photo of")
SETTINGS = GenerationSettings(height=128, width=128)
WORDS = (*COLOURS, *SHAPES, "hand", "person", "left", "right", "above", "below")
HUES = {"red": (0.0, 50.0), "green": (120.0, 165.0), "blue": (245.0, 285.0)}


class Thumbnails:
    """A perceptual encoder without weights: distances between small copies of the pictures."""

    name = "thumbnails"
    weights_digest = "none"

    def __init__(self) -> None:
        self.n_embedded = 0

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        self.n_embedded += len(pictures)
        small = [np.asarray(PngFile.fromarray(picture).resize((16, 16))) / 255.0 for picture in pictures]
        return np.stack([values.ravel() for values in small]).astype(np.float32)


class WordClip:
    """Pictures and sentences as bags of the world's words; can be told to see nothing."""

    weights_digest = "none"
    logit_scale = 100.0

    def __init__(self, *, blind: bool = False) -> None:
        self.name = "blind-words" if blind else "words"
        self.blind = blind
        self.n_pictures, self.n_texts = 0, 0

    def encode_images(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        self.n_pictures += len(pictures)
        seen = [[] if self.blind else detect(picture) for picture in pictures]
        return _bags([[word for one in found for word in (one.label, str(one.color))] for found in seen])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.n_texts += len(texts)
        return _bags([[] if self.blind else text.split() for text in texts])


def _bags(sentences: Sequence[Sequence[str]]) -> np.ndarray:
    rows = np.full((len(sentences), len(WORDS)), 0.01)
    for row, words in zip(rows, sentences, strict=True):
        for word in words:
            if word in WORDS:
                row[WORDS.index(word)] += 1.0
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def spatial_case(name: str, first: tuple[str, str], second: tuple[str, str]) -> Case:
    return Case(
        id=name,
        family="spatial",
        prompt=f"{{style}} a {first[0]} {first[1]} left of a {second[0]} {second[1]}",
        checks=(
            ObjectCheck(label=first[1], color=first[0]),
            ObjectCheck(label=second[1], color=second[0]),
            RelationCheck(subject=first[1], relation="left of", object=second[1]),
        ),
        foils=(Foil(kind="color", prompt=f"{{style}} a purple {first[1]} left of a purple {second[1]}"),),
    )


def palette_case(color: str, shape: str) -> Case:
    return Case(
        id=f"palette-{color}-{shape}",
        family="palette",
        prompt=f"{{style}} a {color} {shape}",
        checks=(PaletteCheck(hues=(HUES[color],)),),
    )


def small_cases() -> tuple[Case, ...]:
    """Six spatial cases, one of counting, two of figures."""
    return (
        spatial_case("spatial-1", ("red", "circle"), ("blue", "square")),
        spatial_case("spatial-2", ("green", "triangle"), ("yellow", "circle")),
        spatial_case("spatial-3", ("cyan", "square"), ("red", "cross")),
        spatial_case("spatial-4", ("blue", "cross"), ("green", "circle")),
        spatial_case("spatial-5", ("yellow", "square"), ("cyan", "triangle")),
        Case(
            id="count-1",
            family="counting",
            prompt="{style} three red circles",
            checks=(CountCheck(label="circle", count=3, color="red"),),
        ),
        *(
            Case(
                id=f"hand-{color}",
                family="anatomy",
                prompt=f"{{style}} a {color} hand",
                checks=(AnatomyCheck(label="hand", parts=5),),
            )
            for color in ("red", "blue")
        ),
    )


@dataclass
class Lab:
    """Where runs are made: an adapter file, folders, and ready-made parts."""

    home: Path
    style: StylePhrases = STYLE
    settings: GenerationSettings = SETTINGS
    cases: tuple[Case, ...] = field(default_factory=small_cases)

    @property
    def adapter(self) -> Path:
        return self.adapter_called("adapter")

    def adapter_called(self, name: str, *, seed: int = 5) -> Path:
        path = self.home / f"{name}.safetensors"
        if not path.exists():
            rng = np.random.default_rng(seed)
            stem = "transformer.blocks.0.to_q"
            tensors = {
                f"{stem}.lora_A.weight": rng.normal(size=(2, 8)).astype(np.float32),
                f"{stem}.lora_B.weight": rng.normal(size=(8, 2)).astype(np.float32),
                f"{stem}.alpha": np.array(2.0, dtype=np.float32),
            }
            save_file(tensors, path)
        return path

    def training(self, n: int = 12, *, captions: dict[int, str] | None = None, repeat: int = 0) -> Path:
        folder = self.home / f"training-{n}-{repeat}-{len(captions or {})}"
        if not folder.exists():
            folder.mkdir()
            rng = np.random.default_rng(3)
            pictures = [draw(sample_scene("pair", rng=rng), "flat", seed=number) for number in range(n)]
            for number, picture in enumerate([*pictures, *[pictures[0]] * repeat]):
                PngFile.fromarray(picture).save(folder / f"{number:02d}.png")
            for number, caption in (captions or {}).items():
                (folder / f"{number:02d}.txt").write_text(caption, encoding="utf-8")
        return folder

    def suite(self, *cases: Case, seeds: tuple[int, ...] = (7, 11)) -> Suite:
        return Suite(name="small", licence="CC0-1.0", seeds=seeds, cases=cases or self.cases)

    def palette_cases(self) -> tuple[Case, ...]:
        return tuple(palette_case(color, shape) for color in HUES for shape in ("circle", "square"))

    def spatial_case(self, name: str, first: tuple[str, str], second: tuple[str, str]) -> Case:
        return spatial_case(name, first, second)

    def config(self, **changes: Any) -> Config:
        plain: dict[str, Any] = {
            "candidate": CandidateConfig(lora=str(self.adapter)),
            "style": self.style,
            "generation": self.settings,
            "cache_dir": self.home / "cache",
            "runs_dir": self.home / "runs",
            "baselines_dir": self.home / "baselines",
            "statistics": StatisticsConfig(n_resamples=200),
        }
        return Config(**{**plain, **changes})

    def with_training(self, n: int = 12, **changes: Any) -> Config:
        return self.config(training_set=TrainingSetConfig(folder=self.training(n)), **changes)

    def judges(self, *, clip: Any = None, lpips: Any = None, detector: bool = True) -> JudgeSet:
        return JudgeSet(clip=clip, lpips=lpips, detector=OracleDetector() if detector else None)

    def thumbnails(self) -> Thumbnails:
        return Thumbnails()

    def clip(self, *, blind: bool = False) -> WordClip:
        return WordClip(blind=blind)

    def backend(self, *kinds: Any, cases: Sequence[str] | None = None, **options: Any) -> SyntheticBackend:
        chosen = None if cases is None else frozenset(cases)
        return SyntheticBackend(faults=[FaultSpec(kind, cases=chosen) for kind in kinds], **options)

    def open(self, config: Config | None = None, **options: Any) -> Run:
        plain: dict[str, Any] = {"suite": self.suite(), "backend": self.backend(), "judges": self.judges()}
        return open_run(config or self.config(), **{**plain, **options})


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Of one test alone: nothing is cached at first."""
    return Lab(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Of one module: its pictures are made once."""
    return Lab(tmp_path_factory.mktemp("lab"))
