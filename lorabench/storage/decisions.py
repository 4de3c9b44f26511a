"""A reviewer's `decisions.json`: read, and held against the results it was made on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lorabench.errors import SpecError
from lorabench.records.decisions import DECISIONS_SCHEMA_VERSION, Decisions
from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.storage.record_files import read_record

NAME: Final = "decisions.json"
_MOST_NAMED: Final = 5


class DecisionsFileError(SpecError):
    """The file cannot be read."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"decisions must be a {NAME} of schema version {DECISIONS_SCHEMA_VERSION}, as a report gives it; {path}: "
            f"{found}. Download it from the report again."
        )
        self.path = path


class OtherResultsError(SpecError):
    """The decisions were made on something else."""

    def __init__(self, decisions: Decisions, results: Results, what: str) -> None:
        super().__init__(
            f"decisions hold for the results they were made on; those of {decisions.run_id} do not fit "
            f"{results.run_id}: {what}. Render the report of this run again and decide on it."
        )
        self.what = what


class NotAcceptedError(SpecError):
    """The reviewer did not accept the run."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"a baseline is one run, accepted as a whole; {found}. {remedy}")
        self.found = found


def read_decisions(path: Path) -> Decisions:
    """Read a reviewer's decisions.

    Args:
        path: The file, or the folder that holds it.

    Raises:
        DecisionsFileError: There is none that can be read.
    """
    return read_record(path, Decisions, name=NAME, schema_version=DECISIONS_SCHEMA_VERSION, refuse=DecisionsFileError)


def check_accepted(decisions: Decisions, results: Results) -> None:
    """Make sure that these very results were accepted.

    Args:
        decisions: What the reviewer said.
        results: What is to become a baseline.

    Raises:
        OtherResultsError: They were made on other results, another suite, candidate or pictures.
        NotAcceptedError: The run was not accepted, or a case of it was rejected.
    """
    _check_same(decisions, results)
    if decisions.decision != "accept":
        found = "the reviewer rejected this one" if decisions.decision == "reject" else "this one was not decided on"
        raise NotAcceptedError(found, "Accept the run in the report, or train on.")
    if decisions.rejected:
        named = ", ".join(decisions.rejected[:_MOST_NAMED])
        more = ", ..." if len(decisions.rejected) > _MOST_NAMED else ""
        raise NotAcceptedError(
            f"{len(decisions.rejected)} of its cases are rejected ({named}{more})",
            "Accept them in the report too, or train on.",
        )


def _check_same(decisions: Decisions, results: Results) -> None:
    candidate = None if results.candidate is None else results.candidate.digest
    for found, wanted, what in (
        (decisions.suite_digest, results.suite.content_digest(), "the suite is another one"),
        (decisions.candidate_digest, candidate, "the candidate is another one"),
        (decisions.results_digest, results.content_digest(), "the numbers are others"),
    ):
        if found != wanted:
            raise OtherResultsError(decisions, results, what)
    made: dict[tuple[str, str], set[str]] = {}
    for image in results.images:
        if image.cell.arm is Arm.CANDIDATE:
            made.setdefault((image.cell.case, str(image.cell.seed)), set()).add(image.sha256)
    for one in decisions.cases:
        for seed, sha256 in one.pictures.items():
            if sha256 not in made.get((one.case, seed), ()):
                raise OtherResultsError(decisions, results, f"the picture of {one.case}, seed {seed}, is another one")
