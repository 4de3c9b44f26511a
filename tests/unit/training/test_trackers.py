"""Evaluations in trackers: names, steps, words, pictures; the real TensorBoard and W&B, stand-ins for the others."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from PIL import Image

from lorabench.callback import Monitor
from lorabench.records.config import Config, CourseConfig
from lorabench.records.course import Action, Decision, Evaluation, GuardReading, Reason
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.training import trackers
from lorabench.training.trackers import (
    Destination,
    NoTrackerError,
    TrackerDestination,
    TrackerMissingError,
    UnknownTrackerError,
    destinations,
    numbers_of,
    worst_pictures,
)

NOWHERE = Path("nowhere")


def reading(harm: float) -> GuardReading:
    return GuardReading(
        gate="prompt",
        metric="prompt_following_score",
        harm=harm,
        standard_error=0.02,
        margin=0.1,
        n_cases=12,
        low=harm - 0.04,
        high=harm + 0.04,
        p_beyond_margin=0.01,
    )


def evaluation(training_step: int = 250, *, action: Action = Action.STOP, **more: Any) -> Evaluation:
    return Evaluation(
        training_step=training_step,
        screen=(reading(0.2),),
        alarmed=("prompt",),
        confirmation=(reading(0.18),),
        signals={"drift": 0.5},
        unmeasured={"copy": "there are no training pictures"},
        seconds=3.0,
        decision=Decision(
            action=action, reason=Reason.PERSISTENT, sentence="Prompts are followed less.", training_step=training_step
        ),
        **more,
    )


class Noting(GeneralTracker):
    """Keeps what it is told."""

    name = "noting"
    requires_logging_directory = False

    def __init__(self, run_name: str = "", **_: Any) -> None:
        super().__init__()
        self.run_name = run_name
        self.told: list[tuple[int | None, dict[str, Any]]] = []
        self.started = self.finished = 0

    @property
    def tracker(self) -> Any:
        return self

    def start(self) -> None:
        self.started += 1

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.told.append((step, dict(values)))

    def finish(self) -> None:
        self.finished += 1


def made(wanted: Sequence[Any], folder: Path = NOWHERE, **more: Any) -> tuple[Destination, ...]:
    return destinations(wanted, project="drawings", folder=folder, **more)


# ---------------------------------------------------------------------------------------------------- what is told


def test_names_begin_with_the_prefix_and_hold_signals_guards_and_the_decision() -> None:
    assert numbers_of(evaluation()) == {
        "lorabench/drift": 0.5,
        "lorabench/prompt/harm": 0.2,
        "lorabench/prompt/harm_low": pytest.approx(0.16),
        "lorabench/prompt/harm_high": pytest.approx(0.24),
        "lorabench/prompt/margin": 0.1,
        "lorabench/prompt/confirmed_harm": 0.18,
        "lorabench/action": 2.0,
        "lorabench/alarms": 1.0,
        "lorabench/unmeasured": 1.0,
        "lorabench/seconds": 3.0,
    }


def test_a_function_is_told_numbers_only_and_steps_that_never_go_back() -> None:
    told: list[tuple[int, dict[str, float]]] = []
    (one,) = made([], log=lambda values, step: told.append((step, values)))

    one.evaluated(evaluation(500), runs_dir=NOWHERE)
    one.evaluated(evaluation(250), runs_dir=NOWHERE)
    one.numbers(750, {"lorabench/drift": 0.1})

    assert [step for step, _ in told] == [500, 500, 750]
    assert [values["lorabench/training_step"] for _, values in told] == [500, 250, 750]
    assert all(isinstance(value, float) for _, values in told for value in values.values())
    assert one.name == "log"


def test_an_open_tracker_is_told_numbers_and_words_and_stays_open() -> None:
    noting = Noting()
    (one,) = made([noting])

    one.start()
    one.evaluated(evaluation(), runs_dir=NOWHERE)
    one.numbers(300, {"lorabench/drift": 0.7})
    one.finish()

    (step, values), (later, numbers) = noting.told
    assert (step, later) == (250, 300)
    assert values["lorabench/decision"] == "STOP (persistent): Prompts are followed less."
    assert numbers == {"lorabench/drift": 0.7, "lorabench/training_step": 300.0}
    assert (noting.started, noting.finished) == (0, 0)


def test_a_registered_tracker_is_opened_under_the_project_once_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "noting", Noting)

    (one,) = made(["noting", "noting"])
    assert isinstance(one, TrackerDestination)
    one.start()
    one.finish()

    assert (one.tracker.run_name, one.tracker.started, one.tracker.finished) == ("drawings", 1, 1)


# ---------------------------------------------------------------------------------------------------- what is refused


def test_unknown_tracker_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownTrackerError, match=r"found 'tensorbord'\. Did you mean 'tensorboard'\?"):
        made(["tensorbord"])
    with pytest.raises(UnknownTrackerError, match=r"found 'xyz'\. Known: .*mlflow.*wandb"):
        made(["xyz"])


def test_tracker_without_its_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "_installed", lambda module: module == "accelerate")

    with pytest.raises(TrackerMissingError, match=r"'comet_ml' is not, .* Install comet-ml, or leave 'comet_ml' out"):
        made(["comet_ml"])


def test_without_accelerate_no_tracker_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "_installed", lambda _: False)

    with pytest.raises(TrackerMissingError, match="Install accelerate"):
        made(["tensorboard"])


def test_a_folder_that_a_tracker_left_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "swanlog").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    assert not trackers._installed("swanlog")
    assert trackers._installed("numpy")


def test_an_object_that_is_no_tracker_is_refused() -> None:
    with pytest.raises(NoTrackerError, match=r"a tracker must be a name or an object .*; found int"):
        made([7])


# ------------------------------------------------------------------------------------------------------- TensorBoard


def test_tensorboard_files_hold_numbers_words_and_pictures_by_training_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    pair = [np.full((4, 6, 3), value, np.uint8) for value in (0, 255)]
    monkeypatch.setattr(trackers, "worst_pictures", lambda *_: {"prompt/worst case: a, control and candidate": pair})
    (one,) = made(["tensorboard"], tmp_path)
    one.start()
    for training_step in (250, 500, 250):
        one.evaluated(evaluation(training_step), runs_dir=NOWHERE)
    one.finish()

    found = EventAccumulator(str(tmp_path / "trackers" / "drawings"))
    found.Reload()
    assert [event.step for event in found.Scalars("lorabench/prompt/harm")] == [250, 500, 250]
    assert found.Scalars("lorabench/action")[0].value == 2.0
    (text, *_) = found.Tensors("lorabench/decision/text_summary")
    assert text.tensor_proto.string_val[0] == b"STOP (persistent): Prompts are followed less."
    (title,) = found.Tags()["images"]
    assert title == "lorabench/prompt/worst case: a, control and candidate"
    assert len(found.Images(title)) == 3


# --------------------------------------------------------------------------------------------------------------- W&B


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The real package, offline."""
    import wandb as module

    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    yield module
    if module.run is not None:
        module.run.finish()


