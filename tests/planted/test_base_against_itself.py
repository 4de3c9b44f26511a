"""A/A: the harness must not find differences that are not there, on pictures of the embedded model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorabench.evaluation.comparing import compare, values_of
from lorabench.evaluation.demonstration import world_config
from lorabench.evaluation.engine import open_run
from lorabench.evaluation.gates import DEFAULT_GATES
from lorabench.evaluation.judging import judge
from lorabench.records.comparison import Comparison, Outcome
from lorabench.records.measurement import Unmeasured
from lorabench.records.plan import Arm
from lorabench.registry import METRICS
from lorabench.storage.shipped import shipped_data, shipped_suite_path
from lorabench.storage.suite_files import read_suite

pytestmark = pytest.mark.slow

N_SPLITS = 200
SEEDS = (1103, 2207, 3319, 4409)
LEVEL = 0.05


@pytest.fixture(scope="module")
def suite():
    whole = read_suite(shipped_suite_path("world/screen")).suite
    return whole.model_copy(update={"cases": whole.cases[::2]})


def test_base_against_itself_on_other_seeds_fails_no_more_often_than_stated(suite, world_cache: Path, tmp_path: Path):
    """200 random splits of each case's seeds into two halves, judged by the run's own gates."""
    config = world_config(None, training=None, runs_dir=tmp_path, cache_dir=world_cache)
    run = open_run(config.model_copy(update={"arms": ("B1",), "seeds": SEEDS}), suite=suite)
    run.measure_cases(case.id for case in suite.cases)
    measurements = [item for case in suite.cases for item in run.case(case.id).measurements]
    gates = [gate for gate in DEFAULT_GATES if METRICS.load(gate.metric).level == "cell"]
    rng = np.random.default_rng(20250101)
    failed = 0
    for _ in range(N_SPLITS):
        halves = {case.id: rng.permutation(SEEDS) for case in suite.cases}
        found = {gate.name: _split(gate, measurements, halves) for gate in gates}
        verdicts = judge(gates, found, significance_level=LEVEL)
        failed += any(verdict.outcome is Outcome.FAIL for verdict in verdicts)
        assert sum(isinstance(one, Comparison) for one in found.values()) >= 3

    assert failed / N_SPLITS <= LEVEL


def test_adapter_at_scale_zero_is_called_identical_with_differences_of_exactly_zero(
    suite, world_cache: Path, tmp_path: Path
):
    few = suite.model_copy(update={"cases": suite.cases[:4]})
    config = world_config(
        shipped_data("fixtures/adapters/overtrained"),
        training=None,
        scale=0.0,
        runs_dir=tmp_path,
        cache_dir=world_cache,
    )
    same_words = config.style.model_copy(update={"trigger": config.style.plain})
    results = open_run(
        config.model_copy(update={"style": same_words, "seeds": SEEDS[:2], "arms": ("B1", "L1")}), suite=few
    ).finish()

    compared = [verdict.comparison for verdict in results.gates if verdict.comparison is not None]
    assert compared
    assert all(item.difference == 0.0 for one in compared for item in one.differences)
    assert results.verdict.identical
    assert results.verdict.outcome is Outcome.PASS
    assert "Identical to the base" in results.verdict.headline


def _split(gate, measurements, halves) -> Comparison | Unmeasured:
    values = values_of(measurements, metric=gate.metric, arm=Arm.CONTROL)
    first, second = {}, {}
    for case, seeds in halves.items():
        for place, (one, other) in enumerate(zip(seeds[::2], seeds[1::2], strict=True)):
            if (case, int(one)) in values and (case, int(other)) in values:
                first[case, place], second[case, place] = values[case, int(one)], values[case, int(other)]
    return compare(
        METRICS.load(gate.metric),
        first,
        second,
        candidate_arm=Arm.CANDIDATE,
        reference_name="B1",
        family=None,
        confidence_level=0.95,
        support=gate.support,
    )
