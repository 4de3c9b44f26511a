import json
from collections.abc import Iterator

import numpy as np
import PIL.Image
import pytest

from lorabench.errors import MeasurementError
from lorabench.evaluation.baseline_gates import BaselineIncompatibleError
from lorabench.evaluation.engine import NoBaseError, NoPicturesError, NothingPlannedError, evaluate, open_run
from lorabench.evaluation.observer import Observer
from lorabench.generation.synthetic import SyntheticBackend
from lorabench.records.comparison import Outcome
from lorabench.records.config import CandidateConfig, ModelConfig, TrainingSetConfig
from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.storage.baselines import BaselineMissingError, BaselineStore
from lorabench.storage.heldout import HeldOutError
from lorabench.storage.pictures import pixel_digest
from lorabench.storage.run_folder import RunBusyError, read_results

TWO_ARMS = {"arms": ("B1", "L1")}
NOT_ANATOMY_NOR_COPY = {"copy": {"enabled": False}, "anatomy": {"enabled": False}, "composition": {"enabled": False}}
WIDE_PROMPT = {"prompt": {"margin": 0.5}}
"""Six cases without a single loss still leave losses of 46 % open."""


class CountingBackend(SyntheticBackend):
    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.asked: list[str] = []

    def generate(self, cells, *, settings) -> Iterator:
        self.asked += [planned.cell.key for planned in cells]
        return super().generate(cells, settings=settings)


@pytest.fixture(scope="module")
def run(shared):
    """A whole run of a healthy candidate on six cases, with training pictures."""
    opened = shared.open(
        shared.with_training(gates={**NOT_ANATOMY_NOR_COPY, **WIDE_PROMPT}),
        suite=shared.suite(*shared.cases[:6], seeds=(7,)),
        judges=shared.judges(clip=shared.clip(), lpips=shared.thumbnails()),
        command="lorabench run",
    )
    opened.finish()
    return opened


@pytest.fixture(scope="module")
def results(run) -> Results:
    return run.finish()


def small(lab, *, backend=None, n_cases: int = 2, **changes):
    """A run of two cases and one seed, without judges: four pictures."""
    return lab.open(
        lab.config(**{**TWO_ARMS, "seeds": (7,), **changes}),
        suite=lab.suite(*lab.cases[:n_cases]),
        backend=backend or lab.backend(),
        judges=lab.judges(detector=False),
    )


def test_healthy_candidate_passes(results: Results) -> None:
    assert results.verdict.outcome is Outcome.PASS
    assert results.verdict.exit_code == 0
    assert results.verdict.complete
    assert {gate.gate: gate.outcome for gate in results.gates if gate.required} == {
        "broken": Outcome.PASS,
        "prompt": Outcome.PASS,
    }


def test_results_hold_every_noun(results: Results) -> None:
    assert len(results.plan) == len(results.images) == 18
    assert len(results.training) == 12
    assert {item.metric for item in results.measurements} <= {metric.name for metric in results.metrics}
    assert {gate.metric for gate in results.gates} <= {metric.name for metric in results.metrics}
    assert len(results.palettes) == 18
    assert len(results.detections) == 18
    assert {one.cell.arm for one in results.neighbours} == {Arm.CONTROL, Arm.CANDIDATE}
    assert {test.judge for test in results.self_tests} == {"words", "oracle"}
    assert results.checks
    assert results.candidate is not None
    assert results.candidate.name == "adapter"


def test_comparisons_show_the_base_and_each_family_too(results: Results) -> None:
    shown = {(one.metric, one.reference, one.family) for one in results.comparisons}

    assert ("prompt_following_score", "B1", None) in shown
    assert ("prompt_following_score", "B0", None) in shown
    assert ("prompt_following_score", "B1", "spatial") in shown


def test_provenance_says_what_made_the_numbers(results: Results) -> None:
    provenance = results.provenance

    assert set(provenance.judges) == {"words", "thumbnails", "oracle"}
    assert (provenance.n_generated, provenance.n_from_cache) == (18, 0)
    assert {"generating", "encoding"} <= set(provenance.timings)
    assert provenance.versions["numpy"]
    assert provenance.command == "lorabench run"


def test_results_on_disk_are_the_results(run, results: Results) -> None:
    assert read_results(run.folder.folder) == results
    assert json.loads(run.folder.plan_path.read_text())["suite_digest"] == results.suite.content_digest()


def test_run_folder_holds_every_picture(run, results: Results) -> None:
    wanted = {image.sha256 for image in results.images} | {picture.sha256 for picture in results.training}

    assert {path.stem for path in run.folder.pictures.glob("*.png")} == wanted
    for path in run.folder.pictures.glob("*.png"):
        with PIL.Image.open(path) as picture:
            assert pixel_digest(np.asarray(picture)) == path.stem


def test_finishing_again_gives_the_same_object_and_writes_nothing(run, results: Results) -> None:
    before = run.folder.results_path.stat().st_mtime_ns

    assert run.finish() is results
    assert run.folder.results_path.stat().st_mtime_ns == before


