"""Variety, colours and identity of whole arms, from features of pictures that do not exist."""

import hashlib
import math
from collections.abc import Callable

import numpy as np
import pytest

from lorabench.evaluation.diversity_indices import diversity_of
from lorabench.evaluation.encoding import Features
from lorabench.evaluation.identity_indices import identity_consistency_of, identity_drift_of
from lorabench.evaluation.indices import Resampling, TrainingLook
from lorabench.evaluation.slice_indices import worst_subject_slice_of
from lorabench.evaluation.style_color_indices import brand_distance_of, training_palette_distance_of
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Measurement, Unmeasured
from lorabench.records.plan import Arm, Cell
from lorabench.records.suite import Case, PaletteCheck, Suite

RESAMPLING = Resampling(seed=1, n_resamples=200, confidence_level=0.95)
D = 40
Make = Callable[[Arm, int, int], np.ndarray]


def features(*, n_cases: int = 12, n_seeds: int = 2, **of_arm: Make) -> Features:
    made = Features()
    for arm in (Arm.CONTROL, Arm.CANDIDATE):
        for case in range(n_cases):
            for seed in range(n_seeds):
                sha = hashlib.sha256(f"{arm} {case} {seed}".encode()).hexdigest()
                made.digest_of[Cell(arm=arm, case=f"case-{case:02d}", seed=seed, scale=float(arm.uses_adapter))] = sha
                for kind, make in of_arm.items():
                    getattr(made, kind)[sha] = make(arm, case, seed).astype(np.float32)
    return made


def suite(n: int = 12, *, prompt: str = "a ladder", checks: tuple = (), tags: Callable[[int], tuple] = lambda _: ()):
    return Suite(
        name="s",
        licence="CC0-1.0",
        seeds=(0, 1),
        cases=tuple(
            Case(id=f"case-{i:02d}", family="sparse_scene", prompt=f"{{style}} {prompt}", checks=checks, tags=tags(i))
            for i in range(n)
        ),
    )


def own(case: int, seed: int) -> np.ndarray:
    vector = np.random.default_rng([case, seed]).normal(0, 0.3, D) + 2 * np.eye(D)[case]
    return vector / np.linalg.norm(vector)


def as_the_control(arm: Arm, case: int, seed: int) -> np.ndarray:
    return own(case, seed)


def without_seeds(arm: Arm, case: int, seed: int) -> np.ndarray:
    return own(case, 0 if arm is Arm.CANDIDATE else seed)


def test_candidate_like_the_control_has_lost_no_variety() -> None:
    found = diversity_of(features(structure=as_the_control), scale=1.0, resampling=RESAMPLING)

    assert [item.metric for item in found] == ["seed_collapse", "case_spread_ratio", "eta_squared", "vendi_ratio"]
    assert all(isinstance(item, Comparison) and (item.estimate, item.low, item.high) == (0, 0, 0) for item in found)


def test_one_picture_for_all_seeds_is_a_collapse_of_1() -> None:
    seeds, spread, share, vendi = diversity_of(features(structure=without_seeds), scale=1.0, resampling=RESAMPLING)

    assert isinstance(seeds, Comparison)
    assert (seeds.estimate, seeds.low, seeds.high, seeds.p_harm) == (1.0, 1.0, 1.0, 0.5**12)
    assert isinstance(spread, Comparison)
    assert abs(spread.estimate) < 0.1
    assert isinstance(share, Comparison)
    assert share.low > 0.2
    assert isinstance(vendi, Comparison)
    assert vendi.high < 0.0


def test_half_the_distance_between_seeds_is_a_collapse_of_a_half() -> None:
    def halved(arm: Arm, case: int, seed: int) -> np.ndarray:
        step = 0.5 if arm is Arm.CANDIDATE else 1.0
        return np.eye(D)[case] * 3 + step * (seed + 0.1 * case) * np.eye(D)[20]

    seeds, *_ = diversity_of(features(structure=halved), scale=1.0, resampling=RESAMPLING)

    assert isinstance(seeds, (Comparison, Unmeasured))
    assert isinstance(seeds, Unmeasured) or seeds.estimate == pytest.approx(0.5)


@pytest.mark.parametrize(("n_cases", "n_seeds", "found"), [(5, 4, 5), (12, 1, 0)])
def test_too_few_cases_with_two_seeds_say_what_is_needed(n_cases: int, n_seeds: int, found: int) -> None:
    made = features(n_cases=n_cases, n_seeds=n_seeds, structure=as_the_control)

    for item in diversity_of(made, scale=1.0, resampling=RESAMPLING):
        assert isinstance(item, Unmeasured)
        assert f"at least 6 cases with two seeds or more in both arms; found {found}" in item.reason


