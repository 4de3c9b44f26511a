"""The pages of audit and diagnosis list what there is."""

from __future__ import annotations

import re
from pathlib import Path

from lorabench.diagnosis.causes import shipped_causes
from lorabench.records.audit import AUDIT_FACTS

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_cause_stands_in_the_page_with_what_decides_it() -> None:
    text = (DOCS / "diagnosis.md").read_text(encoding="utf-8")
    rows = {name: row for row, name in re.findall(r"^(\| .+ \(`([a-z-]+)`\) \| .+ \| .+ \|)$", text, re.MULTILINE)}

    assert list(rows) == [cause.id for cause in shipped_causes().table.causes]
    for cause in shipped_causes().table.causes:
        row = rows[cause.id]
        asked = [*(one for one in cause.symptoms if one.weight >= 0.5), *cause.evidence]
        assert cause.name in row
        assert {one.fact for one in asked} == set(re.findall(r"`([a-z]+\.[a-z_-]+)`", row))


def test_every_fact_of_an_audit_stands_in_its_page() -> None:
    text = (DOCS / "audit.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

    assert named & AUDIT_FACTS.keys() == AUDIT_FACTS.keys()
