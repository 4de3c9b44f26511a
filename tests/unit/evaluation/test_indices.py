import hashlib

import numpy as np
import pytest

from lorabench.evaluation.encoding import Features
from lorabench.evaluation.indices import (
    Resampling,
    TrainingLook,
    composition_collapse_of,
    palette_collapse_of,
    palette_pull_of,
    photo_bleed_of,
    set_measurement,
)
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Unmeasured
from lorabench.records.plan import Arm, Cell

RESAMPLING = Resampling(seed=1, n_resamples=200, confidence_level=0.95)
N_CASES, N_SEEDS = 12, 3


def features(*, n_cases: int = N_CASES, n_seeds: int = N_SEEDS, **of_arm) -> Features:
    """Features of pictures that do not exist: `of_arm` gives (kind, value) from arm, case and seed number."""
    made = Features()
    for arm in (Arm.BASE, Arm.CONTROL, Arm.CANDIDATE):
        for case in range(n_cases):
            for seed in range(n_seeds):
                sha = hashlib.sha256(f"{arm} {case} {seed}".encode()).hexdigest()
                cell = Cell(arm=arm, case=f"case-{case:02d}", seed=seed, scale=float(arm.uses_adapter))
                made.digest_of[cell] = sha
                for kind, make in of_arm.items():
                    getattr(made, kind)[sha] = make(arm, case, seed)
    return made


def own_palette(arm: Arm, case: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([case, seed])
    return (np.eye(N_CASES)[case] + rng.normal(0, 0.05, N_CASES)).astype(np.float32)


def one_palette_for_the_candidate(arm: Arm, case: int, seed: int) -> np.ndarray:
    return np.ones(N_CASES, dtype=np.float32) if arm is Arm.CANDIDATE else own_palette(arm, case, seed)


def look(*, sigma: float = 0.5, fraction: float = 0.9, palette: np.ndarray | None = None, m: int = 6) -> TrainingLook:
    palettes = np.zeros((m, N_CASES)) if palette is None else np.tile(palette, (m, 1))
    return TrainingLook(
        sigmas=np.linspace(0.9, 1.1, m) * sigma,
        fractions=np.linspace(0.99, 1.01, m) * fraction,
        palettes=palettes,
        structures=np.zeros((m, 4), dtype=np.float32),
    )


def texture(candidate_is: Arm):
    """Base and control are grainy; the candidate looks like the arm named, or like training for L1."""

    def of(arm: Arm, case: int, seed: int) -> tuple[float, float]:
        rng = np.random.default_rng([case, seed, *arm.encode()])
        flat = arm is Arm.CANDIDATE and candidate_is is Arm.CANDIDATE
        wobble = float(rng.normal(0, 0.01))
        return (0.5 * (1 + wobble), 0.9 + 0.01 * wobble) if flat else (8.0 * (1 + wobble), 0.2 + 0.01 * wobble)

    return of


def test_palette_that_answers_like_the_control_has_not_collapsed() -> None:
    found = palette_collapse_of(features(palette=own_palette), scale=1.0, resampling=RESAMPLING)

    assert isinstance(found, Comparison)
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)
    assert found.reference == "B1"
    assert (found.n_cases, found.n_pairs) == (N_CASES, N_CASES * N_SEEDS)