def entries(content: bytes) -> Iterator[bytes]:
    """Records of W&B's log: a head of 7 bytes, blocks of 32 KiB, in each chunks of checksum, length, kind, data."""
    place, whole = 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""


def records(path: Path, *, seconds: float = 30.0) -> list[Any]:
    """All records of an offline run; its process writes on for a moment after it was closed."""
    from wandb.proto.wandb_internal_pb2 import Record

    end = time.monotonic() + seconds
    while True:
        found = []
        for entry in entries(path.read_bytes()):
            found.append(Record())
            found[-1].ParseFromString(entry)
        if (found and found[-1].WhichOneof("record_type") == "exit") or time.monotonic() > end:
            return found
        time.sleep(0.1)


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows of an offline run's history."""
    histories = [one.history for one in records(path) if one.WhichOneof("record_type") == "history"]
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in history.item}
        for history in histories
    ]


def test_wandb_rows_keep_the_training_step_although_its_own_never_goes_back(wandb: Any, tmp_path: Path) -> None:
    (one,) = made(["wandb"], tmp_path)
    one.start()
    path = Path(wandb.run.settings.sync_file)
    for training_step in (500, 250, 750):
        one.evaluated(evaluation(training_step), runs_dir=NOWHERE)
    one.finish()

    found = rows(path)
    assert [row["_step"] for row in found] == [500, 501, 750]
    assert [row["lorabench/training_step"] for row in found] == [500, 250, 750]
    assert found[2]["lorabench/decision"].startswith("STOP (persistent)")
    assert wandb.run is None


