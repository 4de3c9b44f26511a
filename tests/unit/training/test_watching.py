"""The loop beside a trainer, with a trainer and a judge made of a few lines."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorabench.errors import ExitCode, MeasurementError, SpecError
from lorabench.records.course import Action, Course, Decision, Evaluation, PolicyState, Reason, Settlement
from lorabench.storage.course_folder import CourseFolder
from lorabench.training.checkpoint_files import Listing, find_checkpoints, weights_digest
from lorabench.training.watching import (
    NothingFoundError,
    Surroundings,
    Watch,
    WatchSettings,
    exit_code_of,
    of_one_training,
)

IDENTITY = "a" * 64
OLD = 1_000_000_000.0
ROOT = Path(__file__).resolve().parents[3]


def save(folder: Path, training_step: int, *, seed: int | None = None, date: float = OLD) -> Path:
    """A checkpoint as sd-scripts writes it, long ago."""
    rng = np.random.default_rng(training_step if seed is None else seed)
    path = folder / f"a-step{training_step:08d}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    module = "lora_unet_x"
    tensors = {
        f"{module}.lora_down.weight": rng.normal(size=(2, 8)).astype(np.float32),
        f"{module}.lora_up.weight": rng.normal(size=(8, 2)).astype(np.float32),
        f"{module}.alpha": np.array(2.0, np.float32),
    }
    save_file(tensors, path)
    os.utime(path, (date, date))
    return path


@dataclass
class World:
    """A trainer's folder, a course, and what a watch did."""

    path: Path
    says: dict[int, Action | Exception] = field(default_factory=dict)
    """Training step to what the judge says; CONTINUE otherwise."""
    judged: list[int] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    acted: list[Decision] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    now: float = OLD + 1000
    running: Iterator[bool] | None = None
    while_judging: Callable[[int], None] = lambda _: None
    while_sleeping: Callable[[int], None] = lambda _: None
    actions: list[Any] | None = None
    finalists: tuple[int, ...] = ()
    unsettled: MeasurementError | None = None

    @property
    def output(self) -> Path:
        return self.path / "output"

    @property
    def folder(self) -> CourseFolder:
        return CourseFolder(self.path / "course")

    @property
    def course(self) -> Course:
        return self.folder.load(IDENTITY)

    def judge(self, path: Path, *, training_step: int, course: Course) -> tuple[Evaluation, PolicyState]:
        self.judged.append(training_step)
        self.files.append(path)
        assert path.is_file()
        self.while_judging(training_step)
        said = self.says.get(training_step, Action.CONTINUE)
        if isinstance(said, Exception):
            raise said
        reason = Reason.HEALTHY if said is Action.CONTINUE else Reason.PERSISTENT
        decision = Decision(action=said, reason=reason, sentence=f"It is {reason}.", training_step=training_step)
        state = PolicyState(confirmed=(*course.policy.confirmed, said is not Action.CONTINUE))
        return Evaluation(training_step=training_step, decision=decision), state

    def best(self, evaluations: Sequence[Evaluation]) -> int | None:
        """The second, once it is there: kept while later ones come and go."""
        good = [one.training_step for one in evaluations if one.decision.reason is Reason.HEALTHY]
        return good[min(1, len(good) - 1)] if good else None

    def settle(self, course: Course) -> Course:
        """The last look prefers the first finalist."""
        if self.unsettled is not None:
            raise self.unsettled
        if not self.finalists:
            return course
        best = self.finalists[0]
        again = Settlement(suite="others", held_back=True, evaluations=(), best=best, sentence=f"It is step {best}.")
        return course.model_copy(update={"settlement": again, "best": best})

    def act(self, decision: Decision) -> str:
        self.acted.append(decision)
        return "told the trainer"

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        assert len(self.slept) < 100, "the watch should have ended"
        self.now += seconds
        self.while_sleeping(len(self.slept))

    def watch(self, *, find: Callable[[], Listing] | None = None, **settings: Any) -> Course:
        surroundings = Surroundings(
            find=find or (lambda: find_checkpoints(self.output)),
            judge=self.judge,
            best=self.best,
            digest=weights_digest,
            actions=[self.act] if self.actions is None else self.actions,
            training_goes_on=lambda: self.running is None or next(self.running),
            say=self.said.append,
            now=lambda: self.now,
            sleep=self.sleep,
            finalists=lambda _evaluations: self.finalists,
            settle=self.settle,
        )
        with self.folder.claimed():
            watch = Watch(
                self.folder, self.course, surroundings=surroundings, settings=WatchSettings(**settings)
            )  # fmt: skip
            return watch.run()

    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.folder.events()]

    def steps(self) -> list[int]:
        return [one.training_step for one in self.course.evaluations]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# ------------------------------------------------------------------------------------------------------------ judging


