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

import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorabench.records.config import Config
from lorabench.records.course import Action, Course, Decision, Evaluation, PolicyState, Reason
from lorabench.storage.course_folder import CourseFolder, OtherCourseError
from lorabench.training import policy
from lorabench.training.choosing import Choice, choose
from lorabench.training.loss_trend import FindingKind, LossTrend, divided
from lorabench.training.ranks import Ranks

if TYPE_CHECKING:
    from lorabench.evaluation.judge_set import JudgeSet
    from lorabench.evaluation.observer import Observer
    from lorabench.records.suite import Suite
    from lorabench.training.checkpoint_judging import CheckpointJudge
    from lorabench.training.loss import Encoded

STATE_VERSION: Final = 1
DRIFT_PROMPTS: Final = 8
"""Prompts of the suite on which the drift is read; four forwards each."""
_SCREEN_HELD: Final = "it was judged before"
_NOTHING, _EVALUATE, _DECIDED = range(3)


class Monitor:
    """Judges one training. One object for every loop: plain, accelerate, HF Trainer, Lightning and the trainers.

    Attributes:
        decision: The last decision; CONTINUE before the first.
        course: All evaluations so far.
        optimizer: As given; may be set later, where a trainer makes it.
    """

    def __init__(
        self,
        config: Config,
        *,
        suite: Suite,
        pipeline: Any,
        adapter_name: str = "default",
        optimizer: Any = None,
        ema: Any = None,
        judges: JudgeSet | None = None,
        observer: Observer | None = None,
        log: Callable[..., None] | None = None,
    ) -> None:
        """Keep what is needed. The first call of a hook opens the course.

        Args:
            config: Settings; `[course]` says how often and how strictly.
            suite: Held-out prompts.
            pipeline: A diffusers pipeline around the modules in training.
            adapter_name: Name of the adapter in training.
            optimizer: For optimisers with modes of their own (schedule-free).
            ema: Averaged weights, if those are what will be saved.
            judges: Instead of the configured ones.
            observer: Hears of progress.
            log: Called with a mapping of numbers and `step=`, as `accelerator.log` is.
        """
        self.config, self.suite, self.pipeline = config, suite, pipeline
        self.adapter_name, self.optimizer, self._ema = adapter_name, optimizer, ema
        self._judges, self._observer, self._log = judges, observer, log
        self._folder = CourseFolder(config.course.folder)
        self._open = ExitStack()
        self._judge: CheckpointJudge | None = None
        self._course: Course | None = None
        self._loss = LossTrend()
        self._encoded: Encoded | None = None
        self._later: dict[int, Evaluation] = {}
        self._next_step = config.course.every_n_steps
        self._clock: tuple[float, int] | None = None
        self._step_seconds = 0.0
        self.decision = Decision(sentence="Nothing was judged yet.", training_step=0)

    @classmethod
    def from_config(
        cls,
        config: Config | Mapping[str, object] | Path | str | None = None,
        *,
        pipeline: Any,
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
        self._ensure_open()
        assert self._course is not None
        return self._course

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
        """The best checkpoint and why, or the guard that stood in the way of every one."""
        from lorabench.training.checkpoint_judging import STYLE

        return choose(self.course.evaluations, style_signal=STYLE)

    def on_train_begin(self) -> Decision:
        """Open the course, encode the suite's prompts, and test before the first step that the adapter is the base."""
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
        word = self._word(training_step, loss, grad_norm) if ranks.leads else _NOTHING
        word = ranks.agree(word)
        if word == _EVALUATE and ranks.leads:
            self.evaluate(training_step)
        if word != _NOTHING:
            self.decision = ranks.share(self.decision)
        return self.decision

    def _word(self, training_step: int, loss: Any, grad_norm: Any) -> int:
        """What the leader tells the other processes about this step."""
        self._ensure_open()
        self._time_step(training_step)
        if loss is not None and not self._loss_is_finite(training_step, loss, grad_norm):
            return _DECIDED
        return _EVALUATE if training_step >= self._next_step else _NOTHING

    def on_checkpoint(self, path: Path | str, training_step: int) -> Decision:
        """Tell of a checkpoint that was written; the live adapter is judged now if it was not at this step.

        With several processes, call it on all of them.
        """
        ranks = Ranks.here()
        if ranks.leads:
            self.evaluate(training_step, checkpoint=str(path))
        self.decision = ranks.share(self.decision)
        return self.decision

    def evaluate(self, training_step: int, *, checkpoint: str | None = None) -> Decision:
        """Judge the live adapter now, whatever the cadence; on this process alone."""
        self._ensure_open()
        started = time.perf_counter()
        file = self._folder.folder / "live" / f"checkpoint-{training_step}" / "pytorch_lora_weights.safetensors"
        evaluation, state = self._judged(file, training_step=training_step)
        if evaluation is None:
            self._name_checkpoint(training_step, checkpoint)
            return self.decision
        evaluation = evaluation.model_copy(update={"checkpoint": checkpoint})
        self._record(evaluation, file=file, policy_state=state)
        self._schedule(training_step, seconds=time.perf_counter() - started)
        return self.decision

    def _name_checkpoint(self, training_step: int, checkpoint: str | None) -> None:
        """A checkpoint was written after its weights had been judged: note where it is."""
        if checkpoint is None:
            return
        evaluations = tuple(
            one.model_copy(update={"checkpoint": checkpoint}) if one.training_step == training_step else one
            for one in self.course.evaluations
        )
        self._course = self.course.model_copy(update={"evaluations": evaluations})
        self._folder.save(self._course)

    def finish(self) -> Choice:
        """Close the course and say which checkpoint is the best; only rank 0 knows."""
        if not Ranks.here().leads:
            return Choice(training_step=None, sentence="Rank 0 has the course.")
        choice = self.choice()
        self._folder.event("finished", best=choice.training_step, sentence=choice.sentence)
        self._open.close()
        self._clock = None
        return choice

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs; for `accelerator.register_for_checkpointing`. Empty but on rank 0."""
        if not Ranks.here().leads:
            return {}
        return {
            "version": STATE_VERSION,
            "course": self.course.model_dump(mode="json"),
            "loss": self._loss.state_dict(),
            "next_step": self._next_step,
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
        self._ensure_open()
        assert self._judge is not None
        stored = Course.model_validate(state["course"])
        if stored.identity != self._judge.identity:
            if not restart:
                raise OtherCourseError(self._folder.folder, found=stored.identity, expected=self._judge.identity)
            stored = Course(identity=self._judge.identity)
        stored = _without_pruned_copies(stored)
        # What was judged after the stored moment, on disk, stays known: equal weights are not judged twice.
        kept = [one for one in self.course.evaluations if one not in stored.evaluations]
        self._later = {one.training_step: one for one in kept}
        self._course = stored
        self._folder.save(stored)
        if stored.evaluations:
            self.decision = stored.evaluations[-1].decision
        self._loss = LossTrend.from_state(state["loss"])
        self._next_step = int(state["next_step"])

    def _ensure_open(self) -> None:
        if self._course is not None:
            return
        from lorabench.generation.live_backend import LiveBackend
        from lorabench.training.checkpoint_judging import CheckpointJudge

        backend = LiveBackend(
            self.pipeline,
            adapter_name=self.adapter_name,
            base=self.config.model.base,
            batch_size=self.config.model.batch_size,
            cache_dir=self.config.cache_dir,
        )
        self._backend = backend
        self._judge = CheckpointJudge(
            self.config, suite=self.suite, backend=backend, judges=self._judges, observer=self._observer
        )
        self._open.enter_context(self._folder.claimed())
        self._course = self._folder.load(self._judge.identity)
        if self._course.evaluations:
            last = self._course.evaluations[-1]
            self.decision = last.decision
            self._next_step = last.training_step + self.config.course.every_n_steps
        self._prepare()

    def _prepare(self) -> None:
        """Encode the prompts while the text encoders are here; before the first step, test adapter against base."""
        from lorabench.records.plan import Arm
        from lorabench.training.guard import undisturbed

        style = self.config.style
        texts = [case.render(style.of(arm)) for case in self.suite.cases for arm in (Arm.CONTROL, Arm.CANDIDATE)]
        with undisturbed(self.pipeline, optimizer=self.optimizer):
            self._backend.encode_prompts(texts, settings=self.config.generation)
            equal = self._backend.step_zero_equals_base()
            signals, reasons = self._drift()
        self._folder.event("opened", identity=self.course.identity, equals_base=equal, **signals, unmeasured=reasons)

    def _drift(self) -> tuple[dict[str, float], dict[str, str]]:
        """How far the network has moved on the suite's prompts without the style, or why that is not known."""
        from lorabench.errors import MeasurementError
        from lorabench.training.loss import Encoded, drift_reading

        self._encoded = self._encoded or Encoded()
        prompts = [case.render(self.config.style.neutral) for case in self.suite.cases[:DRIFT_PROMPTS]]
        try:
            reading = drift_reading(self.pipeline, prompts, settings=self.config.generation, encoded=self._encoded)
        except MeasurementError as error:
            return {}, {"drift": str(error)}
        return reading.signals("drift"), {}

    def _judged(self, file: Path, *, training_step: int) -> tuple[Evaluation | None, PolicyState]:
        """The evaluation, or None where equal weights were judged at this step before."""
        from lorabench.generation.adapter import read_adapter
        from lorabench.generation.live_backend import save_live_adapter
        from lorabench.training.checkpoint_judging import unmeasured_evaluation
        from lorabench.training.guard import undisturbed
        from lorabench.training.guard_errors import NotRestoredError

        assert self._judge is not None
        course = self.course
        try:
            with undisturbed(self.pipeline, optimizer=self.optimizer, ema=self._ema):
                save_live_adapter(self.pipeline, file, adapter_name=self.adapter_name)
                known = self._known(training_step)
                if known is not None and known.adapter_digest == read_adapter(file).info.digest:
                    self._folder.event("known", training_step=training_step, reason=_SCREEN_HELD)
                    return self._known_again(known)
                course = self._without_from(training_step)
                evaluation, state = self._judge.judge_file(file, training_step=training_step, course=course)
                signals, reasons = self._drift()
            update = {
                "signals": {**evaluation.signals, **signals},
                "unmeasured": {**evaluation.unmeasured, **reasons},
            }
            return evaluation.model_copy(update=update), state
        except NotRestoredError:
            raise  # the training was disturbed: going on would train something else
        except Exception as error:  # a face: whatever an evaluation does, training is not ended by it
            _free_memory()
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
            settings = self.config.course
            return unmeasured_evaluation(
                training_step, checkpoint=None, reason=reason, settings=settings
            ), course.policy

    def _known(self, training_step: int) -> Evaluation | None:
        found = (one for one in self.course.evaluations if one.training_step == training_step)
        return next(found, None) or self._later.get(training_step)

    def _known_again(self, known: Evaluation) -> tuple[Evaluation | None, PolicyState]:
        from lorabench.training.checkpoint_judging import replay

        if known in self.course.evaluations:
            self.decision = known.decision
            return None, self.course.policy
        return known, replay((*self.course.evaluations, known), self.config.course)

    def _without_from(self, training_step: int) -> Course:
        """The course before a step: what a training that was set back had judged later belongs to other weights."""
        from lorabench.training.checkpoint_judging import replay

        earlier = tuple(one for one in self.course.evaluations if one.training_step < training_step)
        if len(earlier) == len(self.course.evaluations):
            return self.course
        dropped = [one.training_step for one in self.course.evaluations if one.training_step >= training_step]
        self._folder.event("superseded", training_steps=dropped)
        state = replay(earlier, self.config.course)
        self._course = self.course.model_copy(update={"evaluations": earlier, "policy": state})
        return self._course

    def _record(self, evaluation: Evaluation, *, file: Path, policy_state: PolicyState) -> None:
        from lorabench.training.checkpoint_judging import STYLE

        if file.exists():
            kept = self._folder.keep(evaluation.training_step, file)
            evaluation = evaluation.model_copy(update={"kept": str(kept)})
        evaluations = (*self.course.evaluations, evaluation)
        choice = choose(evaluations, style_signal=STYLE)
        self._course = self.course.model_copy(
            update={"evaluations": evaluations, "policy": policy_state, "best": choice.training_step}
        )
        self._folder.save(self._course)
        self.decision = evaluation.decision
        self._folder.event(
            "evaluated",
            training_step=evaluation.training_step,
            action=str(evaluation.decision.action),
            reason=str(evaluation.decision.reason),
            sentence=evaluation.decision.sentence,
            seconds=round(evaluation.seconds, 3),
        )
        if finding := divided(self._loss, evaluations):
            self._folder.event("loss", training_step=finding.training_step, finding="divided", says=finding.sentence)
        if self._log is not None:
            self._log(_numbers(evaluation), step=evaluation.training_step)
        self._prune()

    def _prune(self) -> None:
        """Keep the best, the alarmed and the last; all if asked."""
        if self.config.course.keep == "all":
            return
        evaluations = self.course.evaluations
        steps = {one.training_step for one in evaluations if one.alarmed} | {evaluations[-1].training_step}
        if self.course.best is not None:
            steps.add(self.course.best)
        gone = set(self._folder.prune(steps))
        if gone:
            left = tuple(
                one.model_copy(update={"kept": None}) if one.training_step in gone else one for one in evaluations
            )
            self._course = self.course.model_copy(update={"evaluations": left})
            self._folder.save(self._course)

    def _schedule(self, training_step: int, *, seconds: float) -> None:
        """The next evaluation: after the configured number of steps, or later where that would cost too much time."""
        settings = self.config.course
        steps = settings.every_n_steps
        if self._step_seconds > 0:
            steps = max(steps, math.ceil(seconds / settings.budget / self._step_seconds))
        self._next_step = training_step + steps
        self._clock = None

    def _time_step(self, training_step: int) -> None:
        now = time.perf_counter()
        if self._clock is not None and training_step > self._clock[1]:
            seconds = (now - self._clock[0]) / (training_step - self._clock[1])
            self._step_seconds = seconds if not self._step_seconds else 0.9 * self._step_seconds + 0.1 * seconds
        self._clock = (now, training_step)

    def _loss_is_finite(self, training_step: int, loss: Any, grad_norm: Any) -> bool:
        findings = self._loss.add(training_step, float(loss), None if grad_norm is None else float(grad_norm))
        for finding in findings:
            self._folder.event("loss", training_step=training_step, finding=str(finding.kind), says=finding.sentence)
        bad = [finding for finding in findings if finding.kind is FindingKind.NOT_FINITE]
        if bad:
            self.decision = policy.hard_stop(Reason.NOT_FINITE, training_step=training_step, detail=bad[0].sentence)
        return not bad


def _numbers(evaluation: Evaluation) -> dict[str, float]:
    """What a tracker draws."""
    numbers = {f"lorabench/{name}": value for name, value in evaluation.signals.items()}
    for reading in evaluation.screen:
        numbers[f"lorabench/{reading.gate}/harm"] = reading.harm
    return numbers


def _without_pruned_copies(course: Course) -> Course:
    """A stored state may name copies that the training went on to prune before it was set back."""
    evaluations = (
        one if one.kept is None or Path(one.kept).exists() else one.model_copy(update={"kept": None})
        for one in course.evaluations
    )
    return course.model_copy(update={"evaluations": tuple(evaluations)})


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


__all__ = ["Monitor", "OtherCourseError"]
