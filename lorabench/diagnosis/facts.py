"""What is known about a run, by name: from its results, its course, a sweep, the adapter's file, an audit of the data.

| kind | value |
| --- | --- |
| `gate.<gate>` | PASS or FAIL; a gate that decided nothing is not known, with its reason |
| `harm.<gate>` | harm in margins; positive is worse, 1 is the largest tolerated |
| `metric.<metric>` | candidate minus control (or minus the other reference of a metric that has no control) |
| `change.<metric>` | candidate's mean over the control's, on the cells that both have |
| `run.*`, `course.*`, `sweep.*`, `adapter.*`, `audit.*` | as in the tables below, and `records.audit.AUDIT_FACTS` |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from lorabench.diagnosis.adapter_facts import adapter_facts
from lorabench.diagnosis.course_facts import course_facts, step_time_facts
from lorabench.diagnosis.gate_facts import compared, gate_facts
from lorabench.diagnosis.sweep_facts import sweep_facts
from lorabench.generation.adapter import AdapterFile
from lorabench.records.adapter_health import Examination
from lorabench.records.audit import AUDIT_FACTS, Audit
from lorabench.records.comparison import Comparison, Outcome, Verdict
from lorabench.records.course import Course
from lorabench.records.diagnosis import Fact, Source
from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.records.step_times import StepTimeFinding
from lorabench.records.sweep import Sweep

RUN_FACTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "identical": "yes where candidate and control made the same pictures",
        "failed_gates": "gates that failed",
        "scale": "scale of the candidate",
        "style_uptake": "how far the texture went from the base's (0) to the training pictures' (1)",
        "failed_pictures": "pictures that could not be made",
    }
)
"""Facts `run.<name>`."""

_REFERENCES: Final = ("B1", "none", "training", "baseline", "B0")


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known about one run.

    Attributes:
        run_id: The run.
        candidate: Name of the adapter.
        results_digest: Digest of the results.
        sources: What was read.
        known: Name to fact.
        unknown: Name to the reason why it is not known, where something tried.
    """

    run_id: str
    candidate: str | None
    results_digest: str
    sources: tuple[Source, ...]
    known: Mapping[str, Fact]
    unknown: Mapping[str, str]

    def failed_gates(self) -> tuple[Fact, ...]:
        """Gates that failed, in their order."""
        return tuple(fact for name, fact in self.known.items() if name.startswith("gate.") and fact.value == "FAIL")

    def undecided_gates(self) -> tuple[str, ...]:
        """Gates that decided nothing."""
        return tuple(name.removeprefix("gate.") for name in self.unknown if name.startswith("gate."))


def facts_of(
    results: Results,
    *,
    course: Course | None = None,
    sweep: Sweep | None = None,
    audit: Audit | None = None,
    adapter: AdapterFile | None = None,
    examination: Examination | None = None,
    step_time: StepTimeFinding | None = None,
) -> Facts:
    """Gather what is known about a run.

    Args:
        results: Its `results.json`.
        course: The course of the training that the adapter is from.
        sweep: A sweep of the same adapter over scales and guidance.
        audit: Of the training pictures and captions.
        adapter: The adapter's file, whose header says more than the results keep.
        examination: Of the adapter's file.
        step_time: What was said of the training's step time.

    Returns:
        The facts. What a source does not say is not in them: nothing stands for a number that is missing.
    """
    found: dict[str, Fact] = {}
    unknown: dict[str, str] = {}
    for fact, why in (*_gate_facts(results.gates), *(sweep_facts(sweep) if sweep else ())):
        _keep(found, unknown, fact, why)
    for fact in (*_metric_facts(results), *_change_facts(results), *_run_facts(results)):
        found.setdefault(fact.name, fact)
    for fact in (*adapter_facts(results, adapter, examination), *(course_facts(course) if course else ())):
        found.setdefault(fact.name, fact)
    for fact in step_time_facts(step_time) if step_time else ():
        found.setdefault(fact.name, fact)
    if audit is not None:
        found.update({fact.name: fact for fact in _audit_facts(audit)})
        unknown.update({f"audit.{name}": reason for name, reason in audit.unmeasured.items()})
    for missing in results.unmeasured:
        if missing.cell is None and missing.family is None:
            unknown.setdefault(f"metric.{missing.metric}", missing.reason)
    given: tuple[tuple[Source, object], ...] = (
        ("run", results),
        ("course", course),
        ("sweep", sweep),
        ("adapter", adapter or examination or results.candidate),
        ("audit", audit),
    )
    return Facts(
        run_id=results.run_id,
        candidate=None if results.candidate is None else results.candidate.name,
        results_digest=results.content_digest(),
        sources=tuple(name for name, value in given if value is not None),
        known=MappingProxyType(found),
        unknown=MappingProxyType({name: why for name, why in unknown.items() if name not in found}),
    )


