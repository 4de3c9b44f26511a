"""Edited copies and copied figures, planted: each fails its own gate; a healthy candidate fails none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PngFile
from safetensors.numpy import save_file

from lorabench.evaluation.engine import evaluate
from lorabench.evaluation.judge_set import JudgeSet
from lorabench.generation.synthetic import FaultSpec, SyntheticBackend
from lorabench.metrics.descriptor_copies import training_views
from lorabench.metrics.structure import structure_descriptor
from lorabench.records.comparison import Outcome
from lorabench.records.config import CandidateConfig, Config, TrainingSetConfig
from lorabench.records.plan import GenerationSettings, StylePhrases
from lorabench.records.results import Results
from lorabench.records.suite import Case, Suite
from lorabench.world.drawing import draw
from lorabench.world.scene import COLOURS, SHAPES, sample_scene

STYLE = StylePhrases(trigger="a zvq drawing of", plain="a flat illustration of", neutral="a photo of")
SIDE = 128
N_TRAINING = 24
PROMPTS = [
    f"{{style}} a {one} {SHAPES[n % 3]} {relation} a {other} cross"
    for relation in ("left of", "above")
    for n, one in enumerate(COLOURS)
    for other in COLOURS
    if one != other
]
SUITE = Suite(
    name="pairs",
    licence="CC0-1.0",
    seeds=(1,),
    cases=tuple(Case(id=f"pair-{n:02d}", family="spatial", prompt=prompt) for n, prompt in enumerate(PROMPTS)),
)
"""Sixty: with a third fewer, one drawing taken for a copy leaves it open whether a tenth of the prompts gives one."""


class Edges:
    """A copy descriptor without weights: where edges run, whatever the colours, less what all pictures have."""

    name = "edges"
    weights_digest = "none"

    def __init__(self) -> None:
        parts = [view for picture in trained() for view in training_views(picture)]
        self.usual = np.mean([structure_descriptor(part) for part in parts], axis=0)

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        raw = np.stack([structure_descriptor(picture) for picture in pictures]) - self.usual
        return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


class TiledPixels:
    """A perceptual encoder without weights that knows its tiles."""

    name = "tiled-pixels"
    weights_digest = "none"

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        small = [
            np.asarray(PngFile.fromarray(picture).resize((32, 32), PngFile.Resampling.BOX)) for picture in pictures
        ]
        return (np.stack(small).reshape(len(small), -1) / 255.0 / 32.0).astype(np.float32)

    def tiles(self, grid: int) -> np.ndarray:
        rows, columns = np.indices((32, 32)) * grid // 32
        return np.repeat((rows * grid + columns).ravel(), 3)


def trained() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [textured(draw(sample_scene("pair", rng=rng), "flat", seed=n), seed=n) for n in range(N_TRAINING)]


def textured(picture: np.ndarray, *, seed: int) -> np.ndarray:
    """With soft blots of its own all over, so that no tile is empty ground."""
    rng = np.random.default_rng(seed)
    blots = np.asarray(PngFile.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)).resize((SIDE, SIDE)))
    return (0.6 * picture + 0.4 * blots).astype(np.uint8)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copies")
    rng = np.random.default_rng(5)
    tensors = {
        "transformer.blocks.0.to_q.lora_A.weight": rng.normal(size=(2, 8)).astype(np.float32),
        "transformer.blocks.0.to_q.lora_B.weight": rng.normal(size=(8, 2)).astype(np.float32),
        "transformer.blocks.0.to_q.alpha": np.array(2.0, dtype=np.float32),
    }
    save_file(tensors, folder / "adapter.safetensors")
    (folder / "training").mkdir()
    for number, picture in enumerate(trained()):
        PngFile.fromarray(picture).save(folder / "training" / f"{number:02d}.png")
    return folder


def judged(home: Path, planted: list[np.ndarray], *, cases: frozenset[str] = frozenset(), name: str) -> Results:
    config = Config(
        candidate=CandidateConfig(lora=str(home / "adapter.safetensors")),
        style=STYLE,
        generation=GenerationSettings(height=SIDE, width=SIDE),
        training_set=TrainingSetConfig(folder=home / "training"),
        cache_dir=home / f"cache-{name}",
        runs_dir=home / f"runs-{name}",
        arms=("B1", "L1"),
    )
    faults = (FaultSpec("copy_training", cases=cases),) if cases else ()
    return evaluate(
        config,
        suite=SUITE,
        backend=SyntheticBackend(faults=faults, training=planted),
        judges=JudgeSet(lpips=TiledPixels(), descriptor=Edges()),
    )


def cropped(picture: np.ndarray) -> np.ndarray:
    return np.asarray(PngFile.fromarray(picture).crop((0, 0, 77, 77)).resize((SIDE, SIDE)))


def recoloured(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(255 - picture[..., [1, 2, 0]])


def on_a_new_ground(picture: np.ndarray) -> np.ndarray:
    made = textured(np.full_like(picture, 200), seed=int(picture.sum()) % 1000 + 500)
    made[32:96, 32:96] = picture[32:96, 32:96]
    return made


def variants(edit: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
    """Edited training pictures, each a little different, so that no two seeds give the same pixels."""
    made = []
    for number in range(12 * N_TRAINING):
        picture = edit(trained_pictures[number % N_TRAINING]).copy()
        picture[number // SIDE, number % SIDE] = (10, 20, 30)
        made.append(picture)
    return made


trained_pictures = trained()


def outcomes(results: Results) -> dict[str, Outcome]:
    return {gate.gate: gate.outcome for gate in results.gates if gate.gate in ("copy", "descriptor-copy", "part-copy")}


def test_healthy_candidate_passes_the_three_copy_gates(home: Path) -> None:
    assert outcomes(judged(home, [], name="healthy")) == dict.fromkeys(
        ("copy", "descriptor-copy", "part-copy"), Outcome.PASS
    )


def test_cropped_and_recoloured_copies_in_half_of_the_prompts_fail_the_descriptor_gate(home: Path) -> None:
    half = frozenset(case.id for case in SUITE.cases[::2])

    found = outcomes(judged(home, [*variants(cropped), *variants(recoloured)], cases=half, name="edited"))

    assert found["descriptor-copy"] is Outcome.FAIL
    assert found["copy"] is not Outcome.FAIL


def test_copied_figures_on_a_new_ground_fail_the_part_gate_and_not_the_copy_gate(home: Path) -> None:
    half = frozenset(case.id for case in SUITE.cases[::2])

    found = outcomes(judged(home, variants(on_a_new_ground), cases=half, name="parts"))

    assert found["part-copy"] is Outcome.FAIL
    assert found["copy"] is not Outcome.FAIL
