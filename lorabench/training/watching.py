"""The loop beside a trainer: find checkpoints, judge each once in the order of training, record, act.

The course on disk is the only memory, and it changes whole or not at all. Killed at any moment, the next start goes on
where this one ended: an evaluation is recorded once or not made, and a decision to stop that nobody acted on is acted
on then (at least once; the event log says when).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from lorabench.errors import ExitCode, LorabenchError, MeasurementError
from lorabench.records.course import Action, Course, Decision, Evaluation, PolicyState, Reason
from lorabench.storage.course_folder import CheckpointGoneError, CourseFolder
from lorabench.training.checkpoint_files import CheckpointFile, Listing, Settling
from lorabench.training.stop_actions import StopAction

UNMEASURED_KEY = "everything"
"""What an evaluation that failed has no number for."""


class Judge(Protocol):
    """Judges one checkpoint: `CheckpointJudge.judge_file`."""

    def __call__(self, path: Path, *, training_step: int, course: Course) -> tuple[Evaluation, PolicyState]:
        """Evaluate; a `MeasurementError` means that this checkpoint has no verdict, any other error ends the watch."""
        ...


class NothingFoundError(MeasurementError):
    """There was no checkpoint to judge."""

    exit_code = ExitCode.INCOMPLETE

    def __init__(self, folder: Path, *, listing: Listing) -> None:
        left = len(listing.waiting) + len(listing.unrecognised)
        others = f", and the trainings {', '.join(map(repr, listing.others))}" if listing.others else ""
        super().__init__(
            f"a folder must hold a complete checkpoint under a known name; {folder} holds none, {left} that cannot be "
            f"judged{others}. `lorabench watch FOLDER --list` says why."
        )
        self.folder, self.listing = folder, listing


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How a watch goes on."""

    once: bool = False
    """Judge what is there, then end."""
    interval_seconds: float = 30.0
    """Between looks into the folder."""
    settle_seconds: float = 5.0
    """How long a file must have been left alone."""
    keep: Literal["best", "all"] = "best"
    stop: bool = True
    """False records decisions to stop and does nothing about them."""
    stop_on_error: bool = False
    """A checkpoint that cannot be measured is a reason to stop."""
    last_look: bool = True
    """Judge the finalists again at the end."""
    retry_unmeasured: bool = False
    """Judge again what an earlier watch could not measure."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that a watch does to the world outside the course's folder."""

    find: Callable[[], Listing]
    judge: Judge
    best: Callable[[Sequence[Evaluation]], int | None]
    """Training step of the best checkpoint."""
    digest: Callable[[Path], str]
    """Of the adapter's weights: `weights_digest`."""
    actions: Sequence[StopAction]
    training_goes_on: Callable[[], bool]
    """False ends the watch once everything there is judged."""
    say: Callable[[str], None]
    now: Callable[[], float]
    """Seconds since 1970."""
    sleep: Callable[[float], None]
    finalists: Callable[[Sequence[Evaluation]], Sequence[int]] = lambda _evaluations: ()
    """Training steps to keep for the last look."""
    settle: Callable[[Course], Course] = lambda course: course
    """The last look: the finalists judged again."""
    recorded: Callable[[Evaluation], object] = lambda _evaluation: None
    """Told of every evaluation once it is on disk."""


@dataclass(frozen=True, slots=True)
class _Pending:
    training_step: int
    file: Path
    """Our copy."""
    source: str
    digest: str


