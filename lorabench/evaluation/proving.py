"""Zoo → Proof: judge adapters whose truth is known, and count how often the harness is right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from lorabench import __version__
from lorabench.errors import LorabenchError
from lorabench.evaluation.demonstration import world_config
from lorabench.evaluation.engine import open_run
from lorabench.evaluation.gates import DEFAULT_GATES
from lorabench.evaluation.planting import FILE_FAULTS, PlantedBackend, plant_in_file
from lorabench.evaluation.sweep_gates import SWEEP_GATES
from lorabench.evaluation.sweeping import sweep
from lorabench.records.comparison import Verdict
from lorabench.records.config import GateConfig
from lorabench.records.proof import (
    HEALTHY,
    FailureRates,
    GateReading,
    Half,
    HalfRates,
    Proof,
    ProofRow,
    Rate,
    Zoo,
    ZooEntry,
)
from lorabench.records.record import digest_of
from lorabench.records.sweep import PanelConfig
from lorabench.registry import BACKENDS, METRICS
from lorabench.statistics.intervals import wilson_interval
from lorabench.storage.atomic import write_text
from lorabench.storage.pictures import PictureCache
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.storage.zoo_folder import adapter_path, unpack_set

if TYPE_CHECKING:
    from lorabench.evaluation.judge_set import JudgeSet
    from lorabench.generation.protocol import Backend
    from lorabench.records.config import Config
    from lorabench.records.suite import Suite

CONFIDENCE_LEVEL: Final = 0.95
REFUSED: Final = "refused"
"""Stands among the false alarms where an adapter's file was refused without cause."""
HALVES: Final[tuple[Half, ...]] = get_args(Half)
PANEL: Final = PanelConfig(strengths=(0.0, 0.5, 0.7, 1.0, 1.25, 1.5), guidances=(1.0, 2.0, 5.0), n_anatomy_cases=0)
"""Fewer settings than a sweep has by default: half the pictures."""


