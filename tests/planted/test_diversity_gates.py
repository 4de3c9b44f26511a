"""Faults of variety, colour, look and identity, planted in pictures: each gate fails on its own and passes without."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from lorabench.metrics.color import background_mask, chroma, picture_oklab
from lorabench.metrics.texture import smooth_zone_sigma
from lorabench.records.comparison import Outcome, Verdict
from lorabench.records.config import CandidateConfig, Config, GateConfig, StatisticsConfig, TrainingSetConfig
from lorabench.records.plan import GenerationSettings, PlannedCell, StylePhrases
from lorabench.records.suite import Case, Suite
from lorabench.storage.references import ReferencesError
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.world.drawing import draw
from lorabench.world.scene import sample_scene

STYLE = StylePhrases(trigger="a zvq drawing of", plain="a flat illustration of", neutral="a photo of")
PAINTED = StylePhrases(trigger="a zvq drawing of", plain="a painting of", neutral="a photo of")
Picture = np.ndarray


class Spoilt(SyntheticBackend):
    """Draws like the synthetic backend, and lets a test change what the candidate draws."""

    def __init__(self, spoil: Callable[[Any, PlannedCell, GenerationSettings], Picture], name: str) -> None:
        super().__init__()
        self._spoil, self._name = spoil, name

    def fingerprint(self) -> Any:
        return {**super().fingerprint(), "spoilt": self._name}

    def _draw(self, planned: PlannedCell, *, settings: GenerationSettings) -> Picture:
        if not planned.cell.arm.uses_adapter:
            return super()._draw(planned, settings=settings)
        return self._spoil(lambda other: super(Spoilt, self)._draw(other, settings=settings), planned, settings)


class Looker:
    """Pictures and sentences without weights: how grainy, and which way the figure's colour points."""

    name = "looker"
    weights_digest = "none"
    logit_scale = 100.0

    def encode_images(self, pictures: Sequence[Picture]) -> np.ndarray:
        rows = []
        for picture in pictures:
            lab = picture_oklab(picture)[~background_mask(picture)]
            hue = lab[chroma(lab) > 0.08][:, 1:].mean(axis=0) if (chroma(lab) > 0.08).any() else np.zeros(2)
            photo = float(smooth_zone_sigma(picture) > 1.0)
            rows.append([photo, 1.0 - photo, *(8.0 * hue), 0.2])
        vectors = np.array(rows)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        photo = [float("photo" in text or "snapshot" in text) for text in texts]
        return np.array([[one, 1.0 - one, 0.0, 0.0, 0.0] for one in photo], dtype=np.float32)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter file, drawings of all colours, and two sets of red ones: to train on, and held out."""
    folder = tmp_path_factory.mktemp("diversity")
    rng = np.random.default_rng(5)
    stem = "transformer.blocks.0.to_q"
    save_file(
        {
            f"{stem}.lora_A.weight": rng.normal(size=(2, 8)).astype(np.float32),
            f"{stem}.lora_B.weight": rng.normal(size=(8, 2)).astype(np.float32),
            f"{stem}.alpha": np.array(2.0, dtype=np.float32),
        },
        folder / "adapter.safetensors",
    )
    for name, red in (("drawings", False), ("reds", True), ("held-out", True)):
        (folder / name).mkdir()
        for number in range(10):
            scene = sample_scene("pair", rng=rng)
            if red:
                scene = replace(scene, objects=tuple(replace(thing, colour="red") for thing in scene.objects))
            PngFile.fromarray(draw(scene, "flat", seed=number)).save(folder / name / f"{number:02d}.png")
    return folder


def cases(name: str, n: int) -> tuple[Case, ...]:
    return read_suite(shipped_suite_path(f"world/{name}")).suite.cases[:n]


def suite(*chosen: Case, seeds: tuple[int, ...] = (1103,)) -> Suite:
    return Suite(name="planted", licence="CC0-1.0", seeds=seeds, cases=chosen)


def verdict(
    home: Path,
    gate: str,
    *,
    of: Suite,
    backend: SyntheticBackend | None = None,
    style: StylePhrases = STYLE,
    training: str = "drawings",
    references: str | None = None,
    brand: bool = False,
    clip: Any = None,
    with_base: bool = False,
) -> Verdict:
    backend = backend or SyntheticBackend()
    config = Config(
        candidate=CandidateConfig(lora=str(home / "adapter.safetensors")),
        style=style,
        generation=GenerationSettings(height=128, width=128),
        training_set=TrainingSetConfig(
            folder=home / training, references=None if references is None else home / references, brand_palette=brand
        ),
        statistics=StatisticsConfig(n_resamples=400),
        gates={"style-colours": GateConfig()},
        arms=("B0", "B1", "L1") if with_base else ("B1", "L1"),
        cache_dir=home / "cache",
        runs_dir=home / "runs",
    )
    results = evaluate(
        config,
        suite=of,
        backend=backend,
        judges=JudgeSet(clip=clip, detector=OracleDetector(), absent={"lpips": "no LPIPS in this test"}),
    )
    return next(one for one in results.gates if one.gate == gate)


def seeds_alike(draw_as: Any, planned: PlannedCell, settings: GenerationSettings) -> Picture:
    """One picture for all seeds of a prompt, but for a pixel."""
    first = planned.cell.model_copy(update={"seed": 0})
    picture = draw_as(planned.model_copy(update={"cell": first})).copy()
    picture[planned.cell.seed % 128, 0] = (10, 20, 30)
    return picture


def prompts_alike(draw_as: Any, planned: PlannedCell, settings: GenerationSettings) -> Picture:
    """One scene per seed, whatever the prompt; a pixel tells the prompts apart."""
    scene = sample_scene("single", rng=np.random.default_rng(planned.cell.seed))
    picture = draw(scene, "flat", seed=3)
    picture[zlib.crc32(planned.prompt.encode()) % 128, 0] = (10, 20, 30)
    return picture


def page_of_the_base(draw_as: Any, planned: PlannedCell, settings: GenerationSettings) -> Picture:
    """The training drawings' lines and fills on a page as dark as the base's grounds."""
    picture = draw_as(planned).astype(float)
    page = np.linalg.norm(picture - np.array([247.0, 237.0, 212.0]), axis=-1) < 25
    picture[page] = picture[page] * 0.0 + np.array([105.0, 115.0, 120.0])
    return np.rint(picture).astype(np.uint8)


@pytest.mark.parametrize(
    ("gate", "spoil"), [("seed-collapse", seeds_alike), ("prompt-collapse", prompts_alike)], ids=["seeds", "prompts"]
)
def test_one_picture_for_all_seeds_or_all_prompts_is_found(home: Path, gate: str, spoil: Any) -> None:
    of = suite(*cases("spatial", 12), seeds=(1103, 2207))

    assert verdict(home, gate, of=of).outcome is Outcome.PASS
    found = verdict(home, gate, of=of, backend=Spoilt(spoil, gate))
    assert found.outcome is Outcome.FAIL
    assert found.comparison is not None
    assert found.comparison.estimate > 0.8


def test_one_seed_per_prompt_leaves_seed_collapse_unmeasured_and_says_how_many_are_needed(home: Path) -> None:
    found = verdict(home, "seed-collapse", of=suite(*cases("spatial", 8)))

    assert found.outcome is Outcome.UNMEASURED
    assert "at least 6 cases with two seeds or more in both arms; found 0" in found.reason


def test_subject_that_is_lost_alone_is_found_and_named(home: Path) -> None:
    subjects = {"spatial": "object", "counting": "animal"}
    chosen = tuple(case.model_copy(update={"tags": (subjects[name],)}) for name in subjects for case in cases(name, 17))
    lost = frozenset(case.id for case in chosen if "animal" in case.tags)

    assert verdict(home, "worst-slice", of=suite(*chosen)).outcome is Outcome.PASS
    faulty = SyntheticBackend(faults=[FaultSpec("one_color", cases=lost), FaultSpec("wrong_count", cases=lost)])
    found = verdict(home, "worst-slice", of=suite(*chosen), backend=faulty)
    assert (found.outcome, found.family) == (Outcome.FAIL, "animal")


def test_what_is_lost_in_all_subjects_alike_is_no_matter_of_one(home: Path) -> None:
    chosen = tuple(
        case.model_copy(update={"tags": ("object" if number % 2 else "animal",)})
        for number, case in enumerate(cases("spatial", 28))
    )

    found = verdict(home, "worst-slice", of=suite(*chosen), backend=SyntheticBackend(faults=[FaultSpec("flip")]))

    assert found.outcome is not Outcome.FAIL


def test_technique_without_its_colours_is_found(home: Path) -> None:
    of = suite(*cases("spatial", 12))

    healthy = verdict(home, "style-colours", of=of, style=PAINTED, with_base=True)
    spoilt = verdict(
        home, "style-colours", of=of, style=PAINTED, with_base=True, backend=Spoilt(page_of_the_base, "page")
    )

    assert healthy.outcome is Outcome.PASS
    assert spoilt.outcome is Outcome.FAIL


def test_colours_of_a_technique_that_was_not_learned_say_nothing(home: Path) -> None:
    faulty = SyntheticBackend(faults=[FaultSpec("photo_style")])

    found = verdict(
        home, "style-colours", of=suite(*cases("spatial", 12)), style=PAINTED, with_base=True, backend=faulty
    )

    assert found.outcome is Outcome.UNMEASURED
    assert "asks for colours where the technique is learned" in found.reason


def test_control_in_the_training_palette_leaves_colours_unmeasured(home: Path) -> None:
    found = verdict(home, "style-colours", of=suite(*cases("spatial", 12)))

    assert found.outcome is Outcome.UNMEASURED
    assert "farther from the training pictures' than those from each other" in found.reason


def test_brand_palette_is_wanted_where_the_settings_say_so(home: Path) -> None:
    of = suite(*[case for case in cases("palette", 40) if " red " not in case.prompt][:12])
    kept = SyntheticBackend(faults=[FaultSpec("one_color")])

    assert verdict(home, "brand", of=of, training="reds", brand=True, backend=kept).outcome is Outcome.PASS
    assert verdict(home, "brand", of=of, training="reds", brand=True).outcome is Outcome.FAIL


def test_photographs_among_drawings_are_found(home: Path) -> None:
    of = suite(*cases("spatial", 12))
    faulty = SyntheticBackend(faults=[FaultSpec("photo_style")])

    assert verdict(home, "photo-look", of=of, clip=Looker(), with_base=True).outcome is Outcome.PASS
    assert verdict(home, "photo-look", of=of, clip=Looker(), backend=faulty, with_base=True).outcome is Outcome.FAIL


def test_encoder_that_cannot_tell_photographs_from_the_training_pictures_is_not_trusted(home: Path) -> None:
    class Blind(Looker):
        name = "blind"

        def encode_images(self, pictures: Sequence[Picture]) -> np.ndarray:
            return np.tile(np.array([[0.6, 0.8, 0.0, 0.0, 0.0]], dtype=np.float32), (len(pictures), 1))

    found = verdict(home, "photo-look", of=suite(*cases("spatial", 12)), clip=Blind(), with_base=True)

    assert found.outcome is Outcome.UNMEASURED
    assert "AUC of 0.95; found 0.50" in found.reason


def test_character_that_is_not_kept_is_found(home: Path) -> None:
    of = suite(*cases("spatial", 12))
    kept = SyntheticBackend(faults=[FaultSpec("one_color")])
    settings: dict[str, Any] = {"of": of, "training": "reds", "references": "held-out", "clip": Looker()}

    assert verdict(home, "identity", backend=kept, **settings).outcome is Outcome.PASS
    assert verdict(home, "identity", **settings).outcome is Outcome.FAIL


def test_identity_without_references_is_unmeasured_and_training_pictures_are_no_references(home: Path) -> None:
    of = suite(*cases("spatial", 8))

    found = verdict(home, "identity", of=of, clip=Looker())

    assert found.outcome is Outcome.UNMEASURED
    assert "[training_set] references" in found.reason
    with pytest.raises(ReferencesError, match=r"10 of 10 are training pictures, first 00.png \(as 00.png\)") as caught:
        verdict(home, "identity", of=of, training="reds", references="reds", clip=Looker())
    assert caught.value.exit_code == 2
