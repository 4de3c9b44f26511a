from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from lorabench.evaluation.generating import generate
from lorabench.evaluation.observer import Observer
from lorabench.evaluation.planting import (
    FILE_FAULTS,
    PIXEL_FAULTS,
    PlantedBackend,
    UnknownPlantError,
    plant_in_file,
    plant_in_picture,
)
from lorabench.generation.adapter import read_adapter
from lorabench.generation.protocol import Made, Picture
from lorabench.records.plan import Arm, Cell, GenerationSettings, Plan, PlannedCell
from lorabench.records.results import BaseInfo
from lorabench.storage.pictures import PictureCache
from lorabench.storage.shipped import shipped_data
from lorabench.world.drawing import draw
from lorabench.world.scene import sample_scene

HEALTHY = "fixtures/adapters/healthy/pytorch_lora_weights.safetensors"


class Plain:
    """Makes one grey picture for every cell and counts."""

    name = "plain"

    def __init__(self) -> None:
        self.n_made = 0
        self.n_attached = 0
        self.guidances: list[tuple[Arm, float | None]] = []

    def base_info(self) -> BaseInfo:
        raise NotImplementedError

    def fingerprint(self) -> Mapping[str, str]:
        return {"base": "plain"}

    def load_candidate(self, adapter: object) -> None:
        self.n_attached += 1

    def generate(self, cells: Sequence[PlannedCell], *, settings: GenerationSettings) -> Iterator[Made]:
        for planned in cells:
            self.n_made += 1
            self.guidances.append((planned.cell.arm, settings.true_cfg_scale))
            yield Made(planned, np.full((32, 32, 3), 128, dtype=np.uint8))

    def round_trip(self, pictures: Sequence[Picture]) -> list[Picture]:
        return list(pictures)


def picture() -> np.ndarray:
    return draw(sample_scene("pair", rng=np.random.default_rng(3)), "flat", seed=1)


def cell(arm: Arm = Arm.CANDIDATE, seed: int = 7) -> Cell:
    return Cell(arm=arm, case="pair-001", seed=seed, scale=1.0 if arm.uses_adapter else 0.0)


@pytest.mark.parametrize("fault", sorted(set(PIXEL_FAULTS) - {"black"}))
def test_a_fault_changes_the_picture_and_keeps_its_form(fault: str) -> None:
    before = picture()

    after = plant_in_picture(before, fault=fault, cell=cell())

    assert after.shape == before.shape
    assert after.dtype == np.uint8
    assert np.abs(after.astype(int) - before).mean() > 0.2
    assert np.array_equal(before, picture())


@pytest.mark.parametrize("fault", sorted(PIXEL_FAULTS))
def test_the_same_cell_gets_the_same_fault(fault: str) -> None:
    once, again = (plant_in_picture(picture(), fault=fault, cell=cell()) for _ in range(2))

    assert np.array_equal(once, again)


def test_about_every_tenth_picture_is_black() -> None:
    made = [plant_in_picture(picture(), fault="black", cell=cell(seed=seed)) for seed in range(200)]

    assert 8 <= sum(not one.any() for one in made) <= 35


def test_a_tile_is_grainy_and_the_rest_untouched() -> None:
    changed = np.abs(plant_in_picture(picture(), fault="grain-tile", cell=cell()).astype(int) - picture()).max(axis=2)

    assert 0.05 < (changed > 0).mean() <= (48 / 128) ** 2


def test_an_unknown_fault_is_refused_in_words() -> None:
    with pytest.raises(UnknownPlantError, match=r"a planted fault must be one of .*blur.*; found 'fog'\. Correct"):
        plant_in_picture(picture(), fault="fog", cell=cell())


@pytest.mark.parametrize("fault", sorted(FILE_FAULTS))
def test_a_spoilt_file_is_another_file_with_the_same_header(fault: str, tmp_path: Path) -> None:
    from safetensors import safe_open

    source, target = shipped_data(HEALTHY), tmp_path / "spoilt.safetensors"

    plant_in_file(source, target, fault=fault)

    assert target.read_bytes() != source.read_bytes()
    with safe_open(source, framework="pt") as a, safe_open(target, framework="pt") as b:
        assert a.metadata() == b.metadata()


def test_only_the_candidates_pictures_are_spoilt_and_no_picture_is_made_twice(tmp_path: Path) -> None:
    inner, cache = Plain(), PictureCache(tmp_path / "pictures")
    cells = tuple(PlannedCell(cell=cell(arm), prompt="a red circle") for arm in (Arm.CONTROL, Arm.CANDIDATE))
    plan = Plan(suite_digest="0" * 64, settings=GenerationSettings(height=32, width=32), cells=cells)
    adapter = read_adapter(shipped_data(HEALTHY))

    for fault in ("grain", "extra-objects"):
        backend = PlantedBackend(inner, fault=fault, pictures=cache)  # type: ignore[arg-type]
        made = generate(plan, backend=backend, cache=cache, adapter=adapter, observer=Observer())
        by_arm = {image.cell.arm: cache.get(image.cache_key) for image in made.made}
        assert by_arm[Arm.CONTROL] is not None
        assert by_arm[Arm.CANDIDATE] is not None
        assert (by_arm[Arm.CONTROL].picture == 128).all()
        assert (by_arm[Arm.CANDIDATE].picture != 128).any()

    assert inner.n_made == 2
    assert inner.n_attached == 1


def test_another_page_leaves_things_and_lines_as_they_are() -> None:
    before = picture().astype(int)

    for fault, page in (("repainted", (178, 184, 224)), ("unpainted", (140, 140, 140))):
        after = plant_in_picture(picture(), fault=fault, cell=cell()).astype(int)
        things = np.ptp(before, axis=2) > 100
        assert things.mean() > 0.02
        assert (after == before)[things].mean() > 0.9
        assert np.abs(after[0, 0] - page).max() <= 1


def test_a_candidate_that_ignores_guidance_is_made_at_guidance_one_whatever_is_asked(tmp_path: Path) -> None:
    inner, cache = Plain(), PictureCache(tmp_path / "pictures")
    backend = PlantedBackend(inner, fault="guidance-ignored", pictures=cache)  # type: ignore[arg-type]
    cells = tuple(PlannedCell(cell=cell(arm), prompt="a red circle") for arm in (Arm.CONTROL, Arm.CANDIDATE))
    settings = GenerationSettings(height=32, width=32, true_cfg_scale=5.0)
    plan = Plan(suite_digest="0" * 64, settings=settings, cells=cells)

    adapter = read_adapter(shipped_data(HEALTHY))
    made = generate(plan, backend=backend, cache=cache, adapter=adapter, observer=Observer())

    assert len(made.made) == 2
    assert dict(inner.guidances) == {Arm.CONTROL: 5.0, Arm.CANDIDATE: 1.0}
