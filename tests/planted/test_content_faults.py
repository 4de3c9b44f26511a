"""Content nobody asked for, planted in the candidate's pictures, fails its own gate; a healthy candidate passes all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PngFile
from safetensors.numpy import save_file

from lorabench.evaluation.engine import evaluate
from lorabench.evaluation.judge_set import JudgeSet
from lorabench.generation.synthetic import LETTERING_COLOUR, LETTERING_TEXT, FaultSpec, SyntheticBackend
from lorabench.judges.oracle_detector import OracleDetector
from lorabench.records.comparison import Outcome, Verdict
from lorabench.records.config import CandidateConfig, Config, GateConfig, TrainingSetConfig
from lorabench.records.detection import Lettering
from lorabench.records.plan import GenerationSettings, StylePhrases
from lorabench.records.results import Results
from lorabench.records.suite import Case, ObjectCheck, Suite, TextCheck
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.world.drawing import draw
from lorabench.world.scene import COLOURS, SHAPES, sample_scene

STYLE = StylePhrases(trigger="a zvq drawing of", plain="a flat illustration of", neutral="a photo of")
GATES = ("lettering", "lettering-leak", "invented", "clutter")
MARGINS = {
    "lettering": GateConfig(margin=0.2),
    "lettering-leak": GateConfig(margin=0.2),
    "invented": GateConfig(margin=0.5),
    "clutter": GateConfig(margin=0.15),
}
"""With their default margins rates take 72 cases to pass, and the others more than these 21 with one seed each."""
OTHER_TEXT, OTHER_COLOUR = "ХЛЕБ И СОЛЬ", (60, 20, 40)
"""What a second hand writes, and in which colour."""
Plant = Callable[[np.ndarray], np.ndarray]


@dataclass
class InkReader:
    """Reads lettering by its exact colour: what it finds is certain, and it finds nothing else."""

    texts: dict[tuple[int, int, int], str] = field(
        default_factory=lambda: {LETTERING_COLOUR: LETTERING_TEXT, OTHER_COLOUR: OTHER_TEXT}
    )
    script: str = "Latin"
    name: str = "ink"
    weights_digest: str = "none"

    def read(self, pictures: Sequence[np.ndarray]) -> list[tuple[Lettering, ...]]:
        return [self._read(picture) for picture in pictures]

    def _read(self, picture: np.ndarray) -> tuple[Lettering, ...]:
        found = []
        for colour, text in self.texts.items():
            rows, columns = np.nonzero((picture == colour).all(axis=-1))
            if len(rows) >= 20:
                box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
                script = "Cyrillic" if text == OTHER_TEXT else "Latin"
                found.append(Lettering(text=text, score=0.99, likeness=0.9, box=box, script=script))
        return tuple(found)


class EyesOfAStranger(InkReader):
    """Takes the ground of every picture for lettering, as a reader does whom a style deceives."""

    def _read(self, picture: np.ndarray) -> tuple[Lettering, ...]:
        return (Lettering(text="WWWW", score=0.9, likeness=0.9, box=(0, 0, 60, 20), script="Latin"),)


@pytest.fixture(scope="module")
def suite() -> Suite:
    """Every third case of the screen: enough for the wider margins below."""
    screen = read_suite(shipped_suite_path("world/screen")).suite
    return screen.model_copy(update={"cases": screen.cases[::3], "seeds": screen.seeds[:1]})


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    tensors = {
        "transformer.blocks.0.to_q.lora_A.weight": rng.normal(size=(2, 8)).astype(np.float32),
        "transformer.blocks.0.to_q.lora_B.weight": rng.normal(size=(8, 2)).astype(np.float32),
        "transformer.blocks.0.to_q.alpha": np.array(2.0, dtype=np.float32),
    }
    file = tmp_path_factory.mktemp("adapter") / "adapter.safetensors"
    save_file(tensors, file)
    return file


def inked(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    picture = picture.copy()
    picture[104:114, 10:70:2] = colour
    return picture


def training_folder(folder: Path, *, lettered: bool = True) -> Path:
    """Drawings, of which two carry the second hand's lettering."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    for number in range(6):
        picture = draw(sample_scene("pair", rng=rng), "flat", seed=number)
        if lettered and number in (1, 3):
            picture = inked(picture, OTHER_COLOUR)
        PngFile.fromarray(picture).save(folder / f"drawing-{number:02d}.png")
    return folder