def test_checkpoints_are_judged_in_the_order_of_training_and_recorded(world: World) -> None:
    for training_step in (1000, 200, 900):
        save(world.output, training_step)

    course = world.watch(once=True)

    assert world.judged == [200, 900, 1000]
    assert course == world.course
    assert [one.checkpoint for one in course.evaluations] == [
        str(world.output / f"a-step{step:08d}.safetensors") for step in (200, 900, 1000)
    ]
    assert course.evaluations[0].adapter_digest == weights_digest(world.output / "a-step00000200.safetensors")
    assert course.policy == PolicyState(confirmed=(False, False, False))
    assert course.best == 900
    assert world.kinds().count("evaluated") == 3


def test_each_judgement_sees_the_course_before_it(world: World) -> None:
    seen: list[int] = []
    judge = world.judge

    def noting(path: Path, *, training_step: int, course: Course) -> tuple[Evaluation, PolicyState]:
        seen.append(len(course.evaluations))
        return judge(path, training_step=training_step, course=course)

    world.judge = noting  # type: ignore[method-assign]
    for training_step in (100, 200, 300):
        save(world.output, training_step)
    world.watch(once=True)

    assert seen == [0, 1, 2]


def test_weights_are_judged_once_whatever_their_file_is_called(world: World) -> None:
    first = save(world.output, 200)
    (world.output / "a-step00000300.safetensors").write_bytes(first.read_bytes())
    os.utime(world.output / "a-step00000300.safetensors", (OLD, OLD))

    world.watch(once=True)
    world.watch(once=True)

    assert world.judged == [200]


def test_second_watch_judges_only_what_is_new(world: World) -> None:
    save(world.output, 200)
    world.watch(once=True)
    save(world.output, 300)
    world.watch(once=True)

    assert world.judged == [200, 300]
    assert world.steps() == [200, 300]


def test_failed_evaluation_is_recorded_with_its_reason_and_the_watch_goes_on(world: World) -> None:
    for training_step in (100, 200, 300):
        save(world.output, training_step)
    world.says = {200: MeasurementError("the detector ran out of memory.")}

    course = world.watch(once=True)

    failed = course.evaluations[1]
    assert failed.unmeasured == {"everything": "the detector ran out of memory."}
    assert failed.decision == Decision(
        reason=Reason.NOT_MEASURED,
        sentence="Step 200 was not measured: the detector ran out of memory. The training goes on.",
        training_step=200,
    )
    assert failed.adapter_digest == weights_digest(world.output / "a-step00000200.safetensors")
    assert course.policy.confirmed == (False, False)
    assert world.steps() == [100, 200, 300]
    assert world.acted == []


def test_failed_evaluation_stops_where_this_was_asked(world: World) -> None:
    save(world.output, 100)
    world.says = {100: MeasurementError("no memory.")}

    course = world.watch(stop_on_error=True)

    assert world.acted == [course.evaluations[0].decision]
    assert course.evaluations[0].decision.sentence.endswith("no memory. on_error asks to stop then.")
    assert exit_code_of(course) is ExitCode.NOT_MEASURED


def test_failed_evaluation_is_repeated_only_on_request(world: World) -> None:
    save(world.output, 100)
    world.says = {100: MeasurementError("no memory.")}
    world.watch(once=True)
    world.says = {}

    world.watch(once=True)
    assert world.judged == [100]
    course = world.watch(once=True, retry_unmeasured=True)

    assert world.judged == [100, 100]
    assert [one.decision.reason for one in course.evaluations] == [Reason.NOT_MEASURED, Reason.HEALTHY]
    world.watch(once=True, retry_unmeasured=True)
    assert world.judged == [100, 100]


def test_wrong_settings_end_the_watch_and_record_nothing(world: World) -> None:
    save(world.output, 100)
    world.says = {100: SpecError("alpha must be known.")}

    with pytest.raises(SpecError, match="alpha must be known"):
        world.watch()

    assert world.course.evaluations == ()
    world.says = {}
    assert len(world.watch(once=True).evaluations) == 1


