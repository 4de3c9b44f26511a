"""A few adapters of the zoo on every sixth case: planted faults are all found, healthy adapters raise no alarm."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.evaluation.proving import Bench, prove, subset_of
from lorabench.records.proof import Proof
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.storage.zoo_folder import adapter_path, read_zoo, shipped_zoo, unpack_set

FAULTS = ("blur", "burnt", "black", "nan")
EACH = 6


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    folder, work = shipped_zoo(), tmp_path_factory.mktemp("prove")
    zoo = read_zoo(folder)
    bench = Bench(folder, zoo.sampling_steps, work, work / "cache")
    screen = read_suite(shipped_suite_path("world/screen")).suite
    bench.suite = screen.model_copy(update={"cases": screen.cases[::EACH]})
    hosts = [entry for entry in zoo.adapters if entry.healthy and entry.half == "report" and entry.holds][:2]
    plants = [
        entry.model_copy(update={"host": hosts[n % 2].name})
        for n, fault in enumerate(FAULTS)
        for entry in subset_of(zoo)
        if entry.fault == fault
    ]
    return prove(zoo, bench, wanted=[*hosts, *plants])


@pytest.mark.slow
def test_every_planted_fault_is_found(proof: Proof) -> None:
    faulty = [row for row in proof.rows if row.failure != "healthy"]

    assert len(faulty) == len(FAULTS)
    assert [row.name for row in faulty if not row.caught] == []


@pytest.mark.slow
def test_healthy_adapters_raise_no_alarm(proof: Proof) -> None:
    healthy = [row for row in proof.rows if row.failure == "healthy"]

    assert len(healthy) == 2
    assert {row.name: row.false_alarms for row in healthy if row.false_alarms} == {}


def test_the_shipped_zoo_is_whole(tmp_path: Path) -> None:
    folder = shipped_zoo()
    zoo = read_zoo(folder)
    names = {entry.name for entry in zoo.adapters}

    assert len(names) == len(zoo.adapters)
    assert {entry.host for entry in zoo.adapters if entry.host} <= names
    for entry in zoo.adapters:
        adapter_path(folder, entry)
    assert (unpack_set(folder, zoo.adapters[0], to=tmp_path) / "captions.jsonl").is_file()


def test_faulty_adapters_say_what_has_to_be_seen_and_healthy_ones_have_nothing_to_show() -> None:
    for entry in read_zoo(shipped_zoo()).adapters:
        assert bool(entry.must or entry.errors) != entry.healthy, entry.name
        assert set(entry.must) <= set(entry.may), entry.name


def test_both_halves_hold_every_failure_and_as_many_healthy_ones() -> None:
    adapters = [entry for entry in read_zoo(shipped_zoo()).adapters if entry.holds]
    kinds = {entry.failure for entry in adapters}

    for half in ("fix", "report"):
        assert kinds == {entry.failure for entry in adapters if entry.half == half}