class Planted(SyntheticBackend):
    """Does something of one's own to the candidate's pictures."""

    def __init__(self, plant: Plant, *, control: bool = False) -> None:
        super().__init__()
        self._plant, self._control = plant, control

    def _draw(self, planned, *, settings):
        picture = super()._draw(planned, settings=settings)
        return self._plant(picture) if planned.cell.arm.uses_adapter or self._control else picture


@dataclass
class Judged:
    results: Results

    def __getitem__(self, gate: str) -> Verdict:
        return next(one for one in self.results.gates if one.gate == gate)

    @property
    def failing(self) -> set[str]:
        return {one.gate for one in self.results.gates if one.outcome is Outcome.FAIL}


def judged(
    tmp_path: Path,
    adapter: Path,
    suite: Suite,
    *,
    backend: SyntheticBackend,
    reader: InkReader | None = None,
    training: bool = True,
    lettered: bool = True,
    detector: bool = True,
) -> Judged:
    config = Config(
        candidate=CandidateConfig(lora=str(adapter)),
        style=STYLE,
        generation=GenerationSettings(height=128, width=128),
        training_set=TrainingSetConfig(
            folder=training_folder(tmp_path / "training", lettered=lettered) if training else None
        ),
        cache_dir=tmp_path / "cache",
        runs_dir=tmp_path / "runs",
        gates=MARGINS,
        arms=("B1", "L1"),
    )
    judges = JudgeSet(
        detector=OracleDetector() if detector else None,
        reader=reader,
        absent={"reader": "no text reader is configured ([judges] ocr)", "detector": "no detector is configured"},
    )
    return Judged(evaluate(config, suite=suite, backend=backend, judges=judges))


def test_healthy_candidate_passes_all_gates_on_content(tmp_path: Path, adapter: Path, suite: Suite) -> None:
    found = judged(tmp_path, adapter, suite, backend=SyntheticBackend(), reader=InkReader())

    decided = [gate for gate in GATES if gate != "clutter"]  # it reads single things only: see below
    assert {gate: found[gate].outcome for gate in decided} == dict.fromkeys(decided, Outcome.PASS)
    assert {found[gate].comparison.seen for gate in GATES} == {""}


def single_things(like: Suite) -> Suite:
    """One thing a prompt, two dozen of them: what clutter is read on."""
    cases = tuple(
        Case(
            id=f"one-{colour}-{shape}",
            family="sparse_scene",
            prompt=f"{{style}} a {colour} {shape}",
            checks=(ObjectCheck(label=shape, color=colour),),
        )
        for colour in COLOURS
        for shape in SHAPES
    )
    return like.model_copy(update={"cases": cases})


@pytest.mark.parametrize(("faults", "outcome"), [((), Outcome.PASS), (("clutter",), Outcome.FAIL)])
def test_clutter_around_single_things_fails_its_gate_and_none_passes_it(
    tmp_path, adapter, suite, faults: tuple[str, ...], outcome: Outcome
) -> None:
    backend = SyntheticBackend(faults=[FaultSpec(kind) for kind in faults])

    found = judged(tmp_path, adapter, single_things(suite), backend=backend, reader=InkReader())

    assert found["clutter"].comparison.n_cases == len(COLOURS) * len(SHAPES)
    assert found["clutter"].outcome is outcome


@pytest.mark.parametrize(
    ("kind", "own", "seen"),
    [
        ("lettering", "lettering", "Seen: 'BAKERY' (Latin) ("),
        ("extra_object", "invented", "Seen: circle ("),
        ("clutter", "clutter", None),
    ],
)
def test_planted_content_fails_its_own_gate(tmp_path, adapter, suite, kind, own: str, seen: str | None) -> None:
    found = judged(tmp_path, adapter, suite, backend=SyntheticBackend(faults=[FaultSpec(kind)]), reader=InkReader())

    assert own in found.failing
    assert found.failing & set(GATES) <= {own, "clutter"}  # whatever stands in it, the space is not empty
    assert seen is None or seen in found[own].reason


