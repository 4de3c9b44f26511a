"""`prove.json` as Markdown tables: recall by failure, false alarms, and each adapter that was not read right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from lorabench.records.proof import HEALTHY, Half, Proof, ProofRow, Rate

BEGIN: Final = "<!-- tables: lorabench prove -->"
END: Final = "<!-- end of tables -->"
HALVES: Final[dict[Half, str]] = {"report": "Reporting half", "fix": "Fixing half"}


def proof_tables(proof: Proof) -> str:
    """All tables, the reporting half first."""
    parts = [_summary(proof)]
    for half, title in HALVES.items():
        if any(one.half == half for one in proof.failures):
            parts += [f"### {title}", _by_failure(proof, half), _wrong(proof, half)]
    parts += ["### Alarms by gate", _by_gate(proof)]
    if proof.not_counted:
        parts.append(f"Not counted, because they did not become what was planned: {', '.join(proof.not_counted)}.")
    return "\n\n".join(part for part in parts if part)


def with_proof_tables(page: str, proof: Proof) -> str:
    """A page with its tables renewed between the two marks; at its end where it has none."""
    block = f"{BEGIN}\n{proof_tables(proof)}\n{END}"
    if BEGIN in page:
        return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: block, page, flags=re.DOTALL)
    return f"{page.rstrip()}\n\n{block}\n"


def rate_text(rate: Rate) -> str:
    """`11 / 12 = .92 (.65 to .99)`; a dash for nothing."""
    if rate.value is None:
        return "–"
    return f"{rate.hits} / {rate.n} = {rate.value:.2f} ({rate.low:.2f} to {rate.high:.2f})"


def _summary(proof: Proof) -> str:
    rows = [
        [HALVES[one.half], rate_text(one.recall), rate_text(one.healthy_alarms), rate_text(one.other_alarms)]
        for one in sorted(proof.halves, key=lambda one: one.half, reverse=True)
    ]
    return _table(["", "recall, all failures", "false alarms, healthy adapters", "false alarms, faulty adapters"], rows)


def _by_failure(proof: Proof, half: Half) -> str:
    rows = [
        [
            one.failure,
            "–" if one.failure == HEALTHY else rate_text(one.recall),
            rate_text(one.false_alarms),
            ", ".join(one.missed) or "–",
        ]
        for one in proof.failures
        if one.half == half
    ]
    return _table(["failure", "caught", "adapters with a false alarm", "missed"], rows)


def _wrong(proof: Proof, half: Half) -> str:
    rows = [
        [row.name, _kind(row), ", ".join(row.failed) or row.refused or "none", ", ".join(row.false_alarms) or "–"]
        for row in proof.rows
        if row.half == half and (_is_missed(row) or row.false_alarms)
    ]
    return _table(["adapter not read right", "", "failed gates", "without cause"], rows) if rows else ""


def _kind(row: ProofRow) -> str:
    if row.failure == HEALTHY:
        return HEALTHY
    return "caught" if row.caught else "missed"


def _by_gate(proof: Proof) -> str:
    """How often each gate failed with cause and without, and how often it could not be measured."""
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    blind: Counter[str] = Counter()
    margin: dict[str, float] = {}
    for row in proof.rows:
        for one in row.gates:
            margin.setdefault(one.gate, one.margin)
            blind[one.gate] += one.outcome == "UNMEASURED"
            wrong[one.gate] += one.gate in row.false_alarms
            right[one.gate] += one.outcome == "FAIL" and one.gate not in row.false_alarms
    rows = [[f"`{g}`", f"{m:g}", str(right[g]), str(wrong[g]), str(blind[g])] for g, m in margin.items()]
    return _table(["gate", "margin", "failed with cause", "failed without cause", "not measurable"], rows)


def _is_missed(row: ProofRow) -> bool:
    return row.failure != HEALTHY and not row.caught


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