def test_a_wandb_run_of_the_training_is_shared_loses_no_row_and_stays_open(wandb: Any, tmp_path: Path) -> None:
    theirs = wandb.init(project="theirs")
    path = Path(theirs.settings.sync_file)
    (one,) = made(["wandb"], tmp_path)
    one.start()
    theirs.log({"loss": 1.0}, step=3)  # counts epochs
    one.evaluated(evaluation(250), runs_dir=NOWHERE)
    theirs.log({"loss": 0.5}, step=4)
    one.evaluated(evaluation(500), runs_dir=NOWHERE)
    one.finish()

    assert wandb.run is theirs
    theirs.finish()
    assert [(row["_step"], row["loss"], row["lorabench/training_step"]) for row in rows(path)] == [
        (3, 1.0, 250),
        (4, 0.5, 500),
    ]


# ------------------------------------------------------------------------------------------ stand-ins for the others


class StandInMlflow(ModuleType):
    """As much of MLflow as is touched beside accelerate's tracker."""

    def __init__(self, running: Any) -> None:
        super().__init__("mlflow")
        self.tags: dict[tuple[str, str], str] = {}
        self._running = running

    def active_run(self) -> Any:
        return self._running

    def MlflowClient(self) -> Any:
        def set_tag(run_id: str, key: str, value: str) -> None:
            self.tags[run_id, key] = value

        return SimpleNamespace(set_tag=set_tag)


class NumbersOnly(Noting):
    """Takes no text, as MLflow's tracker."""

    name = "mlflow"

    @property
    def tracker(self) -> Any:
        return getattr(self, "active_run", SimpleNamespace(info=SimpleNamespace(run_id="own")))

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        assert all(isinstance(value, float) for value in values.values())
        super().log(values, step)


def test_where_text_is_not_taken_a_decision_becomes_a_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    module = StandInMlflow(running=None)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    one = TrackerDestination(NumbersOnly(), ours=True)

    one.start()
    one.evaluated(evaluation(250), runs_dir=NOWHERE)
    one.evaluated(evaluation(500, action=Action.CONTINUE).model_copy(update={"alarmed": ()}), runs_dir=NOWHERE)
    one.finish()

    words = "STOP (persistent): Prompts are followed less."
    assert module.tags == {
        ("own", "lorabench/decision"): words.replace("STOP", "CONTINUE"),
        ("own", "lorabench/decision-00000250"): words,
    }
    assert one.tracker.finished == 1


def test_a_run_that_the_training_has_open_is_used_and_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = SimpleNamespace(info=SimpleNamespace(run_id="theirs"))
    module = StandInMlflow(running=theirs)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    one = TrackerDestination(NumbersOnly(), ours=True)

    one.start()
    one.evaluated(evaluation(250), runs_dir=NOWHERE)
    one.finish()

    assert ("theirs", "lorabench/decision") in module.tags
    assert (one.tracker.started, one.tracker.finished) == (0, 0)


def test_mlflow_keeps_numbers_by_step_and_decisions_as_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database would take a minute to be set up
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    monkeypatch.chdir(tmp_path)
    (one,) = made(["mlflow"], tmp_path)
    one.start()
    run_id = one.tracker.tracker.info.run_id  # type: ignore[attr-defined]
    for training_step in (500, 250):
        one.evaluated(evaluation(training_step), runs_dir=NOWHERE)
    one.finish()

    client = mlflow.MlflowClient()
    history = client.get_metric_history(run_id, "lorabench/prompt/harm")
    assert sorted(point.step for point in history) == [250, 500]
    assert client.get_run(run_id).data.tags["lorabench/decision-00000500"].startswith("STOP")


