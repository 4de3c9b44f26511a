from __future__ import annotations

from lorabench.evaluation.proving import proof_of, read_row
from lorabench.records.proof import GateReading, Proof, Rate, ZooEntry
from lorabench.report.proof_markdown import BEGIN, END, proof_tables, rate_text, with_proof_tables


def proof() -> Proof:
    entries = [
        ZooEntry(name="soft", failure="blur", half="report", story="s", must=("blur",)),
        ZooEntry(name="good", failure="healthy", half="report", story="s"),
        ZooEntry(name="flop", failure="blur", half="fix", story="s", must=("blur",), holds=False),
    ]
    passed = GateReading(gate="blur", outcome="PASS", margin=0.25)
    alarm = GateReading(gate="copy", outcome="FAIL", margin=0.1)
    rows = [read_row(entry, gates, key="k") for entry, gates in zip(entries, ([passed], [alarm]), strict=False)]
    return proof_of(entries, rows)


def test_misses_alarms_and_what_is_not_counted_are_named() -> None:
    text = proof_tables(proof())

    assert "| blur | 0 / 1 = 0.00 (0.00 to 0.79) |" in text
    assert "| soft | missed | none |" in text
    assert "| good | healthy | copy | copy |" in text
    assert "| `copy` | 0.1 | 0 | 1 | 0 |" in text
    assert text.endswith("Not counted, because they did not become what was planned: flop.")


def test_tables_are_renewed_in_their_place() -> None:
    page = f"# Page\n\n{BEGIN}\nold\n{END}\n\nRead by hand.\n"

    renewed = with_proof_tables(page, proof())

    assert "old" not in renewed
    assert renewed.startswith("# Page\n")
    assert renewed.endswith("Read by hand.\n")
    assert with_proof_tables(renewed, proof()) == renewed


def test_a_page_without_tables_gets_them_at_its_end() -> None:
    assert with_proof_tables("# Page\n", proof()).startswith(f"# Page\n\n{BEGIN}\n")


def test_nothing_counted_is_a_dash() -> None:
    assert rate_text(Rate(hits=0, n=0, low=0.0, high=1.0)) == "–"
