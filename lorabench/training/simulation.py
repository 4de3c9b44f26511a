"""Simulated trainings, judged by `policy`: how often it stops one that is healthy, and how late one that is not.

What is drawn is what the screens and confirmations of a real course would read: case means of a fixed suite, with
seeds nested in cases, a true harm that depends on the checkpoint, and t-intervals and p-values over cases. What
decides is `policy` itself, checkpoint by checkpoint, never a copy of its rules. Two rules that people use instead are
carried along on the same screens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lorabench.records.config import CourseConfig
from lorabench.records.course import Action, GuardReading, PolicyState
from lorabench.statistics.intervals import Interval, wilson_interval
from lorabench.statistics.power import cases_needed, minimum_detectable_effect
from lorabench.training import policy

COURSE_RULE: Final = "lorabench"
AGAINST_ZERO: Final = "test against 0"
AGAINST_MARGIN: Final = "test against the margin"
TWICE_OVER_MARGIN: Final = "over the margin twice running"
RULES: Final = (COURSE_RULE, AGAINST_ZERO, AGAINST_MARGIN, TWICE_OVER_MARGIN)

CONFIDENCE_LEVEL: Final = 0.95
DROPS: Final = (1.5, 2.0, 3.0)
DIPS: Final = (2.0, 3.0)
RARE: Final = 0.05
"""Share of draws that are large where noise is skewed; its skewness is then 4.1."""
RUNS_AT_ONCE: Final = 500
"""Courses drawn together; bounds the memory, and is part of what a seed means."""


class Noise(StrEnum):
    """How differences are spread, between seeds and between cases; mean and standard deviation are the same in all."""

    NORMAL = "normal"
    RARE_LOSSES = "rare-losses"
    """Few are much worse, the others a little better: a subject that is sometimes missing."""
    RARE_GAINS = "rare-gains"
    """Few are much better, the others a little worse."""


@dataclass(frozen=True, slots=True)
class Design:
    """A suite, its noise, and the course of a training.

    Attributes:
        n_cases: Cases of the screening suite, at least 2.
        n_seeds: Seeds per case of a screen.
        seed_sd: Standard deviation of a paired difference between seeds of one case, in the metric's unit.
        case_sd: Standard deviation of the true difference between cases. Drawn once per training: the suite is fixed.
        wobble: Standard deviation of the true harm between neighbouring checkpoints of a training at rest.
        margin: Largest harm tolerated.
        n_checkpoints: Checkpoints judged.
        n_gates: Guards, with independent noise. Harm, where there is any, lies in the first.
        onset: The checkpoint from which harm lasts, counted from 1; also that of a dip.
        noise: Shape of the differences between seeds and between cases.
    """

    n_cases: int = 15
    n_seeds: int = 2
    seed_sd: float = 0.30
    case_sd: float = 0.10
    wobble: float = 0.03
    margin: float = 0.10
    n_checkpoints: int = 20
    n_gates: int = 4
    onset: int = 9
    noise: Noise = Noise.NORMAL

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated.

        Raises:
            ValueError: A number is out of its range.
        """
        counts = (self.n_seeds, self.n_checkpoints, self.n_gates)
        if self.n_cases < 2 or min(counts) < 1:
            msg = f"a design needs 2 cases and at least one seed, checkpoint and guard; got {self}. Raise the counts."
            raise ValueError(msg)
        if not (self.seed_sd > 0 and self.margin > 0 and self.case_sd >= 0 and self.wobble >= 0):
            msg = f"seed_sd and margin must be positive, case_sd and wobble not negative; got {self}. Measure them."
            raise ValueError(msg)
        if not 1 <= self.onset <= self.n_checkpoints:
            msg = f"onset must be one of the {self.n_checkpoints} checkpoints; got {self.onset}. Count from 1."
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What really happens to a training.

    Attributes:
        name: In words.
        harm: True harm of the first guard at each checkpoint, in margins.
        onset: Index from 0 of the first checkpoint from which the harm is beyond the margin for good; None if it
            never is, so that every stop is a false one.
        dip: Index of the one bad checkpoint; None without.
    """

    name: str
    harm: tuple[float, ...]
    onset: int | None = None
    dip: int | None = None


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """How one rule did in one scenario.

    Attributes:
        rule: One of `RULES`.
        n_runs: Trainings simulated.
        n_false: Trainings stopped while they were within the margin, or for a dip.
        stops_by_delay: Rightly stopped trainings by checkpoints since the onset; empty where no stop is right.
    """

    rule: str
    n_runs: int
    n_false: int
    stops_by_delay: tuple[int, ...]

    @property
    def false_stops(self) -> Interval:
        """Share of trainings stopped though they should not be, with its Wilson interval."""
        return wilson_interval(self.n_false, self.n_runs, confidence_level=CONFIDENCE_LEVEL)

    @property
    def right_stops(self) -> Interval | None:
        """Share of trainings stopped rightly, with its Wilson interval; None where no stop is right."""
        if not self.stops_by_delay:
            return None
        return wilson_interval(sum(self.stops_by_delay), self.n_runs, confidence_level=CONFIDENCE_LEVEL)

    def delay(self, share: float) -> int | None:
        """Checkpoints after the onset until this share of all trainings not stopped too early was stopped.

        Zero is the first harmful checkpoint itself.

        Args:
            share: In (0, 1]: 0.5 for the median.

        Returns:
            The delay; None if the course ends before so many are stopped, or no stop is right.
        """
        wanted = share * (self.n_runs - self.n_false)
        total = 0
        for delay, n in enumerate(self.stops_by_delay):
            total += n
            if n and total >= wanted:
                return delay
        return None


@dataclass(frozen=True, slots=True)
class ScenarioOutcome:
    """How all rules did in one scenario.

    Attributes:
        scenario: What happened.
        rules: One outcome per rule; the first is that of `policy`.
        n_rejected: Trainings in which `policy` rejected, or stopped at, the one bad checkpoint; None without a dip.
        extra_pictures: Pictures of confirmations per picture of screens, over all checkpoints judged.
    """

    scenario: Scenario
    rules: tuple[RuleOutcome, ...]
    n_rejected: int | None
    extra_pictures: float

    @property
    def course(self) -> RuleOutcome:
        """Of `policy`."""
        return self.rules[0]

    @property
    def rejected(self) -> Interval | None:
        """Share of trainings whose bad checkpoint was rejected, with its Wilson interval; None without a dip."""
        if self.n_rejected is None:
            return None
        return wilson_interval(self.n_rejected, self.course.n_runs, confidence_level=CONFIDENCE_LEVEL)


@dataclass(frozen=True, slots=True)
class _Readings:
    """Readings of many looks at once, each of shape (runs, checkpoints, guards)."""

    harm: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    half_width: NDArray[np.float64]
    p_beyond_margin: NDArray[np.float64]
    p_worse: NDArray[np.float64]


@dataclass(slots=True)
class _Tally:
    """What is counted over simulated courses."""

    stops: dict[str, list[int]]
    n_rejected: int = 0
    n_looks: int = 0
    n_confirmations: int = 0


def scenarios(design: Design, *, drops: Sequence[float] = DROPS, dips: Sequence[float] = DIPS) -> tuple[Scenario, ...]:
    """The courses that a stopping rule must tell apart.

    Args:
        design: Number of checkpoints and onset.
        drops: Lasting harms in margins, each at least 1. At 1 the training is at its margin: there no answer is wrong.
        dips: Harms of a single checkpoint, in margins, positive.

    Returns:
        Healthy, half a margin, one dip at the onset per size, one lasting drop per size, a slow drift that is at the
        margin at the onset and grows on.

    Raises:
        ValueError: A drop is smaller than the margin, or a dip is none.
    """
    small = [drop for drop in drops if not drop >= 1] + [dip for dip in dips if not dip > 0]
    if small:
        msg = f"drops must be at least 1 margin and dips positive; got {small}. Within the margin no stop is right."
        raise ValueError(msg)
    at, n = design.onset - 1, design.n_checkpoints
    return (
        Scenario("nothing is wrong", (0.0,) * n),
        Scenario("half a margin throughout", (0.5,) * n),
        *(
            Scenario(
                f"{_margins(dip)} at checkpoint {design.onset} only", tuple(dip * (i == at) for i in range(n)), dip=at
            )
            for dip in dips
        ),
        *(
            Scenario(
                f"{_margins(drop)} from checkpoint {design.onset} on",
                tuple(drop * (i >= at) for i in range(n)),
                onset=at,
            )
            for drop in drops
        ),
        Scenario(
            f"drift, 1 margin at checkpoint {design.onset}",
            tuple((i + 1) / design.onset for i in range(n)),
            onset=design.onset if design.onset < n else None,
        ),
    )


def simulate(
    scenario: Scenario, design: Design, *, settings: CourseConfig, n_runs: int, rng: np.random.Generator
) -> ScenarioOutcome:
    """Judge simulated trainings checkpoint by checkpoint with `policy`, until it stops or the course ends.

    Every screen and every confirmation has fresh seeds. Readings are what a real look would give: t-intervals over
    case means with the spread estimated from them.

    Args:
        scenario: What really happens.
        design: Sizes and noise; its `n_seeds` counts, not that of the settings.
        settings: The `[course]` table: alarms, confirmations, levels.
        n_runs: Trainings.
        rng: Source of the noise.

    Returns:
        What each rule did.

    Raises:
        ValueError: The scenario has another number of checkpoints than the design, or there is no run.
    """
    if len(scenario.harm) != design.n_checkpoints or n_runs < 1:
        msg = (
            f"a simulation needs at least one run and one harm per checkpoint; got {n_runs} runs, "
            f"{len(scenario.harm)} harms, {design.n_checkpoints} checkpoints. Make the scenario from the design."
        )
        raise ValueError(msg)
    acting = settings.model_copy(update={"stop": True})
    tally = _Tally({rule: [] for rule in RULES})
    for start in range(0, n_runs, RUNS_AT_ONCE):
        n = min(RUNS_AT_ONCE, n_runs - start)
        screens, confirmations = _looks(scenario, design, settings=acting, n_runs=n, rng=rng)
        for run in range(n):
            _judge(run, screens, confirmations, scenario=scenario, design=design, settings=acting, tally=tally)
        for rule, stops in _other_rules(screens, design, settings=acting).items():
            tally.stops[rule] += _first(stops)
    return ScenarioOutcome(
        scenario=scenario,
        rules=tuple(_outcome(rule, stops, scenario, design) for rule, stops in tally.stops.items()),
        n_rejected=None if scenario.dip is None else tally.n_rejected,
        extra_pictures=tally.n_confirmations * settings.confirmation_factor / tally.n_looks,
    )


def simulate_all(
    design: Design,
    *,
    settings: CourseConfig,
    n_runs: int,
    seed: int,
    drops: Sequence[float] = DROPS,
    dips: Sequence[float] = DIPS,
) -> Iterator[ScenarioOutcome]:
    """Simulate all `scenarios`, each on a stream of its own, so that one more drop moves no other's numbers.

    Args:
        design: Sizes and noise.
        settings: The `[course]` table.
        n_runs: Trainings per scenario.
        seed: Equal seeds give equal numbers.
        drops: Lasting harms in margins, each at least 1.
        dips: Harms of a single checkpoint, in margins.

    Yields:
        One outcome per scenario, in the order of `scenarios`.
    """
    for scenario in scenarios(design, drops=drops, dips=dips):
        rng = np.random.default_rng([seed, *scenario.name.encode()])
        yield simulate(scenario, design, settings=settings, n_runs=n_runs, rng=rng)


def shown_harm(design: Design, *, n_seeds: int, significance_level: float) -> float:
    """Smallest true harm that one look shows to be beyond the margin with a probability of 90 %.

    Args:
        design: Cases, noise and margin.
        n_seeds: Seeds per case of the look.
        significance_level: One-sided, in (0, 1).

    Returns:
        The harm, in the metric's unit: the margin and what `minimum_detectable_effect` adds to it.

    Raises:
        ValueError: A number is out of its range.
    """
    return design.margin + minimum_detectable_effect(
        design.n_cases,
        n_seeds,
        seed_sd=design.seed_sd,
        case_sd=design.case_sd,
        significance_level=significance_level,
    )


def cases_to_show(drop: float, design: Design, *, n_seeds: int, significance_level: float) -> int:
    """Cases with which one look shows a drop to be beyond the margin with a probability of 90 %.

    Args:
        drop: True harm in margins, more than 1.
        design: Noise and margin; its number of cases does not count.
        n_seeds: Seeds per case of the look.
        significance_level: One-sided, in (0, 1).

    Returns:
        The number of cases.

    Raises:
        ValueError: A number is out of its range, or the drop is not beyond the margin.
    """
    sd = math.hypot(design.case_sd, design.seed_sd / math.sqrt(n_seeds))
    return cases_needed(sd, (drop - 1) * design.margin, significance_level=significance_level)


def _margins(size: float) -> str:
    return f"{size:g} margin{'' if size == 1 else 's'}"


# ---------------------------------------------------------------------------------------------------- what is drawn


def _looks(
    scenario: Scenario, design: Design, *, settings: CourseConfig, n_runs: int, rng: np.random.Generator
) -> tuple[_Readings, _Readings]:
    """Screens of all checkpoints, and the confirmations that would follow an alarm."""
    shape = (n_runs, design.n_checkpoints, design.n_gates)
    harm = rng.normal(0.0, design.wobble, shape)
    harm[:, :, 0] += design.margin * np.array(scenario.harm)
    cases = _spread(rng, design.noise, sd=design.case_sd, shape=(n_runs, 1, design.n_gates, design.n_cases))
    true = harm[..., np.newaxis] + cases  # (runs, checkpoints, guards, k)
    n_fresh = design.n_seeds * settings.confirmation_factor
    screens, confirmations = (
        _read(true + _spread(rng, design.noise, sd=design.seed_sd, shape=true.shape, n=n), design)
        for n in (design.n_seeds, n_fresh)
    )
    return screens, confirmations


def _spread(
    rng: np.random.Generator, noise: Noise, *, sd: float, shape: tuple[int, ...], n: int = 1
) -> NDArray[np.float64]:
    """Means of n independent draws each, with mean 0 and standard deviation sd / sqrt(n), of this shape."""
    if noise is Noise.NORMAL:
        return rng.normal(0.0, sd / math.sqrt(n), shape)
    losses = sd * (rng.binomial(n, RARE, shape) / n - RARE) / math.sqrt(RARE * (1 - RARE))
    return losses if noise is Noise.RARE_LOSSES else -losses


def _read(case_means: NDArray[np.float64], design: Design) -> _Readings:
    """T-intervals over cases, as a real look has them; case means have shape (runs, checkpoints, guards, k)."""
    from scipy.special import stdtr, stdtrit

    df = design.n_cases - 1
    harm = case_means.mean(axis=-1)
    error = case_means.std(axis=-1, ddof=1) / math.sqrt(design.n_cases)
    return _Readings(
        harm=harm,
        standard_error=error,
        half_width=float(stdtrit(df, 0.5 + CONFIDENCE_LEVEL / 2)) * error,
        p_beyond_margin=stdtr(df, -_in_errors(harm - design.margin, error)),
        p_worse=stdtr(df, -_in_errors(harm, error)),
    )


def _in_errors(excess: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
    """In standard errors; without any spread infinitely many, on the side where it lies."""
    return np.divide(excess, error, out=np.copysign(np.inf, excess), where=error > 0)


def _guards(looks: _Readings, run: int, checkpoint: int, *, design: Design) -> list[GuardReading]:
    """The readings of one look, as `policy` takes them."""
    at = (run, checkpoint)
    return [
        GuardReading(
            gate=f"guard-{i + 1}",
            metric="simulated",
            harm=harm,
            standard_error=error,
            margin=design.margin,
            n_cases=design.n_cases,
            low=harm - half,
            high=harm + half,
            p_beyond_margin=p_value,
        )
        for i, (harm, error, half, p_value) in enumerate(
            zip(
                looks.harm[at].tolist(),
                looks.standard_error[at].tolist(),
                looks.half_width[at].tolist(),
                looks.p_beyond_margin[at].tolist(),
                strict=True,
            )
        )
    ]


# -------------------------------------------------------------------------------------------------------- who decides


def _judge(
    run: int,
    screens: _Readings,
    confirmations: _Readings,
    *,
    scenario: Scenario,
    design: Design,
    settings: CourseConfig,
    tally: _Tally,
) -> None:
    """Take one training through `policy` and count what happened."""
    state = PolicyState()
    stopped = -1
    for checkpoint in range(design.n_checkpoints):
        alarmed, state = policy.alarms(_guards(screens, run, checkpoint, design=design), state, settings)
        fresh = _guards(confirmations, run, checkpoint, design=design) if alarmed else []
        decision, state = policy.conclude(
            training_step=checkpoint, alarmed=alarmed, confirmed=fresh, state=state, settings=settings
        )
        tally.n_looks += 1
        tally.n_confirmations += bool(alarmed)
        if checkpoint == scenario.dip:
            tally.n_rejected += decision.action is not Action.CONTINUE
        if decision.action is Action.STOP:
            stopped = checkpoint
            break
    tally.stops[COURSE_RULE].append(stopped)


def _other_rules(screens: _Readings, design: Design, *, settings: CourseConfig) -> dict[str, NDArray[np.bool_]]:
    """Where other rules would stop, by any guard, shape (runs, checkpoints); each sees the same screens."""
    over = screens.harm > design.margin
    twice = np.zeros_like(over)
    twice[:, 1:] = over[:, 1:] & over[:, :-1]
    each_look = {
        AGAINST_ZERO: screens.p_worse <= settings.confirmation_level,
        AGAINST_MARGIN: screens.p_beyond_margin <= settings.confirmation_level,
        TWICE_OVER_MARGIN: twice,
    }
    return {rule: np.asarray(stops.any(axis=-1)) for rule, stops in each_look.items()}


def _first(stops: NDArray[np.bool_]) -> list[int]:
    """The first checkpoint at which each run stops; -1 for none."""
    return [int(i) for i in np.where(stops.any(axis=1), stops.argmax(axis=1), -1)]


def _outcome(rule: str, stops: Sequence[int], scenario: Scenario, design: Design) -> RuleOutcome:
    if scenario.onset is None:
        return RuleOutcome(rule, len(stops), sum(stop >= 0 for stop in stops), ())
    delays = [stop - scenario.onset for stop in stops if stop >= 0]
    right = tuple(delays.count(delay) for delay in range(design.n_checkpoints - scenario.onset))
    return RuleOutcome(rule, len(stops), sum(delay < 0 for delay in delays), right)
