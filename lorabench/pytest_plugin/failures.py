"""What is wrong with a prompt or a gate, as the short table a failing item shows instead of a Python trace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lorabench.records.comparison import Outcome
from lorabench.records.plan import Arm
from lorabench.records.suite import PaletteCheck
from lorabench.report.notation import against, check_words, interval, number, plain, signed

if TYPE_CHECKING:
    from lorabench.evaluation.engine import CaseView
    from lorabench.records.comparison import Comparison, Verdict
    from lorabench.records.images import Image
    from lorabench.records.measurement import Unmeasured
    from lorabench.records.results import CheckOutcome, Results
    from lorabench.records.suite import Case

BROKEN = "broken_rate"
CHECK_METRICS = ("prompt_following_score", "anatomy_score")
"""Metrics that are missing together with the outcomes of checks, for the same reason."""
N_WORST = 5


def prompt_faults(case: Case, view: CaseView) -> list[str]:
    """Everything for which a prompt item fails, one line each; empty if the prompt holds.

    A picture that could not be made, a broken picture whose control is whole, and, on a golden case, a check that
    failed or could not be scored on a picture of the candidate.
    """
    faults = [f"{failed.cell.key}: no picture: {plain(failed.reason)}" for failed in view.failed]
    if not view.failed and not any(image.cell.arm is Arm.CANDIDATE for image in view.images):
        faults.append("no picture of the candidate was made")
    broken = {(m.cell.arm, m.cell.seed): m.value for m in view.measurements if m.metric == BROKEN}
    for (arm, seed), value in broken.items():
        if arm is Arm.CANDIDATE and value == 1 and broken.get((Arm.CONTROL, seed), 0.0) == 0:
            faults.append(f"seed {seed}: the candidate's picture is broken, the control's is not")
    return faults + golden_faults(case, view.images, checks=view.checks, unmeasured=view.unmeasured)


def golden_faults(
    case: Case, images: Iterable[Image], *, checks: Iterable[CheckOutcome], unmeasured: Iterable[Unmeasured]
) -> list[str]:
    """The candidate's checks of a golden case that do not hold, one line each; empty for other cases.

    A check without an outcome does not hold: nobody looked. Palette checks give a score and decide nothing here.

    Args:
        case: The case.
        images: Its pictures; others are passed over.
        checks: Outcomes of checks.
        unmeasured: Says why there are none, where there are none.
    """
    if not case.golden:
        return []
    outcomes = {(check.cell, check.check_index): check for check in checks}
    whys = {item.cell: item.reason for item in unmeasured if item.cell is not None and item.metric in CHECK_METRICS}
    faults = []
    for cell in (image.cell for image in images if image.cell.arm is Arm.CANDIDATE and image.cell.case == case.id):
        for index, check in enumerate(case.checks):
            outcome = outcomes.get((cell, index))
            if isinstance(check, PaletteCheck) or (outcome is not None and outcome.passed):
                continue
            word = "failed" if outcome is not None and outcome.passed is False else "not measured"
            reason = outcome.reason if outcome is not None else whys.get(cell, "nothing looked for it")
            faults.append(f"golden, seed {cell.seed}: {check_words(check)}: {word}: {plain(reason)}")
    return faults


def prompt_text(case: Case, view: CaseView, faults: Sequence[str]) -> str:
    """The failure text of a prompt item."""
    rows = [
        (metric, number(mine), number(control), signed(None if mine is None or control is None else mine - control))
        for metric, mine, control in metric_means(view)
    ]
    table = aligned(("metric", "candidate", "control", "difference"), rows) if rows else []
    missing = dict.fromkeys(f"{item.metric}: not measured: {plain(item.reason)}" for item in view.unmeasured)
    return "\n".join(
        [
            f"prompt {case.id} ({case.family}): {plain(case.prompt)}",
            *(f"  {fault}" for fault in faults),
            *table,
            *(f"  {line}" for line in missing),
        ]
    )


def metric_means(view: CaseView) -> list[tuple[str, float | None, float | None]]:
    """Metric, mean over seeds on the candidate, mean over seeds on the control; None where nothing was measured."""
    values: dict[str, dict[Arm, list[float]]] = {}
    for item in view.measurements:
        values.setdefault(item.metric, {}).setdefault(item.cell.arm, []).append(item.value)
    return [
        (metric, _mean(by_arm.get(Arm.CANDIDATE)), _mean(by_arm.get(Arm.CONTROL))) for metric, by_arm in values.items()
    ]


def gravest(verdicts: Sequence[Verdict]) -> Outcome:
    """The outcome that weighs most among several gates."""
    order = (Outcome.FAIL, Outcome.UNMEASURED, Outcome.INCONCLUSIVE, Outcome.PASS)
    return min((verdict.outcome for verdict in verdicts), key=order.index)


def gate_fault(verdict: Verdict, *, inconclusive_fails: bool) -> str | None:
    """Why a gate item fails, in a word; None if it does not."""
    if verdict.outcome is Outcome.UNMEASURED:
        return "not measured" if verdict.required else None
    if verdict.outcome is Outcome.INCONCLUSIVE:
        return "INCONCLUSIVE" if inconclusive_fails else None
    return "FAIL" if verdict.outcome is Outcome.FAIL else None


def gate_text(verdict: Verdict, *, fault: str, suite: str) -> str:
    """The failure text of a gate item: the sentence, the numbers, the cases that weigh most."""
    lines = [f"gate {verdict.gate} of {suite}: {fault}", f"  {plain(verdict.reason)}"]
    if verdict.comparison is None:
        return "\n".join(lines)
    lines += aligned(GATE_COLUMNS, [gate_row(verdict)])
    worst = worst_cases(verdict.comparison)
    lines += ["  worst cases: " + ", ".join(f"{case} {signed(value)}" for case, value in worst)] if worst else []
    if verdict.outcome is Outcome.INCONCLUSIVE:
        lines.append("  Add cases to the suite, or state --lorabench-inconclusive=pass.")
    return "\n".join(lines)


GATE_COLUMNS = ("gate", "metric", "candidate", "reference", "difference", "interval", "margin", "cases", "verdict")


def gate_row(verdict: Verdict) -> tuple[str, ...]:
    """One line of the gates table."""
    found = verdict.comparison
    if found is None:
        return verdict.gate, verdict.metric, *("–",) * 4, number(verdict.margin), "–", verdict.outcome.value
    return (
        verdict.gate,
        verdict.metric,
        number(found.candidate_mean),
        number(found.reference_mean),
        f"{signed(found.estimate)} ({against(found)})",
        interval(found.low, found.high),
        number(verdict.margin),
        str(found.n_cases),
        verdict.outcome.value,
    )


def worst_cases(comparison: Comparison, n: int = N_WORST) -> list[tuple[str, float]]:
    """The cases harmed most, worst first, with their difference; only those that are worse than the reference."""
    sign = 1.0 if comparison.higher_is_better else -1.0
    harmed = [(item.case, item.difference) for item in comparison.differences if sign * item.difference < 0]
    return sorted(harmed, key=lambda entry: sign * entry[1])[:n]


def incomplete_text(results: Results) -> str:
    """Why no gate of a run can hold: pictures are missing."""
    reasons = dict.fromkeys(f"{item.cell.key}: {plain(item.reason)}" for item in results.failed)
    shown = list(reasons)[:N_WORST]
    more = [f"  and {len(reasons) - len(shown)} more"] if len(reasons) > len(shown) else []
    head = f"a gate needs every picture of its suite; {len(results.failed)} could not be made:"
    return "\n".join([head, *(f"  {reason}" for reason in shown), *more])


def _mean(values: list[float] | None) -> float | None:
    return sum(values) / len(values) if values else None


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned lines, two blanks between the columns."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return [
        "  " + "  ".join(entry.ljust(width) for entry, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
