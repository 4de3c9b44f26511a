"""One checkpoint: screen it, confirm on fresh seeds if the screen alarms, decide."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorabench.errors import MeasurementError
from lorabench.evaluation.engine import open_run
from lorabench.evaluation.gates import configured_gates
from lorabench.generation.adapter import read_adapter
from lorabench.generation.adapter_errors import NeverTrainedError, NoEffectError, NotFiniteError
from lorabench.records.comparison import Comparison, Outcome, Verdict
from lorabench.records.course import Course, Decision, Evaluation, GuardReading, PolicyState, Reason
from lorabench.records.plan import Arm
from lorabench.records.record import digest_of
from lorabench.registry import METRICS
from lorabench.storage.heldout import check_held_out
from lorabench.storage.training_set import read_captions
from lorabench.training import policy

if TYPE_CHECKING:
    from lorabench.evaluation.judge_set import JudgeSet
    from lorabench.evaluation.observer import Observer
    from lorabench.generation.protocol import Backend
    from lorabench.records.config import Config, CourseConfig
    from lorabench.records.results import Results
    from lorabench.records.suite import Suite

GUARDS: Final = ("copy", "prompt", "anatomy", "palette")
"""Gates that can stop a training. Few, since each confirmation shares one error rate among them."""
STYLE: Final = "style"
"""Signal by which the best checkpoint is chosen: how much nearer than the control's its pictures are to the training
pictures, in LPIPS, mean over cases. Copying raises it too: it means something only where the copy guard holds."""
_SEED_SPACE: Final = 2**31


class CheckpointJudge:
    """Judges the checkpoints of one training, each with the same suite against the same base.

    Control pictures are made once per seed and serve every checkpoint.
    """

    def __init__(
        self,
        config: Config,
        *,
        suite: Suite,
        backend: Backend | None = None,
        judges: JudgeSet | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Keep what is needed; nothing is loaded yet.

        Args:
            config: Settings; its candidate is replaced by each checkpoint.
            suite: Held-out prompts of the screen.
            backend: A live pipeline's, or None for the configured base.
            judges: Instead of the configured ones.
            observer: Hears of progress.
        """
        self.config = config
        self.suite = suite
        self._backend, self._judges, self._observer = backend, judges, observer
        self._given = judges

    @property
    def identity(self) -> str:
        """Digest of everything that makes evaluations comparable: another one is another course.

        Patience, cadence and budget are not part of it: they may change between restarts.
        """
        gates = configured_gates(self.config.gates, suite=self.suite, brand=self.config.training_set.brand_palette)
        return digest_of(
            {
                "suite": self.suite.content_digest(),
                "settings": self.config.generation.model_dump(mode="json"),
                "style": self.config.style.model_dump(mode="json"),
                "base": self.config.model.base,
                "metrics": {gate.metric: METRICS.load(gate.metric).version for gate in gates},
                "margins": {gate.name: gate.margin for gate in gates},
                "seeds": [self.config.course.n_seeds, self.config.course.pool_size],
            }
        )

    def check_prompts(self, *others: Suite) -> None:
        """Refuse before the first step what every look would refuse: prompts that the adapter is trained on.

        Args:
            others: Further suites that will be used.

        Raises:
            HeldOutError: A prompt equals a training caption.
            MeasurementError: The training pictures or their captions cannot be found or read.
        """
        training = self.config.training_set
        if training.folder is None:
            return
        captions = read_captions(training.folder, training.captions)
        for suite in (self.suite, *others):
            check_held_out(suite, captions, style=self.config.style)

    def judge_file(self, path: Path, *, training_step: int, course: Course) -> tuple[Evaluation, PolicyState]:
        """Judge an adapter file.

        Args:
            path: The file, or a trainer's checkpoint folder.
            training_step: Optimiser step at which it was written.
            course: What was judged before.

        Returns:
            The evaluation with its decision, and what the stopping rule remembers from now on.

        Raises:
            SpecError: Suite, settings or the adapter's format are wrong.
            MeasurementError: It cannot be measured here. A dead adapter or one that is not finite is no error but a
                decision to stop.
        """
        started = time.perf_counter()
        state, digest = course.policy, None
        try:
            digest = read_adapter(path, alpha=self.config.candidate.alpha).info.digest
            evaluation, state = self._judged(path, training_step=training_step, course=course)
        except (NeverTrainedError, NoEffectError) as error:
            evaluation = self._stopped(Reason.DEAD_ADAPTER, path, training_step=training_step, error=error)
        except NotFiniteError as error:
            evaluation = self._stopped(Reason.NOT_FINITE, path, training_step=training_step, error=error)
        seconds = time.perf_counter() - started
        return evaluation.model_copy(update={"adapter_digest": digest, "seconds": seconds}), state

    def screen_seeds(self, index: int) -> tuple[int, ...]:
        """Seeds of the screen of the `index`-th evaluation: by turns from the pool."""
        settings = self.config.course
        first = index * settings.n_seeds
        return tuple(self._seed((first + k) % settings.pool_size) for k in range(settings.n_seeds))

    def confirmation_seeds(self, index: int) -> tuple[int, ...]:
        """Seeds of the `index`-th confirmation: used by nothing else."""
        settings = self.config.course
        count = settings.n_seeds * settings.confirmation_factor
        return tuple(self._seed(settings.pool_size + index * count + k) for k in range(count))

    def finalist_seeds(self) -> tuple[int, ...]:
        """Seeds on which finalists are measured again: used by neither screens nor confirmations."""
        return tuple(self._seed(-1 - k) for k in range(self.config.course.final_seeds))

    def free_base(self) -> None:
        """Forget the base model; the next measurement loads the configured one again."""
        self._backend = None

    def free_judges(self) -> None:
        """Forget the judges' networks; the next measurement loads them again."""
        self._judges = self._given

    def measure(self, path: Path, *, seeds: Sequence[int], suite: Suite | None = None) -> Results:
        """Pictures and numbers of one adapter on some seeds, kept as a run. Errors are those of `judge_file`.

        Args:
            path: The adapter.
            seeds: Seeds of every case.
            suite: Instead of the screen.
        """
        config = self.config.model_copy(
            update={
                "candidate": self.config.candidate.model_copy(update={"lora": str(path)}),
                "seeds": tuple(seeds),
                "arms": (Arm.CONTROL.value, Arm.CANDIDATE.value),
                "runs_dir": self.config.course.folder / "runs",
            }
        )
        run = open_run(
            config, suite=suite or self.suite, backend=self._backend, judges=self._judges, observer=self._observer
        )  # fmt: skip
        self._backend, self._judges = run.backend, run.judges
        with run.folder.claimed():
            results = run.finish()
        run.close()
        return results

    def _judged(self, path: Path, *, training_step: int, course: Course) -> tuple[Evaluation, PolicyState]:
        seeds = self.screen_seeds(len(course.evaluations))
        results = self.measure(path, seeds=seeds)
        readings, unmeasured = guard_readings(results)
        evaluation = Evaluation(
            training_step=training_step,
            checkpoint=str(path),
            seeds=seeds,
            screen=readings,
            unmeasured=unmeasured,
            signals=signals(results),
            run_ids=(results.run_id,),
            decision=Decision(sentence="", training_step=training_step),
        )
        if broken := _broken(results):
            settings = self.config.course
            decision = policy.hard_stop(
                Reason.BROKEN_PICTURES, training_step=training_step, detail=broken, settings=settings
            )
            return evaluation.model_copy(update={"decision": decision}), course.policy
        if not readings:
            reason = "; ".join(f"{gate}: {why}" for gate, why in unmeasured.items()) or "the suite has no guard's cases"
            msg = f"a checkpoint must be readable by at least one guard; none was. {reason}"
            raise MeasurementError(msg)
        return self._decided(evaluation, path, course=course)

    def _decided(self, evaluation: Evaluation, path: Path, *, course: Course) -> tuple[Evaluation, PolicyState]:
        settings = self.config.course
        alarmed, state = policy.alarms(evaluation.screen, course.policy, settings)
        found: dict[str, Any] = {"alarmed": alarmed}
        confirmed: tuple[GuardReading, ...] = ()
        if alarmed:
            earlier = sum(bool(one.confirmation_seeds) for one in course.evaluations)
            seeds = self.confirmation_seeds(earlier)
            results = self.measure(path, seeds=seeds)
            confirmed, _ = guard_readings(results)
            found |= {
                "confirmation_seeds": seeds,
                "confirmation": confirmed,
                "run_ids": (*evaluation.run_ids, results.run_id),
            }
        decision, state = policy.conclude(
            training_step=evaluation.training_step, alarmed=alarmed, confirmed=confirmed, state=state, settings=settings
        )
        return evaluation.model_copy(update={**found, "decision": decision}), state

    def _stopped(self, reason: Reason, path: Path, *, training_step: int, error: MeasurementError) -> Evaluation:
        settings = self.config.course
        return Evaluation(
            training_step=training_step,
            checkpoint=str(path),
            unmeasured={"everything": str(error)},
            decision=policy.hard_stop(reason, training_step=training_step, detail=str(error), settings=settings),
        )

    def _seed(self, place: int) -> int:
        digest = hashlib.sha256(f"course\0{self.suite.name}\0{place}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % _SEED_SPACE


def replay(evaluations: Sequence[Evaluation], settings: CourseConfig) -> PolicyState:
    """What the stopping rule remembers after these evaluations; for a training that was set back."""
    state = PolicyState()
    for one in evaluations:
        if not one.screen or one.decision.reason is Reason.BROKEN_PICTURES:
            continue
        alarmed, state = policy.alarms(one.screen, state, settings)
        _, state = policy.conclude(
            training_step=one.training_step,
            alarmed=alarmed,
            confirmed=one.confirmation,
            state=state,
            settings=settings,
        )
    return state


def guard_readings(
    results: Results, *, guards: Iterable[str] = GUARDS
) -> tuple[tuple[GuardReading, ...], dict[str, str]]:
    """Each guard's harm against the control, and why others have none.

    Args:
        results: Of one run.
        guards: Names of gates.

    Returns:
        Readings in the order of the gates, and gate to reason.
    """
    wanted = set(guards)
    readings, reasons = [], {}
    for verdict in results.gates:
        if verdict.gate not in wanted:
            continue
        if verdict.comparison is None:
            reasons[verdict.gate] = verdict.reason
        else:
            readings.append(_reading(verdict, verdict.comparison))
    return tuple(readings), reasons


def signals(results: Results) -> dict[str, float]:
    """What the course is drawn from: means of the candidate's pictures by metric, indices, and the style's uptake.

    Means are over cases, each over its seeds, as everywhere.
    """
    found = {name: _mean(_mean(v) for v in cases.values()) for name, cases in _by_case(results, Arm.CANDIDATE).items()}
    found |= {item.metric: item.value for item in results.set_measurements}
    return found | _style_signal(results)


def _style_signal(results: Results) -> dict[str, float]:
    metric = "nearest_training_distance"
    candidate = _by_case(results, Arm.CANDIDATE).get(metric, {})
    control = _by_case(results, Arm.CONTROL).get(metric, {})
    gains = [_mean(control[case]) - _mean(candidate[case]) for case in candidate if case in control]
    if len(gains) < 2:
        return {}
    mean = _mean(gains)
    spread = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1))
    return {STYLE: mean, f"{STYLE}_se": spread / math.sqrt(len(gains))}


