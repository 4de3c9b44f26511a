from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lorabench.errors import SpecError
from lorabench.generation.synthetic import FAULT_KINDS, FaultKind, FaultSpec, SyntheticBackend
from lorabench.records.config import ModelConfig
from lorabench.records.plan import Arm, Cell, GenerationSettings, PlannedCell
from lorabench.world.oracle import detect

SETTINGS = GenerationSettings(height=128, width=128)
PAIR = "{style} a red circle left of a blue square"
PHRASES = {Arm.BASE: "a photo of", Arm.CONTROL: "a flat illustration of", Arm.CANDIDATE: "a zvq drawing of"}


def planned(arm: Arm, *, seed: int = 1, case: str = "one", prompt: str = PAIR) -> PlannedCell:
    scale = 1.0 if arm.uses_adapter else 0.0
    text = prompt.replace("{style}", PHRASES.get(arm, "a photo of"))
    return PlannedCell(cell=Cell(arm=arm, case=case, seed=seed, scale=scale), prompt=text)


def draw(backend: SyntheticBackend, *cells: PlannedCell, settings: GenerationSettings = SETTINGS) -> list[Any]:
    made = list(backend.generate(cells, settings=settings))
    assert [one.failure for one in made] == [None] * len(cells)
    return [one.picture for one in made]


def seen(picture: Any) -> list[tuple[str, str | None]]:
    found = sorted(detect(picture), key=lambda one: (one.box[0] + one.box[2], one.box[1]))
    return [(one.label, one.color) for one in found]


def test_base_draws_what_the_prompt_says() -> None:
    for arm in (Arm.BASE, Arm.CONTROL):
        (picture,) = draw(SyntheticBackend(), planned(arm))
        assert seen(picture) == [("circle", "red"), ("square", "blue")]


def test_identical_candidate_equals_the_control_to_the_last_bit_and_another_take_does_not() -> None:
    cells = planned(Arm.CONTROL), planned(Arm.CANDIDATE)

    same = draw(SyntheticBackend(identical=True), *cells)
    take = draw(SyntheticBackend(), *cells)

    assert np.array_equal(*same)
    assert not np.array_equal(*take)
    assert seen(take[0]) == seen(take[1])


FAULTY: dict[FaultKind, list[tuple[str, str]]] = {
    "drop_second": [("circle", "red")],
    "swap_colors": [("circle", "blue"), ("square", "red")],
    "flip": [("square", "blue"), ("circle", "red")],
    "palette": [("circle", "red"), ("square", "red")],
    "one_color": [("circle", "red"), ("square", "red")],
}


@pytest.mark.parametrize("kind", FAULTY)
def test_planted_fault_is_seen_in_the_candidate_and_not_in_the_base(kind: FaultKind) -> None:
    backend = SyntheticBackend(faults=[FaultSpec(kind)], identical=True)

    control, candidate = draw(backend, planned(Arm.CONTROL), planned(Arm.CANDIDATE))

    assert seen(control) == [("circle", "red"), ("square", "blue")]
    assert seen(candidate) == FAULTY[kind]


def test_count_and_parts_can_be_wrong() -> None:
    backend = SyntheticBackend(faults=[FaultSpec("wrong_count"), FaultSpec("wrong_parts")], identical=True)
    three = planned(Arm.CANDIDATE, prompt="{style} three blue squares")
    hand = planned(Arm.CANDIDATE, prompt="{style} a red hand")

    squares, fingers = draw(backend, three, hand)

    assert seen(squares) == [("square", "blue")] * 2
    assert [one.count for one in detect(fingers)] == [6]


def test_picture_faults_do_what_they_say() -> None:
    training = [np.full((128, 128, 3), 77, np.uint8)]
    plain = draw(SyntheticBackend(identical=True), planned(Arm.CANDIDATE))[0]
    faulty = {
        kind: draw(
            SyntheticBackend(faults=[FaultSpec(kind)], training=training, identical=True), planned(Arm.CANDIDATE)
        )[0]
        for kind in ("grain", "photo_style", "copy_training", "constant", "black")
    }

    assert 5 < np.abs(faulty["grain"].astype(int) - plain).mean() < 15
    assert np.array_equal(faulty["copy_training"], training[0])
    assert (faulty["constant"].std(), faulty["black"].max()) == (0, 0)
    assert not np.array_equal(faulty["photo_style"], plain)


def test_seeds_can_be_ignored() -> None:
    backend = SyntheticBackend(faults=[FaultSpec("same_for_all_seeds")])

    first, second = draw(backend, planned(Arm.CANDIDATE, seed=1), planned(Arm.CANDIDATE, seed=2))
    base = draw(backend, planned(Arm.CONTROL, seed=1), planned(Arm.CONTROL, seed=2))

    assert np.array_equal(first, second)
    assert not np.array_equal(*base)


def test_raised_error_lands_on_its_cell() -> None:
    backend = SyntheticBackend(faults=[FaultSpec("raise", cases=frozenset({"two"}))])
    cells = [planned(Arm.CANDIDATE, case=case) for case in ("one", "two", "three")]

    made = list(backend.generate(cells, settings=SETTINGS))

    assert [one.failure for one in made] == [None, "RuntimeError: planted fault in L1/two/seed1/x1", None]


def test_memory_limit_halves_batches() -> None:
    backend = SyntheticBackend(ModelConfig(batch_size=8), memory_limit=3)

    draw(backend, *(planned(Arm.BASE, seed=seed) for seed in range(9)))

    assert backend.batch_size == 2


def test_share_of_cells_is_hit_whatever_else_is_asked_for() -> None:
    fault = FaultSpec("black", share=0.5)
    hit = [fault.applies(planned(Arm.CANDIDATE, seed=seed).cell) for seed in range(400)]

    assert 150 < sum(hit) < 250
    assert not any(fault.applies(planned(Arm.CONTROL, seed=seed).cell) for seed in range(400))


def test_faults_can_be_named_in_the_settings() -> None:
    backend = SyntheticBackend(ModelConfig(base="drop_second, grain:0.0"), identical=True)

    assert seen(draw(backend, planned(Arm.CANDIDATE))[0]) == [("circle", "red")]
    with pytest.raises(SpecError, match=r"a list of faults.*found 'dorp_second'\. Faults: drop_second"):
        SyntheticBackend(ModelConfig(base="dorp_second"))


def test_copying_needs_pictures_to_copy() -> None:
    with pytest.raises(ValueError, match="copy_training needs pictures to copy; got none"):
        SyntheticBackend(faults=[FaultSpec("copy_training")])


def test_fingerprint_names_faults() -> None:
    plain = SyntheticBackend().fingerprint()
    prints = [
        SyntheticBackend(faults=[FaultSpec(kind)], training=[np.zeros((1, 1, 3), np.uint8)]) for kind in FAULT_KINDS
    ]

    assert len({one.fingerprint()["candidate"] for one in prints} | {plain["candidate"]}) == len(FAULT_KINDS) + 1


def test_other_sizes_and_foreign_prompts_are_drawn_too() -> None:
    cells = [planned(Arm.BASE, prompt=prompt) for prompt in ("an astronaut on a horse", "a horse", "a horse")]

    first, second, third = draw(SyntheticBackend(), *cells, settings=GenerationSettings(height=64, width=96))

    assert first.shape == (64, 96, 3)
    assert not np.array_equal(first, second)
    assert np.array_equal(second, third)
