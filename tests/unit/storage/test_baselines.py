import json
from pathlib import Path

import numpy as np
import pytest

from lorabench.records.comparison import Outcome
from lorabench.records.images import FailedCell, Image
from lorabench.records.measurement import Measurement, Metric
from lorabench.records.plan import Arm, Cell, GenerationSettings, PlannedCell, StylePhrases
from lorabench.records.results import AdapterInfo, BaseInfo, Provenance, Results, RunVerdict
from lorabench.records.suite import Case, Suite
from lorabench.storage.baselines import (
    CI_VARIABLES,
    BaselineFileError,
    BaselineMissingError,
    BaselineRefusedError,
    BaselineStore,
)
from lorabench.storage.pictures import pixel_digest

CASES = ("b-case", "a-case")
SUITE = Suite(
    name="small",
    licence="CC0-1.0",
    seeds=(7, 11),
    cases=tuple(Case(id=case, family="spatial", prompt=f"a {case}") for case in CASES),
)
ADAPTER = AdapterInfo(
    name="style",
    digest="b" * 64,
    layout="diffusers",
    n_modules=1,
    ranks=(2,),
    alphas=(2.0,),
    targets=("to_q",),
    text_encoder=False,
)


def picture(cell: Cell) -> np.ndarray:
    return np.random.default_rng([*cell.key.encode()]).integers(0, 255, (8, 8, 3), dtype=np.uint8)


CELLS = tuple(
    Cell(arm=arm, case=case, seed=seed, scale=float(arm.uses_adapter))
    for case in CASES
    for seed in SUITE.seeds
    for arm in (Arm.CONTROL, Arm.CANDIDATE)
)
PICTURES = {pixel_digest(picture(cell)): picture(cell) for cell in CELLS}


def results(*, value: float = 2 / 3, outcome: Outcome = Outcome.PASS, complete: bool = True, **changes) -> Results:
    plain = {
        "run_id": "small-style-0",
        "suite": SUITE,
        "style": StylePhrases(),
        "settings": GenerationSettings(height=8, width=8),
        "base": BaseInfo(name="tiny", family="flux", digest="0" * 64, dtype="float32", device_class="cpu"),
        "candidate": ADAPTER,
        "plan": tuple(PlannedCell(cell=cell, prompt="a") for cell in CELLS),
        "images": tuple(
            Image(cell=cell, sha256=pixel_digest(picture(cell)), cache_key="c" * 64, height=8, width=8)
            for cell in CELLS
        ),
        "metrics": (
            Metric(name="prompt_following_score", version=2, higher_is_better=True, unit="share"),
            Metric(name="photo_bleed", version=1, higher_is_better=False, unit="index", level="set"),
        ),
        "measurements": tuple(
            Measurement(cell=cell, metric="prompt_following_score", metric_version=2, value=value) for cell in CELLS
        ),
        "verdict": RunVerdict(outcome=outcome, headline="", reasons=(), exit_code=0, complete=complete),
        "provenance": Provenance(
            lorabench_version="0",
            created_at="2026-01-01T00:00:00+00:00",
            versions={},
            judges={},
            hardware_class="cpu",
            timings={},
            n_generated=0,
            n_from_cache=0,
            command="",
        ),
    }
    return Results(**{**plain, **changes})


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path / "baselines")


def accept(store: BaselineStore, run: Results | None = None, *, name: str = "style", **options):
    plain = {"reason": "looks right", "accepted_by": "me", "picture": PICTURES.get, "environ": {}}
    return store.accept(run or results(), name=name, **{**plain, **options})


def test_accepted_numbers_are_those_of_the_candidate(store: BaselineStore) -> None:
    accepted = accept(store)

    assert accepted.scores["a-case"] == {
        "7": {"prompt_following_score": 0.666667},
        "11": {"prompt_following_score": 0.666667},
    }
    assert accepted.metrics == {"prompt_following_score": 2}
    assert (accepted.scale, accepted.number, accepted.reason, accepted.accepted_by) == (1.0, 1, "looks right", "me")
    assert accepted.suite_digest == SUITE.content_digest()
    assert store.read("style") == accepted


def test_accepted_pictures_are_kept_as_blobs_once(store: BaselineStore) -> None:
    accept(store)
    accept(store, name="again")

    candidate = {pixel_digest(picture(cell)) for cell in CELLS if cell.arm is Arm.CANDIDATE}
    assert {path.stem for path in store.blobs.glob("*.png")} == candidate
    assert store.verify() == []


def test_text_is_stable_sorted_rounded_and_ends_with_a_newline(store: BaselineStore) -> None:
    accept(store)
    text = (store.folder / "style" / "baseline.json").read_text(encoding="utf-8")
    plain = json.loads(text)

    assert text.endswith("}\n")
    assert text == json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert "0.666667" in text
    assert "0.6666666" not in text
    assert list(plain["scores"]) == ["a-case", "b-case"]


def test_two_acceptances_are_numbered_and_the_last_one_counts(store: BaselineStore) -> None:
    accept(store)
    accept(store, results(value=0.5))

    assert store.numbers("style") == [1, 2]
    assert store.read("style").number == 2
    assert store.read("style", 1).scores["a-case"]["7"]["prompt_following_score"] == 0.666667
    assert store.names() == ["style"]