def test_training_that_was_set_back_is_judged_on_and_noted(world: World) -> None:
    save(world.output, 200)
    save(world.output, 300)
    world.watch(once=True)
    save(world.output, 200, seed=7)

    course = world.watch(once=True)

    assert [one.training_step for one in course.evaluations] == [200, 300, 200]
    assert "set_back" in world.kinds()
    assert "step 200 comes after step 300: the training was set back, or repeated" in world.said


# ------------------------------------------------------------------------------------------------------------ finding


def test_checkpoints_that_appear_meanwhile_are_judged(world: World) -> None:
    world.running = iter([True, True, True, True, False, False])
    save(world.output, 100)
    world.while_sleeping = lambda n: None if n > 1 else (save(world.output, 200), None)[1]

    world.watch(interval_seconds=30)

    assert world.judged == [100, 200]
    assert set(world.slept) == {30}


def test_watch_ends_when_the_training_has_ended_and_everything_is_judged(world: World) -> None:
    world.running = iter([True, False, False])
    world.while_sleeping = lambda _: (save(world.output, 100), None)[1]

    assert len(world.watch().evaluations) == 1


def test_young_file_is_waited_for_also_by_once(world: World) -> None:
    save(world.output, 100, date=world.now)

    world.watch(once=True, settle_seconds=5)

    assert world.judged == [100]
    assert sum(world.slept) >= 5


def test_checkpoint_deleted_by_the_trainer_is_still_judged(world: World) -> None:
    paths = {step: save(world.output, step) for step in (100, 200)}
    world.while_judging = lambda step: paths[200].unlink(missing_ok=True)

    course = world.watch(once=True)

    assert world.judged == [100, 200]
    assert all(file.is_relative_to(world.folder.kept) for file in world.files)
    assert course.evaluations[1].checkpoint == str(paths[200])


def test_checkpoint_deleted_before_it_settled_is_told(world: World) -> None:
    path = save(world.output, 100, date=world.now)
    world.while_sleeping = lambda _: path.unlink(missing_ok=True)

    course = world.watch(once=True)

    assert course.evaluations == ()
    assert any("was deleted before it could be judged" in text for text in world.said)
    assert "gone" in world.kinds()


def test_what_is_left_out_is_told_once(world: World) -> None:
    path = save(world.output, 100)
    (world.output / "other.safetensors").write_bytes(path.read_bytes())
    world.running = iter([True, True, True, False])

    world.watch()

    assert sum("other.safetensors is left out: its name is that of no trainer's" in text for text in world.said) == 1


def test_incomplete_file_is_told_by_once(world: World) -> None:
    path = save(world.output, 100)
    path.write_bytes(path.read_bytes()[:-9])

    world.watch(once=True)

    assert any("is not complete" in text for text in world.said)
    assert world.judged == []


def test_first_training_seen_is_the_one_that_is_watched(tmp_path: Path) -> None:
    save(tmp_path, 100)
    look = of_one_training(lambda name: find_checkpoints(tmp_path, name=name))
    first = look()
    (tmp_path / "b-step00000900.safetensors").write_bytes((tmp_path / "a-step00000100.safetensors").read_bytes())

    assert (
        [one.training_step for one in look().checkpoints] == [one.training_step for one in first.checkpoints] == [100]
    )
    assert look().others == ("b",)


# ------------------------------------------------------------------------------------------------------------ keeping


def test_best_and_rejected_and_last_stay_and_others_go(world: World) -> None:
    paths = {step: save(world.output, step) for step in (100, 200, 300, 400, 500)}
    world.says = {300: Action.REJECT}

    course = world.watch(once=True)

    assert [step for step, _ in world.folder.kept_folders()] == [200, 300, 500]
    assert {one.training_step: one.kept is not None for one in course.evaluations} == {
        100: False, 200: True, 300: True, 400: False, 500: True,
    }  # fmt: skip
    assert all(Path(one.kept).is_dir() for one in course.evaluations if one.kept)
    (best,) = (world.folder.kept / "200").iterdir()
    paths[200].write_bytes(b"written over by the next training")
    assert best.stat().st_size > 100


def test_all_stay_on_request(world: World) -> None:
    for step in (100, 200, 300, 400):
        save(world.output, step)

    world.watch(once=True, keep="all")

    assert [step for step, _ in world.folder.kept_folders()] == [100, 200, 300, 400]


