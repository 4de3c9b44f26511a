"""A/A: the harness must not find differences that are not there, on pictures of the embedded model.

Every gate is covered, each with a truth of which nothing is wrong:

- broken, copy, composition, prompt, anatomy, palette, palette-collapse, foils: the base's pictures against the base's
  pictures of the same prompts from other seeds;
- photo-bleed, whose zero is the texture of the training pictures and not of the base: training pictures against other
  training pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorabench.evaluation import assembling
from lorabench.evaluation.assembling import Evidence
from lorabench.evaluation.demonstration import world_config
from lorabench.evaluation.encoding import Features
from lorabench.evaluation.engine import Run, open_run
from lorabench.evaluation.indices import Resampling, TrainingLook, photo_bleed_of
from lorabench.evaluation.judging import judge
from lorabench.evaluation.measuring import Measured
from lorabench.generation.adapter import read_adapter
from lorabench.judges.weights import fetch_lpips
from lorabench.records.comparison import Comparison, Outcome, Verdict
from lorabench.records.plan import Arm, Cell
from lorabench.records.suite import Suite
from lorabench.storage.shipped import shipped_data, shipped_suite_path
from lorabench.storage.suite_files import read_suite

pytestmark = [pytest.mark.slow, pytest.mark.weights]

N_SPLITS = 60
SEEDS = (1103, 2207, 3319, 4409)
LEVEL = 0.05
BY_TRAINING = "photo-bleed"
"""The gate whose zero is the training pictures."""
NOT_TRIED = {"descriptor-copy", "identity", "lettering", "lettering-leak", "part-copy", "photo-look"}
"""Gates whose judges or pictures this run does not have, or whose sensors do not work on its training pictures."""
Halves = Mapping[str, Any]
"""Case to its seeds in random order: the first half is called control, the second candidate."""


@pytest.fixture(scope="module")
def suite() -> Suite:
    whole = read_suite(shipped_suite_path("world/screen")).suite
    # A collapse cannot be read on fewer than all palette cases.
    kept = [case for number, case in enumerate(whole.cases) if number % 2 == 0 or case.family == "palette"]
    return whole.model_copy(update={"cases": tuple(kept)})


@pytest.fixture(scope="module")
def base_run(suite: Suite, world_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The base's pictures of every case from four seeds, beside training pictures of one composition."""
    fetch_lpips("alex")
    config = world_config(
        None,
        training=shipped_data("fixtures/datasets/overtrained"),
        runs_dir=tmp_path_factory.mktemp("runs"),
        cache_dir=world_cache,
    )
    fewer = config.statistics.model_copy(update={"n_resamples": 200})
    run = open_run(config.model_copy(update={"arms": ("B1",), "seeds": SEEDS, "statistics": fewer}), suite=suite)
    run.measure_cases(case.id for case in suite.cases)
    return run


@dataclass(frozen=True)
class Renamed:
    """Pictures of one arm told apart as control and candidate."""

    halves: Halves

    def cell(self, cell: Cell) -> Cell:
        """Where a picture stands now: of the second half as candidate, with the seed that it is paired with."""
        order = list(self.halves[cell.case])
        place = order.index(cell.seed)
        half = len(order) // 2
        if place < half:
            return cell
        return Cell(arm=Arm.CANDIDATE, case=cell.case, seed=int(order[place - half]), scale=1.0)

    def all(self, items: Any) -> tuple[Any, ...]:
        return tuple(item.model_copy(update={"cell": self.cell(item.cell)}) for item in items)


def as_two_arms(run: Run, halves: Halves) -> Evidence:
    """What a run would know whose candidate makes the base's pictures from other seeds."""
    renamed = Renamed(halves)
    digests = {renamed.cell(cell): sha for cell, sha in run._encoder.features.digest_of.items()}
    measured = [
        Measured(
            measurements=list(renamed.all(one.measurements)),
            unmeasured=[item for item in one.unmeasured if item.cell is None],
            checks=list(renamed.all(one.checks)),
        )
        for one in run._measured.values()
    ]
    return Evidence(
        config=run.config,
        suite=run.suite,
        plan=run.plan,
        gates=run.gates,
        images=renamed.all(run._all_images()),
        failed=(),
        measured=tuple(measured),
        features=replace(run._encoder.features, digest_of=digests),
        rulers=run._rulers,
        training=run._training,
        adapter=read_adapter(shipped_data("fixtures/adapters/overtrained")).info,
        baseline=None,
    )