def test_case_view_holds_what_is_known_of_one_case(run, results: Results) -> None:
    view = run.case("spatial-1")

    assert [image.cell.key for image in view.images] == [
        "B0/spatial-1/seed7/x0",
        "B1/spatial-1/seed7/x0",
        "L1/spatial-1/seed7/x1",
    ]
    assert set(view.measurements) <= set(results.measurements)
    assert {check.cell.case for check in view.checks} == {"spatial-1"}
    assert view.failed == ()


def test_same_command_finds_the_same_folder_and_makes_nothing(lab) -> None:
    first, second = small(lab), small(lab, backend=(backend := CountingBackend()))
    made = first.finish()

    again = second.finish()

    assert second.folder.folder == first.folder.folder
    assert backend.asked == []
    assert (first.n_generated, first.n_from_cache) == (4, 0)
    assert (second.n_generated, second.n_from_cache) == (0, 4)
    assert (again.provenance.n_generated, again.provenance.n_from_cache) == (0, 4)
    assert again.measurements == made.measurements
    assert again.verdict == made.verdict


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": (8,)},
        {"limit": 1},
        {"candidate_scale": 0.5},
        {"gates": {"prompt": {"margin": 0.2}}},
        {"statistics": {"confidence_level": 0.9}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_decides_the_numbers_names_another_folder(lab, changes) -> None:
    scale = changes.pop("candidate_scale", 1.0)
    candidate = CandidateConfig(lora=str(lab.adapter), scale=scale)

    assert small(lab, candidate=candidate, **changes).folder.folder != small(lab).folder.folder


def test_second_candidate_remakes_no_control_picture(lab) -> None:
    small(lab).finish()
    backend = CountingBackend()
    other = CandidateConfig(lora=str(lab.adapter_called("other", seed=6)))

    results = small(lab, backend=backend, candidate=other).finish()

    assert [key.split("/")[0] for key in backend.asked] == ["L1", "L1"]
    assert (results.provenance.n_generated, results.provenance.n_from_cache) == (2, 2)
    assert "other" in results.run_id


def test_base_alone_has_no_verdict_and_says_that_no_candidate_is_named(lab) -> None:
    results = small(lab, candidate=CandidateConfig()).finish()

    assert {image.cell.arm for image in results.images} == {Arm.CONTROL}
    assert results.candidate is None
    assert (results.verdict.outcome, results.verdict.exit_code) == (Outcome.UNMEASURED, 3)
    assert results.gates[0].reason == (
        "broken: not measured. nothing can be compared with the control: no candidate is named ([candidate] lora)."
    )
    assert results.run_id.startswith("small-base-")
    assert read_results(lab.home / "runs" / results.run_id) == results


def test_limit_marks_the_run_partial_before_anything_else_counts(lab) -> None:
    gates = {name: {"enabled": False} for name in ("copy", "composition", "prompt", "anatomy")}

    results = small(lab, n_cases=3, limit=2, gates=gates, backend=lab.backend("black", cases=["spatial-1"])).finish()

    assert not results.verdict.complete
    assert results.verdict.outcome is Outcome.FAIL
    assert results.verdict.exit_code == 5
    assert results.verdict.headline == "Incomplete (2 of 3 cases). Worse than the base: pictures are broken."


def test_failed_cells_make_the_run_incomplete(lab) -> None:
    gates = {name: {"enabled": False} for name in ("copy", "composition", "prompt", "anatomy")}

    results = small(lab, n_cases=3, gates=gates, backend=lab.backend("raise", cases=["spatial-1"])).finish()

    assert len(results.failed) == 1
    assert results.verdict.headline.startswith("Incomplete (1 of 6 pictures could not be made). ")
    assert results.verdict.exit_code == 5


def test_candidate_that_changes_nothing_is_called_identical(lab) -> None:
    style = lab.style.model_copy(update={"trigger": lab.style.plain})

    results = small(lab, style=style, backend=lab.backend(identical=True)).finish()

    assert results.verdict.identical
    assert (results.verdict.outcome, results.verdict.exit_code) == (Outcome.PASS, 0)


def test_nothing_made_at_all_is_an_error_that_gives_the_first_reason(lab) -> None:
    run = lab.open(lab.config(arms=("L1",), seeds=(7,)), suite=lab.suite(*lab.cases[:2]), backend=lab.backend("raise"))

    with pytest.raises(NoPicturesError, match="a verdict needs pictures; none of 2 could be made") as caught:
        run.finish()

    assert "First reason: RuntimeError: planted fault in L1/spatial-1/seed7/x1" in str(caught.value)
    assert caught.value.exit_code == 3
    assert not run.folder.results_path.exists()


def test_cache_only_counts_what_is_not_there_as_failed(lab) -> None:
    small(lab, arms=("B1",)).finish()
    run = lab.open(
        lab.config(**TWO_ARMS, seeds=(7,)),
        suite=lab.suite(*lab.cases[:2]),
        judges=lab.judges(detector=False),
        cache_only=True,
    )

    results = run.finish()

    assert [cell.reason for cell in results.failed] == ["not in the cache"] * 2
    assert not results.verdict.complete


def test_run_without_base_says_where_to_name_one(lab) -> None:
    with pytest.raises(NoBaseError) as caught:
        open_run(lab.config(model=ModelConfig()), suite=lab.suite())

    assert str(caught.value) == (
        'a run needs a base model; none is named. Give --base, or `base = "..."` under [model] in lorabench.toml.'
    )
    assert caught.value.exit_code == 2


def test_arms_that_all_need_an_adapter_that_is_not_there_are_refused(lab) -> None:
    with pytest.raises(NothingPlannedError) as caught:
        small(lab, arms=("L1", "L0"), candidate=CandidateConfig())

    assert str(caught.value) == (
        "a run needs an arm that it can make; found only L1, L0, and no adapter is named. "
        "Add B1 to the arms, or give --lora."
    )


def test_prompt_that_was_trained_on_is_refused_before_a_picture_is_made(lab) -> None:
    folder = lab.training(4, captions={0: "a zvq drawing of a red circle left of a blue square"})
    backend = CountingBackend()

    with pytest.raises(HeldOutError):
        small(lab, backend=backend, training_set=TrainingSetConfig(folder=folder))

    assert backend.asked == []


def test_folder_in_use_is_refused(lab) -> None:
    run = small(lab)
    suite, backend, judges = lab.suite(*lab.cases[:2]), lab.backend(), lab.judges(detector=False)

    with run.folder.claimed(), pytest.raises(RunBusyError):
        evaluate(lab.config(**TWO_ARMS, seeds=(7,)), suite=suite, backend=backend, judges=judges)


def test_picture_that_has_gone_from_the_cache_is_an_error(lab) -> None:
    run = small(lab)
    image = run.case("spatial-1").images[0]
    (lab.home / "cache" / "pictures" / image.cache_key[:2] / f"{image.cache_key}.png").unlink()

    with pytest.raises(
        MeasurementError, match=r"must stay in the cache; that of B1/spatial-1/seed7/x0 is gone\. Run again"
    ):
        run.picture(image)
    with pytest.raises(MeasurementError, match=r"must stay in the cache; that of B1/spatial-1/seed7/x0 is gone"):
        run.finish()


def test_asking_for_a_case_twice_costs_nothing(lab) -> None:
    backend = CountingBackend()
    run = small(lab, backend=backend)

    run.case("spatial-2")
    run.case("spatial-2")

    assert len(backend.asked) == 2


def test_observer_hears_of_every_stage(lab) -> None:
    class Listener(Observer):
        def __init__(self) -> None:
            super().__init__()
            self.stages: list[str] = []

        def stage_started(self, stage: str, total: int) -> None:
            self.stages.append(stage)

    listener = Listener()
    lab.open(
        lab.config(**TWO_ARMS, seeds=(7,)),
        suite=lab.suite(*lab.cases[:1]),
        judges=lab.judges(detector=False),
        observer=listener,
    ).finish()

    assert listener.stages == ["generating", "encoding", "judging"]


def test_regression_against_the_baseline_fails_its_own_gate(shared, results: Results) -> None:
    store = BaselineStore(shared.home / "baselines")
    store.accept(results, name="style", reason="first", accepted_by="me", picture=lambda _: None, environ={})

    worse = shared.open(
        shared.config(baseline="style", gates=NOT_ANATOMY_NOR_COPY, **TWO_ARMS),
        suite=results.suite,
        backend=shared.backend("swap_colors"),
    ).finish()

    by_gate = {gate.gate: gate for gate in worse.gates}
    assert by_gate["prompt-baseline"].outcome is Outcome.FAIL
    assert "against the baseline" in by_gate["prompt-baseline"].reason
    assert "prompts are followed less, compared with baseline style" in worse.verdict.headline
    assert by_gate["broken-baseline"].outcome is Outcome.PASS
    assert worse.verdict.exit_code == 1


def test_baseline_of_other_settings_is_refused_when_the_run_is_opened(shared, results: Results) -> None:
    store = BaselineStore(shared.home / "baselines")
    store.accept(results, name="other", reason="first", accepted_by="me", picture=lambda _: None, environ={})
    few = shared.settings.model_copy(update={"num_inference_steps": 4})

    with pytest.raises(BaselineIncompatibleError, match="other differs in generation settings"):
        shared.open(shared.config(baseline="other", generation=few), suite=results.suite)
    with pytest.raises(BaselineIncompatibleError, match="other differs in suite"):
        shared.open(shared.config(baseline="other"))


def test_missing_baseline_is_named_when_the_run_is_opened(lab) -> None:
    with pytest.raises(BaselineMissingError, match="found none called 'style'"):
        small(lab, baseline="style")