def test_one_palette_for_all_prompts_has_collapsed_entirely() -> None:
    found = palette_collapse_of(features(palette=one_palette_for_the_candidate), scale=1.0, resampling=RESAMPLING)

    assert isinstance(found, Comparison)
    assert (found.estimate, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.p_harm == 0.5**N_CASES
    assert found.n_pairs == N_CASES * N_SEEDS


def test_nearly_one_palette_for_all_prompts_is_a_collapse_near_1() -> None:
    def fading(arm: Arm, case: int, seed: int) -> np.ndarray:
        share = 0.1 if arm is Arm.CANDIDATE else 1.0
        return (share * own_palette(arm, case, seed)).astype(np.float32)

    found = palette_collapse_of(features(palette=fading), scale=1.0, resampling=RESAMPLING)

    assert found.estimate == pytest.approx(0.9, abs=0.01)
    assert found.low > 0.8
    assert found.p_harm < 0.05


def test_collapse_of_compositions_reads_structures() -> None:
    found = composition_collapse_of(features(structure=own_palette), scale=1.0, resampling=RESAMPLING)

    assert (found.metric, found.estimate) == ("composition_collapse", 0.0)


@pytest.mark.parametrize(
    ("n_cases", "n_seeds", "reason"),
    [
        (4, 3, "at least 5 cases; found 4"),
        (8, 1, "palette_collapse needs cases with two seeds or more; found 8 cases that it can read"),
        (0, 3, "found 0 cases that it can read"),
    ],
)
def test_too_few_cases_or_seeds_leave_the_collapse_unmeasured(n_cases: int, n_seeds: int, reason: str) -> None:
    made = features(n_cases=n_cases, n_seeds=n_seeds, palette=own_palette)

    found = palette_collapse_of(made, scale=1.0, resampling=RESAMPLING)

    assert isinstance(found, Unmeasured)
    assert reason in found.reason


def test_control_that_does_not_follow_its_prompts_leaves_the_collapse_unmeasured() -> None:
    def noise(arm: Arm, case: int, seed: int) -> np.ndarray:
        return np.random.default_rng([case, seed]).normal(size=4).astype(np.float32)

    found = palette_collapse_of(features(palette=noise), scale=1.0, resampling=RESAMPLING)

    assert isinstance(found, Unmeasured)
    assert "control must follow the prompts" in found.reason


def test_pull_is_0_at_the_control_and_near_1_at_the_training_palette() -> None:
    at_training = np.full(N_CASES, 3.0)

    def pulled(arm: Arm, case: int, seed: int) -> np.ndarray:
        own = own_palette(arm, case, seed)
        return (at_training + 0.01 * own).astype(np.float32) if arm is Arm.CANDIDATE else own

    trained = look(palette=at_training)
    still = palette_pull_of(features(palette=own_palette), trained, scale=1.0, resampling=RESAMPLING)
    moved = palette_pull_of(features(palette=pulled), trained, scale=1.0, resampling=RESAMPLING)

    assert still.estimate == pytest.approx(0.0, abs=1e-9)
    assert moved.estimate > 0.95


def test_pull_needs_training_pictures_and_palette_cases() -> None:
    for made, trained in ((features(palette=own_palette), None), (features(), look())):
        found = palette_pull_of(made, trained, scale=1.0, resampling=RESAMPLING)
        assert found.reason == "a pull needs training pictures and palette cases; found none of one of them."


def test_bleed_is_0_at_the_training_texture_and_1_at_the_base() -> None:
    at_training = photo_bleed_of(features(texture=texture(Arm.CANDIDATE)), look(), scale=1.0, resampling=RESAMPLING)
    at_base = photo_bleed_of(features(texture=texture(Arm.BASE)), look(), scale=1.0, resampling=RESAMPLING)

    assert at_training.estimate == pytest.approx(0.0, abs=0.05)
    assert at_base.estimate == pytest.approx(1.0, abs=0.05)
    assert at_training.reference == "training"


def test_bleed_without_training_pictures_or_base_says_so() -> None:
    made = features(texture=texture(Arm.BASE))
    without_base = Features(
        digest_of={cell: sha for cell, sha in made.digest_of.items() if cell.arm is not Arm.BASE}, texture=made.texture
    )

    assert photo_bleed_of(made, None, scale=1.0, resampling=RESAMPLING).reason == (
        "a bleed needs training pictures; none are configured."
    )
    assert photo_bleed_of(without_base, look(), scale=1.0, resampling=RESAMPLING).reason == (
        "a bleed needs pictures of base (B0) and candidate; found none."
    )


def test_training_pictures_as_grainy_as_the_base_leave_the_bleed_unmeasured() -> None:
    grainy = look(sigma=8.0, fraction=0.2)

    found = photo_bleed_of(features(texture=texture(Arm.BASE)), grainy, scale=1.0, resampling=RESAMPLING)

    assert isinstance(found, Unmeasured)


def test_cases_with_unequal_seeds_are_read_one_resample_at_a_time() -> None:
    whole = features(texture=texture(Arm.CANDIDATE), palette=own_palette)
    gone = Cell(arm=Arm.CANDIDATE, case="case-03", seed=1, scale=1.0)
    whole.digest_of.pop(gone)
    training = look(palette=own_palette(Arm.CONTROL, 2, 9))

    bleed = photo_bleed_of(whole, training, scale=1.0, resampling=RESAMPLING)
    pull = palette_pull_of(whole, training, scale=1.0, resampling=RESAMPLING)

    assert isinstance(bleed, Comparison)
    assert isinstance(pull, Comparison)
    assert bleed.n_pairs == pull.n_pairs == N_CASES * N_SEEDS - 1
    assert bleed.low <= bleed.estimate <= bleed.high < 0.1
    assert pull.low <= pull.estimate <= pull.high


def test_intervals_depend_on_the_seed_and_the_metric_alone() -> None:
    def fading(arm: Arm, case: int, seed: int) -> np.ndarray:
        share = 0.5 + 0.02 * case if arm is Arm.CANDIDATE else 1.0
        return (share * own_palette(arm, case, seed)).astype(np.float32)

    made = features(palette=fading)
    first, again = (palette_collapse_of(made, scale=1.0, resampling=RESAMPLING) for _ in range(2))
    other = palette_collapse_of(made, scale=1.0, resampling=Resampling(2, 200, 0.95))

    assert (first.low, first.high) == (again.low, again.high)
    assert (first.low, first.high) != (other.low, other.high)


def test_index_is_also_a_measurement_of_the_candidates_arm() -> None:
    found = palette_collapse_of(features(palette=own_palette), scale=1.0, resampling=RESAMPLING)

    measurement = set_measurement(found, arm=Arm.CANDIDATE, scale=1.0, n_pictures=found.n_pairs)

    assert (measurement.metric, measurement.value, measurement.n_pictures) == ("palette_collapse", 0.0, 36)