def decided(evidence: Evidence) -> tuple[Verdict, ...]:
    return assembling._decided(evidence, assembling._numbers_of(evidence))[1]


def test_base_against_itself_on_other_seeds_fails_no_more_often_than_stated(base_run: Run) -> None:
    """Random splits of each case's seeds into two halves, judged by all of the run's own gates but one."""
    gates = {gate.name: gate for gate in base_run.gates}
    rng = np.random.default_rng(20250101)
    failed: dict[bool, int] = {True: 0, False: 0}
    measured = dict.fromkeys(gates, 0)
    for _ in range(N_SPLITS):
        halves = {case.id: rng.permutation(SEEDS) for case in base_run.suite.cases}
        verdicts = [one for one in decided(as_two_arms(base_run, halves)) if one.gate != BY_TRAINING]
        for primary in failed:
            failed[primary] += any(one.outcome is Outcome.FAIL for one in verdicts if one.primary is primary)
        for one in verdicts:
            measured[one.gate] += one.comparison is not None

    # Foils and compositions have sensors that are tried on the control's pictures first, and may not work on a half.
    assert {name for name, n in measured.items() if n < N_SPLITS / 2} == {BY_TRAINING} | NOT_TRIED, measured
    assert failed[True] / N_SPLITS <= LEVEL
    assert failed[False] / N_SPLITS <= LEVEL


def test_same_splits_with_a_fault_planted_in_one_half_fail(base_run: Run) -> None:
    """The splits could find a difference: the second half has lost what its checks look for."""
    halves = {case.id: np.array(SEEDS) for case in base_run.suite.cases}
    evidence = as_two_arms(base_run, halves)
    spoilt = [
        replace(
            one,
            measurements=[
                item.model_copy(update={"value": 0.0})
                if item.cell.arm is Arm.CANDIDATE and item.metric == "prompt_following_score"
                else item
                for item in one.measurements
            ],
        )
        for one in evidence.measured
    ]

    verdicts = decided(replace(evidence, measured=tuple(spoilt)))

    assert {one.gate for one in verdicts if one.outcome is Outcome.FAIL and one.gate != BY_TRAINING} == {"prompt"}


def test_training_pictures_against_themselves_do_not_bleed_more_often_than_stated(base_run: Run) -> None:
    """Half of the training pictures stands for what the candidate draws, the other half for the training set."""
    gate = next(gate for gate in base_run.gates if gate.name == BY_TRAINING)
    look = base_run._training.look  # type: ignore[union-attr]
    rng = np.random.default_rng(20250102)
    failed = 0
    for _ in range(N_SPLITS):
        order = rng.permutation(len(look.sigmas))
        kept, drawn = order[: len(order) // 2], order[len(order) // 2 :]
        features = as_if_drawn(base_run, lambda: int(rng.choice(drawn)), look)  # noqa: B023
        part = TrainingLook(look.sigmas[kept], look.fractions[kept], look.palettes[kept], look.structures[kept])
        found = photo_bleed_of(features, part, scale=1.0, resampling=Resampling(1, 200, 0.95))
        assert isinstance(found, Comparison), found
        failed += judge([gate], {gate.name: found}, significance_level=LEVEL)[0].outcome is Outcome.FAIL

    assert failed / N_SPLITS <= LEVEL


def as_if_drawn(run: Run, draw: Callable[[], int], look: TrainingLook) -> Features:
    """The base's pictures as they are, and a candidate that draws training pictures."""
    features = Features()
    for cell, sha in run._encoder.features.digest_of.items():
        if cell.seed not in SEEDS[:2]:
            continue
        features.digest_of[cell.model_copy(update={"arm": Arm.BASE})] = sha
        features.texture[sha] = run._encoder.features.texture[sha]
        candidate = Cell(arm=Arm.CANDIDATE, case=cell.case, seed=cell.seed, scale=1.0)
        features.digest_of[candidate] = f"drawn for {cell.key}"
        index = draw()
        features.texture[f"drawn for {cell.key}"] = float(look.sigmas[index]), float(look.fractions[index])
    return features


def test_adapter_at_scale_zero_is_called_identical_with_differences_of_exactly_zero(
    suite: Suite, world_cache: Path, tmp_path: Path
) -> None:
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