def _by_case(results: Results, arm: Arm) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    for item in results.measurements:
        if item.cell.arm is arm:
            found.setdefault(item.metric, {}).setdefault(item.cell.case, []).append(item.value)
    return found


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _reading(verdict: Verdict, comparison: Comparison) -> GuardReading:
    from scipy.stats import t

    gain, gain_low, gain_high = comparison.oriented()
    degrees = max(comparison.n_cases - 1, 1)
    half_width = float(t.ppf(0.5 + comparison.confidence_level / 2, degrees))
    # The interval may be wider than a plain t-interval (rare whole losses); its width is what is known.
    standard_error = max(gain_high - gain_low, 0.0) / 2 / half_width
    beyond = -gain - verdict.margin
    p = float(t.sf(beyond / standard_error, degrees)) if standard_error > 0 else float(beyond <= 0)
    return GuardReading(
        gate=verdict.gate,
        metric=verdict.metric,
        harm=-gain,
        standard_error=standard_error,
        margin=verdict.margin,
        n_cases=comparison.n_cases,
        low=-gain_high,
        high=-gain_low,
        p_beyond_margin=p,
    )


def _broken(results: Results) -> str | None:
    return next((one.reason for one in results.gates if one.gate == "broken" and one.outcome is Outcome.FAIL), None)


def unmeasured_evaluation(
    training_step: int, *, checkpoint: str | None, reason: str, settings: CourseConfig | None = None
) -> Evaluation:
    """An evaluation that failed: recorded with its reason. Training goes on unless the settings ask to stop then."""
    if settings is not None and settings.on_error == "stop":
        decision = policy.hard_stop(Reason.NOT_MEASURED, training_step=training_step, detail=reason, settings=settings)
    else:
        sentence = f"Step {training_step} was not measured: {reason.rstrip('.')}. Training goes on."
        decision = Decision(reason=Reason.NOT_MEASURED, sentence=sentence, training_step=training_step)
    return Evaluation(
        training_step=training_step, checkpoint=checkpoint, unmeasured={"everything": reason}, decision=decision
    )
