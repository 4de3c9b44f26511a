"""Gates against a baseline: the candidate's numbers against those of a run that a person accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lorabench.errors import MeasurementError
from lorabench.evaluation.comparing import compare, values_of
from lorabench.evaluation.gates import Gate
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Measurement, Unmeasured
from lorabench.records.plan import Arm
from lorabench.registry import METRICS

if TYPE_CHECKING:
    from lorabench.records.baseline import Baseline
    from lorabench.records.plan import GenerationSettings
    from lorabench.records.results import BaseInfo
    from lorabench.records.suite import Suite


class BaselineIncompatibleError(MeasurementError):
    """The baseline was made under other conditions."""

    def __init__(self, name: str, differences: Sequence[str]) -> None:
        super().__init__(
            f"a baseline must come from the same suite, base and settings; {name} differs in {', '.join(differences)}. "
            "Run the accepted adapter again under the new conditions and accept that run."
        )
        self.name, self.differences = name, tuple(differences)


def check_comparable(
    baseline: Baseline, *, suite: Suite, base: BaseInfo, settings: GenerationSettings
) -> None:
    """Refuse a baseline of another suite, base, or settings.

    Raises:
        BaselineIncompatibleError: Something differs; the message names it.
    """
    differences = [
        name
        for name, same in (
            ("suite", baseline.suite_digest == suite.content_digest()),
            ("base", baseline.base.digest == base.digest),
            ("dtype", baseline.base.dtype == base.dtype),
            ("generation settings", baseline.settings == settings),
        )
        if not same
    ]
    if differences:
        raise BaselineIncompatibleError(baseline.name, differences)


def compare_with_baseline(
    baseline: Baseline,
    measurements: Sequence[Measurement],
    *,
    gates: Sequence[Gate],
    confidence_level: float,
) -> tuple[tuple[Gate, ...], dict[str, Comparison | Unmeasured]]:
    """Pair the candidate's numbers with the baseline's by case and seed.

    Returns:
        A gate `<name>-baseline` for each gate on a number per picture, and what was found for it. A metric whose
        version has changed is unmeasured: its numbers cannot be compared.
    """
    chosen, found = [], {}
    for gate in gates:
        metric = METRICS.load(gate.metric)
        if metric.level != "cell":
            continue
        candidate = values_of(measurements, metric=gate.metric, arm=Arm.CANDIDATE)
        reference = {
            (case, int(seed)): values[gate.metric]
            for case, by_seed in baseline.scores.items()
            for seed, values in by_seed.items()
            if gate.metric in values
        }
        if not candidate or not reference:
            continue
        name = f"{gate.name}-baseline"
        chosen.append(replace(gate, name=name, says=f"{gate.says}, compared with baseline {baseline.name}"))
        if baseline.metrics.get(gate.metric) != metric.version:
            reason = (
                f"{gate.metric} is version {metric.version} here and {baseline.metrics.get(gate.metric)} in the "
                "baseline; accept a new run."
            )
            found[name] = Unmeasured(metric=gate.metric, reason=reason)
            continue
        found[name] = compare(
            metric,
            candidate,
            reference,
            candidate_arm=Arm.CANDIDATE,
            reference_name="baseline",
            family=None,
            confidence_level=confidence_level,
            support=gate.support,
            same_pictures=candidate == reference,
        )
    return tuple(chosen), found
