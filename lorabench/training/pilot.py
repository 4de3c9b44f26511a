"""A pilot on one's own base: how far metrics spread, what pairing is worth, and which margins that allows.

With a base alone the control's own seeds are split: two arms that share the case and nothing else show what noise
alone does. With an adapter (a healthy one, not the one to be judged) the paired differences themselves are measured.
All pictures are those of an ordinary run on the suite's seeds first, then on the seeds of a course's screens; what the
pilot made, later runs find in the cache.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from lorabench.errors import MeasurementError
from lorabench.evaluation.comparing import BOUNDED_UNITS, values_of
from lorabench.evaluation.engine import open_run
from lorabench.evaluation.gates import Gate, configured_gates
from lorabench.evaluation.measuring import CELL_METRICS
from lorabench.records.comparison import Comparison
from lorabench.records.pilot import Advice, Difference, MetricPilot, Pilot, Ranged, Spread
from lorabench.records.plan import Arm
from lorabench.statistics.intervals import t_interval
from lorabench.statistics.pairing import paired_differences
from lorabench.statistics.power import cases_needed
from lorabench.statistics.variance_components import (
    Components,
    Estimate,
    cases_for_events,
    components,
    seeds_needed,
    smallest_margin,
    within_correlation,
)
from lorabench.training.checkpoint_judging import GUARDS, CheckpointJudge
from lorabench.training.simulation import Design, Noise, Scenario, simulate

if TYPE_CHECKING:
    from lorabench.evaluation.judge_set import JudgeSet
    from lorabench.evaluation.observer import Observer
    from lorabench.generation.protocol import Backend
    from lorabench.records.config import Config
    from lorabench.records.measurement import Metric
    from lorabench.records.results import Results
    from lorabench.records.suite import Suite

POWER: Final = 0.8
CONFIDENCE_LEVEL: Final = 0.90
"""Of the pilot's own intervals: each end is exceeded in one of twenty."""
N_SIMULATED: Final = 200
"""Trainings per gate in the check of false stops."""
ASSUMED: Final = {"case_sd": 1.0, "wobble": 0.3}
"""In margins, where the pilot cannot tell; those of `lorabench power`."""
MOST_SEEDS: Final = 32
"""Seeds per case beyond which advice says that more seeds cannot help."""
Values = Mapping[tuple[str, int], float]


@dataclass(frozen=True, slots=True)
class Setting:
    """What every gate's advice rests on."""

    config: Config
    suite_seeds: int
    n_guards: int

    @property
    def significance_level(self) -> float:
        """One-sided, of a PASS."""
        return (1 - self.config.statistics.confidence_level) / 2

    def rng(self) -> np.random.Generator:
        """Equal settings give equal intervals."""
        return np.random.default_rng(self.config.statistics.seed)


