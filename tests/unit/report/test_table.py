"""All numbers of a run as a table."""

import csv
import io
import json
import math
import sys

import pytest

from lorabench.cli.exporting import NoFileError
from lorabench.errors import SpecError
from lorabench.report.table import COLUMNS, rows_of, to_csv, to_json, write_parquet


def test_every_number_and_every_missing_one_has_a_row(small_example) -> None:
    results = small_example.results
    rows = list(rows_of([results]))
    missing = [one for one in results.unmeasured if one.cell is not None]

    assert len(rows) == len(results.measurements) + len(missing)
    assert {tuple(row) for row in rows} == {COLUMNS}
    first, told = results.measurements[0], rows[0]
    assert (told["case"], told["arm"], told["seed"]) == (first.cell.case, first.cell.arm.value, first.cell.seed)
    assert (told["metric"], told["value"], told["reason"]) == (first.metric, first.value, None)
    assert all(row["value"] is None and row["reason"] for row in rows[len(results.measurements) :])


def test_csv_gives_the_numbers_back(small_example) -> None:
    rows = list(rows_of([small_example.results]))
    read = list(csv.DictReader(io.StringIO(to_csv(rows))))

    assert [row["case"] for row in read] == [row["case"] for row in rows]
    assert all(
        math.isclose(float(told["value"]), row["value"]) if row["value"] is not None else told["value"] == ""
        for told, row in zip(read, rows, strict=True)
    )


@pytest.mark.parametrize("prompt", ["=cmd|' /C calc'!A0", "+1", "@SUM(A1)", "-2"])
def test_a_prompt_is_no_formula(small_example, prompt: str) -> None:
    row = next(rows_of([small_example.results])) | {"prompt": prompt}
    (read,) = csv.DictReader(io.StringIO(to_csv([row])))
    assert read["prompt"] == f"'{prompt}"


def test_json_is_the_same_table(small_example) -> None:
    rows = list(rows_of([small_example.results]))
    assert json.loads(to_json(rows)) == rows


def test_parquet_gives_the_numbers_back(small_example, tmp_path) -> None:
    from pyarrow import parquet

    rows = list(rows_of([small_example.results]))
    write_parquet(rows, tmp_path / "table.parquet")
    assert parquet.read_table(tmp_path / "table.parquet").to_pylist() == rows


def test_parquet_without_its_package_says_how_to_get_it(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SpecError, match=r"Parquet needs the package pyarrow; .*pip install 'lorabench\[parquet\]'"):
        write_parquet([], tmp_path / "table.parquet")


def test_parquet_goes_into_a_file() -> None:
    with pytest.raises(
        SpecError, match=r"Parquet must go into a file; found no --output\. Give --output FILE, or take"
    ):
        raise NoFileError