@dataclass
class Bench:
    """Where a zoo is judged: one base and one set of judges for all adapters.

    Attributes:
        zoo_folder: The zoo.
        sampling_steps: Of every picture.
        work: Rows, unpacked sets and runs.
        cache_dir: Pictures and features.
        suite: Prompts for all of them, instead of the suite that each entry names.
        settings: Settings that are changed, by their table in a configuration.
    """

    zoo_folder: Path
    sampling_steps: int
    work: Path
    cache_dir: Path
    suite: Suite | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    _backend: Backend | None = None
    _suites: dict[str, Suite] = field(default_factory=dict)
    _judges: dict[bool, JudgeSet] = field(default_factory=dict)

    def row(self, entry: ZooEntry, *, fresh: bool = False) -> ProofRow:
        """Judge an entry, or read what was found before with the same gates.

        Args:
            entry: The adapter.
            fresh: Judge again in any case.

        Raises:
            MeasurementError: The zoo's files, the base or a judge are missing.
        """
        file, key = self.work / "rows" / f"{entry.name}.json", self._key(entry)
        if not fresh and file.is_file():
            known = ProofRow.model_validate_json(file.read_text(encoding="utf-8"))
            if known.key == key:
                return known
        row = self._judged(entry, key)
        write_text(file, row.model_dump_json(indent=1) + "\n")
        return row

    def config(self, entry: ZooEntry) -> Config:
        """The settings by which an entry is judged."""
        adapter = adapter_path(self.zoo_folder, entry)
        if entry.fault is not None and entry.fault in FILE_FAULTS:
            source, adapter = adapter, self.work / "planted" / f"{entry.name}.safetensors"
            plant_in_file(source, adapter, fault=entry.fault)
        config = world_config(
            adapter,
            training=unpack_set(self.zoo_folder, entry, to=self.work / "sets"),
            runs_dir=self.work / "runs",
            cache_dir=self.cache_dir,
        )
        changes = {
            "generation": config.generation.model_copy(update={"num_inference_steps": self.sampling_steps}),
            "gates": {gate.name: GateConfig() for gate in DEFAULT_GATES if not gate.by_default},
        }
        judges = config.judges.model_copy(update={"ocr": "rapidocr" if entry.ocr else "off"})
        return config.model_copy(update=changes | self.settings | {"judges": judges})

    def suite_of(self, entry: ZooEntry) -> Suite:
        """The prompts that an entry is judged on."""
        if self.suite is not None:
            return self.suite
        if entry.suite not in self._suites:
            self._suites[entry.suite] = read_suite(shipped_suite_path(entry.suite)).suite
        return self._suites[entry.suite]

    def _key(self, entry: ZooEntry) -> str:
        gates = [
            (gate.name, gate.metric, METRICS.load(gate.metric).version, gate.margin)
            for gate in (*DEFAULT_GATES, *SWEEP_GATES)
        ]
        changes = {k: repr(v) for k, v in self.settings.items()}
        known = entry.model_dump(mode="json", exclude={"truth", "story", "recipe"})
        suite = self.suite_of(entry).content_digest()
        return digest_of([known, gates, changes, suite, self.sampling_steps, __version__])

    def _judged(self, entry: ZooEntry, key: str) -> ProofRow:
        started = time.perf_counter()
        config = self.config(entry)
        refused, message, headline = "", "", ""
        verdicts: list[Verdict] = []
        backend, suite = self._opened(config), self.suite_of(entry)
        try:
            if entry.fault is not None and entry.fault not in FILE_FAULTS:
                pictures = PictureCache(self.cache_dir / "pictures")
                backend = PlantedBackend(backend, fault=entry.fault, pictures=pictures)
            run = open_run(config, suite=suite, backend=backend, judges=self._judges.get(entry.ocr))
            self._judges[entry.ocr] = run.judges
            with run.folder.claimed():
                results = run.finish()
            run.close()
            verdicts, headline = list(results.gates), results.verdict.headline
            if entry.sweep:
                found = sweep(config, suite=suite, panel=PANEL, backend=backend, judges=self._judges[entry.ocr])
                verdicts += found.gates
        except LorabenchError as error:
            refused, message = type(error).__name__, str(error)
        return read_row(
            entry,
            [reading_of(one) for one in verdicts],
            key=key,
            refused=refused,
            message=message,
            headline=headline,
            seconds=round(time.perf_counter() - started, 2),
        )

    def _opened(self, config: Config) -> Backend:
        if self._backend is None:
            made: Backend = BACKENDS.load(config.model.backend)(config.model, cache_dir=self.cache_dir)
            self._backend = made
        return self._backend


def prove(
    zoo: Zoo,
    bench: Bench,
    *,
    wanted: Sequence[ZooEntry] | None = None,
    fresh: bool = False,
    told: Callable[[ProofRow], None] | None = None,
) -> Proof:
    """Judge the adapters of a zoo one by one; what is known already is not judged again, what does not hold not at all.

    Args:
        zoo: The manifest.
        bench: Where they are judged.
        wanted: Only these of its entries.
        fresh: Judge all again.
        told: Hears of each row.

    Returns:
        All rows, with recall and false alarms.

    Raises:
        MeasurementError: The zoo's files, the base or a judge are missing.
    """
    entries = list(zoo.adapters if wanted is None else wanted)
    rows = []
    for entry in entries:
        if not entry.holds:
            continue
        rows.append(bench.row(entry, fresh=fresh))
        if told is not None:
            told(rows[-1])
    return proof_of(entries, rows)


def read_row(
    entry: ZooEntry,
    gates: Sequence[GateReading],
    *,
    key: str,
    refused: str = "",
    message: str = "",
    headline: str = "",
    seconds: float = 0.0,
) -> ProofRow:
    """Compare what was found with what is true.

    Args:
        entry: What is true.
        gates: What each gate said.
        key: Digest of all that decides the row.
        refused: Name of the error with which the file was refused, if it was.
        message: What the error said.
        headline: Of the run's verdict.
        seconds: Wall time.
    """
    failed = [one.gate for one in gates if one.outcome == "FAIL"]
    caught = bool(set(failed) & set(entry.must)) or refused in entry.errors
    allowed = {*entry.must, *entry.may}
    alarms = [name for name in failed if name not in allowed]
    if refused and refused not in entry.errors:
        alarms.append(REFUSED)
    return ProofRow(
        key=key,
        name=entry.name,
        failure=entry.failure,
        half=entry.half,
        refused=refused,
        message=message,
        gates=tuple(gates),
        caught=caught,
        false_alarms=tuple(alarms),
        headline=headline,
        seconds=seconds,
    )


