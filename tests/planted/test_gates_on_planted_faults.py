"""Each planted fault fails its own gate and no other; a healthy candidate passes them all."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PngFile
from safetensors.numpy import save_file

from lorabench.evaluation.engine import evaluate
from lorabench.evaluation.judge_set import JudgeSet
from lorabench.generation.synthetic import FaultSpec, SyntheticBackend
from lorabench.judges.oracle_detector import OracleDetector
from lorabench.records.comparison import Outcome
from lorabench.records.config import CandidateConfig, Config, TrainingSetConfig
from lorabench.records.plan import GenerationSettings, StylePhrases
from lorabench.records.results import Results
from lorabench.records.suite import Case, ObjectCheck, RelationCheck, Suite
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.world.drawing import draw
from lorabench.world.scene import sample_scene

STYLE = StylePhrases(trigger="a zvq drawing of", plain="a flat illustration of", neutral="a photo of")
N_TRAINING = 24
REPEATED = "{style} a red circle left of a blue square"


class PixelEncoder:
    """A perceptual encoder without weights: squared distances between thumbnails."""

    name = "thumbnails"
    weights_digest = "none"

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        small = [np.asarray(PngFile.fromarray(picture).resize((24, 24))) / 255.0 for picture in pictures]
        return np.stack([values.ravel() for values in small]).astype(np.float32)


@pytest.fixture(scope="module")
def suite() -> Suite:
    """The screen, and one sentence said a dozen times, of which a picture can be copied without being wrong."""
    screen = read_suite(shipped_suite_path("world/screen")).suite
    again = tuple(
        Case(
            id=f"again-{n:02d}",
            family="memorisation",
            prompt=REPEATED,
            checks=(
                ObjectCheck(label="circle", color="red"),
                ObjectCheck(label="square", color="blue"),
                RelationCheck(subject="circle", relation="left of", object="square"),
            ),
        )
        for n in range(12)
    )
    return screen.model_copy(update={"cases": (*screen.cases, *again)})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter file, and training pictures of which the first shows the sentence that is said a dozen times."""
    folder = tmp_path_factory.mktemp("planted")
    rng = np.random.default_rng(5)
    tensors = {
        "transformer.blocks.0.to_q.lora_A.weight": rng.normal(size=(2, 8)).astype(np.float32),
        "transformer.blocks.0.to_q.lora_B.weight": rng.normal(size=(8, 2)).astype(np.float32),
        "transformer.blocks.0.to_q.alpha": np.array(2.0, dtype=np.float32),
    }
    save_file(tensors, folder / "adapter.safetensors")
    (folder / "training").mkdir()
    pictures = [copied_picture(), *(draw(sample_scene("pair", rng=rng), "flat", seed=n) for n in range(N_TRAINING - 1))]
    for number, picture in enumerate(pictures):
        PngFile.fromarray(picture).save(folder / "training" / f"{number:02d}.png")
    return folder


def copied_picture() -> np.ndarray:
    from lorabench.world.prompt_reading import read_prompt

    scene = read_prompt(REPEATED.replace("{style}", STYLE.trigger), rng=np.random.default_rng(11))
    assert scene is not None
    return draw(scene, "flat", seed=77)