# ---------------------------------------------------------------------------------------------------------- last look


def test_finalists_are_kept_and_judged_again_at_the_end_and_that_decides(world: World) -> None:
    for step in (100, 200, 300, 400, 500):
        save(world.output, step)
    world.finalists = (300, 200)

    course = world.watch(once=True)

    assert [step for step, _ in world.folder.kept_folders()] == [200, 300, 500]
    assert course.best == world.course.best == 300
    assert world.kinds()[-1] == "settled"
    assert world.said[-1] == "It is step 300."
    save(world.output, 600)
    again = world.watch(once=True, last_look=False)
    assert (again.settlement, again.best) == (None, 200), "new evaluations undo the last word"


def test_a_last_look_that_fails_leaves_the_first_choice(world: World) -> None:
    for step in (100, 200):
        save(world.output, step)
    world.unsettled = MeasurementError("a finalist must be readable; it is not")

    course = world.watch(once=True)

    assert (course.best, course.settlement) == (200, None)
    assert course.unsettled == world.course.unsettled == "a finalist must be readable; it is not"
    assert world.kinds()[-1] == "not_settled"
    assert world.said[-1] == "the finalists were not judged again: a finalist must be readable; it is not"


# ------------------------------------------------------------------------------------------------------------- acting


def test_stop_is_recorded_then_acted_on_and_ends_the_watch(world: World) -> None:
    for training_step in (100, 200, 300):
        save(world.output, training_step)
    world.says = {200: Action.STOP}
    recorded: list[int] = []
    world.actions = [lambda decision: (recorded.extend(world.steps()), world.act(decision))[1]]

    course = world.watch()

    assert world.judged == [100, 200]
    assert recorded == [100, 200]
    assert [decision.training_step for decision in world.acted] == [200]
    assert exit_code_of(course) is ExitCode.FAILED
    assert "told the trainer" in world.said


def test_once_judges_everything_although_a_checkpoint_says_stop(world: World) -> None:
    for training_step in (100, 200, 300):
        save(world.output, training_step)
    world.says = {200: Action.STOP}

    course = world.watch(once=True)

    assert world.judged == [100, 200, 300]
    assert len(world.acted) == 1
    assert exit_code_of(course) is ExitCode.FAILED


def test_next_watch_does_not_act_again(world: World) -> None:
    save(world.output, 200)
    world.says = {200: Action.STOP}
    world.watch()
    world.running = iter([False, False])

    world.watch()

    assert len(world.acted) == 1


def test_advice_only_records_and_goes_on(world: World) -> None:
    for training_step in (100, 200):
        save(world.output, training_step)
    world.says = {100: Action.STOP}
    world.running = iter([False] * 5)

    course = world.watch(stop=False)

    assert world.acted == []
    assert world.judged == [100, 200]
    assert course.evaluations[0].decision.action is Action.STOP


def test_action_that_fails_does_not_keep_the_others_from_acting_and_is_tried_again(world: World) -> None:
    def fail(_: Decision) -> str:
        raise MeasurementError("the training must be stopped, and it was not.")

    save(world.output, 200)
    world.says = {200: Action.STOP}
    world.actions = [fail, world.act]
    with pytest.raises(MeasurementError, match="and it was not"):
        world.watch()
    assert len(world.acted) == 1
    assert world.steps() == [200]
    assert "acted" not in world.kinds()

    world.actions = [world.act]
    world.watch()

    assert len(world.acted) == 2
    assert world.judged == [200]
    assert "acted" in world.kinds()


# --------------------------------------------------------------------------------------------------------- exit codes


def evaluated(*decisions: tuple[Action, Reason]) -> Course:
    return Course(
        identity=IDENTITY,
        evaluations=tuple(
            Evaluation(training_step=n, decision=Decision(action=action, reason=reason, sentence="", training_step=n))
            for n, (action, reason) in enumerate(decisions)
        ),
    )


GOOD = (Action.CONTINUE, Reason.HEALTHY)
ALARM = (Action.CONTINUE, Reason.ALARM)
BAD = (Action.REJECT, Reason.CONFIRMED)
STOP = (Action.STOP, Reason.PERSISTENT)
FAILED = (Action.CONTINUE, Reason.NOT_MEASURED)


