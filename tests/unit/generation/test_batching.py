from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lorabench.generation.batching import Batches
from lorabench.generation.protocol import Picture
from lorabench.records.plan import Arm, Cell, PlannedCell


def cells(n: int) -> list[PlannedCell]:
    return [PlannedCell(cell=Cell(arm=Arm.BASE, case="one", seed=seed), prompt="") for seed in range(n)]


class Maker:
    """Makes one pixel with the seed as its value; fails where told."""

    def __init__(self, *, limit: int = 100, bad: int | None = None, error: type[Exception] = ValueError) -> None:
        self.limit, self.bad, self.error = limit, bad, error
        self.sizes: list[int] = []

    def __call__(self, batch: Sequence[PlannedCell]) -> list[Picture]:
        self.sizes.append(len(batch))
        if len(batch) > self.limit:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1.00 GiB")
        if any(one.cell.seed == self.bad for one in batch):
            raise self.error("this prompt\ncannot be made")
        return [np.full((1, 1, 3), one.cell.seed, np.uint8) for one in batch]


def test_cells_come_in_order_with_their_own_pictures() -> None:
    made = list(Batches(3).run(cells(8), Maker()))

    assert [one.planned for one in made] == cells(8)
    assert [int(one.picture[0, 0, 0]) for one in made if one.picture is not None] == list(range(8))


def test_memory_that_runs_out_halves_the_batch_for_good() -> None:
    maker, freed = Maker(limit=2), []
    batches = Batches(8, free_memory=lambda: freed.append(1))

    made = list(batches.run(cells(7), maker))

    assert maker.sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert [one.planned.cell.seed for one in made] == list(range(7))
    assert (batches.size, len(freed)) == (1, 2)
    assert all(one.failure is None for one in made)


def test_memory_that_does_not_hold_one_picture_fails_each_cell_with_words() -> None:
    made = list(Batches(2).run(cells(2), Maker(limit=0)))

    assert [one.picture for one in made] == [None, None]
    assert all(str(one.failure).startswith("out of memory, even for one picture: CUDA") for one in made)


def test_failure_lands_on_its_own_cell() -> None:
    maker = Maker(bad=2)

    made = list(Batches(4).run(cells(5), maker))

    assert [one.failure for one in made] == [None, None, "ValueError: this prompt cannot be made", None, None]
    assert maker.sizes == [4, 1, 1, 1, 1, 1]


def test_defect_in_the_program_is_not_swallowed() -> None:
    with pytest.raises(TypeError):
        list(Batches(2).run(cells(2), Maker(bad=1, error=TypeError)))


def test_empty_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="a batch must hold at least one picture, got 0"):
        Batches(0)
