"""`list` and `schema`: what there is."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from lorabench.cli import output
from lorabench.cli.options import ConfigFile, RunsFolder, load_settings
from lorabench.errors import LorabenchError

app = typer.Typer(
    help="Suites, metrics, judges, backends, gates and runs.", no_args_is_help=True, rich_markup_mode=None
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class FileFormat(StrEnum):
    """Files with a published schema."""

    SUITE = "suite"
    CONFIG = "config"
    RESULTS = "results"
    COURSE = "course"
    PILOT = "pilot"
    AUDIT = "audit"
    DIAGNOSIS = "diagnosis"
    BASELINE = "baseline"


@app.command("suites")
def suites(as_json: AsJson = False) -> None:
    """Shipped suites; files and folders of your own work as well."""
    from lorabench.storage.shipped import shipped_suite_names, shipped_suite_path

    rows = [[name, str(shipped_suite_path(name))] for name in shipped_suite_names()]
    _print(["name", "file"], rows, as_json=as_json)


@app.command("metrics")
def metrics(as_json: AsJson = False) -> None:
    """Metrics with version, unit and direction."""
    from lorabench.registry import METRICS

    found = [METRICS.load(name) for name in METRICS.names()]
    rows = [
        [one.name, str(one.version), one.unit, "higher" if one.higher_is_better else "lower", one.level, one.summary]
        for one in found
    ]
    _print(["name", "version", "unit", "better", "level", "summary"], rows, as_json=as_json)


@app.command("judges")
def judges(as_json: AsJson = False) -> None:
    """Networks that look at pictures."""
    from lorabench.registry import JUDGES

    _print(["name"], [[name] for name in JUDGES.names()], as_json=as_json)


@app.command("backends")
def backends(as_json: AsJson = False) -> None:
    """What makes pictures."""
    from lorabench.registry import BACKENDS

    _print(["name"], [[name] for name in BACKENDS.names()], as_json=as_json)


@app.command("gates")
def gates(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Gates of the present settings in the order of decision: a run's, a sweep's, and those that are off."""
    from lorabench.evaluation.gates import DEFAULT_GATES, configured_gates
    from lorabench.evaluation.sweep_gates import SWEEP_GATES, configured_sweep_gates

    config, _ = load_settings({}, config_file=config_file, assignments=None)
    of_run = configured_gates(config.gates, brand=config.training_set.brand_palette)
    of_sweep = configured_sweep_gates(config.gates)
    on = {one.name for one in (*of_run, *of_sweep)}
    off = [one for one in (*DEFAULT_GATES, *SWEEP_GATES) if one.name not in on]
    rows = [
        [one.name, by, one.kind, one.metric, f"{one.margin:g}", "yes" if one.required else "no", one.says]
        for by, group in (("run", of_run), ("sweep", of_sweep), ("off", off))
        for one in group
    ]
    _print(["name", "decided by", "kind", "metric", "margin", "required", "a failure means"], rows, as_json=as_json)


@app.command("runs")
def runs(runs_dir: RunsFolder = None, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Run folders with their verdicts, newest first."""
    from lorabench.storage.run_folder import read_results

    config, _ = load_settings({"runs_dir": runs_dir}, config_file=config_file, assignments=None)
    rows = []
    for folder in sorted(path for path in config.runs_dir.glob("*") if (path / "plan.json").is_file()):
        if not (folder / "results.json").is_file():
            rows.append([folder.name, "unfinished", "", "", ""])
            continue
        try:
            found = read_results(folder)
        except LorabenchError as error:
            rows.append([folder.name, "unreadable", "", "", str(error)])
            continue
        made = found.provenance.created_at
        rows.append([folder.name, found.verdict.outcome.value, found.suite.name, made, found.verdict.headline])
    rows.sort(key=lambda row: row[3], reverse=True)
    _print(["run", "outcome", "suite", "made", "headline"], rows, as_json=as_json)


def schema(name: Annotated[FileFormat, typer.Argument(help="File format.")]) -> None:
    """Print the JSON Schema of a file format."""
    from lorabench.storage.schemas import schema_text

    output.data(schema_text(name.value))


def _print(header: Sequence[str], rows: Sequence[Sequence[str]], *, as_json: bool) -> None:
    if as_json:
        entries: list[dict[str, Any]] = [dict(zip(header, row, strict=True)) for row in rows]
        output.json_data(entries)
    elif len(header) == 1:
        output.data("\n".join(row[0] for row in rows))
    else:
        output.table([name.capitalize() for name in header], rows)
