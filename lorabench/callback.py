"""For training loops: `Monitor` judges the live adapter every few hundred steps and says whether to go on.

    monitor = Monitor.from_config("lorabench.toml", pipeline=pipe, optimizer=optimizer)
    monitor.on_train_begin()
    for training_step, batch in enumerate(loader, start=1):
        loss = train(batch)
        if monitor.on_step_end(training_step, loss=loss).action == "STOP":
            break
    monitor.finish()
    print(monitor.decision.sentence, monitor.best_checkpoint)

Training is left as it was found, to the bit. A failed evaluation is recorded as not measured and training goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from lorabench.records.config import Config
from lorabench.records.course import Action, Course, Decision, Evaluation, PolicyState, Reason
from lorabench.storage.course_folder import CourseFolder, OtherCourseError
from lorabench.training import policy
from lorabench.training.cadence import Cadence, Look
from lorabench.training.choosing import Choice
from lorabench.training.guard_errors import NotRestoredError
from lorabench.training.live_signals import Signals
from lorabench.training.loss_trend import FindingKind, LossTrend, divided
from lorabench.training.ranks import Ranks
from lorabench.training.step_times import StepTimeTrack
from lorabench.training.subjects import Subject, subject_of
from lorabench.training.trackers import PREFIX, Destination, destinations

if TYPE_CHECKING:
    from lorabench.evaluation.judge_set import JudgeSet
    from lorabench.evaluation.observer import Observer
    from lorabench.generation.adapter_switch import AdapterSwitch, AdapterWriter
    from lorabench.records.suite import Suite
    from lorabench.training.checkpoint_judging import CheckpointJudge
    from lorabench.training.live_course import LiveCourse

STATE_VERSION: Final = 1
_SCREEN_HELD: Final = "it was judged before"
_TOLD_SETTINGS: Final = {"every_n_steps", "budget", "confirmations", "window", "stop"}
"""Settings of the course that its log of events names."""
_NOT_THE_BASE: Final = (
    "The adapter changes the base before anything was judged here: it was trained before, or starts from other values "
    "than nothing. What it brings along counts as this training's."
)
_DECIDED: Final = 1 + max(Look)
"""What the leader tells the other processes when it decided without a look."""


class Monitor:
    """Judges one training. One object for every loop: plain, accelerate, HF Trainer, Lightning and the trainers.

    Attributes:
        decision: The last decision; CONTINUE before the first.
        course: All evaluations so far.
        pipeline, adapter, optimizer, ema, modules: As given; may be set until the first hook, where a trainer makes
            them.
    """

    def __init__(
        self,
        config: Config,
        *,
        suite: Suite,
        pipeline: Any = None,
        adapter_name: str = "default",
        adapter: AdapterSwitch | AdapterWriter | None = None,
        optimizer: Any = None,
        ema: Any = None,
        ema_parameters: Sequence[Any] = (),
        modules: Sequence[Any] = (),
        final_suite: Suite | None = None,
        judges: JudgeSet | None = None,
        observer: Observer | None = None,
        log: Callable[..., None] | None = None,
        trackers: Sequence[Any] = (),
    ) -> None:
        """Keep what is needed. The first call of a hook opens the course.

        Args:
            config: Settings; `[course]` says how often and how strictly.
            suite: Held-out prompts.
            pipeline: A diffusers pipeline around the modules in training; None judges the file that `adapter` writes.
            adapter_name: Name of the adapter in training.
            adapter: How it is switched and saved, where it is not one of peft's.
            optimizer: For optimisers with modes of their own (schedule-free).
            ema: Averaged weights, if those are what will be saved.
            ema_parameters: What the average was made from, where it cannot be found out.
            modules: Modules in training that the pipeline does not hold; left as they were, too.
            final_suite: Prompts on which finalists are judged again; None takes those of `[course]`.
            judges: Instead of the configured ones.
            observer: Hears of progress.
            log: Called with a mapping of numbers and `step=`, as `accelerator.log` is.
            trackers: Names or open trackers of accelerate's (`accelerator.trackers`), on top of those of `[course]`.

        Raises:
            SpecError: A tracker is unknown or not installed.
        """
        self.config, self.suite, self.pipeline = config, suite, pipeline
        self.adapter_name, self.optimizer, self.ema = adapter_name, optimizer, ema
        self.adapter, self.modules, self._ema_parameters = adapter, tuple(modules), tuple(ema_parameters)
        self._final_suite, self._judges, self._observer = final_suite, judges, observer
        self._folder = CourseFolder(config.course.folder)
        course = config.course
        self._destinations = destinations(
            (*course.trackers, *trackers), project=course.tracker_project, folder=course.folder, log=log
        )
        self._open = ExitStack()
        self._opened: _Opened | None = None
        self._loss = LossTrend()
        self._step_times = StepTimeTrack()
        self._cadence = Cadence(config.course)
        self.decision = Decision(sentence="Nothing was judged yet.", training_step=0)

    @classmethod
    def from_config(
        cls,
        config: Config | Mapping[str, object] | Path | str | None = None,
        *,
        pipeline: Any = None,
        adapter_name: str = "default",
        **more: Any,
    ) -> Monitor:
        """Make a monitor from a settings file, from a mapping of dotted keys, or from settings.

        Args:
            config: Path of a `lorabench.toml`, `{"course.every_n_steps": 100, …}`, a `Config`, or None for the file
                found from the working directory upwards.
            pipeline: As for `Monitor`.
            adapter_name: As for `Monitor`.
            more: Further arguments of `Monitor`; `suite` is read from the settings unless given.

        Raises:
            SpecError: The settings or the suite are wrong.
        """
        from lorabench.storage.config_files import load_config
        from lorabench.storage.suite_files import find_suites, read_suite

        if not isinstance(config, Config):
            overrides = dict(config) if isinstance(config, Mapping) else {}
            explicit = Path(config) if isinstance(config, str | Path) else None
            config = load_config(overrides, start=Path.cwd(), explicit=explicit, environ=os.environ)[0]
        suite = more.pop("suite", None) or read_suite(find_suites([config.course.suite])[0]).suite
        return cls(config, suite=suite, pipeline=pipeline, adapter_name=adapter_name, **more)

    @property
    def course(self) -> Course:
        """Opens the course if it is not open yet."""
        return self._ensure_open().live.course

    @property
    def should_stop(self) -> bool:
        """Whether the last decision was to stop."""
        return self.decision.action is Action.STOP

    @property
    def best_checkpoint(self) -> Path | None:
        """Our copy of the best adapter so far; None while no checkpoint passes."""
        best = next((one for one in self.course.evaluations if one.training_step == self.course.best), None)
        return None if best is None or best.kept is None else Path(best.kept)

    def choice(self) -> Choice:
        """The best checkpoint and why, or the guard that stood in the way of every one; settled if it was."""
        from lorabench.training.settling import choice_of

        return choice_of(self.course)

    def on_train_begin(self) -> Decision:
        """Open the course, encode the suite's prompts, and test before the first step that the adapter is the base.

        Raises:
            SpecError: Suite or settings are wrong; a prompt equals a training caption.
            MeasurementError: The training pictures cannot be used, or the pipeline cannot be judged as it stands.
        """
        if Ranks.here().leads:
            self._ensure_open()
        return self.decision

    def on_step_end(self, training_step: int, *, loss: Any = None, grad_norm: Any = None) -> Decision:
        """Tell of an optimiser step; judges the live adapter when it is time.

        With several processes (torch.distributed) every one calls it; rank 0 judges, the others wait and get its
        decision, so that all stop at the same step.

        Args:
            training_step: Optimiser steps done, from 1.
            loss: Of this step, a number or a tensor; watched for trend, spikes and NaN.
            grad_norm: Likewise.

        Returns:
            The decision that holds now.
        """
        ranks = Ranks.here()
        word = self._word(training_step, loss, grad_norm) if ranks.leads else int(Look.NOTHING)
        word = ranks.agree(word)
        if ranks.leads:
            if word == Look.SCREEN:
                self.evaluate(training_step)
            elif word == Look.SIGNALS:
                self._read_signals(training_step)
        if word != Look.NOTHING:
            self.decision = ranks.share(self.decision)
        return self.decision

    def _word(self, training_step: int, loss: Any, grad_norm: Any) -> int:
        """What the leader tells the other processes about this step."""
        self._ensure_open()
        if (seconds := self._cadence.step(training_step)) is not None:
            self._step_times.add(training_step, seconds)
        if loss is not None and not self._loss_is_finite(training_step, loss, grad_norm):
            return _DECIDED
        return int(self._cadence.due(training_step))

    def on_checkpoint(self, path: Path | str, training_step: int) -> Decision:
        """Tell of a checkpoint that was written; the live adapter is judged now if it was not at this step.

        Where pictures would cost more than the budget, only the loss and the drift are read, and the log of events
        says so. With several processes, call it on all of them.
        """
        ranks = Ranks.here()
        if ranks.leads:
            self._checkpoint_written(str(path), training_step)
        self.decision = ranks.share(self.decision)
        return self.decision

    def _checkpoint_written(self, path: str, training_step: int) -> None:
        live = self._ensure_open().live
        if self._cadence.affordable(training_step) or live.known(training_step) is not None:
            self.evaluate(training_step, checkpoint=path)
            return
        self._folder.event("postponed", training_step=training_step, checkpoint=path, budget=self.config.course.budget)
        self._read_signals(training_step)

    def evaluate(self, training_step: int, *, checkpoint: str | None = None) -> Decision:
        """Judge the live adapter now, whatever cadence and budget; on this process alone."""
        opened, started = self._ensure_open(), time.perf_counter()
        file = self._folder.folder / "live" / f"checkpoint-{training_step}" / "pytorch_lora_weights.safetensors"
        evaluation, state = self._judged(file, training_step=training_step)
        if evaluation is None:
            if checkpoint is not None:
                opened.live.name_checkpoint(training_step, checkpoint)
            return self.decision
        seconds = evaluation.seconds or time.perf_counter() - started
        evaluation = evaluation.model_copy(update={"checkpoint": checkpoint, "seconds": seconds})
        evaluation = opened.live.record(evaluation, file=file, policy_state=state)
        self._note_step_times(opened.live)
        self.decision = evaluation.decision
        self._report(evaluation)
        opened.subject.rest(opened.judge)
        self._cadence.screened(training_step, seconds=time.perf_counter() - started)
        return self.decision

    def finish(self, *, settle: bool = True) -> Choice:
        """Judge the finalists again, close the course and say which checkpoint is the best; only rank 0 knows.

        Args:
            settle: Whether to judge them again: up to `[course]` `finalists` checkpoints on `final_seeds` seeds of
                prompts that no screen used. The adapter is left as it is now.
        """
        if not Ranks.here().leads:
            return Choice(training_step=None, sentence="Rank 0 has the course.")
        if settle and self.course.settlement is None:
            self._settle()
        choice = self.choice()
        self._note_step_times(self._ensure_open().live)
        facts = {"share": self._cadence.share, "judging_seconds": round(self._cadence.judging_seconds, 3)}
        self._folder.save_loss(self._loss.state_dict())
        self._folder.event("finished", best=choice.training_step, sentence=choice.sentence, **facts)
        self._tell(lambda tracker: tracker.finish())
        self._destinations = ()
        self._write_page()
        self._open.close()
        self._cadence.pause()
        return choice

    def _write_page(self) -> None:
        """The course as one page beside it; what keeps it from being written is noted."""
        from lorabench.training.course_page import write_course_page

        try:
            write_course_page(self._folder.folder)
        except Exception as error:  # a face: the training is over, what it made must not be lost by a page
            self._folder.event("no_page", reason=_in_words(error))

    def _settle(self) -> None:
        """Judge the finalists again; what keeps that from being done is noted, and the first choice stands."""
        from lorabench.training.settling import settle_course

        opened, suite = self._ensure_open(), self._last_prompts()
        try:
            with self._undisturbed():
                settled = settle_course(self.course, judge=opened.judge, suite=suite, shown=opened.subject.shown)
        except NotRestoredError:
            raise
        except Exception as error:  # a face: the training is over, what it made must not be lost by a last look
            _free_memory()
            reason = _in_words(error)
            opened.live.save(self.course.model_copy(update={"unsettled": reason}))
            self._folder.event("not_settled", reason=reason)
            return
        if settled.settlement is not None:
            opened.live.save(settled)
            self._folder.event("settled", best=settled.best, sentence=settled.settlement.sentence)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs; for `accelerator.register_for_checkpointing`. Empty but on rank 0."""
        if not Ranks.here().leads:
            return {}
        return {
            "version": STATE_VERSION,
            "course": self.course.model_dump(mode="json"),
            "loss": self._loss.state_dict(),
            **self._cadence.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, restart: bool = False) -> None:
        """Go on where a stored state ends. Patience, cadence and budget are those of the settings of today.

        Args:
            state: From `state_dict`.
            restart: Begin a new history where the stored one belongs to another suite or other metrics.

        Raises:
            OtherCourseError: It does, and `restart` is not given.
        """
        if not Ranks.here().leads:
            return
        opened = self._ensure_open(restart=restart)
        opened.live.restore(state["course"], identity=opened.judge.identity, restart=restart)
        if self.course.evaluations:
            self.decision = self.course.evaluations[-1].decision
        self._loss = LossTrend.from_state(state["loss"])
        self._step_times = StepTimeTrack(self.course.step_times)
        self._cadence.load_state_dict(state)

    def set_back(self, training_step: int) -> None:
        """The training goes on from this step, or begins anew at 0, with no state of ours from that moment.

        What was judged later belongs to other weights and leaves the course; it stays known, so that equal weights are
        not judged twice.

        Args:
            training_step: Optimiser steps done.
        """
        if not Ranks.here().leads:
            return
        self._ensure_open().live.set_back(training_step)
        left = self.course.evaluations
        nothing = Decision(sentence="Nothing was judged yet.", training_step=0)
        self.decision = left[-1].decision if left else nothing
        self._loss = LossTrend()
        self._cadence.next_screen = training_step + self.config.course.every_n_steps

    def _ensure_open(self, *, restart: bool = False) -> _Opened:
        if self._opened is not None:
            return self._opened
        from lorabench.training.checkpoint_judging import CheckpointJudge
        from lorabench.training.live_course import LiveCourse

        subject = subject_of(
            self.config,
            suite=self.suite,
            pipeline=self.pipeline,
            adapter_name=self.adapter_name,
            adapter=self.adapter,
        )
        judge = CheckpointJudge(
            self.config, suite=self.suite, backend=subject.backend, judges=self._judges, observer=self._observer
        )
        self._open.enter_context(self._folder.claimed())
        course = self._folder.load(judge.identity, restart=restart)
        if course.evaluations:
            last = course.evaluations[-1]
            self.decision = last.decision
            self._cadence.next_screen = last.training_step + self.config.course.every_n_steps
            self._take_up_loss()
            self._step_times = StepTimeTrack(course.step_times)
        live = LiveCourse(self._folder, course, settings=self.config.course)
        opened = _Opened(judge=judge, subject=subject, live=live)
        try:
            self._prepare(opened)
        except BaseException:
            self._open.close()
            raise
        self._opened = opened
        self._destinations = self._tell(lambda tracker: tracker.start())
        return opened

    def _note_step_times(self, live: LiveCourse) -> None:
        """Write into the course how long steps take, and on what."""
        from lorabench.training.training_setup import setup_of

        times = self._step_times.record()
        if times is not None:
            setup = setup_of(self.pipeline, self.config.course)
            live.save(live.course.model_copy(update={"step_times": times, "setup": setup}))

    def _take_up_loss(self) -> None:
        """The loss trend of a training that goes on without a stored state of ours."""
        if (state := self._folder.loss()) is not None:
            with suppress(ValidationError):
                self._loss = LossTrend.from_state(state)

    def _last_prompts(self) -> Suite:
        """Prompts on which the finalists are judged again."""
        from lorabench.training.settling import final_suite

        if self._final_suite is None:
            self._final_suite = final_suite(self.config.course, self.suite)
        return self._final_suite

    def _prepare(self, opened: _Opened) -> None:
        """Encode the prompts while the text encoders are here; before the first step, test adapter against base."""
        from lorabench.records.plan import Arm

        style, course = self.config.style, self.config.course
        last = (self._last_prompts(),) if course.finalists else ()
        opened.judge.check_prompts(*last)
        cases = [case for suite in (self.suite, *last) for case in suite.cases]
        texts = [case.render(style.of(arm)) for case in cases for arm in (Arm.CONTROL, Arm.CANDIDATE)]
        with self._undisturbed():
            facts = opened.subject.prepare(texts)
            found = opened.subject.signals()
        if facts.get("equals_base") is False and not opened.live.course.evaluations:
            self.decision = Decision(reason=Reason.SELF_TEST, sentence=_NOT_THE_BASE, training_step=0)
        self._folder.event(
            "opened",
            identity=opened.judge.identity,
            suite=self.suite.name,
            base=Path(self.config.model.base).name,
            **course.model_dump(include=_TOLD_SETTINGS),
            **facts,
            **found.values,
            unmeasured=found.unmeasured,
        )

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        from lorabench.training.guard import undisturbed

        guard = undisturbed(
            self.pipeline,
            modules=self.modules,
            optimizer=self.optimizer,
            ema=self.ema,
            ema_parameters=self._ema_parameters,
        )
        with guard, nullcontext() if self.adapter is None else self.adapter.room():
            yield

    def _read_signals(self, training_step: int) -> None:
        """Loss and drift alone, between two screens."""
        started = time.perf_counter()
        try:
            with self._undisturbed():
                found = self._ensure_open().subject.signals()
        except NotRestoredError:
            raise
        except Exception as error:  # a face: whatever a look does, training is not ended by it
            _free_memory()
            found = Signals(unmeasured={"signals": _in_words(error)})
        self._folder.event("signals", training_step=training_step, **found.values, unmeasured=found.unmeasured)
        numbers = {f"{PREFIX}{name}": value for name, value in found.values.items()}
        if numbers:
            self._tell(lambda tracker: tracker.numbers(training_step, numbers))
        if found.not_finite is not None:
            self._stop_at_once(Reason.NOT_FINITE, training_step, detail=found.not_finite)
        self._cadence.read(training_step, seconds=time.perf_counter() - started)

    def _judged(self, file: Path, *, training_step: int) -> tuple[Evaluation | None, PolicyState]:
        """The evaluation, or None where equal weights were judged at this step before."""
        from lorabench.generation.adapter import read_adapter
        from lorabench.training.checkpoint_judging import unmeasured_evaluation

        opened = self._ensure_open()
        try:
            with self._undisturbed():
                opened.subject.save(file)
                known = opened.live.known(training_step)
                if known is not None and known.adapter_digest == read_adapter(file).info.digest:
                    self._folder.event("known", training_step=training_step, reason=_SCREEN_HELD)
                    return self._known_again(known)
                course = opened.live.before(training_step)
                evaluation, state = opened.judge.judge_file(file, training_step=training_step, course=course)
                found = opened.subject.signals()
            update = {
                "signals": {**evaluation.signals, **found.values},
                "unmeasured": {**evaluation.unmeasured, **found.unmeasured},
            }
            return evaluation.model_copy(update=update), state
        except NotRestoredError:
            raise  # the training was disturbed: going on would train something else
        except Exception as error:  # a face: whatever an evaluation does, training is not ended by it
            _free_memory()
            settings = self.config.course
            failed = unmeasured_evaluation(training_step, checkpoint=None, reason=_in_words(error), settings=settings)
            return failed, self.course.policy

    def _known_again(self, known: Evaluation) -> tuple[Evaluation | None, PolicyState]:
        live = self._ensure_open().live
        if known in live.course.evaluations:
            self.decision = known.decision
            return None, live.course.policy
        return known, live.policy_after(known)

    def _tell(self, send: Callable[[Destination], None]) -> tuple[Destination, ...]:
        """Tell every tracker and return those that took it; what one draws from global generators is put back."""
        if not self._destinations:
            return ()
        from lorabench.training.guard_state import Generators

        generators, told = Generators(), []
        try:
            for tracker in self._destinations:
                try:
                    send(tracker)
                except Exception as error:  # a face: whatever a tracker does, training is not ended by it
                    self._folder.event("tracker_failed", tracker=tracker.name, reason=_in_words(error))
                else:
                    told.append(tracker)
        finally:
            generators.restore()
        return tuple(told)

    def _report(self, evaluation: Evaluation) -> None:
        """Say in the log of events and to trackers what was found."""
        self._folder.event(
            "evaluated",
            training_step=evaluation.training_step,
            action=str(evaluation.decision.action),
            reason=str(evaluation.decision.reason),
            sentence=evaluation.decision.sentence,
            seconds=round(evaluation.seconds, 3),
        )
        self._folder.save_loss(self._loss.state_dict())
        if finding := divided(self._loss, self.course.evaluations):
            self._folder.event("loss", training_step=finding.training_step, finding="divided", says=finding.sentence)
        self._tell(lambda tracker: tracker.evaluated(evaluation, runs_dir=self._folder.folder / "runs"))

    def _loss_is_finite(self, training_step: int, loss: Any, grad_norm: Any) -> bool:
        findings = self._loss.add(training_step, float(loss), None if grad_norm is None else float(grad_norm))
        for finding in findings:
            self._folder.event("loss", training_step=training_step, finding=str(finding.kind), says=finding.sentence)
        bad = [finding for finding in findings if finding.kind is FindingKind.NOT_FINITE]
        if bad:
            self._stop_at_once(Reason.NOT_FINITE, training_step, detail=bad[0].sentence)
        return not bad

    def _stop_at_once(self, reason: Reason, training_step: int, *, detail: str) -> None:
        self.decision = policy.hard_stop(
            reason, training_step=training_step, detail=detail, settings=self.config.course
        )
        facts = {"action": str(self.decision.action), "reason": str(reason), "sentence": self.decision.sentence}
        self._folder.event("stopped", training_step=training_step, **facts)


@dataclass
class _Opened:
    """What is there once the course is open."""

    judge: CheckpointJudge
    subject: Subject
    live: LiveCourse


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


__all__ = ["Monitor", "OtherCourseError"]