def test_restored_acceptance_is_the_current_one_and_the_next_number_is_new(store: BaselineStore) -> None:
    first = accept(store)
    accept(store, results(value=0.5))

    assert store.restore("style", 1, environ={}) == first
    assert store.read("style") == first
    assert accept(store).number == 3


@pytest.mark.parametrize("variable", CI_VARIABLES)
def test_nothing_is_accepted_or_restored_in_ci(store: BaselineStore, variable: str) -> None:
    accept(store)

    for change in (
        lambda: accept(store, environ={variable: "true"}),
        lambda: store.restore("style", 1, environ={variable: "1"}),
    ):
        with pytest.raises(BaselineRefusedError, match=f"{variable} is set, so this is CI. Accept on your own machine"):
            change()

    assert store.numbers("style") == [1]


def test_ci_variable_that_says_no_is_no_ci(store: BaselineStore) -> None:
    assert accept(store, environ={"CI": "false", "TF_BUILD": ""}).number == 1


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (results(candidate=None), "this run has no candidate. Run with an adapter."),
        (results(complete=False), "this run is partial. Run the whole suite, without a limit."),
        (
            results(failed=(FailedCell(cell=CELLS[0], reason="x"),)),
            "1 pictures could not be made. Run again; it goes on there.",
        ),
        (
            results(measurements=()),
            "nothing was measured on the candidate. Look at the unmeasured list of the run.",
        ),
        (
            results(outcome=Outcome.FAIL),
            "a gate of this run failed. Say --allow-failed if the failure is accepted.",
        ),
    ],
    ids=["no-candidate", "partial", "failed-cells", "nothing", "failed-gate"],
)
def test_run_that_must_not_become_a_baseline_is_refused(store: BaselineStore, run: Results, words: str) -> None:
    with pytest.raises(BaselineRefusedError) as caught:
        accept(store, run)

    assert str(caught.value) == f"a baseline comes from a complete run that a person accepts; {words}"
    assert caught.value.exit_code == 2
    assert not store.folder.exists()


def test_failed_gate_is_accepted_if_a_person_says_so(store: BaselineStore) -> None:
    assert accept(store, results(outcome=Outcome.FAIL), allow_failed=True).number == 1


def test_missing_baseline_gets_a_suggestion_and_the_way_to_make_one(store: BaselineStore) -> None:
    accept(store)

    with pytest.raises(BaselineMissingError) as caught:
        store.read("styel")

    assert str(caught.value) == (
        "the baseline must exist; found none called 'styel'. Did you mean 'style'? "
        "Make one from a complete run with `lorabench baseline save styel RUN`."
    )
    assert caught.value.exit_code == 3


def test_missing_number_names_those_that_exist(store: BaselineStore) -> None:
    accept(store)

    with pytest.raises(BaselineMissingError) as caught:
        store.restore("style", 9, environ={})

    assert str(caught.value) == (
        "the baseline must exist; found none called 'style@9'. Known: 1. "
        "`lorabench baseline show style` lists its numbers."
    )


def test_empty_store_knows_none(store: BaselineStore) -> None:
    assert store.names() == []
    assert store.verify() == []
    with pytest.raises(BaselineMissingError, match=r"Known: none\."):
        store.read("style")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'{"schema_version": 2}', "schema_version: Input should be 1"),
        (b'{"schema_version": 1', "Invalid JSON"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
    ],
    ids=["other-version", "cut-short", "binary"],
)
def test_damaged_baseline_is_named_with_what_was_found(store: BaselineStore, content: bytes, found: str) -> None:
    accept(store)
    path = store.folder / "style" / "baseline.json"
    path.write_bytes(content)

    with pytest.raises(BaselineFileError, match=r"a baseline must be a baseline\.json of schema version 1") as caught:
        store.read("style")

    assert found in str(caught.value)
    assert str(path) in str(caught.value)
    assert "Bring an older one back with `lorabench baseline restore`" in str(caught.value)
    assert store.verify() == [str(caught.value)]


@pytest.mark.parametrize(
    ("damage", "fault"),
    [("unlink", "is missing"), ("text", "cannot be read"), ("other", "was altered")],
)
def test_damaged_blob_is_found(store: BaselineStore, damage: str, fault: str) -> None:
    accept(store)
    first, second = sorted(store.blobs.glob("*.png"))[:2]
    if damage == "unlink":
        first.unlink()
    else:
        first.write_bytes(b"no picture" if damage == "text" else second.read_bytes())

    assert store.verify() == [f"style: picture {first.stem} {fault}"]


def test_damage_in_the_history_is_found_before_someone_restores_it(store: BaselineStore) -> None:
    accept(store)
    accept(store, results(value=0.5))
    old = store.folder / "style" / "history" / "0001.json"
    old.write_text("{}", encoding="utf-8")

    (problem,) = store.verify()

    assert str(old) in problem
    with pytest.raises(BaselineFileError):
        store.unused_blobs()


def test_blobs_that_only_the_history_names_are_still_in_use(store: BaselineStore) -> None:
    accept(store)
    accept(store, results(images=results().images[:2]))
    stray = store.blobs / f"{'e' * 64}.png"
    stray.write_bytes(b"")

    assert store.unused_blobs() == [stray]


def test_pictures_that_nobody_has_leave_no_blob(store: BaselineStore) -> None:
    accept(store, picture=lambda _: None)

    assert not store.blobs.exists()
    assert len(store.verify()) == 4