class Watch:
    """One watch over one training. `folder` is claimed by whoever calls."""

    def __init__(
        self, folder: CourseFolder, course: Course, *, surroundings: Surroundings, settings: WatchSettings
    ) -> None:
        """Take up a course where it stands.

        Args:
            folder: Of the course.
            course: As loaded from it.
            surroundings: What a watch needs from outside.
            settings: How it goes on.
        """
        self.folder, self.course, self.settings = folder, course, settings
        self._outside = surroundings
        self._settling = Settling(settings.settle_seconds)
        self._pending: dict[str, _Pending] = {}
        self._seen: dict[tuple[Path, int, int], str] = {}
        self._young: set[Path] = set()
        self._told: set[str] = set()
        retried = Reason.NOT_MEASURED if settings.retry_unmeasured else None
        self._judged = {
            one.adapter_digest for one in course.evaluations if one.adapter_digest and one.decision.reason != retried
        }

    def run(self) -> Course:
        """Judge until a decision to stop was acted on, until the training has ended, or with `once` all that is there.

        Then judge the finalists again.

        Returns:
            The course.

        Raises:
            SpecError: Suite, settings or the adapters' format are wrong; nothing was recorded for that checkpoint.
            MeasurementError: The course cannot be written, or a decision to stop could not be carried out.
        """
        self.folder.event("watching", identity=self.course.identity, evaluations=len(self.course.evaluations))
        self._recover()
        if self.settings.once or not self._stopped_again():
            self._judge_all()
        if self.settings.last_look and self.course.settlement is None:
            self._settle()
        return self.course

    def _judge_all(self) -> None:
        while True:
            over = self.settings.once or not self._outside.training_goes_on()
            self._secure()
            if self._pending:
                if self._judge_next() and not self.settings.once:
                    return
            elif self._young:
                self._outside.sleep(max(0.05, min(self.settings.settle_seconds, self.settings.interval_seconds)))
            elif over:
                return
            else:
                self._outside.sleep(self.settings.interval_seconds)

    def _settle(self) -> None:
        """What keeps the finalists from being judged again is noted; the first choice then stands."""
        try:
            settled = self._outside.settle(self.course)
        except LorabenchError as error:
            self.course = self.course.model_copy(update={"unsettled": str(error)})
            self.folder.save(self.course)
            self.folder.event("not_settled", reason=str(error))
            self._outside.say(f"the finalists were not judged again: {error}")
            return
        if settled.settlement is not None:
            self.course = settled
            self.folder.save(settled)
            self.folder.event("settled", best=settled.best, sentence=settled.settlement.sentence)
            self._outside.say(settled.settlement.sentence)

    # ------------------------------------------------------------------------------------------------------ finding

    def _recover(self) -> None:
        """What was kept and not judged when the last watch ended."""
        sources = {one.get("kept"): one.get("checkpoint") for one in self.folder.events() if one["kind"] == "kept"}
        for training_step, place in self.folder.kept_folders():
            file = next(iter(sorted(place.glob("*.safetensors"))), None)
            if file is None:
                continue
            digest = self._digest(file)
            if digest is not None and digest not in self._judged:
                source = sources.get(place.name) or str(file)
                self._pending.setdefault(digest, _Pending(training_step, file, str(source), digest))

    def _secure(self) -> None:
        """Keep every complete checkpoint that was not judged, before the trainer may delete it."""
        listing = self._outside.find()
        for left in listing.unrecognised:
            self._say_once(f"{left.path.name} is left out: {left.reason}")
        for left in listing.waiting if self.settings.once else ():
            self._say_once(f"{left.path.name} is left out, it is not complete: {left.reason}")
        for name in listing.others:
            self._say_once(f"checkpoints of the training {name!r} are left out; --name {name} watches them instead")
        self._tell_gone({one.file for one in listing.checkpoints})
        self._young = {one.file for one in listing.checkpoints if not self._take_in(one)}

    def _take_in(self, one: CheckpointFile) -> bool:
        """Queue a checkpoint unless its weights are known; False where it must be looked at again soon."""
        if not self._settling.settled(one.file, now=self._outside.now()):
            return False
        try:
            facts = one.file.stat()
        except OSError:
            return True
        key = (one.file, facts.st_size, facts.st_mtime_ns)
        if key in self._seen:
            return True
        if one.note:
            self._say_once(f"{one.path.name}: {one.note}")
        digest = self._digest(one.file)
        if digest is None:
            return False
        if digest not in self._judged and digest not in self._pending and not self._queue(one, digest):
            return True
        self._seen[key] = digest
        return True

    def _queue(self, one: CheckpointFile, digest: str) -> bool:
        assert one.training_step is not None
        try:
            place = self.folder.keep(one.training_step, one.path, copy=one.final)
        except CheckpointGoneError as error:
            self._outside.say(str(error))
            self.folder.event("gone", training_step=one.training_step, checkpoint=str(one.path))
            return False
        self.folder.event("kept", training_step=one.training_step, checkpoint=str(one.path), kept=place.name)
        self._pending[digest] = _Pending(one.training_step, place / one.file.name, str(one.path), digest)
        return True

    def _digest(self, file: Path) -> str | None:
        try:
            return self._outside.digest(file)
        except (LorabenchError, OSError):  # rewritten or deleted meanwhile: the next look sees it as it is then
            return None

    def _tell_gone(self, present: set[Path]) -> None:
        for file in sorted(self._young - present):
            if not file.exists():
                self._outside.say(f"{file} was deleted before it could be judged; raise the trainer's limit")
                self.folder.event("gone", checkpoint=str(file))

    # ------------------------------------------------------------------------------------------------------ judging

    def _judge_next(self) -> bool:
        """Judge the earliest checkpoint and record it; True where a decision to stop was acted on."""
        one = min(self._pending.values(), key=lambda pending: (pending.training_step, pending.source))
        last = max((done.training_step for done in self.course.evaluations), default=-1)
        if one.training_step <= last:
            self.folder.event("set_back", training_step=one.training_step, after=last)
            self._outside.say(
                f"step {one.training_step} comes after step {last}: the training was set back, or repeated"
            )
        self._outside.say(f"judging step {one.training_step}: {one.source}")
        evaluation, state = self._judge(one)
        found = {"training_step": one.training_step, "checkpoint": one.source, "kept": str(one.file.parent)}
        evaluation = evaluation.model_copy(update=found | {"adapter_digest": one.digest})
        self._record(evaluation, state)
        del self._pending[one.digest]
        self._judged.add(one.digest)
        self._outside.say(f"{evaluation.decision.action}: {evaluation.decision.sentence}")
        acted = self._act(evaluation)
        self._tidy()
        return acted

    def _judge(self, one: _Pending) -> tuple[Evaluation, PolicyState]:
        started = self._outside.now()
        try:
            return self._outside.judge(one.file, training_step=one.training_step, course=self.course)
        except MeasurementError as error:
            seconds = max(0.0, self._outside.now() - started)
            return self._unmeasured(one, reason=str(error), seconds=seconds), self.course.policy

    def _unmeasured(self, one: _Pending, *, reason: str, seconds: float) -> Evaluation:
        stop = self.settings.stop_on_error and self.settings.stop
        goes_on = "on_error asks to stop then." if stop else "The training goes on."
        decision = Decision(
            action=Action.STOP if stop else Action.CONTINUE,
            reason=Reason.NOT_MEASURED,
            sentence=f"Step {one.training_step} was not measured: {reason} {goes_on}",
            training_step=one.training_step,
        )
        return Evaluation(
            training_step=one.training_step,
            unmeasured={UNMEASURED_KEY: reason},
            seconds=seconds,
            decision=decision,
        )

    def _record(self, evaluation: Evaluation, state: PolicyState) -> None:
        """The one moment at which an evaluation comes to be."""
        evaluations = (*self.course.evaluations, evaluation)
        best = self._outside.best(evaluations)
        wanted = self._wanted(evaluations, best=best)
        told = tuple(
            one if one.kept is None or wanted is None or one.training_step in wanted
            else one.model_copy(update={"kept": None})
            for one in evaluations
        )  # fmt: skip
        update = {"evaluations": told, "policy": state, "best": best, "settlement": None, "unsettled": None}
        self.course = self.course.model_copy(update=update)
        self.folder.save(self.course)
        self.folder.event(
            "evaluated",
            training_step=evaluation.training_step,
            action=evaluation.decision.action.value,
            reason=evaluation.decision.reason.value,
            sentence=evaluation.decision.sentence,
            seconds=round(evaluation.seconds, 3),
            best=best,
        )
        self._outside.recorded(evaluation)

    def _wanted(self, evaluations: Sequence[Evaluation], *, best: int | None) -> set[int] | None:
        """Training steps to keep: the best, the finalists, the alarmed or rejected, the last; None keeps all."""
        if self.settings.keep == "all":
            return None
        suspect = (one for one in evaluations if one.alarmed or one.decision.action is not Action.CONTINUE)
        steps = {one.training_step for one in (*suspect, evaluations[-1])} | {*self._outside.finalists(evaluations)}
        return steps if best is None else steps | {best}

    def _tidy(self) -> None:
        """Delete what is kept no longer, and make what stays our own."""
        wanted = self._wanted(self.course.evaluations, best=self.course.best)
        if wanted is not None:
            self.folder.prune(wanted | {one.training_step for one in self._pending.values()})
        queued = {one.file.parent for one in self._pending.values()}
        for _, place in self.folder.kept_folders():
            if place not in queued:
                self.folder.own(place)

    # ------------------------------------------------------------------------------------------------------- acting

    def _stopped_again(self) -> bool:
        """Act on the last decision, if it was to stop and the watch before this one did not come to it."""
        if not self.course.evaluations:
            return False
        last = self.course.evaluations[-1]
        done = {one.get("adapter_digest") for one in self.folder.events() if one["kind"] == "acted"}
        return last.adapter_digest not in done and self._act(last)

    def _act(self, evaluation: Evaluation) -> bool:
        """Carry out a decision to stop.

        Raises:
            MeasurementError: An action failed; the others were carried out, and nothing is noted as done.
        """
        if evaluation.decision.action is not Action.STOP or not self.settings.stop:
            return False
        failure: MeasurementError | None = None
        for action in self._outside.actions:
            try:
                done = action(evaluation.decision)
            except MeasurementError as error:
                failure = error
                self.folder.event("act_failed", training_step=evaluation.training_step, found=str(error))
            else:
                self._outside.say(done)
                self.folder.event("action", training_step=evaluation.training_step, done=done)
        if failure is not None:
            raise failure
        self.folder.event("acted", training_step=evaluation.training_step, adapter_digest=evaluation.adapter_digest)
        return True

    def _say_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._outside.say(text)


def of_one_training(find: Callable[[str | None], Listing], *, name: str | None = None) -> Callable[[], Listing]:
    """Look for the same training each time: the one that was named, else the first that was seen.

    Args:
        find: Lists a folder, given the name of a training or None.
        name: Of the training, if it is known.
    """
    chosen = name

    def look() -> Listing:
        nonlocal chosen
        listing = find(chosen)
        if chosen is None and listing.checkpoints:
            chosen = listing.checkpoints[0].run
        return listing

    return look


def exit_code_of(course: Course) -> ExitCode:
    """0 the newest checkpoint may go on; 1 a decision to stop, or the newest is rejected; 3 the newest has no verdict.

    A course without evaluations gives 5.
    """
    if not course.evaluations:
        return ExitCode.INCOMPLETE
    newest = course.evaluations[-1].decision
    if newest.reason is Reason.NOT_MEASURED:
        return ExitCode.NOT_MEASURED
    stopped = any(
        one.decision.action is Action.STOP and one.decision.reason is not Reason.NOT_MEASURED
        for one in course.evaluations
    )
    return ExitCode.FAILED if stopped or newest.action is not Action.CONTINUE else ExitCode.PASSED
