from collections.abc import Iterator
from dataclasses import replace

import pytest

from lorabench.evaluation.generating import generate
from lorabench.evaluation.observer import Observer
from lorabench.evaluation.planning import plan_cells
from lorabench.generation.adapter import read_adapter
from lorabench.generation.synthetic import SyntheticBackend
from lorabench.records.config import ModelConfig
from lorabench.records.images import Images
from lorabench.records.plan import Arm, StylePhrases
from lorabench.storage.pictures import PictureCache, pixel_digest


class CountingBackend(SyntheticBackend):
    """Remembers what it was asked for; can be told to die after some pictures."""

    def __init__(self, *, dies_after: int | None = None, **options) -> None:
        super().__init__(ModelConfig(batch_size=2), **options)
        self.asked: list[str] = []
        self.n_loaded = 0
        self._dies_after = dies_after

    def load_candidate(self, adapter) -> None:
        self.n_loaded += 1
        super().load_candidate(adapter)

    def generate(self, cells, *, settings) -> Iterator:
        self.asked += [planned.cell.key for planned in cells]
        for number, made in enumerate(super().generate(cells, settings=settings)):
            if number == self._dies_after:
                raise KeyboardInterrupt
            yield made


class Listener(Observer):
    def __init__(self) -> None:
        super().__init__()
        self.total, self.done = 0, 0

    def stage_started(self, stage, total) -> None:
        self.total = total

    def advanced(self, stage, n=1) -> None:
        self.done += n


def made(lab, backend, *, arms=(Arm.CONTROL, Arm.CANDIDATE), n_cases=2, style=None, **options) -> Images:
    plan = plan_cells(
        lab.suite(*lab.cases[:n_cases]), style=style or lab.style, settings=lab.settings, arms=arms, seeds=(7, 11)
    )
    plain = {"observer": Observer(), "adapter": read_adapter(lab.adapter)}
    return generate(plan, backend=backend, cache=PictureCache(lab.home / "pictures"), **{**plain, **options})


def test_every_planned_cell_gets_a_picture_in_the_order_of_the_plan(lab) -> None:
    listener = Listener()

    images = made(lab, CountingBackend(), observer=listener)

    assert [image.cell.key for image in images.made][:3] == [
        "B1/spatial-1/seed7/x0",
        "L1/spatial-1/seed7/x1",
        "B1/spatial-1/seed11/x0",
    ]
    assert images.failed == ()
    assert not any(image.from_cache for image in images.made)
    assert (listener.total, listener.done) == (8, 8)


def test_second_time_all_pictures_come_from_the_cache(lab) -> None:
    first = made(lab, CountingBackend())
    backend, listener = CountingBackend(), Listener()

    second = made(lab, backend, observer=listener)

    assert backend.asked == []
    assert [image.sha256 for image in second.made] == [image.sha256 for image in first.made]
    assert all(image.from_cache and image.generation_seconds == 0.0 for image in second.made)
    assert (listener.total, listener.done) == (8, 8)


def test_picture_in_the_cache_is_the_picture_in_the_record(lab) -> None:
    image = made(lab, CountingBackend(), n_cases=1).made[0]

    stored = PictureCache(lab.home / "pictures").get(image.cache_key)

    assert stored is not None
    assert pixel_digest(stored.picture) == image.sha256
    assert stored.picture.shape == (image.height, image.width, 3)


def test_arms_that_share_everything_share_one_picture(lab) -> None:
    backend = CountingBackend()
    same = StylePhrases(trigger="a zvq drawing of", plain="a photo of", neutral="a photo of")
    listener = Listener()

    images = made(lab, backend, arms=(Arm.BASE, Arm.CONTROL), n_cases=1, style=same, observer=listener)

    assert backend.asked == ["B0/spatial-1/seed7/x0", "B0/spatial-1/seed11/x0"]
    assert len(images.made) == 4
    assert images.made[0].sha256 == images.made[1].sha256
    assert listener.done == 4


def test_failure_stays_on_its_own_cell(lab) -> None:
    images = made(lab, lab.backend("raise", cases=["spatial-2"]))

    assert {cell.cell.key for cell in images.failed} == {"L1/spatial-2/seed7/x1", "L1/spatial-2/seed11/x1"}
    assert "planted fault in L1/spatial-2/seed7/x1" in images.failed[0].reason
    assert len(images.made) == 6


def test_failed_cell_is_tried_again_next_time(lab) -> None:
    made(lab, lab.backend("raise", cases=["spatial-2"]))
    backend = CountingBackend()

    # Another fault is another fingerprint: its pictures are made anew, the failed cells among them.
    assert made(lab, backend).failed == ()
    assert "L1/spatial-2/seed7/x1" in backend.asked


def test_cache_only_makes_nothing_and_names_what_is_missing(lab) -> None:
    made(lab, CountingBackend(), n_cases=1)
    backend = CountingBackend()

    images = made(lab, backend, cache_only=True)

    assert backend.asked == []
    assert {image.cell.case for image in images.made} == {"spatial-1"}
    assert {cell.reason for cell in images.failed} == {"not in the cache"}
    assert {cell.cell.case for cell in images.failed} == {"spatial-2"}


def test_candidate_is_attached_only_if_one_of_its_pictures_is_missing(lab) -> None:
    control, whole, again = CountingBackend(), CountingBackend(), CountingBackend()

    made(lab, control, arms=(Arm.CONTROL,))
    made(lab, whole)
    made(lab, again)

    assert (control.n_loaded, whole.n_loaded, again.n_loaded) == (0, 1, 0)


def test_run_that_dies_keeps_its_finished_pictures_and_the_next_one_makes_the_rest(lab) -> None:
    with pytest.raises(KeyboardInterrupt):
        made(lab, CountingBackend(dies_after=5))
    backend = CountingBackend()

    images = made(lab, backend)

    assert len(backend.asked) == 3
    assert sum(image.from_cache for image in images.made) == 5
    assert len(images.made) == 8


def test_backend_that_swallows_a_cell_is_found_out(lab) -> None:
    class Forgetful(CountingBackend):
        def generate(self, cells, *, settings):
            return super().generate(cells[:-1], settings=settings)

    images = made(lab, Forgetful(), n_cases=1)

    assert [cell.cell.key for cell in images.failed] == ["L1/spatial-1/seed11/x1"]
    assert images.failed[0].reason == "the backend returned nothing for this cell"


def test_other_candidate_leaves_the_control_pictures_alone(lab) -> None:
    made(lab, CountingBackend())
    backend = CountingBackend()

    made(lab, backend, adapter=read_adapter(lab.adapter_called("other", seed=6)))

    assert len(backend.asked) == 4
    assert all(key.startswith("L1/") for key in backend.asked)


class OverflowingBackend(CountingBackend):
    """Says of each picture that it held NaN before it became whole numbers."""

    def generate(self, cells, *, settings) -> Iterator:
        for one in super().generate(cells, settings=settings):
            yield replace(one, broken="not finite: 3 of 48 values are NaN or infinite")


def test_what_was_wrong_with_a_picture_when_it_was_made_is_kept_in_the_cache_too(lab) -> None:
    first = made(lab, OverflowingBackend(), n_cases=1)
    again = made(lab, CountingBackend(), n_cases=1)

    for images in (first, again):
        assert {image.broken for image in images.made} == {"not finite: 3 of 48 values are NaN or infinite"}
    assert all(image.from_cache for image in again.made)