def reading_of(verdict: Verdict) -> GateReading:
    """What a verdict says, in short; harm is positive."""
    if verdict.comparison is None:
        return GateReading(
            gate=verdict.gate, outcome=verdict.outcome.value, margin=verdict.margin, reason=verdict.reason
        )
    estimate, low, high = verdict.comparison.oriented()
    return GateReading(
        gate=verdict.gate,
        outcome=verdict.outcome.value,
        harm=round(-estimate, 6),
        low=round(-high, 6),
        high=round(-low, 6),
        margin=verdict.margin,
    )


def proof_of(entries: Sequence[ZooEntry], rows: Sequence[ProofRow]) -> Proof:
    """Recall and false alarms, by failure and half. Entries that do not hold are named and not counted.

    Args:
        entries: What is true.
        rows: What was found in those that hold, in the same order.
    """
    counted = list(zip([entry for entry in entries if entry.holds], rows, strict=True))
    kinds = dict.fromkeys(entry.failure for entry, _ in counted)
    failures = [
        _failure_rates(kind, half, [row for entry, row in counted if (entry.failure, entry.half) == (kind, half)])
        for half in HALVES
        for kind in kinds
    ]
    halves = [_half_rates(half, [row for entry, row in counted if entry.half == half]) for half in HALVES]
    return Proof(
        lorabench_version=__version__,
        confidence_level=CONFIDENCE_LEVEL,
        gates={gate.name: gate.margin for gate in (*DEFAULT_GATES, *SWEEP_GATES)},
        rows=tuple(rows),
        failures=tuple(one for one in failures if one.false_alarms.n),
        halves=tuple(one for one in halves if one.recall.n or one.healthy_alarms.n),
        not_counted=tuple(entry.name for entry in entries if not entry.holds),
    )


def subset_of(zoo: Zoo) -> list[ZooEntry]:
    """A small part for every change, of the reporting half: two healthy adapters, the first of each planted fault."""
    chosen = [entry for entry in zoo.adapters if entry.healthy and entry.half == "report" and entry.holds][:2]
    seen: set[str] = set()
    for entry in zoo.adapters:
        if entry.fault and entry.half == "report" and not entry.ocr and entry.fault not in seen:
            seen.add(entry.fault)
            chosen.append(entry)
    return chosen


def rate_of(hits: Iterable[bool]) -> Rate:
    """A share with Wilson's interval; of nothing, all of 0 to 1."""
    found = list(hits)
    if not found:
        return Rate(hits=0, n=0, low=0.0, high=1.0)
    interval = wilson_interval(sum(found), len(found), confidence_level=CONFIDENCE_LEVEL)
    return Rate(hits=sum(found), n=len(found), low=round(interval.low, 4), high=round(interval.high, 4))


def _failure_rates(failure: str, half: Half, rows: Sequence[ProofRow]) -> FailureRates:
    faulty = failure != HEALTHY
    return FailureRates(
        failure=failure,
        half=half,
        recall=rate_of(row.caught for row in rows if faulty),
        false_alarms=rate_of(bool(row.false_alarms) for row in rows),
        missed=tuple(row.name for row in rows if faulty and not row.caught),
    )


def _half_rates(half: Half, rows: Sequence[ProofRow]) -> HalfRates:
    return HalfRates(
        half=half,
        recall=rate_of(row.caught for row in rows if row.failure != HEALTHY),
        healthy_alarms=rate_of(bool(row.false_alarms) for row in rows if row.failure == HEALTHY),
        other_alarms=rate_of(bool(row.false_alarms) for row in rows if row.failure != HEALTHY),
    )