def test_control_whose_seeds_are_alike_leaves_seed_collapse_unmeasured() -> None:
    made = features(structure=lambda arm, case, seed: own(case, 0))

    seeds, *_ = diversity_of(made, scale=1.0, resampling=RESAMPLING)

    assert isinstance(seeds, Unmeasured)
    assert "needs a control whose seeds differ; its mean distance between seeds is 0" in seeds.reason


def test_prompts_that_all_look_alike_leave_their_spread_unmeasured() -> None:
    def same_prompt(arm: Arm, case: int, seed: int) -> np.ndarray:
        return own(0 if arm is Arm.CANDIDATE else case, seed)

    _, spread, share, _ = diversity_of(features(structure=same_prompt), scale=1.0, resampling=RESAMPLING)

    for item in (spread, share):
        assert isinstance(item, Unmeasured)
        assert "needs prompts that differ in composition at one seed, in both arms; found none" in item.reason


def colours(place: float, *, case: int, seed: int) -> np.ndarray:
    """A sketch (2, D): the palette at a place between control (0) and training (1), with a wobble of its own."""
    wobble = np.random.default_rng([case, seed]).normal(0, 0.02, D)
    return np.stack([3.0 * (1 - place) * np.eye(D)[0] + wobble] * 2)


def training_look(m: int = 10) -> TrainingLook:
    sketches = np.stack([colours(1.0, case=100 + i, seed=0) for i in range(m)]).astype(np.float32)
    return TrainingLook(
        sigmas=np.ones(m),
        fractions=np.ones(m),
        palettes=sketches[:, 0].astype(np.float64),
        structures=np.zeros((m, 4), dtype=np.float32),
        sketches=sketches,
    )


def sketched(place: float) -> Make:
    return lambda arm, case, seed: (
        colours(place, case=case, seed=seed + 9) if arm is Arm.CANDIDATE else colours(0.0, case=case, seed=seed)
    )


def bleed(estimate: float) -> Comparison:
    return Comparison(
        metric="photo_bleed", metric_version=1, higher_is_better=False, unit="index", candidate_arm=Arm.CANDIDATE,
        reference="training", family=None, estimate=estimate, low=estimate, high=estimate, confidence_level=0.95,
        p_harm=1.0, n_cases=12, n_pairs=24, method="t",
    )  # fmt: skip


def palette_distance(place: float, *, of: Suite | None = None, seen: float = 0.0, training: TrainingLook | None = None):
    return training_palette_distance_of(
        features(sketches=sketched(place)),
        training_look() if training is None else training,
        suite=of or suite(),
        looks=None,
        bleed=bleed(seen),
        scale=1.0,
        resampling=RESAMPLING,
    )


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_share_of_the_way_to_the_training_palette_that_is_left(place: float) -> None:
    found = palette_distance(place)

    assert isinstance(found, Comparison)
    assert found.estimate == pytest.approx(1.0 - place, abs=0.05)
    assert found.reference == "training"


def test_colours_are_not_asked_for_where_the_technique_is_not_learned() -> None:
    found = palette_distance(0.0, seen=0.9)

    assert isinstance(found, Unmeasured)
    assert "asks for colours where the technique is learned; that must be 25% of the way" in found.reason
    assert "10% of the way" in found.reason


def test_only_neutral_cases_count_where_there_are_enough() -> None:
    coloured = suite(12, prompt="a red ladder")

    found = palette_distance(0.0, of=coloured)
    palette = palette_distance(0.0, of=suite(12, checks=(PaletteCheck(monochrome="grey"),)))

    assert isinstance(found, Comparison)  # no neutral case at all: the ground of the others is read
    assert isinstance(palette, Unmeasured)
    assert "colours need at least 5 cases; found 0" in palette.reason


def test_training_pictures_must_be_there_and_differ_from_the_control() -> None:
    few = palette_distance(0.0, training=training_look(4))
    here = training_palette_distance_of(
        features(sketches=lambda arm, case, seed: colours(1.0, case=case, seed=seed)),
        training_look(),
        suite=suite(),
        looks=None,
        bleed=bleed(0.0),
        scale=1.0,
        resampling=RESAMPLING,
    )

    assert isinstance(few, Unmeasured)
    assert "at least 5 training pictures; found 4" in few.reason
    assert isinstance(here, Unmeasured)
    assert "with the even ground, the control's colours must lie farther" in here.reason
    assert "without the even ground, the control's colours must lie farther" in here.reason


def test_brand_distance_is_0_in_the_brands_palette_and_1_in_the_controls() -> None:
    for place in (0.0, 1.0):
        made = features(palette=lambda arm, case, seed, place=place: sketched(place)(arm, case, seed)[0])
        found = brand_distance_of(made, training_look(), scale=1.0, resampling=RESAMPLING)
        assert isinstance(found, Comparison)
        assert found.estimate == pytest.approx(1.0 - place, abs=0.03)
    missing = brand_distance_of(made, None, scale=1.0, resampling=RESAMPLING)
    assert isinstance(missing, Unmeasured)
    assert "at least 5 training pictures; found 0" in missing.reason