def pilot_seeds(config: Config, suite: Suite, n_seeds: int) -> tuple[int, ...]:
    """Seeds of a pilot: the suite's (or the settings') first, then those of a course's screens, in their order.

    Args:
        config: Settings.
        suite: The held-out prompts.
        n_seeds: How many.

    Returns:
        Distinct seeds; fewer than asked for where both together are fewer.
    """
    own = suite.seeds if config.seeds is None else config.seeds
    judge = CheckpointJudge(config, suite=suite)
    course = config.course
    screens = [seed for i in range(-(-course.pool_size // course.n_seeds)) for seed in judge.screen_seeds(i)]
    return tuple(dict.fromkeys((*own, *screens)))[:n_seeds]


def measure_pilot(
    config: Config,
    *,
    suite: Suite,
    n_seeds: int,
    observer: Observer | None = None,
    backend: Backend | None = None,
    judges: JudgeSet | None = None,
    line_of: Mapping[str, int] | None = None,
    command: str = "",
) -> Pilot:
    """Make the pilot's pictures, or find them in the cache, and say what they allow.

    Args:
        config: Settings; with a candidate, its differences are measured.
        suite: The held-out prompts.
        n_seeds: Seeds per case, at least 2.
        observer: Hears of progress.
        backend: Instead of the configured one.
        judges: Instead of the configured ones.
        line_of: Case id to line of the suite's file, for messages.
        command: What a person would type to repeat it.

    Raises:
        SpecError: Suite, settings or adapter file are wrong.
        MeasurementError: It cannot be measured here.
    """
    started = time.perf_counter()
    arms = (Arm.CONTROL.value, *((Arm.CANDIDATE.value,) if config.candidate.lora else ()))
    piloted = config.model_copy(update={"arms": arms, "seeds": pilot_seeds(config, suite, n_seeds), "baseline": None})
    run = open_run(
        piloted,
        suite=suite,
        observer=observer,
        backend=backend,
        judges=judges,
        line_of=line_of,
        command=command,
    )
    try:
        with run.folder.claimed():
            results = run.finish()
    finally:
        run.close()
    pilot = pilot_of(results, config=config)
    return pilot.model_copy(update={"seconds": time.perf_counter() - started})


def pilot_of(results: Results, *, config: Config) -> Pilot:
    """Read a pilot off the results of a run.

    Args:
        results: Of the control, and of an adapter if there is one.
        config: Settings: margins, levels, the rule of a course, the suite's seeds.
    """
    suite_seeds = len(results.suite.seeds if config.seeds is None else config.seeds)
    gates = configured_gates(
        config.gates,
        suite=results.suite,
        training=bool(results.training),
        brand=config.training_set.brand_palette,
    )
    by_metric = {gate.metric: gate for gate in gates if not gate.hard}
    measured = {item.metric for item in results.measurements}
    n_guards = sum(gate.name in GUARDS and gate.metric in measured for gate in gates)
    setting = Setting(config, suite_seeds=suite_seeds, n_guards=max(n_guards, 1))
    ordered = [*by_metric, *(metric.name for metric in CELL_METRICS if metric.name not in by_metric)]
    cells = {metric.name: metric for metric in CELL_METRICS}
    found = tuple(
        _of_cells(results, cells[name], by_metric.get(name), setting)
        if name in cells
        else _of_index(results, by_metric[name], setting)
        for name in ordered
    )
    return Pilot(
        suite=results.suite.name,
        base=results.base.name,
        adapter=None if results.candidate is None else results.candidate.name,
        run_id=results.run_id,
        n_cases=len({one.cell.case for one in results.plan}),
        n_seeds=len({one.cell.seed for one in results.plan}),
        suite_seeds=suite_seeds,
        confidence_level=CONFIDENCE_LEVEL,
        significance_level=setting.significance_level,
        power=POWER,
        n_generated=results.provenance.n_generated,
        n_from_cache=results.provenance.n_from_cache,
        metrics=found,
    )


# ---------------------------------------------------------------------------------------------- metrics of a picture


def _of_cells(results: Results, metric: Metric, gate: Gate | None, setting: Setting) -> MetricPilot:
    control, candidate = (
        values_of(results.measurements, metric=metric.name, arm=arm) for arm in (Arm.CONTROL, Arm.CANDIDATE)
    )
    found = MetricPilot(metric=metric.name, metric_version=metric.version)
    try:
        alone = _components(control)
    except MeasurementError as error:
        return found.model_copy(update={"unmeasured": _why(results, metric.name) or str(error)})
    found = found.model_copy(update={"control": _spread(alone, control)})
    try:
        paired = _paired(candidate, control) if results.candidate is not None else _unpaired(alone)
    except MeasurementError as error:
        return found.model_copy(update={"unmeasured": _why(results, metric.name) or str(error)})
    if paired is None:
        return found.model_copy(update={"unmeasured": "no case has two pictures, so seeds cannot be told from cases"})
    difference = _difference(paired, setting, adapter=results.candidate is not None)
    if results.candidate is not None:
        difference = difference.model_copy(update={"rho": _rho(candidate, control, setting)})
    advice = None
    if gate is not None:
        unseen = metric.unit in BOUNDED_UNITS and paired.of_means.value == 0
        advice = _advice(gate, paired, difference, setting, event=gate.support is not None or unseen)
    return found.model_copy(update={"difference": difference, "advice": advice})


def _components(values: Values) -> Components:
    keys = sorted(values)
    return components(
        [values[key] for key in keys], np.array([case for case, _ in keys]), confidence_level=CONFIDENCE_LEVEL
    )


def _paired(candidate: Values, control: Values) -> Components:
    common = candidate.keys() & control.keys()
    differences, cases = paired_differences(
        {key: candidate[key] for key in common}, {key: control[key] for key in common}
    )
    return components(differences, cases, confidence_level=CONFIDENCE_LEVEL)


def _unpaired(alone: Components) -> Components | None:
    """Differences of two arms with seeds of their own: the case cancels, the variance between seeds doubles."""
    if alone.within is None:
        return None
    within = alone.within.of(lambda end: math.sqrt(2) * end)
    nothing = Estimate(0.0, 0.0, 0.0)
    of_means = within.of(lambda end: end / math.sqrt(alone.seeds_per_case))
    return replace(alone, mean=0.0, between=nothing, within=within, of_means=of_means)


def _spread(alone: Components, control: Values) -> Spread:
    return Spread(
        mean=alone.mean,
        between=_ranged(alone.between),
        within=_ranged(alone.within),
        n_cases=alone.n_cases,
        n_pictures=alone.n_values,
        halves=_halves(control),
    )


def _halves(control: Values) -> Ranged | None:
    """One half of each case's seeds against the other, as if they were two arms; None where that has no interval."""
    by_case: dict[str, list[float]] = {}
    for key in sorted(control):
        by_case.setdefault(key[0], []).append(control[key])
    rows = [
        (case, first - second)
        for case, values in by_case.items()
        for first, second in zip(values[: len(values) // 2], values[len(values) // 2 :], strict=False)
    ]
    try:
        interval = t_interval(
            [value for _, value in rows], [case for case, _ in rows], confidence_level=CONFIDENCE_LEVEL
        )
    except MeasurementError:
        return None
    return Ranged(value=interval.estimate, low=interval.low, high=interval.high)


def _difference(paired: Components, setting: Setting, *, adapter: bool) -> Difference:
    error = paired.of_means_at(setting.suite_seeds).of(lambda sd: sd / math.sqrt(paired.n_cases))
    return Difference(
        source="adapter" if adapter else "base alone",
        seed_sd=_ranged(paired.within),
        case_sd=_ranged(paired.between) if adapter else None,
        standard_error=_told(error),
        n_cases=paired.n_cases,
        n_seeds=setting.suite_seeds,
    )


def _rho(candidate: Values, control: Values, setting: Setting) -> Ranged | None:
    found = within_correlation(
        candidate,
        control,
        confidence_level=CONFIDENCE_LEVEL,
        n_resamples=setting.config.statistics.n_resamples,
        rng=setting.rng(),
    )
    return _ranged(found)


def _why(results: Results, metric: str) -> str | None:
    """The first reason that the run gave for a metric without values."""
    return next((one.reason for one in results.unmeasured if one.metric == metric), None)


# ------------------------------------------------------------------------------------------------- indices of a run


def _of_index(results: Results, gate: Gate, setting: Setting) -> MetricPilot:
    """A metric with one number per run: its own interval says how sure that number is."""
    found = MetricPilot(metric=gate.metric)
    if results.candidate is None:
        return found.model_copy(update={"unmeasured": "one number per run, and only an adapter has one; give --lora."})
    verdict = next(one for one in results.gates if one.gate == gate.name)
    if verdict.comparison is None:
        return found.model_copy(update={"unmeasured": verdict.reason.removeprefix(f"{gate.name}: not measured. ")})
    index = _index_components(verdict.comparison)
    error = index.of_means.value / math.sqrt(index.n_cases)
    difference = Difference(
        source="index",
        standard_error=Ranged(value=error, low=error, high=error),
        n_cases=index.n_cases,
        n_seeds=len({one.cell.seed for one in results.plan}),
    )
    advice = _advice(gate, index, difference, setting, event=False)
    return found.model_copy(
        update={
            "metric_version": verdict.comparison.metric_version,
            "difference": difference,
            "advice": advice,
        }
    )


def _index_components(comparison: Comparison) -> Components:
    """As if the index were a mean over cases whose interval is the one it has."""
    from scipy.stats import t

    k = max(comparison.n_cases, 2)
    half = float(t.ppf(0.5 + comparison.confidence_level / 2, k - 1))
    sd = (comparison.high - comparison.low) / 2 / half * math.sqrt(k)
    return Components(
        mean=comparison.estimate,
        between=None,
        within=None,
        of_means=Estimate(sd, sd, sd),
        n_cases=k,
        n_values=comparison.n_pairs,
        seeds_per_case=comparison.n_pairs / k,
    )


# ------------------------------------------------------------------------------------------------------------ advice


def _advice(gate: Gate, paired: Components, difference: Difference, setting: Setting, *, event: bool) -> Advice:
    """What the gate can show. `event`: cases that were not seen count too, for metrics whose losses are rare."""
    level, k = setting.significance_level, paired.n_cases
    sd = paired.of_means if paired.within is None else paired.of_means_at(setting.suite_seeds)
    smallest = sd.of(
        lambda end: (
            math.inf
            if math.isinf(end)
            else smallest_margin(end, n_cases=k, significance_level=level, power=POWER, event=event)
        )
    )
    needed = sd.of(lambda end: _cases(end, gate, level, event=event))
    seeds = None
    if paired.within is not None:
        seeds = seeds_needed(
            paired, gate.margin, significance_level=level, power=POWER, at_most=MOST_SEEDS, event=event
        )
    suggested = gate.margin if smallest.value <= gate.margin else _rounded_up(smallest)
    advice = Advice(
        gate=gate.name,
        margin=gate.margin,
        smallest_margin=_told(smallest),
        cases_needed=_told(needed),
        seeds_needed=seeds,
        suggested_margin=suggested,
        false_stops=_false_stops(gate, paired, setting, assumed=difference.case_sd is None),
        reasons=(),
    )
    return advice.model_copy(update={"reasons": _reasons(advice, difference, event=event)})


def _cases(sd: float, gate: Gate, level: float, *, event: bool) -> float:
    if math.isinf(sd):
        return math.inf
    if not event:
        return cases_needed(sd, gate.margin, significance_level=level, power=POWER)
    return cases_for_events(sd, gate.margin, significance_level=level, power=POWER) or math.inf


def _rounded_up(smallest: Estimate) -> float:
    """The upper end (the estimate, where there is none) to two digits, upwards."""
    wanted = smallest.value if math.isinf(smallest.high) else smallest.high
    unit = 10.0 ** (math.floor(math.log10(wanted)) - 1)
    return round(math.ceil(wanted / unit - 1e-9) * unit, 10)


def _false_stops(gate: Gate, paired: Components, setting: Setting, *, assumed: bool) -> Ranged | None:
    """Healthy trainings that the course's rule would stop, if all guards had this gate's noise."""
    if gate.name not in GUARDS or paired.within is None or not paired.within.value > 0:
        return None
    between = 0.0 if paired.between is None else paired.between.value
    design = Design(
        n_cases=paired.n_cases,
        n_seeds=setting.config.course.n_seeds,
        seed_sd=paired.within.value,
        case_sd=ASSUMED["case_sd"] * gate.margin if assumed else between,
        wobble=ASSUMED["wobble"] * gate.margin,
        margin=gate.margin,
        n_gates=setting.n_guards,
        noise=Noise.NORMAL if gate.support is None else Noise.RARE_LOSSES,
    )
    healthy = Scenario("nothing is wrong", (0.0,) * design.n_checkpoints)
    course = setting.config.course
    share = simulate(
        healthy, design, settings=course, n_runs=N_SIMULATED, rng=setting.rng()
    ).course.false_stops  # fmt: skip
    return Ranged(value=share.estimate, low=share.low, high=share.high)


def _reasons(advice: Advice, difference: Difference, *, event: bool) -> tuple[str, ...]:
    """The advice in sentences: what can be shown, what the margin in force takes, whether seeds help."""
    smallest, needed = advice.smallest_margin, advice.cases_needed
    size = f"{difference.n_cases} prompts x {difference.n_seeds} seeds"
    told = [
        f"{size} show a margin of {interval_text(smallest)} with a power of {POWER:.0%}; "
        f"the margin in force is {advice.margin:g} and takes {interval_text(needed, digits=0)} prompts."
    ]
    if smallest.high is not None and smallest.high <= advice.margin:
        told.append("Keep the margin: this size shows it even at the upper end.")
    elif smallest.value <= advice.margin:
        told.append("Keep the margin: this size probably shows it; the upper end does not, more prompts would say.")
    else:
        told.append(_what_helps(advice, difference))
    if event:
        told.append("Losses are rare in it, and a loss that no prompt showed is excluded by many prompts only.")
    if difference.source == "base alone":
        told.append("Without an adapter: common noise would narrow this, differences between prompts widen it.")
    return tuple(told)


def _what_helps(advice: Advice, difference: Difference) -> str:
    if advice.seeds_needed is not None:
        return f"With as many prompts, {advice.seeds_needed} seeds of each show it too."
    if difference.source == "index":
        return "Add prompts, or allow the suggested margin."
    return f"No number of seeds up to {MOST_SEEDS} shows it: add prompts, or allow the suggested margin."


def interval_text(found: Ranged, *, digits: int | None = None) -> str:
    """`0.13 (0.1-0.19)`: an estimate with its interval, to two digits or so many decimals."""
    low, value, high = (_number(one, digits) for one in (found.low, found.value, found.high))
    return value if low == value == high else f"{value} ({low}–{high})"


def _number(value: float | None, digits: int | None) -> str:
    if value is None:
        return "∞"
    return f"{value:.{digits}f}" if digits is not None else f"{value:.2g}"


def gate_lines(pilot: Pilot) -> str:
    """The `[gates.*]` tables to paste into the settings, each with what speaks for its margin."""
    lines = [
        f"# pilot of {pilot.n_cases} prompts x {pilot.n_seeds} seeds, suite {pilot.suite}, "
        f"adapter {pilot.adapter or 'none'}; for {pilot.suite_seeds} seeds per prompt"
    ]
    for one in pilot.metrics:
        if one.advice is None:
            continue
        kept = "as before" if one.advice.suggested_margin == one.advice.margin else f"before: {one.advice.margin:g}"
        lines += [
            f"[gates.{one.advice.gate}]",
            f"margin = {one.advice.suggested_margin:g}  # {kept}; can be shown: "
            f"{interval_text(one.advice.smallest_margin)}; {one.advice.margin:g} takes "
            f"{interval_text(one.advice.cases_needed, digits=0)} prompts",
        ]
    return "\n".join(lines) + "\n"


def _ranged(found: Estimate | None) -> Ranged | None:
    return None if found is None else _told(found)


def _told(found: Estimate) -> Ranged:
    return Ranged(value=found.value, low=found.low, high=None if math.isinf(found.high) else found.high)


def chosen(pilot: Pilot, gate: str) -> MetricPilot | None:
    """The metric of a gate; None where the pilot has no differences for it."""
    return next((one for one in pilot.metrics if one.advice is not None and one.advice.gate == gate), None)


def measured_gates(pilot: Pilot) -> Sequence[str]:
    """Gates that the pilot can advise on."""
    return [one.advice.gate for one in pilot.metrics if one.advice is not None]
