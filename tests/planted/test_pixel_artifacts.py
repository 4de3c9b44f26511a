"""Faults that pixels show, put into healthy pictures: each fails its own gate; what a style has, no gate fails."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PngFile
from PIL import ImageDraw
from safetensors.numpy import save_file
from scipy.ndimage import gaussian_filter

from lorabench.evaluation.engine import evaluate
from lorabench.evaluation.judge_set import JudgeSet
from lorabench.generation.protocol import Made
from lorabench.generation.synthetic import SyntheticBackend
from lorabench.metrics.halo import halo_origin, jpeg_halo
from lorabench.metrics.saturation import clipped_share, mean_chroma
from lorabench.metrics.sharpness import bokeh_share, log_edge_sigma
from lorabench.metrics.texture import tile_sigma
from lorabench.records.comparison import Outcome
from lorabench.records.config import CandidateConfig, Config, TrainingSetConfig
from lorabench.records.plan import GenerationSettings, PlannedCell, StylePhrases
from lorabench.records.suite import Suite
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.world.drawing import draw
from lorabench.world.scene import sample_scene

Picture = np.ndarray
Fault = Callable[[Picture], Picture]
GATES = {
    "blur": (log_edge_sigma, 0.25),
    "bokeh": (bokeh_share, 0.15),
    "halo": (jpeg_halo, 0.50),
    "saturation": (mean_chroma, 0.02),
    "clipping": (clipped_share, 0.05),
    "hot-tiles": (tile_sigma, 0.30),
}
"""Each gate's reader and margin."""
STYLE = StylePhrases(trigger="a zvq drawing of", plain="a flat illustration of", neutral="a photo of")


def levels(values: np.ndarray) -> Picture:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def same(picture: Picture) -> Picture:
    return picture


def blurred(picture: Picture) -> Picture:
    return levels(gaussian_filter(picture.astype(float), (1.2, 1.2, 0)))


def half_defocused(picture: Picture) -> Picture:
    done = levels(gaussian_filter(picture.astype(float), (4, 4, 0)))
    done[: len(done) // 2] = picture[: len(done) // 2]
    return done


def jpeg(picture: Picture, quality: int = 50) -> Picture:
    buffer = io.BytesIO()
    PngFile.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=2)
    return np.asarray(PngFile.open(buffer).convert("RGB"))


def saturated(picture: Picture) -> Picture:
    grey = (picture @ np.array([0.299, 0.587, 0.114]))[..., None]
    return levels(grey + 2.0 * (picture - grey))


def grainy_tile(picture: Picture) -> Picture:
    side = len(picture) // 4
    done = picture.astype(float)
    done[side : 2 * side, side : 2 * side] += np.random.default_rng(3).normal(0, 5, (side, side, 1))
    return levels(done)


FAULTS: dict[str, tuple[Fault, set[str], set[str]]] = {
    "blur 1.2 px": (blurred, {"blur"}, set()),
    "half out of focus": (half_defocused, {"bokeh"}, {"hot-tiles", "halo"}),
    "JPEG 50": (jpeg, {"halo"}, {"hot-tiles", "bokeh"}),
    "saturation": (saturated, {"saturation", "clipping"}, set()),
    "grain in one tile": (grainy_tile, {"hot-tiles"}, set()),
}
"""Fault, the gates that must fail on it, and those that may: in 128 pixels, tiles are narrower than what a blur of 4
pixels or JPEG's blocks leave around edges."""


class SpoilingBackend(SyntheticBackend):
    """The candidate's pictures get a fault; so do, where asked for, the training pictures it learned from."""

    def __init__(self, name: str, fault: Fault) -> None:
        super().__init__()
        self._name, self._fault = name, fault

    def fingerprint(self) -> Mapping[str, str]:
        return {**super().fingerprint(), "candidate": self._name}

    def generate(self, cells: Sequence[PlannedCell], *, settings: GenerationSettings) -> Iterator[Made]:
        for made in super().generate(cells, settings=settings):
            if made.picture is None or not made.planned.cell.arm.uses_adapter:
                yield made
            else:
                yield Made(made.planned, self._fault(made.picture), seconds=made.seconds)


@pytest.fixture(scope="module")
def suite() -> Suite:
    whole = read_suite(shipped_suite_path("world/screen")).suite
    return whole.model_copy(update={"cases": whole.cases[:8]})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    rng = np.random.default_rng(5)
    tensors = {
        "transformer.blocks.0.to_q.lora_A.weight": rng.normal(size=(2, 8)).astype(np.float32),
        "transformer.blocks.0.to_q.lora_B.weight": rng.normal(size=(8, 2)).astype(np.float32),
        "transformer.blocks.0.to_q.alpha": np.array(2.0, dtype=np.float32),
    }
    save_file(tensors, folder / "adapter.safetensors")
    return folder


