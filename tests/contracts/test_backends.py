"""What every backend keeps to, present and future: cells in, pictures out, nothing else touched."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorabench.generation.adapter import AdapterFile, read_adapter
from lorabench.generation.protocol import Backend
from lorabench.generation.safetensors_file import read_safetensors
from lorabench.records.config import ModelConfig
from lorabench.records.plan import Arm, Cell, GenerationSettings, PlannedCell
from lorabench.registry import BACKENDS

TINY_FLUX = Path(__file__).parents[2] / "fixtures" / "models" / "tiny-flux"
SETTINGS: dict[str, GenerationSettings] = {
    "diffusers": GenerationSettings(
        height=128, width=128, num_inference_steps=2, true_cfg_scale=2.0, negative_prompt="", max_sequence_length=24
    ),
}
DEFAULT_SETTINGS = GenerationSettings(height=128, width=128)
MODELS: dict[str, ModelConfig] = {"diffusers": ModelConfig(base=str(TINY_FLUX), device="cpu")}
MakeBackend = Callable[[], Backend]


@pytest.fixture(scope="module", params=BACKENDS.names())
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "diffusers" and not (TINY_FLUX / "model_index.json").is_file():
        pytest.skip("fixtures/models/tiny-flux is not in this checkout")
    return str(request.param)


@pytest.fixture(scope="module")
def make(name: str) -> MakeBackend:
    return lambda: BACKENDS.load(name)(MODELS.get(name, ModelConfig(backend=name)))


@pytest.fixture(scope="module")
def backend(make: MakeBackend) -> Backend:
    return make()


@pytest.fixture(scope="module")
def settings(name: str) -> GenerationSettings:
    return SETTINGS.get(name, DEFAULT_SETTINGS)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> AdapterFile:
    """A random LoRA on one attention layer of the tiny base; other backends take it as it is."""
    layer, width = "transformer_blocks.0.attn.to_q", 128
    weights = TINY_FLUX / "transformer" / "diffusion_pytorch_model.safetensors"
    if weights.is_file():
        width = read_safetensors(weights).tensors[f"{layer}.weight"].shape[0]
    rng = np.random.default_rng(2)
    tensors = {
        f"transformer.{layer}.lora_A.weight": rng.normal(size=(4, width)).astype(np.float32),
        f"transformer.{layer}.lora_B.weight": rng.normal(size=(width, 4)).astype(np.float32),
    }
    path = tmp_path_factory.mktemp("adapter") / "random.safetensors"
    save_file(tensors, path)
    return read_adapter(path, alpha=4.0)


def cell(arm: Arm = Arm.CONTROL, *, case: str = "one", seed: int = 1, scale: float | None = None) -> PlannedCell:
    used = (1.0 if arm.uses_adapter else 0.0) if scale is None else scale
    planned = Cell(arm=arm, case=case, seed=seed, scale=used)
    return PlannedCell(cell=planned, prompt="a photo of a red circle left of a blue square")


def pictures(backend: Backend, cells: list[PlannedCell], settings: GenerationSettings) -> dict[Cell, Any]:
    return {made.planned.cell: made.picture for made in backend.generate(cells, settings=settings)}


def test_every_cell_comes_back_once_with_a_picture_of_the_size_asked_for(
    backend: Backend, settings: GenerationSettings
) -> None:
    cells = [cell(case=case, seed=seed) for case in ("one", "two") for seed in (3, 4)]

    made = list(backend.generate(cells, settings=settings))

    assert sorted(one.planned.cell.key for one in made) == sorted(one.cell.key for one in cells)
    for one in made:
        assert one.failure is None
        assert one.picture is not None
        assert (one.picture.shape, one.picture.dtype) == ((128, 128, 3), np.uint8)
        assert one.seconds >= 0


def test_no_cells_give_no_pictures(backend: Backend, settings: GenerationSettings) -> None:
    assert list(backend.generate([], settings=settings)) == []


def test_pictures_are_repeatable_and_depend_on_case_and_seed(
    make: MakeBackend, backend: Backend, settings: GenerationSettings
) -> None:
    cells = [cell(case="one", seed=1), cell(case="one", seed=2), cell(case="two", seed=1)]

    first, again = pictures(backend, cells, settings), pictures(make(), cells, settings)

    assert all(np.array_equal(first[one.cell], again[one.cell]) for one in cells)
    assert len({picture.tobytes() for picture in first.values()}) == 3


def test_arms_of_the_base_make_one_picture_of_one_prompt(backend: Backend, settings: GenerationSettings) -> None:
    plain, control = pictures(backend, [cell(Arm.BASE), cell(Arm.CONTROL)], settings).values()

    assert np.array_equal(plain, control)


def test_loading_a_candidate_leaves_the_base_as_it_was(
    make: MakeBackend, adapter: AdapterFile, settings: GenerationSettings
) -> None:
    backend = make()
    before = pictures(backend, [cell()], settings)[cell().cell]
    fingerprint = dict(backend.fingerprint())

    backend.load_candidate(adapter)
    made = pictures(backend, [cell(Arm.CANDIDATE), cell()], settings)

    assert np.array_equal(made[cell().cell], before)
    assert not np.array_equal(made[cell(Arm.CANDIDATE).cell], before)
    assert dict(backend.fingerprint()) == fingerprint


def test_round_trip_gives_one_picture_of_the_same_size_each(backend: Backend) -> None:
    originals = [np.random.default_rng(seed).integers(0, 256, (128, 128, 3), dtype=np.uint8) for seed in (1, 2)]

    copies = backend.round_trip(originals)

    assert [(copy.shape, copy.dtype) for copy in copies] == [((128, 128, 3), np.uint8)] * 2
    assert backend.round_trip([]) == []


def test_fingerprint_is_plain_and_equal_for_equal_backends(make: MakeBackend, backend: Backend) -> None:
    assert dict(make().fingerprint()) == dict(backend.fingerprint())
    assert all(isinstance(value, str) for value in backend.fingerprint().values())
    assert make().base_info() == backend.base_info()


def test_global_generators_are_left_alone(make: MakeBackend, settings: GenerationSettings) -> None:
    import torch

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002

    pictures(make(), [cell()], settings)

    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])
