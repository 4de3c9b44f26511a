"""The block at the end of a session: prompts, gates, worst cases, costs; and the report files asked for."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.errors import LorabenchError
from lorabench.pytest_plugin.failures import GATE_COLUMNS, N_WORST, aligned, gate_row, worst_cases
from lorabench.pytest_plugin.runner import merge_records
from lorabench.records.comparison import Outcome
from lorabench.report.notation import counted, plain, seconds, signed
from lorabench.storage.run_folder import RunFolder, read_results

if TYPE_CHECKING:
    import numpy as np
    import pytest
    from numpy.typing import NDArray

    from lorabench.pytest_plugin.options import Options
    from lorabench.records.results import Results

COLORS = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.INCONCLUSIVE: "yellow", Outcome.UNMEASURED: "yellow"}


def write_summary(
    reporter: pytest.TerminalReporter, records: Sequence[dict[str, Any]], *, options: Options, files: Sequence[str]
) -> None:
    """Write the block.

    Args:
        reporter: pytest's terminal; it knows about colour and width.
        records: What each process says about its suites.
        options: The plugin's options.
        files: What `write_files` said.
    """
    merged = merge_records(records)
    quiet = reporter.verbosity < 0
    if not options.enabled:
        total = sum(record["total"] for record in merged)
        reporter.write_line(
            f"lorabench: 0 of {total} prompts evaluated; give --lorabench to evaluate them", yellow=True
        )
        return
    if not quiet:
        reporter.section("lorabench", sep="-")
    judged = [record for record in merged if record["folder"] is not None]
    for record in merged:
        reporter.write_line(_counts(record))
        if record["folder"] is not None:
            _write_run(reporter, Path(record["folder"]), quiet=quiet)
    for line in files:
        reporter.write_line(line)
    if judged and not quiet:
        reporter.write_line("To accept a run: lorabench baseline accept")


def _counts(record: dict[str, Any]) -> str:
    name = record["suite"] + (f" [{record['candidate']}]" if record["candidate"] else "")
    return (
        f"{name}: {record['evaluated']} of {record['total']} prompts evaluated ({record['selected']} selected); "
        f"{counted(record['generated'], 'picture')} made, {record['from_cache']} from the cache, "
        f"{seconds(record['seconds'])}"
    )


def _write_run(reporter: pytest.TerminalReporter, folder: Path, *, quiet: bool) -> None:
    try:
        results = read_results(folder)
    except LorabenchError as error:
        reporter.write_line(str(error), red=True)
        return
    verdict = results.verdict
    reporter.write_line(f"  {verdict.outcome.value}: {plain(verdict.headline)}", **{COLORS[verdict.outcome]: True})
    if quiet:
        return
    lines = aligned(GATE_COLUMNS, [gate_row(gate) for gate in results.gates])
    reporter.write_line(lines[0])
    for gate, line in zip(results.gates, lines[1:], strict=True):
        reporter.write_line(line, **{COLORS[gate.outcome]: True})
    worst = _worst(results)
    if worst:
        reporter.write_line(f"  worst prompts: {'; '.join(worst)}")
    reporter.write_line(f"  results: {folder / 'results.json'}")


def _worst(results: Results) -> list[str]:
    """The prompts harmed most, over all gates, by their harm in margins."""
    harms: dict[str, tuple[float, str]] = {}
    for gate in results.gates:
        for case, difference in worst_cases(gate.comparison) if gate.comparison is not None else ():
            words = f"{case} ({gate.metric} {signed(difference)})"
            harms[case] = max(harms.get(case, (0.0, "")), (abs(difference) / gate.margin, words))
    return [words for _, words in sorted(harms.values(), reverse=True)[:N_WORST]]


def write_files(records: Sequence[dict[str, Any]], *, options: Options) -> list[str]:
    """Write the files of `--lorabench-report` and `--lorabench-json`.

    Args:
        records: What each process says about its suites.
        options: The plugin's options.

    Returns:
        A line per file: where it is, or why it is not there.
    """
    merged = merge_records(records)
    judged = [record for record in merged if record["folder"] is not None]
    wanted = [("report", options.report), ("json", options.json)]
    asked = [(kind, path) for kind, path in wanted if path is not None]
    lines = []
    for kind, path in asked:
        if not judged:
            lines.append(f"--lorabench-{kind}: nothing written, since no gate ran. Select the gates of a suite.")
        for record in judged:
            target = _target(path, record, alone=len(merged) == 1, suffix=".html" if kind == "report" else ".json")
            try:
                _write_file(kind, Path(record["folder"]), target)
                lines.append(f"{kind}: {target}")
            except (OSError, LorabenchError) as error:
                lines.append(f"--lorabench-{kind}: {target} could not be written: {error}")
    return lines


def _write_file(kind: str, folder: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if kind == "json":
        shutil.copyfile(folder / "results.json", target)
        return
    from lorabench.report.html import write_html

    write_html(read_results(folder), target, picture=lambda sha256: _picture(folder, sha256))


def _picture(folder: Path, sha256: str) -> NDArray[np.uint8] | None:
    """A picture of a run folder; None where it is gone."""
    import numpy as np
    from PIL import Image

    path = RunFolder(folder).pictures / f"{sha256}.png"
    if not path.is_file():
        return None
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def _target(path: Path, record: dict[str, Any], *, alone: bool, suffix: str) -> Path:
    """The path itself for a single run and a file name; else one file per run, named by suite and candidate."""
    name = "-".join(filter(None, (record["suite"], record["candidate"])))
    if not path.suffix:
        return path / f"{name}{suffix}"
    return path if alone else path.with_name(f"{path.stem}-{name}{path.suffix}")