def character(angle: float, *, case: int, seed: int) -> np.ndarray:
    """A unit vector at an angle from the character, each in a direction of its own."""
    aside = np.zeros(D)
    aside[1 + (case * 7 + seed) % (D - 1)] = 1.0
    return math.cos(angle) * np.eye(D)[0] + math.sin(angle) * aside


REFERENCES = np.stack([character(0.3, case=50 + i, seed=0) for i in range(8)]).astype(np.float32)


def drift(angle: float, references: np.ndarray | None = REFERENCES):
    made = features(
        clip=lambda arm, case, seed: (
            character(angle + 0.02 * seed, case=case, seed=9)
            if arm is Arm.CANDIDATE
            else character(1.2, case=case, seed=seed)
        )
    )
    return identity_drift_of(made, references, why_not="no references", scale=1.0, resampling=RESAMPLING)


def test_identity_is_kept_at_the_references_own_likeness_and_lost_at_the_controls() -> None:
    kept, lost = drift(0.3), drift(1.2)

    assert isinstance(kept, Comparison)
    assert kept.estimate == pytest.approx(0.0, abs=0.05)
    assert isinstance(lost, Comparison)
    assert lost.estimate == pytest.approx(1.0, abs=0.02)


def test_identity_needs_references_that_the_control_does_not_resemble() -> None:
    like_all = drift(0.3, np.stack([character(1.4, case=50 + i, seed=0) for i in range(8)]).astype(np.float32))

    assert drift(0.3, None).reason == "no references"
    assert "at least 4 held-out references; found 3" in drift(0.3, REFERENCES[:3]).reason
    assert isinstance(like_all, Unmeasured)
    assert "more like each other than the control is like them" in like_all.reason


def test_consistency_is_the_likeness_of_seeds_against_the_controls() -> None:
    made = features(clip=lambda arm, case, seed: np.eye(D)[case + (0 if arm is Arm.CANDIDATE else 13 * seed)])

    found = identity_consistency_of(made, REFERENCES, why_not="", scale=1.0, confidence_level=0.95)

    # every case differs by 1: nothing is known of the spread
    assert isinstance(found, Unmeasured)
    assert "all 12 differ by 1" in found.reason


def score(arm: Arm, case: int, value: float, metric: str = "prompt_following_score") -> Measurement:
    cell = Cell(arm=arm, case=f"case-{case:02d}", seed=0, scale=float(arm.uses_adapter))
    return Measurement(cell=cell, metric=metric, metric_version=1, value=value)


def test_worst_slice_names_itself_and_brings_its_cases() -> None:
    of = suite(24, tags=lambda i: ("animal",) if i < 12 else ("person",))
    rng = np.random.default_rng(0)
    measured = [
        item
        for case in range(24)
        for item in (
            score(Arm.CONTROL, case, 0.9 + float(rng.normal(0, 0.02))),
            score(Arm.CANDIDATE, case, (0.4 if case < 12 else 0.9) + float(rng.normal(0, 0.02))),
        )
    ]

    found = worst_subject_slice_of(of, measured, confidence_level=0.95)

    assert isinstance(found, Comparison)
    assert found.family == "animal"
    assert found.estimate == pytest.approx(-0.5, abs=0.03)
    assert found.p_harm < 1e-6
    assert [item.case for item in found.differences] == [f"case-{i:02d}" for i in range(12)]


def test_slice_without_checks_is_read_by_its_foils() -> None:
    of = suite(12, tags=lambda i: ("animal",) if i < 6 else ("abstract",))
    rng = np.random.default_rng(0)
    names = ["prompt_following_score"] * 6 + ["foil_accuracy_score"] * 6
    measured = [
        score(arm, case, 0.8 + float(rng.normal(0, 0.02)) - 0.6 * (arm is Arm.CANDIDATE and case >= 6), names[case])
        for case in range(12)
        for arm in (Arm.CONTROL, Arm.CANDIDATE)
    ]

    found = worst_subject_slice_of(of, measured, confidence_level=0.95)

    assert isinstance(found, Comparison)
    assert (found.family, round(found.estimate, 1)) == ("abstract", -0.6)


def test_too_few_slices_leave_the_worst_unmeasured() -> None:
    found = worst_subject_slice_of(suite(12), [], confidence_level=0.95)

    assert isinstance(found, Unmeasured)
    assert "two kinds of subject with at least 5 cases each; found sparse_scene 0" in found.reason
