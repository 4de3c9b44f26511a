"""Copy rates by kind of prompt, and the gap between verbatim and novel ones."""

from __future__ import annotations

import pytest

from lorabench.evaluation.copy_indices import copy_rates_by_kind, memorisation_gap_of
from lorabench.evaluation.indices import Resampling
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Measurement, SetMeasurement, Unmeasured
from lorabench.records.plan import Arm, Cell
from lorabench.records.suite import Case, Suite

RESAMPLING = Resampling(seed=1, n_resamples=500, confidence_level=0.95)


def suite(*, verbatim: int = 8, paraphrase: int = 8, novel: int = 12) -> Suite:
    cases = [Case(id=f"novel-{n}", family="spatial", prompt="{style} a cat") for n in range(novel)]
    for kind, count in (("verbatim", verbatim), ("paraphrase", paraphrase)):
        cases += [Case(id=f"{kind}-{n}", family="memorisation", prompt="a", tags=(kind,)) for n in range(count)]
    return Suite(name="s", licence="CC0-1.0", seeds=(1, 2), cases=tuple(cases))


def flags(of: Suite, *, copied: dict[str, float], control: float = 0.0) -> list[Measurement]:
    """The first share of each kind's cases is copied with both seeds."""
    made = []
    for case in of.cases:
        kind, number = case.id.split("-")
        size = sum(other.id.startswith(f"{kind}-") for other in of.cases)
        for seed in of.seeds:
            for arm, share in ((Arm.CANDIDATE, copied[kind]), (Arm.CONTROL, control)):
                cell = Cell(arm=arm, case=case.id, seed=seed, scale=1.0 if arm.uses_adapter else 0.0)
                value = float(int(number) < share * size)
                made.append(Measurement(cell=cell, metric="copy_rate", metric_version=1, value=value))
    return made


def rates(of: Suite, measured: list[Measurement]) -> dict[tuple[str, str | None], SetMeasurement]:
    found = copy_rates_by_kind(measured, suite=of, scale=1.0, confidence_level=0.95)
    return {(one.arm.value, one.family): one for one in found}


def test_each_kind_has_its_own_rate_with_an_interval_over_cases() -> None:
    of = suite()
    found = rates(of, flags(of, copied={"verbatim": 1.0, "paraphrase": 0.5, "novel": 0.0}))

    assert {key: one.value for key, one in found.items()} == {
        ("L1", "verbatim"): 1.0,
        ("L1", "paraphrase"): 0.5,
        ("L1", "novel"): 0.0,
        ("B1", "verbatim"): 0.0,
        ("B1", "paraphrase"): 0.0,
        ("B1", "novel"): 0.0,
    }
    verbatim = found["L1", "verbatim"]
    assert (verbatim.n_cases, verbatim.n_pictures, verbatim.high) == (8, 16, 1.0)
    assert 0.5 < verbatim.low < 0.7  # eight of eight leave a third open
    assert 0.0 < found["L1", "paraphrase"].low < 0.5 < found["L1", "paraphrase"].high < 1.0


def test_a_suite_without_prompts_from_captions_has_no_rates_by_kind() -> None:
    of = suite(verbatim=0, paraphrase=0)
    assert rates(of, flags(of, copied={"novel": 0.5})) == {}


def test_gap_is_verbatim_less_novel() -> None:
    of = suite()
    gap = memorisation_gap_of(
        flags(of, copied={"verbatim": 1.0, "paraphrase": 0.5, "novel": 0.0}), suite=of, resampling=RESAMPLING
    )

    assert isinstance(gap, Comparison)
    assert gap.estimate == 1.0
    assert gap.low > 0.2
    assert gap.p_harm < 0.01


def test_what_is_copied_everywhere_alike_is_no_gap() -> None:
    of = suite(novel=8)
    gap = memorisation_gap_of(
        flags(of, copied={"verbatim": 0.5, "paraphrase": 0.5, "novel": 0.5}), suite=of, resampling=RESAMPLING
    )

    assert isinstance(gap, Comparison)
    assert gap.estimate == 0.0
    assert gap.low < 0 < gap.high
    assert gap.p_harm > 0.3


def test_what_the_control_does_as_well_is_no_gap() -> None:
    of = suite(novel=8)
    measured = flags(of, copied={"verbatim": 0.5, "paraphrase": 0.5, "novel": 0.5}, control=0.5)
    gap = memorisation_gap_of(measured, suite=of, resampling=RESAMPLING)

    assert isinstance(gap, Comparison)
    assert (gap.estimate, gap.p_harm) == (0.0, 1.0)


def test_without_verbatim_prompts_the_gap_says_how_to_get_them() -> None:
    of = suite(verbatim=1)
    gap = memorisation_gap_of(
        flags(of, copied={"verbatim": 1.0, "paraphrase": 0.5, "novel": 0.0}), suite=of, resampling=RESAMPLING
    )

    assert isinstance(gap, Unmeasured)
    assert "at least 2 verbatim and 2 novel prompts; found 1 and 12" in gap.reason
    assert "lorabench suite from-captions" in gap.reason


@pytest.mark.parametrize("kind", ["verbatim", "paraphrase"])
def test_gap_without_copy_flags_is_unmeasured(kind: str) -> None:
    assert isinstance(memorisation_gap_of([], suite=suite(), resampling=RESAMPLING), Unmeasured), kind
