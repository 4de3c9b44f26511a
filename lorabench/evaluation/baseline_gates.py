"""Gates against a baseline: the candidate's numbers against those of a run that a person accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lorabench.errors import MeasurementError
from lorabench.evaluation.comparing import compare, values_of
from lorabench.evaluation.gates import Gate
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Measurement, Metric, Unmeasured
from lorabench.records.plan import Arm
from lorabench.registry import METRICS

if TYPE_CHECKING:
    from lorabench.records.baseline import Baseline
    from lorabench.records.images import Image
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


def check_comparable(baseline: Baseline, *, suite: Suite, base: BaseInfo, settings: GenerationSettings) -> None:
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
    images: Sequence[Image],
    gates: Sequence[Gate],
    problems: Mapping[str, str],
    confidence_level: float,
) -> tuple[tuple[Gate, ...], dict[str, Comparison | Unmeasured]]:
    """Pair the candidate's numbers with the baseline's by case and seed.

    Args:
        baseline: Accepted numbers.
        measurements: Of the run; only the candidate's are used.
        images: Of the run: where every paired picture is the accepted one, differences of zero are certain.
        gates: Gates against the control.
        problems: Gate name to why its sensor does not work here; its numbers mean nothing against a baseline either.
        confidence_level: Two-sided, in (0, 1).

    Returns:
        A gate `<name>-baseline` for each gate on a number per picture that both sides have, and what was found for it.
        A metric whose version has changed is unmeasured: its numbers cannot be compared.
    """
    chosen: list[Gate] = []
    found: dict[str, Comparison | Unmeasured] = {}
    same_pictures = _same_pictures(baseline, images)
    for gate in gates:
        metric: Metric = METRICS.load(gate.metric)
        candidate = values_of(measurements, metric=gate.metric, arm=Arm.CANDIDATE)
        reference = _accepted(baseline, gate.metric)
        if metric.level != "cell" or not candidate or not reference:
            continue
        name = f"{gate.name}-baseline"
        says = f"{gate.says}, compared with baseline {baseline.name}"
        chosen.append(replace(gate, name=name, says=says, against="baseline"))
        if reason := problems.get(gate.name) or _other_version(baseline, metric):
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
            same_pictures=same_pictures,
        )
    return tuple(chosen), found


def _accepted(baseline: Baseline, metric: str) -> dict[tuple[str, int], float]:
    return {
        (case, int(seed)): values[metric]
        for case, by_seed in baseline.scores.items()
        for seed, values in by_seed.items()
        if metric in values
    }


def _other_version(baseline: Baseline, metric: Metric) -> str | None:
    version = baseline.metrics.get(metric.name)
    if version == metric.version:
        return None
    return f"{metric.name} is version {metric.version} here and {version} in the baseline; accept a new run."


def _same_pictures(baseline: Baseline, images: Sequence[Image]) -> bool:
    """Whether every candidate picture that the baseline has, too, is bit-equal to the accepted one."""
    pairs = [
        (image.sha256, accepted)
        for image in images
        if image.cell.arm is Arm.CANDIDATE
        and (accepted := baseline.pictures.get(image.cell.case, {}).get(str(image.cell.seed))) is not None
    ]
    return bool(pairs) and all(here == accepted for here, accepted in pairs)
