"""A verdict in the format asked for, and the exit code it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.cli import output
from lorabench.errors import ExitCode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorabench.records.comparison import Verdict
    from lorabench.records.results import Results

PRECEDENCE = (ExitCode.NOT_MEASURED, ExitCode.INCOMPLETE, ExitCode.FAILED, ExitCode.INCONCLUSIVE, ExitCode.PASSED)


class Format(StrEnum):
    """How a verdict is printed."""

    HUMAN = "human"
    JSON = "json"
    MARKDOWN = "markdown"
    GITHUB = "github"
    JUNIT = "junit"


@dataclass(frozen=True, slots=True)
class Judged:
    """Results, and where they and their suite lie."""

    results: Results
    results_path: Path
    report_path: Path | None = None
    suite_file: str | None = None
    """For annotations; None points at the results."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """Case id to line of the suite file."""

    def as_json(self) -> dict[str, Any]:
        """Verdict, gates and paths in plain JSON types; stable keys."""
        results, verdict = self.results, self.results.verdict
        return {
            "run_id": results.run_id,
            "suite": results.suite.name,
            "candidate": None if results.candidate is None else results.candidate.name,
            "outcome": verdict.outcome.value,
            "headline": verdict.headline,
            "reasons": list(verdict.reasons),
            "exit_code": verdict.exit_code,
            "complete": verdict.complete,
            "identical": verdict.identical,
            "gates": [_gate(gate) for gate in results.gates],
            "results": str(self.results_path),
            "report": None if self.report_path is None else str(self.report_path),
        }


def combined(codes: Iterable[int]) -> ExitCode:
    """One exit code for several runs: 3 > 5 > 1 > 4 > 0. A code that is none of these counts as 3."""
    found = {code if code in PRECEDENCE else ExitCode.NOT_MEASURED for code in codes}
    return next((code for code in PRECEDENCE if code in found), ExitCode.INCOMPLETE)


def show_verdict(judged: Judged, style: Format) -> None:
    """Print one verdict on stdout."""
    results = judged.results
    if style is Format.JSON:
        output.json_data(judged.as_json())
    elif style is Format.MARKDOWN:
        from lorabench.report.findings_view import diagnosis_markdown
        from lorabench.report.markdown import SIZE_LIMIT, cap, render_markdown
        from lorabench.storage.diagnosis_files import read_diagnosis

        diagnosis = read_diagnosis(judged.results_path.parent)
        causes = "" if diagnosis is None else f"\n{diagnosis_markdown(diagnosis)}"
        output.data(cap(render_markdown(results) + causes, size_limit=SIZE_LIMIT))
    elif style is Format.GITHUB:
        from lorabench.report.github import render_github

        text = render_github(results, suite_file=judged.suite_file or str(judged.results_path), lines=judged.lines)
        if text:
            output.data(text)
    elif style is Format.JUNIT:
        from lorabench.report.junit import render_junit

        output.data(render_junit(results))
    else:
        from lorabench.report.terminal import render_terminal

        output.show(render_terminal(results))


def pictures_of(folder: Path) -> Callable[[str], NDArray[np.uint8] | None]:
    """A run folder's pictures by the digest of their pixels; None for one that is gone or damaged."""

    def picture(sha256: str) -> NDArray[np.uint8] | None:
        import numpy as np
        from PIL import Image

        try:
            with Image.open(folder / "pictures" / f"{sha256}.png") as image:
                return np.asarray(image.convert("RGB"), dtype=np.uint8)
        except (OSError, SyntaxError):
            return None

    return picture


def _gate(gate: Verdict) -> dict[str, Any]:
    k = gate.comparison
    return {
        "gate": gate.gate,
        "metric": gate.metric,
        "outcome": gate.outcome.value,
        "required": gate.required,
        "reason": gate.reason,
        "margin": gate.margin,
        "estimate": None if k is None else k.estimate,
        "low": None if k is None else k.low,
        "high": None if k is None else k.high,
        "unit": None if k is None else k.unit,
        "reference": None if k is None else k.reference,
        "n_cases": None if k is None else k.n_cases,
        "p_adjusted": gate.p_adjusted,
        "cases_needed": gate.cases_needed,
    }
