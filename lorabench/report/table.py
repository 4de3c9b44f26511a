"""All numbers of runs as one long table: a row per measurement, for those who plot."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from lorabench.errors import SpecError
from lorabench.records.plan import Cell
from lorabench.records.results import Results

COLUMNS: Final = (
    "run", "candidate", "training_step", "suite", "case", "family", "arm", "scale", "seed", "metric", "metric_version",
    "unit", "higher_is_better", "value", "reason", "prompt",
)  # fmt: skip
"""`value` is empty where a number is missing, and `reason` says why."""


class ParquetMissingError(SpecError):
    """The package that writes Parquet is not there."""

    def __init__(self) -> None:
        super().__init__(
            "Parquet needs the package pyarrow; it is not installed. `pip install 'lorabench[parquet]'`, or take csv."
        )


def rows_of(runs: Iterable[Results]) -> Iterator[dict[str, Any]]:
    """One row per number, in the order of the results; then one per number that is missing on a picture.

    Args:
        runs: Finished runs.

    Yields:
        Plain values under the names of `COLUMNS`.
    """
    for results in runs:
        families = {case.id: case.family for case in results.suite.cases}
        prompts = {planned.cell: planned.prompt for planned in results.plan}
        metrics = {metric.name: metric for metric in results.metrics}
        head = {
            "run": results.run_id,
            "candidate": None if results.candidate is None else results.candidate.name,
            "training_step": None if results.candidate is None else results.candidate.training_step,
            "suite": results.suite.name,
        }
        numbers: list[tuple[Cell, str, float | None, str | None]] = [
            (one.cell, one.metric, one.value, None) for one in results.measurements
        ]
        numbers += [(one.cell, one.metric, None, one.reason) for one in results.unmeasured if one.cell is not None]
        for cell, name, value, reason in numbers:
            metric = metrics.get(name)
            yield head | {
                "case": cell.case,
                "family": families.get(cell.case),
                "arm": cell.arm.value,
                "scale": cell.scale,
                "seed": cell.seed,
                "metric": name,
                "metric_version": None if metric is None else metric.version,
                "unit": None if metric is None else metric.unit,
                "higher_is_better": None if metric is None else metric.higher_is_better,
                "value": value,
                "reason": reason,
                "prompt": prompts.get(cell),
            }


def to_csv(rows: Iterable[dict[str, Any]]) -> str:
    """The table as CSV (RFC 4180) with a header. A text that a spreadsheet would run as a formula is quoted as text."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: _as_text(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()


def to_json(rows: Iterable[dict[str, Any]]) -> str:
    """The table as a JSON list of objects."""
    return json.dumps(list(rows), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def write_parquet(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the table as Parquet.

    Raises:
        ParquetMissingError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ParquetMissingError from error
    types = {
        "training_step": pyarrow.int64(), "scale": pyarrow.float64(), "seed": pyarrow.int64(),
        "metric_version": pyarrow.int32(), "higher_is_better": pyarrow.bool_(), "value": pyarrow.float64(),
    }  # fmt: skip
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in COLUMNS])
    parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=schema), path)


def _as_text(value: Any) -> Any:
    """Spreadsheets run a cell that begins with one of these; prompts come from anywhere."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
