"""The same suite, made twice from nothing, gives the same results to the last digit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PngFile
from safetensors.numpy import save_file

from lorabench.evaluation.engine import evaluate
from lorabench.evaluation.judge_set import JudgeSet
from lorabench.generation.synthetic import FaultSpec, SyntheticBackend
from lorabench.judges.oracle_detector import OracleDetector
from lorabench.records.config import CandidateConfig, Config, ModelConfig, StatisticsConfig, TrainingSetConfig
from lorabench.records.plan import GenerationSettings, StylePhrases
from lorabench.records.results import Results
from lorabench.records.suite import AnatomyCheck, Case, ObjectCheck, PaletteCheck, Suite
from lorabench.world.drawing import draw
from lorabench.world.scene import sample_scene

STYLE = StylePhrases(trigger="a zvq drawing of", plain="a flat illustration of", neutral="a photo of")
HUES = {"red": (0.0, 50.0), "green": (120.0, 165.0), "blue": (245.0, 285.0)}


class Thumbnails:
    """A perceptual encoder without weights: distances between small copies of the pictures."""

    name = "thumbnails"
    weights_digest = "none"

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        small = [np.asarray(PngFile.fromarray(picture).resize((16, 16))) / 255.0 for picture in pictures]
        return np.stack([values.ravel() for values in small]).astype(np.float32)


def suite() -> Suite:
    palettes = [
        Case(
            id=f"palette-{color}-{shape}",
            family="palette",
            prompt=f"{{style}} a {color} {shape}",
            checks=(ObjectCheck(label=shape, color=color), PaletteCheck(hues=(HUES[color],))),
        )
        for color in HUES
        for shape in ("circle", "square")
    ]
    hand = Case(
        id="hand-1", family="anatomy", prompt="{style} a red hand", checks=(AnatomyCheck(label="hand", parts=5),)
    )
    return Suite(name="twice", licence="CC0-1.0", seeds=(7, 11, 13), cases=(*palettes, hand))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twice")
    rng = np.random.default_rng(5)
    stem = "transformer.blocks.0.to_q"
    tensors = {
        f"{stem}.lora_A.weight": rng.normal(size=(2, 8)).astype(np.float32),
        f"{stem}.lora_B.weight": rng.normal(size=(8, 2)).astype(np.float32),
        f"{stem}.alpha": np.array(2.0, dtype=np.float32),
    }
    save_file(tensors, folder / "adapter.safetensors")
    (folder / "training").mkdir()
    for number in range(10):
        picture = draw(sample_scene("pair", rng=rng), "flat", seed=number)
        PngFile.fromarray(picture).save(folder / "training" / f"{number:02d}.png")
    return folder


def run(home: Path, name: str, *, batch_size: int = 8) -> Results:
    """With some faults, so that no number is a plain zero."""
    config = Config(
        candidate=CandidateConfig(lora=str(home / "adapter.safetensors")),
        style=STYLE,
        generation=GenerationSettings(height=128, width=128),
        training_set=TrainingSetConfig(folder=home / "training"),
        statistics=StatisticsConfig(n_resamples=200),
        arms=("B0", "B1", "L1"),
        cache_dir=home / f"cache-{name}",
        runs_dir=home / f"runs-{name}",
    )
    faults = [FaultSpec("palette", share=0.4), FaultSpec("grain", share=0.5), FaultSpec("wrong_parts", share=0.5)]
    return evaluate(
        config,
        suite=suite(),
        backend=SyntheticBackend(ModelConfig(batch_size=batch_size), faults=faults),
        judges=JudgeSet(lpips=Thumbnails(), detector=OracleDetector()),
    )


def plain(results: Results) -> dict[str, Any]:
    """Without what may differ: when, how long, and how long each picture took."""
    data = results.model_dump(mode="json")
    del data["provenance"]["created_at"], data["provenance"]["timings"]
    for image in data["images"]:
        del image["generation_seconds"]
    return data


def test_two_runs_from_nothing_give_equal_results(home: Path) -> None:
    first = plain(run(home, "first"))

    # Other batches, and other folders: neither may move a number.
    second = plain(run(home, "second", batch_size=5))

    assert first["run_id"] == second["run_id"]
    assert {name for name in first if first[name] != second[name]} == set()
    assert first["set_measurements"]
    assert any(gate["outcome"] != "PASS" for gate in first["gates"])
