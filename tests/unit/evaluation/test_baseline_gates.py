import pytest

from lorabench.evaluation.baseline_gates import BaselineIncompatibleError, check_comparable, compare_with_baseline
from lorabench.evaluation.gates import DEFAULT_GATES
from lorabench.records.baseline import Baseline
from lorabench.records.comparison import Comparison
from lorabench.records.images import Image
from lorabench.records.measurement import Measurement, Unmeasured
from lorabench.records.plan import Arm, Cell
from lorabench.records.results import AdapterInfo, BaseInfo
from lorabench.registry import METRICS

BASE = BaseInfo(name="tiny", family="flux", digest="a" * 64, dtype="float32", device_class="cpu")
GATES = {gate.name: gate for gate in DEFAULT_GATES}
CASES = tuple(f"case-{n}" for n in range(6))


def baseline(lab, **changes) -> Baseline:
    adapter = AdapterInfo(
        name="accepted",
        digest="b" * 64,
        layout="diffusers",
        n_modules=1,
        ranks=(2,),
        alphas=(2.0,),
        targets=(),
        text_encoder=False,
    )
    plain = {
        "name": "style",
        "number": 1,
        "suite": "small",
        "suite_digest": lab.suite().content_digest(),
        "base": BASE,
        "candidate": adapter,
        "scale": 1.0,
        "style": lab.style,
        "settings": lab.settings,
        "metrics": {"prompt_following_score": METRICS.load("prompt_following_score").version, "broken_rate": 1},
        "scores": {case: {"7": {"prompt_following_score": 0.9, "broken_rate": 0.0}} for case in CASES},
        "pictures": {case: {"7": f"{n:064d}"} for n, case in enumerate(CASES)},
        "run_id": "small-accepted-0",
        "accepted_at": "2026-01-01T00:00:00+00:00",
        "accepted_by": "someone",
        "reason": "first",
    }
    return Baseline(**{**plain, **changes})


def measurements(values, *, metric: str = "prompt_following_score") -> list[Measurement]:
    return [
        Measurement(
            cell=Cell(arm=Arm.CANDIDATE, case=case, seed=7, scale=1.0), metric=metric, metric_version=1, value=value
        )
        for case, value in zip(CASES, values, strict=False)
    ]


def images(*, shifted: int = 0) -> list[Image]:
    return [
        Image(
            cell=Cell(arm=Arm.CANDIDATE, case=case, seed=7, scale=1.0),
            sha256=f"{n + shifted:064d}",
            cache_key="c" * 64,
            height=8,
            width=8,
        )
        for n, case in enumerate(CASES)
    ]


def compared(accepted, found, *, gates=("prompt",), pictures=None, problems=None):
    return compare_with_baseline(
        accepted,
        found,
        images=images(shifted=1) if pictures is None else pictures,
        gates=[GATES[name] for name in gates],
        problems=problems or {},
        confidence_level=0.95,
    )


def test_baseline_of_the_same_conditions_is_accepted(lab) -> None:
    check_comparable(baseline(lab), suite=lab.suite(), base=BASE, settings=lab.settings)


def test_other_name_of_the_same_base_does_not_matter(lab) -> None:
    moved = BASE.model_copy(update={"name": "elsewhere/tiny"})

    check_comparable(baseline(lab), suite=lab.suite(), base=moved, settings=lab.settings)


def test_every_difference_is_named(lab) -> None:
    other_base = BASE.model_copy(update={"digest": "f" * 64, "dtype": "bfloat16"})
    other_settings = lab.settings.model_copy(update={"num_inference_steps": 4})

    with pytest.raises(BaselineIncompatibleError) as caught:
        check_comparable(baseline(lab), suite=lab.suite(*lab.cases[:2]), base=other_base, settings=other_settings)

    assert str(caught.value) == (
        "a baseline must come from the same suite, base and settings; style differs in suite, base, dtype, "
        "generation settings. Run the accepted adapter again under the new conditions and accept that run."
    )
    assert caught.value.exit_code == 3


def test_pairs_are_made_by_case_and_seed(lab) -> None:
    gates, found = compared(baseline(lab), measurements([0.7, 0.8, 0.75, 0.7, 0.8, 0.75]))

    (gate,) = gates
    assert (gate.name, gate.against) == ("prompt-baseline", "baseline")
    assert gate.says == "prompts are followed less, compared with baseline style"
    comparison = found["prompt-baseline"]
    assert isinstance(comparison, Comparison)
    assert comparison.reference == "baseline"
    assert comparison.estimate == pytest.approx(-0.15)
    assert comparison.n_cases == 6


def test_metric_of_another_version_is_unmeasured(lab) -> None:
    old = baseline(lab, metrics={"prompt_following_score": 99})

    _, found = compared(old, measurements([0.9] * 6))

    reason = found["prompt-baseline"]
    version = METRICS.load("prompt_following_score").version
    assert isinstance(reason, Unmeasured)
    assert reason.reason == (
        f"prompt_following_score is version {version} here and 99 in the baseline; accept a new run."
    )


def test_sensor_that_does_not_work_here_measures_nothing_against_a_baseline_either(lab) -> None:
    _, found = compared(baseline(lab), measurements([0.9] * 6), problems={"prompt": "judge at chance: blind."})

    assert found["prompt-baseline"].reason == "judge at chance: blind."


def test_metric_that_one_side_lacks_has_no_gate(lab) -> None:
    assert compared(baseline(lab, scores={}), measurements([0.9] * 6)) == ((), {})
    assert compared(baseline(lab), []) == ((), {})


def test_index_of_whole_arms_has_no_gate_against_a_baseline(lab) -> None:
    gates, _ = compared(baseline(lab), measurements([0.9] * 6), gates=("prompt", "palette-collapse", "photo-bleed"))

    assert [gate.name for gate in gates] == ["prompt-baseline"]


def test_equal_rates_of_other_pictures_are_not_called_identical(lab) -> None:
    zeros = measurements([0.0] * 6, metric="broken_rate")

    _, other = compared(baseline(lab), zeros, gates=("broken",))
    _, same = compared(baseline(lab), zeros, gates=("broken",), pictures=images())

    assert not other["broken-baseline"].identical
    assert other["broken-baseline"].high > 0.3
    assert same["broken-baseline"].identical
    assert same["broken-baseline"].high == 0.0
