"""A run as Markdown, for the summary page of a CI job."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lorabench.records.comparison import Outcome, Verdict
from lorabench.records.results import Results
from lorabench.report.case_view import CaseReader, CaseView
from lorabench.report.file_findings import file_findings
from lorabench.report.notation import (
    DASH,
    OUTCOME_MARKS,
    against,
    counted,
    given,
    interval,
    p_value,
    plain,
    signed,
)
from lorabench.report.run_view import MissingRow, missing_rows, tally

SIZE_LIMIT: Final = 900 * 1024
"""Bytes. GitHub drops a step summary beyond 1 MiB as a whole; this leaves room for others in the same step."""
N_WORST: Final = 10

_CUT_NOTE: Final = "\n*Cut here: a summary holds at most {limit} KiB. The HTML report and results.json are complete.*\n"
_SPECIAL: Final = re.compile(r"[\\`*_\[\]|~$]|^[-+#=]|^\d+(?=[.)])")


def render_markdown(results: Results, *, size_limit: int = SIZE_LIMIT) -> str:
    """Render verdict, reasons, gates, worst cases and gaps as GitHub-flavoured Markdown.

    Args:
        results: The run.
        size_limit: Longest result, in bytes of UTF-8. What does not fit is cut at a line, with a note that says so.

    Returns:
        The document; it holds no picture and no raw HTML out of the run.
    """
    parts = (_headline(results), _reasons(results), _gates(results), _worst(results), _gaps(results), _made_by(results))
    return cap("\n".join(part for part in parts if part), size_limit=size_limit)


def cap(text: str, *, size_limit: int) -> str:
    """Cut a document at a line so that it fits, and say so at its end.

    Args:
        text: The document.
        size_limit: Longest result, in bytes of UTF-8.

    Returns:
        `text` itself where it fits.

    Raises:
        ValueError: Not even the note fits.
    """
    if len(text.encode("utf-8")) <= size_limit:
        return text
    note = _CUT_NOTE.format(limit=size_limit // 1024)
    room = size_limit - len(note.encode("utf-8"))
    if room < 0:
        msg = f"a summary needs room for the note that it was cut; got {size_limit} bytes. Allow at least 1024."
        raise ValueError(msg)
    kept = text.encode("utf-8")[:room].decode("utf-8", errors="ignore")
    return kept[: kept.rfind("\n") + 1] + note


def escape(text: str) -> str:
    r"""Text that shows as it is: no markup, no HTML, no table break, no link, nobody mentioned.

    >>> print(escape("a|b <img> *c* @dev"))
    a\|b &lt;img&gt; \*c\* @<!-- -->dev
    """
    safe = _SPECIAL.sub(_escaped, plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    safe = re.sub(r"(?<=\w)://", "&#58;//", safe)
    return safe.replace("@", "@<!-- -->")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A table; the cells are Markdown already.

    Args:
        header: Column heads.
        rows: Cells by row.
        right: Columns that are aligned to the right.
    """
    rule = ["--:" if column in right else "---" for column in range(len(header))]
    lines = ["| " + " | ".join(row) + " |" for row in (header, rule, *rows)]
    return "\n".join(lines) + "\n"


def outcome_words(outcome: Outcome) -> str:
    """An outcome as mark and word."""
    return f"{OUTCOME_MARKS[outcome]} {outcome.value}"


def _escaped(found: re.Match[str]) -> str:
    return f"{found[0]}\u200b" if found[0].isdigit() else f"\\{found[0]}"


def _headline(results: Results) -> str:
    verdict, candidate = results.verdict, results.candidate
    counts = ", ".join(f"{n} {outcome.value}" for outcome, n in tally(results))
    who = "no candidate"
    if candidate is not None:
        at = f", training step {candidate.training_step}" if candidate.training_step is not None else ""
        who = f"candidate **{escape(candidate.name)}** (`{candidate.digest[:12]}`{at})"
    suite = f"suite **{escape(results.suite.name)}** version {results.suite.version}"
    lines = [
        f"## {outcome_words(verdict.outcome)}: {escape(verdict.headline)}\n",
        f"{who}, base **{escape(results.base.name)}**, {suite}\n",
        f"{counted(len(results.images), 'picture')} of {len(results.plan)} made; gates: {counts or 'none'}; "
        f"exit code {verdict.exit_code}\n",
    ]
    if not verdict.complete:
        lines.append("> **Partial:** not everything that was planned could be evaluated.\n")
    if verdict.identical:
        lines.append("> **Identical:** candidate and reference made the same pictures; the adapter had no effect.\n")
    lines += [f"> **Adapter file:** {escape(sentence)}\n" for sentence in file_findings(candidate)]
    return "\n".join(lines)


def _reasons(results: Results) -> str:
    return "".join(f"- {escape(reason)}\n" for reason in results.verdict.reasons)


def _gates(results: Results) -> str:
    if not results.gates:
        return "No gate was evaluated.\n"
    header = ("Verdict", "Gate", "Metric", "Family", "Compared", "Difference", "Interval", "Margin", "Cases", "p, Holm")
    rows = [_gate_row(gate) for gate in results.gates]
    reasons = "".join(f"- **{escape(gate.gate)}**: {escape(gate.reason)}\n" for gate in results.gates)
    return f"### Gates\n\n{table(header, rows, right=(5, 6, 7, 8, 9))}\n{reasons}"


def _gate_row(gate: Verdict) -> list[str]:
    k = gate.comparison
    start = [outcome_words(gate.outcome), escape(gate.gate), escape(gate.metric), escape(gate.family or "all")]
    if k is None:
        return [*start, DASH, "not measured", DASH, given(gate.margin), DASH, DASH]
    return [
        *start,
        against(k),
        f"{signed(k.estimate)} {escape(k.unit)}".strip(),
        interval(k.low, k.high),
        given(gate.margin),
        str(k.n_cases),
        p_value(gate.p_adjusted),
    ]


def _worst(results: Results) -> str:
    cases = [view for view in CaseReader(results).read_all() if view.flags or view.harm > 0][:N_WORST]
    if not cases:
        return ""
    rows = [_case_row(view) for view in cases]
    return f"### Worst {counted(len(rows), 'case')}\n\n" + table(("Case", "Prompt", "Flags", "Largest harm"), rows)


def _case_row(view: CaseView) -> list[str]:
    flags = "; ".join(flag.text for flag in view.flags)
    harm = f"{view.harm_metric}, {view.harm:.1f} × margin" if view.harm_metric and view.harm > 0 else DASH
    return [escape(view.case.id), escape(view.case.render("")), escape(flags) or DASH, escape(harm)]


def _gaps(results: Results) -> str:
    rows = missing_rows(results)
    if not rows:
        return ""
    return "### Missing\n\n" + "".join(_gap_line(row) for row in rows)


def _gap_line(row: MissingRow) -> str:
    what = escape(row.metric) if row.metric is not None else "no picture"
    where = [*(escape(family) for family in row.families), *([counted(len(row.cells), "cell")] if row.cells else [])]
    place = f" ({', '.join(where)})" if where else ""
    return f"- **{what}**{place}: {escape(row.reason)}\n"


def _made_by(results: Results) -> str:
    p = results.provenance
    return (
        f"lorabench {escape(p.lorabench_version)}, {escape(p.created_at)}; "
        f"{p.n_generated} pictures made, {p.n_from_cache} from the cache\n"
    )
