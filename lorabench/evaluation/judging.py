"""Comparisons → Verdicts: one decision per gate, then one for the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import stdev

from lorabench.errors import ExitCode
from lorabench.evaluation.gates import Gate
from lorabench.records.comparison import Comparison, Outcome, Verdict
from lorabench.records.measurement import Unmeasured
from lorabench.records.results import RunVerdict
from lorabench.statistics.decisions import Decision, decide, holm
from lorabench.statistics.intervals import DifferenceInterval


def judge(
    gates: Sequence[Gate],
    found: Mapping[str, Comparison | Unmeasured],
    *,
    significance_level: float,
) -> tuple[Verdict, ...]:
    """Decide every gate.

    FAIL: worse than zero at the level Holm leaves the gate within its group, and the estimate is
    beyond the margin. PASS: even the harmful end of the interval is better than minus the margin. Else INCONCLUSIVE.
    The hard gate fails on one broken picture and knows no INCONCLUSIVE.

    Args:
        gates: The gates, in order.
        found: Gate name to its comparison, or to the reason why there is none.
        significance_level: Probability tolerated of any false FAIL within each group.

    Returns:
        One verdict per gate, in the order given.
    """
    levels: dict[str, float] = {}
    adjusted: dict[str, float] = {}
    for name in dict.fromkeys(gate.group for gate in gates):
        group = {
            gate.name: comparison.p_harm
            for gate in gates
            if gate.group == name and not gate.hard and isinstance(comparison := found[gate.name], Comparison)
        }
        for gate_name, step in holm(group, significance_level).items():
            levels[gate_name], adjusted[gate_name] = step.level, step.p_adjusted
    return tuple(
        _verdict(gate, found[gate.name], harm_level=levels.get(gate.name), p_adjusted=adjusted.get(gate.name))
        for gate in gates
    )


def conclude(
    verdicts: Sequence[Verdict],
    gates: Sequence[Gate],
    *,
    complete: bool,
    missing: str | None,
    identical: bool,
) -> RunVerdict:
    """One outcome for the run, with the reasons in the order of the gates.

    Args:
        verdicts: One per gate.
        gates: The gates themselves.
        complete: Every case of the suite was planned and every planned picture was made.
        missing: What is missing from a complete run, in words.
        identical: Every candidate picture is bit-equal to its control: nothing can be worse than that, measured or
            not, and only gates against a baseline count.

    Returns:
        The run's verdict, with the exit code of the command line: 3 > 5 > 1 > 4 > 0.
    """
    by_name = {gate.name: gate for gate in gates}
    counted = [verdict for verdict in verdicts if not identical or by_name[verdict.gate].against == "baseline"]
    failed = [verdict for verdict in counted if verdict.outcome is Outcome.FAIL]
    open_ = [verdict for verdict in counted if verdict.outcome is Outcome.INCONCLUSIVE and verdict.required]
    blind = [verdict for verdict in counted if verdict.outcome is Outcome.UNMEASURED and verdict.required]
    n_decided = sum(verdict.outcome is not Outcome.UNMEASURED for verdict in counted)
    unseeing = bool(blind) or (n_decided == 0 and not identical)
    if failed:
        outcome = Outcome.FAIL
        headline = _worse_headline([by_name[verdict.gate] for verdict in failed])
    elif unseeing:
        outcome = Outcome.UNMEASURED
        what = f"{_names(blind)} could not be measured" if blind else "no gate could be measured"
        headline = f"No verdict: {what}."
    elif open_:
        outcome = Outcome.INCONCLUSIVE
        headline = f"Not decided: more cases are needed for {_names(open_)}."
    elif identical:
        outcome = Outcome.PASS
        headline = "Identical to the base: every picture is bit-equal to its control."
    else:
        outcome = Outcome.PASS
        headline = f"No worse than the base within every margin, on {n_decided} gates."
    if not complete:
        headline = f"Incomplete ({missing}). {headline}"
    return RunVerdict(
        outcome=outcome,
        headline=headline,
        reasons=tuple(verdict.reason for verdict in (*failed, *blind, *open_)),
        exit_code=_exit_code(failed=bool(failed), blind=unseeing, open_=bool(open_), complete=complete),
        complete=complete,
        identical=identical,
    )


def _exit_code(*, failed: bool, blind: bool, open_: bool, complete: bool) -> int:
    if blind:
        return ExitCode.NOT_MEASURED
    if not complete:
        return ExitCode.INCOMPLETE
    if failed:
        return ExitCode.FAILED
    return ExitCode.INCONCLUSIVE if open_ else ExitCode.PASSED


def _worse_headline(gates: Sequence[Gate]) -> str:
    than = "base" if any(gate.against == "control" for gate in gates) else "baseline"
    return f"Worse than the {than}: {'; '.join(gate.says for gate in gates)}."


def _names(verdicts: Sequence[Verdict]) -> str:
    return ", ".join(verdict.gate for verdict in verdicts)


def _verdict(
    gate: Gate, found: Comparison | Unmeasured, *, harm_level: float | None, p_adjusted: float | None
) -> Verdict:
    if isinstance(found, Unmeasured):
        return Verdict(
            gate=gate.name,
            metric=gate.metric,
            family=found.family,
            outcome=Outcome.UNMEASURED,
            reason=f"{gate.name}: not measured. {found.reason}",
            margin=gate.margin,
            primary=gate.primary,
            required=gate.required,
        )
    decision = None if gate.hard else _decide(gate, found, harm_level)
    outcome = _hard_outcome(found) if decision is None else Outcome(decision.outcome.value)
    return Verdict(
        gate=gate.name,
        metric=gate.metric,
        family=found.family,
        outcome=outcome,
        reason=_reason(gate, found, outcome, decision),
        margin=gate.margin,
        primary=gate.primary,
        required=gate.required,
        comparison=found,
        p_adjusted=p_adjusted,
        cases_needed=None if decision is None else decision.cases_needed,
    )


def _hard_outcome(comparison: Comparison) -> Outcome:
    worse = [item for item in comparison.differences if item.difference > 0]
    return Outcome.FAIL if worse else Outcome.PASS


def _decide(gate: Gate, comparison: Comparison, harm_level: float | None) -> Decision:
    interval = DifferenceInterval(
        estimate=comparison.estimate,
        low=comparison.low,
        high=comparison.high,
        n_clusters=comparison.n_cases,
        n_pairs=comparison.n_pairs,
        confidence_level=comparison.confidence_level,
        method=comparison.method,
        p_lower=comparison.p_harm if comparison.higher_is_better else 1.0,
        p_higher=1.0 if comparison.higher_is_better else comparison.p_harm,
        spread=stdev([item.difference for item in comparison.differences]) if len(comparison.differences) > 1 else None,
    )
    return decide(interval, margin=gate.margin, higher_is_better=comparison.higher_is_better, harm_level=harm_level)


def _reason(gate: Gate, comparison: Comparison, outcome: Outcome, decision: Decision | None) -> str:
    numbers = (
        f"{comparison.metric} {comparison.estimate:+.3f} {comparison.unit} "
        f"[{comparison.low:+.3f}, {comparison.high:+.3f}] against {_reference(comparison)}, "
        f"margin {gate.margin:g}, {comparison.n_cases} cases"
    )
    seen = f" {comparison.seen}" if comparison.seen else ""
    if comparison.identical:
        return f"{gate.name}: identical; every pair is exactly equal ({comparison.n_cases} cases)."
    if gate.hard:
        worse = sum(item.difference > 0 for item in comparison.differences)
        whole = "the baseline" if gate.against == "baseline" else "their control"
        return f"{gate.name}: {worse} of {comparison.n_cases} cases have broken pictures where {whole} has none."
    if outcome is Outcome.PASS:
        return f"{gate.name}: no worse than the margin. {numbers}.{seen}"
    if outcome is Outcome.FAIL:
        return f"{gate.name}: {gate.says}. {numbers}.{seen}"
    further = decision.cases_needed if decision is not None else None
    more = f"about {further} more cases would decide" if further else "the estimate lies on the margin"
    return f"{gate.name}: not decided; {more}. {numbers}.{seen}"


def _reference(comparison: Comparison) -> str:
    return {
        "B0": "the base",
        "B1": "the control",
        "baseline": "the baseline",
        "training": "the training pictures",
        "none": "zero",
    }[comparison.reference]
