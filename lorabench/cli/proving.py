"""`prove`: judge adapters whose truth is known, and say how often the harness is right."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lorabench.cli import output
from lorabench.cli.options import CacheFolder
from lorabench.errors import ExitCode, SpecError

if TYPE_CHECKING:
    from lorabench.records.proof import Proof, ProofRow, Zoo, ZooEntry

LEAST_RECALL: Final = 0.90
LEAST_RECALL_EACH: Final = 0.75
MOST_ALARMS: Final = 0.05
"""Goals of the reporting half: recall of all failures together and of each, false alarms on healthy adapters."""


class HalfChoice(StrEnum):
    """Which half of the zoo."""

    FIX = "fix"
    REPORT = "report"


class NoSuchEntryError(SpecError):
    """The choice leaves nothing of the zoo."""

    def __init__(self, only: str | None, known: Sequence[str]) -> None:
        chosen = "nothing" if only is None else f"none called {only!r}"
        super().__init__(
            f"a proof needs at least one adapter of the zoo; the choice leaves {chosen}. "
            f"--only takes one of {', '.join(known)}, or an adapter's name."
        )
        self.only = only


def prove(
    *,
    zoo: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Adapters whose truth is known; else those of fixtures/zoo.")
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="NAME", help="One failure, or one adapter.")] = None,
    half: Annotated[HalfChoice | None, typer.Option(help="Only the half that fixes margins, or that is reported.")] = (
        None
    ),
    subset: Annotated[bool, typer.Option("--subset", help="A few adapters: what CI runs.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Judge again what has been judged before.")] = False,
    to: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Rows, runs and prove.json.")] = Path(
        ".lorabench/prove"
    ),
    write_docs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Markdown page whose tables are renewed.")
    ] = None,
    cache_dir: CacheFolder = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line for each adapter.")] = False,
) -> None:
    """Judge adapters whose truth is known: how much is caught, how often there is a false alarm.

    Goes on where it ended. Exit code 1 where recall or false alarms of the reporting half miss their goals.
    """
    from lorabench.evaluation.engine import default_cache_dir
    from lorabench.evaluation.proving import Bench
    from lorabench.evaluation.proving import prove as judge_zoo
    from lorabench.storage.atomic import write_text
    from lorabench.storage.zoo_folder import read_zoo, shipped_zoo

    folder = zoo or shipped_zoo()
    known = read_zoo(folder)
    wanted = _chosen(known, only=only, half=half, subset=subset)
    bench = Bench(folder, known.sampling_steps, to, cache_dir or default_cache_dir())
    with output.stdout_for_data():
        proof = judge_zoo(known, bench, wanted=wanted, fresh=fresh, told=None if quiet else _tell)
    write_text(to / "prove.json", proof.model_dump_json(indent=1) + "\n")
    if write_docs is not None:
        _renew(write_docs, proof)
    _show(proof)
    output.data(f"results: {to / 'prove.json'}")
    raise typer.Exit(ExitCode.FAILED if missed_goals(proof) else ExitCode.PASSED)


def missed_goals(proof: Proof) -> list[str]:
    """Goals that the reporting half misses, in words."""
    missed = []
    for one in proof.halves:
        if one.half != "report":
            continue
        if one.recall.value is not None and one.recall.value < LEAST_RECALL:
            missed.append(f"recall {one.recall.value:.2f} is under {LEAST_RECALL:.2f}")
        if one.healthy_alarms.value is not None and one.healthy_alarms.value > MOST_ALARMS:
            missed.append(f"false alarms on healthy adapters {one.healthy_alarms.value:.2f} are over {MOST_ALARMS:.2f}")
    missed += [
        f"recall of {one.failure} {one.recall.value:.2f} is under {LEAST_RECALL_EACH:.2f}"
        for one in proof.failures
        if one.half == "report" and one.recall.value is not None and one.recall.value < LEAST_RECALL_EACH
    ]
    return missed


def _chosen(zoo: Zoo, *, only: str | None, half: HalfChoice | None, subset: bool) -> list[ZooEntry]:
    from lorabench.evaluation.proving import subset_of

    entries = subset_of(zoo) if subset else list(zoo.adapters)
    chosen = [
        entry
        for entry in entries
        if (only is None or only in (entry.name, entry.failure)) and (half is None or entry.half == half.value)
    ]
    if not chosen:
        raise NoSuchEntryError(only, sorted({entry.failure for entry in zoo.adapters}))
    return chosen


def _tell(row: ProofRow) -> None:
    from lorabench.records.proof import HEALTHY

    found = "" if row.failure == HEALTHY else ("caught" if row.caught else "MISSED")
    alarms = f"  false alarm: {', '.join(row.false_alarms)}" if row.false_alarms else ""
    failed = row.refused or ", ".join(row.failed) or "no gate failed"
    output.message(f"{row.half:6} {row.name}: {found} ({failed}){alarms}")


def _show(proof: Proof) -> None:
    from lorabench.report.proof_markdown import rate_text

    rows = [
        [one.half, one.failure, rate_text(one.recall), rate_text(one.false_alarms), ", ".join(one.missed)]
        for one in proof.failures
    ]
    output.table(["Half", "Failure", "Caught", "With a false alarm", "Missed"], rows)
    for half in proof.halves:
        output.data(
            f"{half.half}: recall {rate_text(half.recall)}; false alarms on healthy {rate_text(half.healthy_alarms)}, "
            f"on faulty {rate_text(half.other_alarms)}"
        )
    output.data("\n".join(missed_goals(proof)) or "No goal of the reporting half is missed.")


def _renew(page: Path, proof: Proof) -> None:
    from lorabench.report.proof_markdown import with_proof_tables
    from lorabench.storage.atomic import write_text

    before = page.read_text(encoding="utf-8") if page.exists() else "# Error rates\n"
    write_text(page, with_proof_tables(before, proof))