def _keep(found: dict[str, Fact], unknown: dict[str, str], fact: Fact, why: str | None) -> None:
    """Add a gate's fact; a FAIL of one source is not undone by another's PASS."""
    if why is not None:
        unknown.setdefault(fact.name, why)
    elif fact.name not in found or fact.value == Outcome.FAIL.value:
        found[fact.name] = fact


def _gate_facts(gates: Iterable[Verdict]) -> Iterator[tuple[Fact, str | None]]:
    """The pooled gates, and those of families where no pooled one has the name."""
    for gate in sorted(gates, key=lambda one: one.family is not None):
        yield from gate_facts(gate)


def _metric_facts(results: Results) -> Iterator[Fact]:
    chosen: dict[str, Comparison] = {}
    for one in results.comparisons:
        if one.candidate_arm is not Arm.CANDIDATE or one.family is not None:
            continue
        before = chosen.get(one.metric)
        if before is None or _REFERENCES.index(one.reference) < _REFERENCES.index(before.reference):
            chosen[one.metric] = one
    for one in chosen.values():
        yield Fact(name=f"metric.{one.metric}", value=one.estimate, quote=compared(one))
    for found in results.set_measurements:
        if found.arm is Arm.CANDIDATE and found.family is None:
            quote = f"{found.metric} {found.value:.3g} ({found.low:.3g} to {found.high:.3g})"
            yield Fact(name=f"metric.{found.metric}", value=found.value, quote=quote)


def _change_facts(results: Results) -> Iterator[Fact]:
    """Ratio of means over the cases and seeds that candidate and control both have."""
    values: dict[str, dict[Arm, dict[tuple[str, int], float]]] = {}
    for one in results.measurements:
        if one.cell.arm in (Arm.CANDIDATE, Arm.CONTROL):
            by_arm = values.setdefault(one.metric, {})
            by_arm.setdefault(one.cell.arm, {})[one.cell.case, one.cell.seed] = one.value
    for metric, by_arm in values.items():
        candidate, control = (by_arm.get(arm, {}) for arm in (Arm.CANDIDATE, Arm.CONTROL))
        both = candidate.keys() & control.keys()
        mine, theirs = (sum(arm[cell] for cell in both) / max(len(both), 1) for arm in (candidate, control))
        if both and mine >= 0 and theirs > 0:
            quote = f"{metric} {mine:.3g} of the candidate, {theirs:.3g} of the control ({mine / theirs:.2f} times)"
            yield Fact(name=f"change.{metric}", value=mine / theirs, quote=quote)


def _run_facts(results: Results) -> Iterator[Fact]:
    identical = "yes" if results.verdict.identical else "no"
    told = "made the same pictures" if results.verdict.identical else "made different pictures"
    yield Fact(name="run.identical", value=identical, quote=f"candidate and control {told}")
    failed = [gate.gate for gate in results.gates if gate.outcome is Outcome.FAIL]
    quote = f"{len(failed)} of {len(results.gates)} gates failed{': ' if failed else ''}{', '.join(failed)}"
    yield Fact(name="run.failed_gates", value=float(len(failed)), quote=quote)
    scales = sorted({planned.cell.scale for planned in results.plan if planned.cell.arm is Arm.CANDIDATE})
    if len(scales) == 1:
        yield Fact(name="run.scale", value=scales[0], quote=f"judged at scale {scales[0]:g}")
    if results.plan:
        n = len(results.failed)
        yield Fact(name="run.failed_pictures", value=float(n), quote=f"{n} of {len(results.plan)} pictures not made")
    bleed = next((c for c in results.comparisons if c.metric == "photo_bleed" and c.family is None), None)
    if bleed is not None:
        uptake = 1.0 - bleed.estimate
        quote = f"texture went {uptake:.0%} of the way from the base's to the training pictures'"
        yield Fact(name="run.style_uptake", value=uptake, quote=quote)


def _audit_facts(audit: Audit) -> Iterator[Fact]:
    for name, value in audit.facts.items():
        unit, meaning = AUDIT_FACTS[name]
        shown = f"{value:.0%}" if unit == "share" else f"{value:.3g} {unit}"
        yield Fact(name=f"audit.{name}", value=value, quote=f"{meaning}: {shown}")
