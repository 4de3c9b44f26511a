"""Facts in, ranked causes out: a sum of weights for and against, with every term shown.

The score of a cause is its prior plus the weights of the conditions that hold, minus the weights of what speaks
against it, minus what a condition costs that is known not to hold. A fact that is not known counts neither way. The
weights are log-odds in spirit (evidence adds up, nothing is certain), set by hand from what the sources say and tested
on constructed cases; the score is no probability.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from lorabench.diagnosis.causes import Cause, CauseTable, Condition, LoadedCauses, shipped_causes
from lorabench.diagnosis.facts import Facts
from lorabench.records.diagnosis import Diagnosis, Evidence, Gap, LikelyCause

STRONG: Final = 3.0
LIKELY: Final = 1.5
MOST_LEADS: Final = 3
LEAST_RISK: Final = 1.0
"""Weight of evidence from data and settings from which on a cause without symptom is told as a risk."""


@dataclass(frozen=True, slots=True)
class _Weighed:
    cause: Cause
    evidence: tuple[Evidence, ...]
    unknown: tuple[Condition, ...]
    seen: bool
    """Whether a symptom holds."""

    @property
    def score(self) -> float:
        return self.cause.prior + sum(one.weight for one in self.evidence)


def diagnose(facts: Facts, *, causes: LoadedCauses | None = None) -> Diagnosis:
    """Rank the causes of what is wrong with a run.

    Args:
        facts: From `facts_of`.
        causes: The table; None for the shipped one.

    Returns:
        The diagnosis: causes with a symptom and a score above 0, highest first; of equal ones the first in the table.
        For failed gates that none of them takes up, the causes that could, with what would tell.
    """
    loaded = causes or shipped_causes()
    weighed = [_weigh(cause, facts) for cause in loaded.table.causes]
    ranked = sorted((one for one in weighed if one.seen and one.score > 0), key=lambda one: -one.score)
    covered = {name for one in ranked for name in one.cause.covers}
    named = tuple(
        _likely(one, loaded.table, facts=facts, ranked=ranked) for one in ranked if one.cause.id not in covered
    )
    risks = tuple(_likely(one, loaded.table, facts=facts, ranked=ranked) for one in weighed if _is_risk(one))
    unexplained = _unexplained(facts, (one for one in ranked))
    leads = tuple(
        _likely(one, loaded.table, facts=facts, ranked=ranked) for one in _leads(weighed, ranked, unexplained)
    )
    return Diagnosis(
        run_id=facts.run_id,
        candidate=facts.candidate,
        results_digest=facts.results_digest,
        causes_digest=loaded.digest,
        sources=facts.sources,
        headline=_headline(facts, named, unexplained, leads),
        causes=named,
        risks=tuple(sorted(risks, key=lambda one: -sum(e.weight for e in one.supporting))),
        unexplained=unexplained,
        leads=leads,
        facts=tuple(facts.known.values()),
        unknown=dict(facts.unknown),
    )


def _weigh(cause: Cause, facts: Facts) -> _Weighed:
    evidence: list[Evidence] = []
    unknown: list[Condition] = []
    seen = False
    for conditions, sign in ((cause.symptoms, 1.0), (cause.evidence, 1.0), (cause.against, -1.0)):
        for condition in conditions:
            fact = facts.known.get(condition.fact)
            if fact is None:
                unknown.append(condition)
                continue
            holds = condition.holds(fact.value)
            seen |= holds and conditions is cause.symptoms
            weight = sign * condition.weight if holds else -condition.otherwise
            if weight:
                evidence.append(Evidence(fact=fact, condition=_said(condition, holds), weight=weight))
    return _Weighed(cause, tuple(evidence), tuple(unknown), seen)


def _said(condition: Condition, holds: bool) -> str:
    return condition.text if holds else f"not: {condition.text}"


def _is_risk(one: _Weighed) -> bool:
    """No symptom, and data or settings that bring them about."""
    own = {condition.fact for condition in one.cause.evidence}
    return not one.seen and sum(e.weight for e in one.evidence if e.weight > 0 and e.fact.name in own) >= LEAST_RISK


def _likely(one: _Weighed, table: CauseTable, *, facts: Facts, ranked: list[_Weighed]) -> LikelyCause:
    by_weight = sorted(one.evidence, key=lambda e: -abs(e.weight))
    also = {other.cause.id for other in ranked}
    return LikelyCause(
        cause=one.cause.id,
        name=one.cause.name,
        because=one.cause.because,
        score=round(one.score, 6),
        strength=_strength(one.score),
        supporting=tuple(e for e in by_weight if e.weight > 0),
        opposing=tuple(e for e in by_weight if e.weight < 0),
        missing=_gaps(one, table, facts),
        fixes=one.cause.fixes,
        sources=one.cause.sources,
        covers=tuple(name for name in one.cause.covers if name in also),
    )


def _strength(score: float) -> Literal["strong", "likely", "possible"]:
    if score >= STRONG:
        return "strong"
    return "likely" if score >= LIKELY else "possible"


def _gaps(one: _Weighed, table: CauseTable, facts: Facts) -> tuple[Gap, ...]:
    """Unknown facts, gathered by what it takes to know them and why they are not known."""
    groups: dict[tuple[str, str | None], dict[str, None]] = {}
    for condition in one.unknown:
        key = table.measure_of(condition.fact), facts.unknown.get(condition.fact)
        groups.setdefault(key, {})[condition.fact] = None
    return tuple(Gap(facts=tuple(names), measure=measure, reason=why) for (measure, why), names in groups.items())


def _unexplained(facts: Facts, ranked: Iterable[_Weighed]) -> tuple[str, ...]:
    taken = {e.fact.name for one in ranked for e in one.evidence if e.weight > 0}
    return tuple(fact.name.removeprefix("gate.") for fact in facts.failed_gates() if fact.name not in taken)


def _leads(weighed: list[_Weighed], ranked: list[_Weighed], unexplained: tuple[str, ...]) -> list[_Weighed]:
    """Causes of what no named cause explains, which are not named for want of evidence; the likeliest first."""
    open_gates = {f"gate.{gate}" for gate in unexplained}
    found = [
        one
        for one in weighed
        if one not in ranked and any(e.weight > 0 and e.fact.name in open_gates for e in one.evidence)
    ]
    return sorted(found, key=lambda one: -one.score)[:MOST_LEADS]


def _headline(
    facts: Facts, named: tuple[LikelyCause, ...], unexplained: tuple[str, ...], leads: tuple[LikelyCause, ...]
) -> str:
    if named:
        first = named[0]
        rest = len(named) - 1
        more = f", and {rest} less likely" if rest else ""
        return f"Most likely cause: {first.name} ({first.strength}){more}."
    if leads:
        return f"No cause is shown for what failed: {', '.join(unexplained)}. Look first at {leads[0].name}."
    if unexplained:
        return f"No cause in the table takes up what failed: {', '.join(unexplained)}."
    undecided = ", ".join(facts.undecided_gates())
    return f"Nothing is wrong that a cause would explain.{f' Not decided: {undecided}.' if undecided else ''}"
