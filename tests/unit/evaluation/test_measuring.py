from typing import Any

import numpy as np
import pytest

from lorabench.evaluation.encoding import Encoder
from lorabench.evaluation.judge_set import JudgeSet
from lorabench.evaluation.measuring import (
    Measured,
    Rulers,
    detector_self_test,
    figures_found,
    measure,
    measure_compositions,
    measure_copies,
    measure_foils,
    prompt_texts,
    self_test,
)
from lorabench.evaluation.observer import Observer
from lorabench.generation.synthetic import SyntheticBackend
from lorabench.metrics.memorisation import training_set
from lorabench.metrics.picture_metrics import PICTURE_METRICS
from lorabench.records.images import Image
from lorabench.records.plan import Arm, Cell, PlannedCell
from lorabench.records.suite import AnatomyCheck, Case, ObjectCheck
from lorabench.storage.arrays import ArrayCache
from lorabench.storage.pictures import pixel_digest


class Scene:
    """Pictures of some cases, encoded, with what they are measured with."""

    def __init__(self, lab, cases, judges, *, seeds=(7,), arms=(Arm.CONTROL, Arm.CANDIDATE), training=None, faults=()):
        self.suite = lab.suite(*cases, seeds=seeds)
        backend: SyntheticBackend = lab.backend(*faults)
        planned = [
            PlannedCell(
                cell=Cell(arm=arm, case=case.id, seed=seed, scale=float(arm.uses_adapter)),
                prompt=case.render(lab.style.of(arm)),
            )
            for case in cases
            for seed in seeds
            for arm in arms
        ]
        self.pictures: dict[str, np.ndarray] = {}
        self.images: list[Image] = []
        for made in backend.generate(planned, settings=lab.settings):
            digest = pixel_digest(made.picture)
            self.pictures[digest] = made.picture
            self.images.append(Image(cell=made.planned.cell, sha256=digest, cache_key=digest, height=128, width=128))
        encoder = Encoder(
            suite=self.suite,
            judges=judges,
            arrays=ArrayCache(lab.home / "features"),
            read_picture=self.read,
            size=(128, 128),
            training=training,
            observer=Observer(),
        )
        encoder.encode(self.images)
        encoder.encode_texts(
            text for case in cases for prompt, foils in [prompt_texts(case, lab.style)] for text in (prompt, *foils)
        )
        self.features = encoder.features
        self.rulers = Rulers.of(
            self.suite, style=lab.style, judges=judges, labels=encoder.labels, read_picture=self.read
        )

    def read(self, image: Image) -> np.ndarray:
        return self.pictures[image.sha256]

    def measured(self) -> Measured:
        return measure(self.images, self.features, rulers=self.rulers)


def names(done: Measured) -> set[str]:
    return {item.metric for item in done.measurements}


def values(done: Measured, metric: str, arm: Arm = Arm.CANDIDATE) -> list[float]:
    return [item.value for item in done.measurements if item.metric == metric and item.cell.arm is arm]


def reasons(done: Measured) -> dict[str, str]:
    return {item.metric: item.reason for item in done.unmeasured}


def test_metrics_apply_to_the_cases_that_ask_for_them(lab) -> None:
    hand = next(case for case in lab.cases if case.family == "anatomy")
    palette = lab.palette_cases()[0]
    always = {"broken_rate", "smooth_zone_sigma", "flat_fraction", *(one.metric.name for one in PICTURE_METRICS)}

    found = {
        case.family: names(Scene(lab, [case], lab.judges()).measured()) - always
        for case in (lab.cases[0], hand, palette)
    }

    assert found == {
        "spatial": {"prompt_following_score", "prompt_exact_score"},
        "anatomy": {"anatomy_score", "part_count_error"},
        "palette": {"palette_compliance_score"},
    }


def test_metric_that_a_case_has_no_use_for_is_not_called_unmeasured(lab) -> None:
    done = Scene(lab, [lab.palette_cases()[0]], lab.judges(clip=lab.clip())).measured()

    assert done.unmeasured == []
    assert done.checks == []