def test_lettering_of_the_training_pictures_fails_both_and_names_string_script_and_picture(
    tmp_path, adapter, suite
) -> None:
    backend = Planted(lambda picture: inked(picture, OTHER_COLOUR))

    found = judged(tmp_path, adapter, suite, backend=backend, reader=InkReader())

    assert {"lettering", "lettering-leak"} <= found.failing
    assert f"{OTHER_TEXT!r} (Cyrillic) as {OTHER_TEXT!r} in drawing-01.png" in found["lettering-leak"].reason


def test_lettering_in_half_of_the_pictures_is_found(tmp_path, adapter, suite) -> None:
    backend = SyntheticBackend(faults=[FaultSpec("lettering", share=0.5)])

    found = judged(tmp_path, adapter, suite, backend=backend, reader=InkReader())

    assert found["lettering"].outcome is Outcome.FAIL
    assert found["lettering-leak"].outcome is Outcome.PASS


def test_lettering_that_the_control_has_as_well_is_no_harm(tmp_path, adapter, suite) -> None:
    """As many pictures of both arms, below the share from which the reader is not believed."""
    rng = np.random.default_rng(0)
    backend = Planted(lambda p: inked(p, LETTERING_COLOUR) if rng.random() < 0.1 else p, control=True)

    found = judged(tmp_path, adapter, suite, backend=backend, reader=InkReader())

    assert found["lettering"].outcome is not Outcome.FAIL


def test_reader_that_takes_the_style_for_lettering_measures_nothing(tmp_path, adapter, suite) -> None:
    found = judged(tmp_path, adapter, suite, backend=SyntheticBackend(), reader=EyesOfAStranger())

    assert found["lettering"].outcome is Outcome.UNMEASURED
    assert "finds lettering in 100% of 21 pictures of the control" in found["lettering"].reason
    assert "takes something in this style for lettering" in found["lettering"].reason


@pytest.mark.parametrize(
    ("changes", "gate", "reason"),
    [
        ({"reader": None}, "lettering", "no text reader is configured ([judges] ocr)"),
        ({"reader": None}, "lettering-leak", "no text reader is configured ([judges] ocr)"),
        ({"training": False}, "lettering-leak", "no training pictures are configured ([training_set] folder)"),
        ({"lettered": False}, "lettering-leak", "in none of the 6 training pictures could a string be read"),
        ({"detector": False}, "invented", "no detector is configured"),
        ({"detector": False}, "clutter", "emptiness can be judged only where it is asked for"),
    ],
)
def test_missing_sensors_are_named(tmp_path, adapter, suite, changes: dict, gate: str, reason: str) -> None:
    few = suite.model_copy(update={"cases": suite.cases[:4]})
    found = judged(tmp_path, adapter, few, backend=SyntheticBackend(), **{"reader": InkReader(), **changes})

    assert found[gate].outcome is Outcome.UNMEASURED
    assert reason in found[gate].reason


def test_text_that_is_asked_for_is_scored_and_is_no_surplus(tmp_path, adapter, suite) -> None:
    wanted = tuple(
        Case(
            id=f"sign-{n}",
            family="attribute_binding",
            prompt="{style} a red circle",
            checks=(ObjectCheck(label="circle", color="red"), TextCheck(text=text)),
        )
        for n, text in enumerate(("Bakery", "Butcher"))
    )
    both = suite.model_copy(update={"cases": (*suite.cases[:4], *wanted)})

    found = judged(
        tmp_path, adapter, both, backend=SyntheticBackend(faults=[FaultSpec("lettering")]), reader=InkReader()
    ).results

    signs = [one for one in found.checks if one.cell.case.startswith("sign") and one.check_index == 1]
    passed = {(one.cell.case, one.cell.arm.value): one.passed for one in signs}
    assert passed["sign-0", "L1"]
    assert not passed["sign-0", "B1"]
    assert not passed["sign-1", "L1"]
    assert {one.reason for one in signs if one.cell.case == "sign-1" and one.cell.arm.value == "L1"} == {
        "read 'BAKERY', wanted 'Butcher' (similarity 0.29)"
    }
    assert not [one for one in found.measurements if one.metric == "lettering_rate" and "sign" in one.cell.case]
