"""Several checks on one prompt, failing once with all that do not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lorabench.records.plan import Arm
from lorabench.report.notation import number

if TYPE_CHECKING:
    from lorabench.evaluation.engine import CaseView
    from lorabench.records.suite import Case


class CheckCollector:
    """The `lora_check` fixture."""

    def __init__(self, case: Case, view: CaseView) -> None:
        self._case, self._view = case, view
        self._faults: list[str] = []

    def at_least(self, metric: str, bound: float, *, arm: Arm | str = Arm.CANDIDATE) -> None:
        """The metric's mean over seeds is not below the bound, in the metric's unit."""
        value = self._mean(metric, Arm(arm))
        if value is not None and value < bound:
            self._faults.append(f"{metric} on {Arm(arm).value} must be at least {bound:g}; found {number(value)}")

    def at_most(self, metric: str, bound: float, *, arm: Arm | str = Arm.CANDIDATE) -> None:
        """The metric's mean over seeds is not above the bound, in the metric's unit."""
        value = self._mean(metric, Arm(arm))
        if value is not None and value > bound:
            self._faults.append(f"{metric} on {Arm(arm).value} must be at most {bound:g}; found {number(value)}")

    def that(self, holds: object, words: str) -> None:
        """Any condition; the words say what must hold."""
        if not holds:
            self._faults.append(words)

    def conclude(self) -> None:
        """Fail with everything that did not hold. The plugin calls this after the test."""
        if self._faults:
            head = f"prompt {self._case.id}: {len(self._faults)} checks do not hold:"
            pytest.fail("\n".join([head, *(f"  {fault}" for fault in self._faults)]), pytrace=False)

    def _mean(self, metric: str, arm: Arm) -> float | None:
        """None, with a fault noted, where nothing was measured: a missing number holds nothing."""
        values = [item.value for item in self._view.measurements if item.metric == metric and item.cell.arm is arm]
        if values:
            return sum(values) / len(values)
        reasons = [item.reason for item in self._view.unmeasured if item.metric == metric]
        self._faults.append(f"{metric} on {arm.value} was not measured: {reasons[0] if reasons else 'no such metric'}")
        return None