def test_absent_judges_leave_reasons_on_each_cell(lab) -> None:
    hand = next(case for case in lab.cases if case.family == "anatomy")
    judges = JudgeSet(absent={"clip": "no CLIP here", "detector": "no detector here"})

    done = Scene(lab, [lab.cases[0], hand], judges).measured()

    assert reasons(done) == {
        "prompt_following_score": "no detector here",
        "anatomy_score": "no detector here",
        "clip_text_similarity": "no CLIP here",
    }
    assert all(item.cell is not None for item in done.unmeasured)
    assert names(done) - {one.metric.name for one in PICTURE_METRICS} == {
        "broken_rate",
        "smooth_zone_sigma",
        "flat_fraction",
    }


def test_wrong_parts_cost_anatomy_and_leave_prompt_following_alone(lab) -> None:
    case = Case(
        id="hand-1",
        family="anatomy",
        prompt="{style} a red hand",
        checks=(ObjectCheck(label="hand", color="red"), AnatomyCheck(label="hand", parts=5)),
    )

    done = Scene(lab, [case], lab.judges(), faults=["wrong_parts"]).measured()

    assert values(done, "anatomy_score") == [0.0]
    assert values(done, "part_count_error") == [1.0]
    assert values(done, "prompt_following_score") == [1.0]
    assert values(done, "anatomy_score", Arm.CONTROL) == [1.0]


def test_dropped_object_costs_prompt_following_and_says_which_check_failed(lab) -> None:
    done = Scene(lab, lab.cases[:1], lab.judges(), faults=["drop_second"]).measured()

    assert values(done, "prompt_following_score") == [pytest.approx(1 / 3)]
    assert values(done, "prompt_exact_score") == [0.0]
    failed = [check.check_index for check in done.checks if check.cell.arm is Arm.CANDIDATE and not check.passed]
    assert failed == [1, 2]


def test_black_and_repeated_pictures_are_broken(lab) -> None:
    black = Scene(lab, lab.cases[:1], lab.judges(detector=False), faults=["black"]).measured()
    same = Scene(
        lab, lab.cases[:1], lab.judges(detector=False), seeds=(7, 11), faults=["same_for_all_seeds"]
    ).measured()

    assert values(black, "broken_rate") == [1.0]
    assert values(black, "broken_rate", Arm.CONTROL) == [0.0]
    assert max(values(same, "broken_rate")) == 1.0
    assert values(same, "broken_rate", Arm.CONTROL) == [0.0, 0.0]


def test_all_arms_are_read_against_one_text_without_the_trigger(lab) -> None:
    prompt, foils = prompt_texts(lab.cases[0], lab.style)

    assert prompt == "a photo of a red circle left of a blue square"
    assert foils == ("a photo of a purple circle left of a purple square",)


def test_foils_that_the_judge_can_tell_are_read(lab) -> None:
    scene = Scene(lab, lab.cases[:5], lab.judges(clip=lab.clip(), detector=False))
    tests = self_test(scene.images, scene.features, rulers=scene.rulers)

    done = measure_foils(scene.images, scene.features, rulers=scene.rulers, tests=tests)

    assert [(test.family, test.foil_kind, test.usable) for test in tests] == [("spatial", "color", True)]
    assert done.unmeasured == []
    assert values(done, "foil_win_rate") == [1.0] * 5
    assert all(0.5 < value <= 1.0 for value in values(done, "foil_accuracy_score"))


def test_judge_at_chance_measures_no_foils(lab) -> None:
    scene = Scene(lab, lab.cases[:5], lab.judges(clip=lab.clip(blind=True), detector=False))
    tests = self_test(scene.images, scene.features, rulers=scene.rulers)

    done = measure_foils(scene.images, scene.features, rulers=scene.rulers, tests=tests)

    assert not tests[0].usable
    assert done.measurements == []
    assert reasons(done) == {"foil_accuracy_score": "judge at chance in spatial (color foils)"}
    assert len(done.unmeasured) == len(scene.images)


def test_self_test_looks_at_the_control_alone(lab) -> None:
    scene = Scene(lab, lab.cases[:5], lab.judges(clip=lab.clip()), faults=["swap_colors"])

    (words,) = self_test(scene.images, scene.features, rulers=scene.rulers)
    (oracle,) = detector_self_test(scene.images, scene.features, rulers=scene.rulers)

    assert (words.win_rate, words.n_cases) == (1.0, 5)
    assert (oracle.judge, oracle.win_rate, oracle.usable) == ("oracle", 1.0, True)