@pytest.mark.parametrize(
    ("decisions", "code"),
    [
        ([], ExitCode.INCOMPLETE),
        ([GOOD], ExitCode.PASSED),
        ([ALARM], ExitCode.PASSED),
        ([BAD, GOOD], ExitCode.PASSED),
        ([FAILED, GOOD], ExitCode.PASSED),
        ([GOOD, BAD], ExitCode.FAILED),
        ([STOP], ExitCode.FAILED),
        ([STOP, GOOD], ExitCode.FAILED),
        ([GOOD, FAILED], ExitCode.NOT_MEASURED),
        ([STOP, FAILED], ExitCode.NOT_MEASURED),
        ([(Action.STOP, Reason.NOT_MEASURED), GOOD], ExitCode.PASSED),
    ],
)
def test_exit_code_says_how_the_newest_checkpoint_stands(
    decisions: list[tuple[Action, Reason]], code: ExitCode
) -> None:
    assert exit_code_of(evaluated(*decisions)) is code


def test_empty_folder_is_told_with_what_lies_there(tmp_path: Path) -> None:
    error = NothingFoundError(tmp_path, listing=Listing(others=("b",)))

    assert str(error) == (
        f"a folder must hold a complete checkpoint under a known name; {tmp_path} holds none, 0 that cannot be judged, "
        "and the trainings 'b'. `lorabench watch FOLDER --list` says why."
    )
    assert error.exit_code is ExitCode.INCOMPLETE


# ------------------------------------------------------------------------------------------------------------ crashes


class Killed(BaseException):
    """As kill -9: nothing after it runs."""


WRITES = ("save", "event", "keep", "own", "prune")
N_WRITES = 22
"""Of a watch that judges three checkpoints and stops."""


@pytest.mark.parametrize("after", [False, True], ids=["before-the-write", "after-the-write"])
@pytest.mark.parametrize("nth", range(1, N_WRITES + 1))
def test_killed_at_any_write_nothing_is_lost_judged_twice_or_left_undone(
    world: World, monkeypatch: pytest.MonkeyPatch, nth: int, after: bool
) -> None:
    for training_step in (100, 200, 300):
        save(world.output, training_step)
    world.says = {300: Action.STOP}
    calls = 0

    def deadly(name: str) -> Callable[..., Any]:
        real = getattr(CourseFolder, name)

        def call(*arguments: Any, **facts: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == nth and not after:
                raise Killed
            done = real(*arguments, **facts)
            if calls == nth:
                raise Killed
            return done

        return call

    for name in WRITES:
        monkeypatch.setattr(CourseFolder, name, deadly(name))
    with pytest.raises(Killed):
        world.watch()
    monkeypatch.undo()
    for path in list(world.output.iterdir()):  # the trainer deletes meanwhile what was kept
        if any((place / path.name).exists() for _, place in world.folder.kept_folders()):
            path.unlink()
    world.running = iter([False] * 10)
    world.watch()

    assert world.steps() == [100, 200, 300]
    assert 1 <= len(world.acted) <= 2
    assert {decision.training_step for decision in world.acted} == {300}
    assert world.kinds().count("acted") == 1


KILLED_SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.unit.training.test_watching import World
world = World(Path(sys.argv[1]))
world.while_judging = lambda step: (print(step, flush=True), time.sleep(0.02))
world.watch(once=True)
print("done", flush=True)
"""


@pytest.mark.slow
def test_process_killed_again_and_again_judges_each_checkpoint_once(world: World) -> None:
    steps = list(range(100, 1300, 100))
    for training_step in steps:
        save(world.output, training_step)
    rng, lines, kills = random.Random(5), [], 0
    for _ in range(40):
        command = [sys.executable, "-c", KILLED_SCRIPT, str(world.path), str(ROOT)]
        environ = os.environ | {"PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
            assert process.stdout is not None
            for _ in range(rng.randint(2, 6)):
                lines.append(process.stdout.readline().strip())
                if lines[-1] == "done":
                    break
            time.sleep(rng.uniform(0, 0.04))
            if process.poll() is None:
                kills += 1
                process.send_signal(signal.SIGKILL)
        if "done" in lines:
            break

    assert "done" in lines
    assert kills >= 2
    assert world.steps() == steps
    digests = [one.adapter_digest for one in world.course.evaluations]
    assert len(set(digests)) == len(digests)
