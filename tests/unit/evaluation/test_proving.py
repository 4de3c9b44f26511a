from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.evaluation.proving import Bench, proof_of, rate_of, read_row, subset_of
from lorabench.records.proof import GateReading, Half, ProofRow, Zoo, ZooEntry


def entry(name: str, failure: str = "blur", half: Half = "report", **changes: object) -> ZooEntry:
    facts = {"must": ("blur",), "may": ("blur", "anatomy")} if failure != "healthy" else {}
    return ZooEntry(name=name, failure=failure, half=half, story="made for a test", **(facts | changes))  # type: ignore[arg-type]


def judged(of: ZooEntry, *failed: str, refused: str = "") -> ProofRow:
    gates = [GateReading(gate=name, outcome="FAIL", margin=0.1) for name in failed]
    return read_row(of, gates, key="k", refused=refused)


def test_one_gate_that_must_fail_is_enough() -> None:
    row = judged(entry("a", must=("blur", "halo")), "halo")

    assert row.caught
    assert row.false_alarms == ()


def test_a_gate_that_may_fail_catches_nothing_and_is_no_alarm() -> None:
    row = judged(entry("a"), "anatomy")

    assert not row.caught
    assert row.false_alarms == ()


def test_any_other_gate_is_a_false_alarm() -> None:
    assert judged(entry("a"), "blur", "copy").false_alarms == ("copy",)
    assert judged(entry("a", failure="healthy"), "copy").false_alarms == ("copy",)


def test_a_refusal_catches_only_what_it_ought_to_come_from() -> None:
    spoilt = entry("a", failure="file", must=(), may=(), errors=("NotFiniteError",))

    assert judged(spoilt, refused="NotFiniteError").caught
    assert not judged(spoilt, refused="DeviceError").caught
    assert judged(entry("b", failure="healthy"), refused="NotFiniteError").false_alarms == ("refused",)


def test_rates_are_counted_by_failure_and_half_without_those_that_do_not_hold() -> None:
    entries = [
        entry("a"), entry("b"), entry("c", half="fix"), entry("d", holds=False),
        entry("e", failure="healthy"), entry("f", failure="healthy"),
    ]  # fmt: skip
    rows = [
        judged(entries[0], "blur"), judged(entries[1]), judged(entries[2], "blur"), judged(entries[4]),
        judged(entries[5], "copy"),
    ]  # fmt: skip

    proof = proof_of(entries, rows)

    blur = next(one for one in proof.failures if (one.failure, one.half) == ("blur", "report"))
    assert (blur.recall.hits, blur.recall.n, blur.missed) == (1, 2, ("b",))
    report = next(one for one in proof.halves if one.half == "report")
    assert (report.healthy_alarms.hits, report.healthy_alarms.n) == (1, 2)
    assert proof.not_counted == ("d",)


def test_a_share_of_nothing_is_anything() -> None:
    assert rate_of([]).value is None
    assert (rate_of([]).low, rate_of([]).high) == (0.0, 1.0)


def test_a_share_has_wilsons_interval() -> None:
    rate = rate_of([True] * 3 + [False] * 17)

    assert (rate.low, rate.high) == pytest.approx((0.0524, 0.3604), abs=1e-4)


def test_the_subset_holds_healthy_ones_and_each_planted_fault_once() -> None:
    plants = [entry(f"{fault}-{i}", host="h", fault=fault) for fault in ("blur", "nan") for i in range(2)]
    zoo = Zoo(adapters=(*(entry(f"h{i}", failure="healthy") for i in range(4)), *plants))

    assert [one.name for one in subset_of(zoo)] == ["h0", "h1", "blur-0", "nan-0"]


def test_an_entry_is_judged_on_the_suite_it_names_unless_all_are_judged_on_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 4, tmp_path, tmp_path)
    plain, slices = bench.suite_of(entry("a")), bench.suite_of(entry("b", suite="world/subjects"))

    assert (plain.name, slices.name) == ("world-screen", "world-subjects")

    bench.suite = slices
    assert bench.suite_of(entry("a")) is slices