def test_trackio_keeps_numbers_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio")
    import sqlite3

    (one,) = made(["trackio"], tmp_path)
    one.start()
    one.evaluated(evaluation(250), runs_dir=NOWHERE)
    one.finish()

    with sqlite3.connect(tmp_path / "drawings.db") as base:
        told = base.execute("select step, metrics from metrics").fetchall()
    assert [step for step, _ in told] == [250]
    assert '"lorabench/prompt/harm"' in str(told[0][1])


# ---------------------------------------------------------------------------------------------------------- pictures


def test_pictures_are_those_of_the_case_that_lost_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lorabench.records.comparison import CaseDifference
    from lorabench.records.plan import Arm

    run = tmp_path / "run-1"
    (run / "pictures").mkdir(parents=True)
    (run / "results.json").write_text("{}", encoding="utf-8")
    images = []
    for value, (case, arm) in enumerate((case, arm) for case in ("a", "b") for arm in (Arm.CONTROL, Arm.CANDIDATE)):
        Image.fromarray(np.full((3, 5, 3), value, np.uint8)).save(run / "pictures" / f"{value}.png")
        images.append(SimpleNamespace(cell=SimpleNamespace(case=case, arm=arm, seed=1), sha256=str(value)))
    differences = tuple(
        CaseDifference(case=case, difference=difference, n_pairs=1) for case, difference in (("a", 0.1), ("b", -0.4))
    )
    gates = [
        SimpleNamespace(gate="prompt", comparison=SimpleNamespace(higher_is_better=True, differences=differences)),
        SimpleNamespace(gate="copy", comparison=None),
    ]
    monkeypatch.setattr(
        "lorabench.storage.run_folder.read_results", lambda _: SimpleNamespace(gates=gates, images=images)
    )

    shown = worst_pictures(evaluation(run_ids=("run-1",)), tmp_path)

    assert list(shown) == ["prompt/worst case: b, control and candidate"]
    assert [int(picture.mean()) for picture in shown["prompt/worst case: b, control and candidate"]] == [2, 3]
    assert worst_pictures(evaluation(run_ids=("gone",)), tmp_path) == {}
    assert worst_pictures(evaluation(run_ids=("run-1",)).model_copy(update={"alarmed": ()}), tmp_path) == {}


# -------------------------------------------------------------------------------------------------- in a training


class Faulty(Noting):
    """Draws from the global generators, then fails."""

    name = "faulty"

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        random.random()
        np.random.random()  # noqa: NPY002
        msg = "the service is down"
        raise ConnectionError(msg)


@pytest.fixture
def monitor(tmp_path: Path) -> Monitor:
    """A monitor whose first tracker fails, before one that does not; nothing is opened."""
    config = Config(course=CourseConfig(folder=tmp_path))
    suite = read_suite(shipped_suite_path("world/screen")).suite
    return Monitor(config, suite=suite, trackers=[Faulty(), Noting()])


def test_a_tracker_that_fails_ends_no_training_and_disturbs_no_generator(monitor: Monitor, tmp_path: Path) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002

    left = monitor._tell(lambda one: one.evaluated(evaluation(), runs_dir=NOWHERE))

    assert [one.name for one in left] == ["noting"]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
    (event,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert (event["kind"], event["tracker"]) == ("tracker_failed", "faulty")
    assert "ConnectionError: the service is down" in event["reason"]


def test_a_tracker_of_the_settings_that_does_not_exist_is_refused_before_training() -> None:
    config = Config(course=CourseConfig(trackers=("tensorbord",)))
    suite = read_suite(shipped_suite_path("world/screen")).suite

    with pytest.raises(UnknownTrackerError, match=r"course\.trackers must name trackers"):
        Monitor(config, suite=suite)
