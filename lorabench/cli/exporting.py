"""`export`: the numbers of runs as one table, for those who plot."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lorabench.cli import output
from lorabench.cli.reporting import read_judged
from lorabench.errors import SpecError


class TableFormat(StrEnum):
    """How the table is written."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class NoFileError(SpecError):
    """Parquet is no text."""

    def __init__(self) -> None:
        super().__init__("Parquet must go into a file; found no --output. Give --output FILE, or take --format csv.")


def export(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or their results.json.")],
    style: Annotated[TableFormat, typer.Option("--format", help="How it is written.")] = TableFormat.CSV,
    to: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Else it is printed.")] = None,
) -> None:
    """Write every number of runs as one long table, a row per picture and metric."""
    from lorabench.report.table import rows_of, to_csv, to_json, write_parquet
    from lorabench.storage.atomic import write_bytes

    rows = list(rows_of(read_judged(run).results for run in runs))
    if style is TableFormat.PARQUET:
        if to is None:
            raise NoFileError
        draft = to.with_name(f".{to.name}.part")
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_parquet(rows, draft)
            draft.replace(to)
        finally:
            draft.unlink(missing_ok=True)
        return
    text = to_csv(rows) if style is TableFormat.CSV else to_json(rows)
    if to is None:
        output.data(text.rstrip("\n"))
    else:
        write_bytes(to, text.encode("utf-8"))