def trained_on(home: Path, name: str, look: Fault) -> Path:
    folder = home / name
    folder.mkdir(exist_ok=True)
    for number in range(10):
        scene = sample_scene("pair", rng=np.random.default_rng([9, number]))
        PngFile.fromarray(look(draw(scene, "flat", seed=number))).save(folder / f"{number:02d}.png")
    return folder


def outcomes(home: Path, suite: Suite, name: str, fault: Fault, *, training: Path) -> dict[str, Outcome]:
    config = Config(
        candidate=CandidateConfig(lora=str(home / "adapter.safetensors")),
        style=STYLE,
        generation=GenerationSettings(height=128, width=128),
        training_set=TrainingSetConfig(folder=training),
        cache_dir=home / "cache",
        runs_dir=home / "runs",
    )
    judges = JudgeSet(absent=dict.fromkeys(("clip", "lpips", "detector"), "not in this test"))
    results = evaluate(config, suite=suite, backend=SpoilingBackend(name, fault), judges=judges)
    return {gate.gate: gate.outcome for gate in results.gates if gate.gate in GATES}


@pytest.fixture(scope="module")
def clean_training(home: Path) -> Path:
    return trained_on(home, "clean", same)


def test_no_pixel_gate_fails_a_healthy_candidate(home: Path, suite: Suite, clean_training: Path) -> None:
    found = outcomes(home, suite, "healthy", same, training=clean_training)

    assert set(found) == set(GATES)
    assert Outcome.FAIL not in found.values()
    assert Outcome.UNMEASURED not in found.values()
    assert {found[gate] for gate in ("saturation", "hot-tiles")} == {Outcome.PASS}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_fails_its_own_pixel_gate_and_no_other(
    home: Path, suite: Suite, clean_training: Path, name: str
) -> None:
    fault, own, beside = FAULTS[name]

    found = outcomes(home, suite, name, fault, training=clean_training)

    failed = {gate for gate, outcome in found.items() if outcome is Outcome.FAIL}
    assert own <= failed <= own | beside


@pytest.mark.parametrize("name", ["blur 1.2 px", "JPEG 50"])
def test_what_the_training_pictures_have_is_no_fault_of_the_adapter(home: Path, suite: Suite, name: str) -> None:
    """A soft style may be soft; halos that the pictures came with are the dataset's."""
    fault, own, _ = FAULTS[name]
    training = trained_on(home, f"learned {name}", fault)

    found = outcomes(home, suite, name, fault, training=training)

    assert all(found[gate] is not Outcome.FAIL for gate in own)


def drawn_large(number: int) -> Picture:
    """Discs and bars on paper at 512 pixels, with the softness and the noise of a decoder."""
    rng = np.random.default_rng([4, number])
    page = PngFile.new("RGB", (1024, 1024), (235, 228, 212))
    pen = ImageDraw.Draw(page)
    for slot in range(4):
        left, top = 70 + 480 * (slot % 2) + int(rng.integers(60)), 70 + 480 * (slot // 2) + int(rng.integers(60))
        color = tuple(int(level) for level in rng.integers(30, 226, 3))
        shape = pen.ellipse if (slot + number) % 2 else pen.rectangle
        shape((left, top, left + 260, top + 230), fill=color, outline=(40, 34, 38), width=8)
    picture = np.asarray(page.resize((512, 512), PngFile.Resampling.BOX), dtype=float)
    noise = gaussian_filter(rng.normal(size=(512, 512)), 1.0)
    return levels(gaussian_filter(picture, (0.6, 0.6, 0)) + (0.5 * noise / noise.std())[..., None])


@pytest.mark.parametrize("quality", [30, 75])
@pytest.mark.parametrize("factor", [1.0, 0.8])
def test_halos_of_jpeg_are_found_at_512_pixels_even_after_resizing(quality: int, factor: float) -> None:
    side = round(512 * factor)

    def seen(picture: Picture) -> float:
        reading = jpeg_halo(np.asarray(PngFile.fromarray(picture).resize((side, side), PngFile.Resampling.LANCZOS)))
        assert isinstance(reading, float)
        return reading

    clean = [drawn_large(number) for number in range(3)]

    marked = [seen(jpeg(picture, quality)) for picture in clean]
    assert np.mean(marked) > np.mean([seen(picture) for picture in clean]) + 0.5
    assert halo_origin(marked, [seen(picture) for picture in clean], []) == "adapter"
    assert halo_origin(marked, [seen(picture) for picture in clean], marked) == "dataset"


@pytest.mark.parametrize("name", ["blur 1.2 px", "half out of focus", "saturation", "grain in one tile"])
def test_faults_at_512_pixels_move_their_own_numbers_past_the_margin(name: str) -> None:
    fault, own, beside = FAULTS[name]
    clean = [drawn_large(number) for number in range(3)]

    for gate, (read, margin) in GATES.items():
        shift = np.mean([float(read(fault(p))) - float(read(p)) for p in clean])
        if gate in own:
            assert shift > margin, gate
        elif gate not in beside:
            assert shift < margin, gate