def near_copies(n: int = 400) -> list[np.ndarray]:
    """The copied picture with one pixel altered each time, so that no two seeds give the same pixels."""
    copies = [copied_picture() for _ in range(n)]
    for number, picture in enumerate(copies):
        picture[number // 128, number % 128] = (10, 20, 30)
    return copies


def judged(home: Path, suite: Suite, *faults: FaultSpec, identical: bool = False) -> Results:
    config = Config(
        candidate=CandidateConfig(lora=str(home / "adapter.safetensors")),
        style=STYLE,
        generation=GenerationSettings(height=128, width=128),
        training_set=TrainingSetConfig(folder=home / "training"),
        cache_dir=home / f"cache-{zlib.crc32(repr(faults).encode())}",
        runs_dir=home / "runs",
    )
    training = near_copies() if any(fault.kind == "copy_training" for fault in faults) else []
    return evaluate(
        config,
        suite=suite,
        backend=SyntheticBackend(faults=faults, training=training, identical=identical),
        judges=JudgeSet(lpips=PixelEncoder(), detector=OracleDetector(), absent={"clip": "no CLIP in this test"}),
    )


def failing(results: Results) -> set[str]:
    return {gate.gate for gate in results.gates if gate.outcome is Outcome.FAIL}


def of_family(suite: Suite, *families: str) -> frozenset[str]:
    return frozenset(case.id for case in suite.cases if case.family in families)


def test_healthy_candidate_passes_every_gate(home: Path, suite: Suite) -> None:
    results = judged(home, suite)

    assert {gate.gate: gate.outcome for gate in results.gates if gate.required} == dict.fromkeys(
        ("broken", "copy", "prompt", "anatomy", "palette", "palette-collapse"), Outcome.PASS
    )
    assert results.verdict.outcome is Outcome.PASS
    assert results.verdict.exit_code == 0


CONSEQUENCES = {
    # Whoever loses prompts in some families only, does worse on some subjects.
    "drop_second": {"worst-slice"},
    "swap_colors": {"worst-slice"},
    "flip": {"worst-slice"},
    # Grain on pure colours goes beyond the range.
    "grain": {"clipping"},
    # The same picture, whatever the seed, and with it all its parts.
    "copy_training": {"part-copy", "seed-collapse"},
}
"""What a fault brings with it."""


@pytest.mark.parametrize(
    ("kind", "families", "own"),
    [
        ("drop_second", ("spatial", "multi_subject", "attribute_binding", "memorisation"), {"prompt"}),
        ("swap_colors", ("spatial", "multi_subject", "attribute_binding", "memorisation"), {"prompt"}),
        ("flip", ("spatial", "memorisation"), {"prompt"}),
        ("wrong_parts", ("anatomy",), {"anatomy"}),
        ("palette", ("palette",), {"palette"}),  # two colours are left, so the collapse stays undecided
        ("one_color", ("palette",), {"palette", "palette-collapse"}),
        ("grain", ("spatial", "multi_subject", "counting", "attribute_binding"), {"photo-bleed"}),
        ("copy_training", ("memorisation",), {"copy"}),
    ],
)
def test_planted_fault_fails_its_own_gate_and_no_other(
    home: Path, suite: Suite, kind: str, families: tuple[str, ...], own: set[str]
) -> None:
    fault = FaultSpec(kind, cases=of_family(suite, *families))  # type: ignore[arg-type]

    results = judged(home, suite, fault)

    assert own <= failing(results) <= own | CONSEQUENCES.get(kind, set())
    assert results.verdict.outcome is Outcome.FAIL
    assert results.verdict.exit_code == 1
    assert all(reason.split(":")[0] in own for reason in results.verdict.reasons[: len(own)])


def test_one_black_picture_fails_the_broken_gate_and_no_other(home: Path, suite: Suite) -> None:
    results = judged(home, suite, FaultSpec("black", cases=frozenset({"spatial-001"})))

    assert failing(results) == {"broken"}
    assert f"1 of {len(suite.cases)} cases" in next(gate.reason for gate in results.gates if gate.gate == "broken")


def test_failing_cell_makes_the_run_incomplete_and_names_the_cell(home: Path, suite: Suite) -> None:
    results = judged(home, suite, FaultSpec("raise", cases=frozenset({"spatial-002"})))

    assert [cell.cell.case for cell in results.failed] == ["spatial-002", "spatial-002"]
    assert "planted fault in L1/spatial-002" in results.failed[0].reason
    assert not results.verdict.complete
    assert results.verdict.exit_code == 5
    assert f"2 of {len(suite.cases) * 6} pictures could not be made" in results.verdict.headline


def test_judge_that_sees_nothing_gives_no_verdict(home: Path, suite: Suite) -> None:
    class Blind(OracleDetector):
        name = "blind"

        def detect(self, pictures, *, labels):
            return [() for _ in pictures]

    config = Config(
        candidate=CandidateConfig(lora=str(home / "adapter.safetensors")),
        style=STYLE,
        generation=GenerationSettings(height=128, width=128),
        cache_dir=home / "cache-blind",
        runs_dir=home / "runs",
    )

    results = evaluate(config, suite=suite, backend=SyntheticBackend(), judges=JudgeSet(detector=Blind()))

    by_name = {gate.gate: gate for gate in results.gates}
    assert by_name["prompt"].outcome is Outcome.UNMEASURED
    assert "judge at chance" in by_name["prompt"].reason
    assert by_name["anatomy"].outcome is Outcome.UNMEASURED
    assert results.verdict.exit_code == 3