def test_no_self_test_without_judge_foils_or_a_second_case(lab) -> None:
    scene = Scene(lab, lab.cases[:1], lab.judges())

    assert self_test(scene.images, scene.features, rulers=scene.rulers) == ()
    assert detector_self_test(scene.images, scene.features, rulers=scene.rulers) == ()


def test_figures_are_looked_for_on_control_pictures_of_anatomy_cases(lab) -> None:
    hands = [case for case in lab.cases if case.family == "anatomy"]
    scene = Scene(lab, [lab.cases[0], *hands], lab.judges())

    assert figures_found(scene.images, scene.features, rulers=scene.rulers) == [True, True]


def copying(lab, *, repeated: bool) -> tuple[Scene, Any]:
    """Twelve training pictures; the candidate's own ones are among them where `repeated`."""
    judges = lab.judges(lpips=lab.thumbnails(), detector=False)
    seeds = tuple(range(6))
    plain = Scene(lab, lab.cases[:2], judges, seeds=seeds)
    candidate = [plain.read(image) for image in plain.images if image.cell.arm is Arm.CANDIDATE]
    others = Scene(lab, lab.cases[2:5], judges, seeds=(20, 21, 22, 23), arms=(Arm.CANDIDATE,))
    trained = [others.read(image) for image in others.images]
    if repeated:
        trained[0] = candidate[0]
    vectors = judges.lpips.embed(trained), judges.lpips.embed([np.ascontiguousarray(one[:, ::-1]) for one in trained])
    training = training_set(*vectors)
    return Scene(lab, lab.cases[:2], judges, seeds=seeds, training=training), training


def test_copied_picture_is_found_with_its_neighbour(lab) -> None:
    scene, training = copying(lab, repeated=True)

    done, neighbours = measure_copies(scene.images, scene.features, training=training, why_not="")

    first = next(one for one in neighbours if one.cell.arm is Arm.CANDIDATE)
    assert (first.training_index, first.is_copy) == (0, True)
    assert first.distance == pytest.approx(0.0, abs=1e-5)
    assert values(done, "copy_rate")[0] == 1.0
    assert sum(values(done, "copy_rate", Arm.CONTROL)) == 0.0
    assert len(neighbours) == len(scene.images)


def test_copies_without_training_pictures_carry_the_reason(lab) -> None:
    scene = Scene(lab, lab.cases[:1], lab.judges(detector=False))

    done, neighbours = measure_copies(scene.images, scene.features, training=None, why_not="no training pictures")

    assert reasons(done) == {"copy_rate": "no training pictures"}
    assert neighbours == []


def test_too_few_control_pictures_calibrate_no_copy_but_give_distances(lab) -> None:
    scene, training = copying(lab, repeated=False)
    few = [image for image in scene.images if image.cell.seed < 2]

    done, neighbours = measure_copies(few, scene.features, training=training, why_not="")

    assert "copies need at least 10 control pictures for a null; found 4" in reasons(done)["copy_rate"]
    assert names(done) == {"nearest_training_distance"}
    assert all(one.is_copy is None for one in neighbours)


def test_compositions_of_training_pictures_are_recognised(lab) -> None:
    scene = Scene(lab, lab.cases[:2], lab.judges(detector=False), seeds=tuple(range(6)))
    candidate = np.stack(
        [scene.features.structure[image.sha256] for image in scene.images if image.cell.arm is Arm.CANDIDATE]
    )

    done = measure_compositions(scene.images, scene.features, training=candidate, why_not="")

    assert values(done, "composition_copy_rate") == [1.0] * 12


@pytest.mark.parametrize(("n", "reason"), [(None, "no training"), (4, "at least 10 different training pictures")])
def test_compositions_need_training_pictures(lab, n, reason) -> None:
    scene = Scene(lab, lab.cases[:1], lab.judges(detector=False))
    training = None if n is None else np.eye(n, dtype=np.float32)

    done = measure_compositions(scene.images, scene.features, training=training, why_not="no training")

    assert reason in reasons(done)["composition_copy_rate"]
    assert done.measurements == []
