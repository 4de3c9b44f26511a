"""Looks along strength → findings: style curve, usable window, what is there at low strength, onset of damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.evaluation.sweep_estimates import as_comparison, estimated, interval_of, table
from lorabench.evaluation.sweep_gates import LOW_SHARE, USABLE_POSITION
from lorabench.evaluation.sweep_guards import (
    PROMPT_GUARDS,
    Guards,
    StrengthLooks,
    guard_at,
    open_guards,
    verdicts_at,
    worst_of,
)
from lorabench.evaluation.sweep_panel import Key
from lorabench.evaluation.sweep_style import curve_of
from lorabench.metrics.reading import Missing
from lorabench.metrics.strength import (
    LOW_STRENGTH_ARTIFACTS,
    LOW_STRENGTH_LOSS,
    OVERCOOK_HARM,
    STYLE_SHORTFALL,
    first_strength,
    half_gain_strength,
    isotonic_fit,
    low_strength_loss,
    style_positions,
    usable_window,
)
from lorabench.metrics.texture import SMOOTH_ZONE_SIGMA
from lorabench.records.comparison import Comparison, Outcome, Verdict
from lorabench.records.measurement import Unmeasured
from lorabench.records.sweep import STYLE, Curve, CurvePoint, Estimated, Side, StrengthFindings, StrengthPoint

if TYPE_CHECKING:
    from lorabench.evaluation.engine import Run
    from lorabench.evaluation.gates import Gate
    from lorabench.statistics.intervals import DifferenceInterval

Floats = NDArray[np.float64]
Found = Mapping[str, Comparison | Unmeasured]
LOW: Final = 0.7
"""Share of the working strength at which the style should be there."""
ABOVE: Final = 1.25
"""Share of the working strength up to which no damage should set in."""
SHOWN: Final = ("mean_chroma", "clipped_share", "rms_contrast", "edge_sigma", SMOOTH_ZONE_SIGMA.name)
"""Curves that are drawn whether or not a gate reads them."""


@dataclass(frozen=True, slots=True)
class StrengthRead:
    """What the strength axis gives."""

    findings: StrengthFindings
    curves: tuple[Curve, ...]
    found: Found
    """Gate to what it decides on."""


def read_strengths(looks: StrengthLooks) -> StrengthRead:
    """Read the strength axis.

    Args:
        looks: The pictures of control, base and candidate.
    """
    guards = open_guards(looks)
    verdicts = {
        strength: verdicts_at(guards, strength, from_zero=False) for strength in looks.strengths if strength > 0
    }
    positions = _positions(looks)
    points = tuple(_point(strength, positions.get(strength), verdicts[strength]) for strength in verdicts)
    window = usable_window([point.strength for point in points], [_usable_by_estimate(point) for point in points])
    gain, low, low_share, found = _low_strength(looks)
    findings = StrengthFindings(
        working=looks.working,
        zero_is_base=_zero_is_base(looks),
        gain=estimated(gain),
        low_strength=low,
        low_share=low_share,
        half_gain_strength=_half_gain(looks, positions),
        points=points,
        window=window,
    )
    decided: dict[str, Comparison | Unmeasured] = {
        "strength-window": _window(looks, points, positions),
        "low-strength": found,
        "overcooked": _overcooked(guards),
        "artifact-at-any-strength": _early_artifacts(guards),
    }
    return StrengthRead(findings, (*_style_curve(positions), *_curves(guards)), decided)


def _positions(looks: StrengthLooks) -> dict[float, DifferenceInterval]:
    """Style position at each strength; p-values are about the least usable position."""
    axis = looks.axis
    if isinstance(axis, Missing):
        return {}
    found = {
        strength: axis.position(look, resampling=looks.resampling, limit=USABLE_POSITION)
        for strength, look in looks.candidates.items()
    }
    return {strength: one for strength, one in found.items() if not isinstance(one, Missing)}


def _style_curve(positions: Mapping[float, DifferenceInterval]) -> tuple[Curve, ...]:
    if not positions:
        return ()
    strengths = list(positions)
    values = [positions[strength].estimate for strength in strengths]
    return (
        Curve(
            name=STYLE,
            axis="strength",
            side=Side.CANDIDATE,
            unit="position",
            higher_is_better=True,
            points=tuple(
                CurvePoint(at=strength, value=one.estimate, low=one.low, high=one.high)
                for strength, one in positions.items()
            ),
            fitted=tuple(isotonic_fit(strengths, values)),
            control=0.0,
            training=1.0,
        ),
    )


def _half_gain(looks: StrengthLooks, positions: Mapping[float, DifferenceInterval]) -> float | None:
    below = [strength for strength in positions if strength <= looks.working]
    if looks.working not in positions or 0.0 not in positions:
        return None
    values = [positions[strength].estimate for strength in below]
    found = half_gain_strength(below, isotonic_fit(below, values), full=values[-1])
    return None if isinstance(found, Missing) else found


def _low_strength(
    looks: StrengthLooks,
) -> tuple[DifferenceInterval | Missing, float | None, Estimated | None, Comparison | Unmeasured]:
    """Gain, the low strength, the share of the gain that is there, and what the gate decides on."""
    axis, metric = looks.axis, LOW_STRENGTH_LOSS
    if isinstance(axis, Missing):
        return axis, None, None, Unmeasured(metric=metric.name, reason=axis.reason)
    low = _nearest([one for one in looks.strengths if 0 < one < looks.working], LOW * looks.working)
    sides = [looks.zero, looks.candidates[looks.working], *([] if low is None else [looks.candidates[low]])]
    data = table([axis.control, *(axis.ruler.distances(look) for look in sides)])

    def positions(means: Floats) -> list[Floats]:
        return [
            style_positions(means[:, place], control=means[:, 0], training=axis.training)
            for place in range(1, means.shape[1])
        ]

    def gain_of(means: Floats) -> Floats:
        zero, full, *_ = positions(means)
        return np.asarray(full - zero)

    gain = interval_of(data, gain_of, name="style_gain", resampling=looks.resampling)
    reason = _no_gain(gain, low)
    if reason is not None:
        return gain, low, None, Unmeasured(metric=metric.name, reason=reason)

    def loss_of(means: Floats) -> Floats:
        zero, full, seven = positions(means)
        return low_strength_loss(seven, zero, full)

    loss = interval_of(data, loss_of, name=metric.name, resampling=looks.resampling, limit=1 - LOW_SHARE)
    share = None
    if not isinstance(loss, Missing):
        share = Estimated(value=1 - loss.estimate, low=1 - loss.high, high=1 - loss.low, n_cases=loss.n_clusters)
    return gain, low, share, as_comparison(metric, loss)


def _no_gain(gain: DifferenceInterval | Missing, low: float | None) -> str | None:
    if low is None:
        return "the grid must hold a strength between 0 and the working one; it holds none."
    if isinstance(gain, Missing):
        return gain.reason
    if gain.low <= 0:
        return (
            "a share of the gain needs a gain; that from strength 0 to the working strength is not shown to be above "
            f"zero ({gain.estimate:+.2f} positions [{gain.low:+.2f}, {gain.high:+.2f}])."
        )
    return None


def _nearest(strengths: Sequence[float], wanted: float) -> float | None:
    return min(strengths, key=lambda one: (abs(one - wanted), one), default=None)


def _zero_is_base(looks: StrengthLooks) -> bool | None:
    zero, base = looks.zero.image_of(), looks.untouched.image_of()
    if not zero or zero.keys() != base.keys():
        return None
    return all(zero[key].sha256 == base[key].sha256 for key in zero)


def _point(strength: float, position: DifferenceInterval | None, verdicts: Sequence[Verdict]) -> StrengthPoint:
    broken = [verdict.gate for verdict in verdicts if verdict.outcome is Outcome.FAIL]
    little = position is not None and position.high < USABLE_POSITION
    enough = position is not None and position.low > USABLE_POSITION
    usable = Outcome.FAIL if broken or little else Outcome.PASS if enough else Outcome.INCONCLUSIVE
    if position is None and not broken:
        usable = Outcome.UNMEASURED
    return StrengthPoint(
        strength=strength,
        position=None if position is None else estimated(position),
        guards=tuple(guard_at(verdict) for verdict in verdicts),
        usable=usable,
        obstacles=(*((STYLE,) if little else ()), *broken),
    )


def _usable_by_estimate(point: StrengthPoint) -> bool:
    broken = any(guard.outcome is Outcome.FAIL for guard in point.guards)
    return point.position is not None and point.position.value >= USABLE_POSITION and not broken


def _window(
    looks: StrengthLooks, points: Sequence[StrengthPoint], positions: Mapping[float, DifferenceInterval]
) -> Comparison | Unmeasured:
    """Style that is missing at the best strength without a broken guard.

    "No strength is usable" is claimed only if each strength is shown not to be: its p-value is the largest of theirs,
    and that of one strength twice the smaller of too little style and of a broken guard.
    """
    axis = looks.axis
    if isinstance(axis, Missing):
        return Unmeasured(metric=STYLE_SHORTFALL.name, reason=axis.reason)
    rows = [(point, positions[point.strength]) for point in points if point.strength in positions]
    if not rows:
        return Unmeasured(metric=STYLE_SHORTFALL.name, reason="no strength has a style position.")
    p = max(min(1.0, 2 * min(one.p_lower, _guards_p(point))) for point, one in rows)
    free = [(point, one) for point, one in rows if not any(g.outcome is Outcome.FAIL for g in point.guards)]
    if free:
        best = max((one for _, one in free), key=lambda one: one.estimate)
        estimate, low, high = 1 - best.estimate, 1 - best.high, 1 - best.low
    else:
        best = rows[0][1]
        estimate = low = high = 1.0
    interval = replace(best, estimate=estimate, low=low, high=high, p_lower=1.0, p_higher=p, spread=None)
    return as_comparison(STYLE_SHORTFALL, interval)


def _guards_p(point: StrengthPoint) -> float:
    """Adjusted p-value of "a guard is broken" at one strength."""
    return min(
        (0.0 if guard.guard == "broken" else guard.p_harm for guard in point.guards if guard.outcome is Outcome.FAIL),
        default=1.0,
    )


def _overcooked(guards: Guards) -> Comparison | Unmeasured:
    """Largest harm at most a quarter above the working strength, in margins."""
    looks = guards.looks
    above = [one for one in looks.strengths if looks.working < one <= ABOVE * looks.working + 1e-9]
    if not above:
        reason = (
            f"the grid must hold a strength above {looks.working:g}, up to {ABOVE * looks.working:g}; it holds none."
        )
        return Unmeasured(metric=OVERCOOK_HARM.name, reason=reason)
    names = [gate.name for gate in guards.gates if gate.kind == "artifact" or gate.name in PROMPT_GUARDS]
    return worst_of(guards, names, strength=above[-1], metric=OVERCOOK_HARM.name, from_zero=True)


def _early_artifacts(guards: Guards) -> Comparison | Unmeasured:
    """Largest artefact at the lowest strength above 0, in margins."""
    looks = guards.looks
    lowest = looks.strengths[1]
    if lowest > 0.5 * looks.working:
        reason = f"the grid must hold a strength up to {0.5 * looks.working:g}; its lowest above 0 is {lowest:g}."
        return Unmeasured(metric=LOW_STRENGTH_ARTIFACTS.name, reason=reason)
    names = [gate.name for gate in guards.gates if gate.kind == "artifact"]
    return worst_of(guards, names, strength=lowest, metric=LOW_STRENGTH_ARTIFACTS.name, from_zero=True)


def _curves(guards: Guards) -> tuple[Curve, ...]:
    """Every metric along the scale: those of guards with the onset of damage, then those that are only shown."""
    by_metric = {gate.metric: gate for gate in guards.gates if not gate.hard}
    looks = guards.looks
    shown = [name for name in SHOWN if name not in by_metric]
    curves = []
    for name in (*by_metric, *shown):
        gate = by_metric.get(name)
        rows: dict[float, Mapping[Key, float]]
        control: Mapping[Key, float]
        if gate is None:
            rows = {strength: look.values(name) for strength, look in looks.candidates.items()}
            control = looks.control.values(name)
        else:
            rows = {strength: guards.candidates[strength][name] for strength in looks.strengths}
            control = guards.control[name]
        curve = curve_of(
            name, rows, axis="strength", side=Side.CANDIDATE, confidence_level=looks.resampling.confidence_level
        )
        if curve is None:
            continue
        extra = {"control": _mean(control), "training": _training_level(looks.run, name)}
        if gate is not None:
            extra |= _onsets(guards, gate)
        curves.append(curve.model_copy(update=extra))
    return tuple(curves)


def _onsets(guards: Guards, gate: Gate) -> dict[str, float | None]:
    strengths = [one for one in guards.looks.strengths if one > 0]
    shown, open_ = [], []
    for strength in strengths:
        (verdict,) = verdicts_at(guards, strength, from_zero=True, names=[gate.name])
        harm = guard_at(verdict).harm
        shown.append(verdict.outcome is Outcome.FAIL)
        open_.append(harm is not None and harm.high > gate.margin)
    return {"onset": first_strength(strengths, shown), "suspected": first_strength(strengths, open_)}


def _mean(values: Mapping[Key, float]) -> float | None:
    return float(np.mean([case[:, 0].mean() for case in table([values])])) if values else None


def _training_level(run: Run, name: str) -> float | None:
    if run.training is None:
        return None
    if name == SMOOTH_ZONE_SIGMA.name:
        return float(run.training.look.sigmas.mean())
    levels = run.training.look.readings.get(name)
    return None if levels is None or not len(levels) else float(np.mean(levels))
