"""The commands put together, and the entrance."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import MutableMapping, Sequence
from typing import Annotated

import typer

from lorabench import __version__
from lorabench.cli import (
    attaching,
    auditing,
    baselines,
    caching,
    comparing,
    course,
    demonstration,
    diagnosing,
    explaining,
    exporting,
    inspecting,
    listing,
    pilot,
    planning_power,
    proving,
    reporting,
    running,
    starting,
    suite_making,
    sweeping,
    validating,
    watching,
    weights,
)
from lorabench.cli.guarding import GuardedGroup

EPILOG = (
    "Exit codes: 0 all gates passed; 1 a gate failed; 2 usage, settings or suite; 3 could not measure; "
    "4 inconclusive; 5 nothing, or only part, was evaluated; 130 interrupted. When several hold: 3 > 5 > 1 > 4."
)

app = typer.Typer(
    name="lorabench",
    cls=GuardedGroup,
    help="Regression tests for text-to-image LoRAs.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(on: bool) -> None:
    if on:
        typer.echo(f"lorabench {__version__}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version),
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error arose; also LORABENCH_TRACEBACK=1.")
    ] = False,
) -> None:
    del version, traceback  # the first has acted already; the group reads the second


app.command("demo")(demonstration.demo)
app.command("init")(starting.init)
app.command("validate")(validating.validate)
app.command("inspect")(inspecting.inspect)
app.command("run")(running.run)
app.command("gate")(reporting.gate)
app.command("report")(reporting.report)
app.command("compare")(comparing.compare)
app.command("export")(exporting.export)
app.command("audit")(auditing.audit)
app.command("diagnose")(explaining.diagnose)
app.command("sweep")(sweeping.sweep)
app.command("watch")(watching.watch)
app.command("attach", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(
    attaching.attach
)
app.command("history")(course.history)
app.add_typer(baselines.app, name="baseline")
app.add_typer(listing.app, name="list")
app.add_typer(suite_making.app, name="suite")
app.add_typer(weights.app, name="weights")
app.add_typer(caching.app, name="cache")
app.command("schema")(listing.schema)
app.command("pilot")(pilot.pilot)
app.command("power")(planning_power.power)
app.command("prove")(proving.prove)
app.command("doctor")(diagnosing.doctor)


def main() -> None:
    """The `lorabench` command; ends the process with one of the exit codes of `lorabench.errors.ExitCode`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a narrow code page must not end a run at its last line
            stream.reconfigure(errors="backslashreplace")
    _quieten_libraries(sys.argv[1:], os.environ, terminal=sys.stderr.isatty())
    app(prog_name="lorabench")


def _quieten_libraries(arguments: Sequence[str], environ: MutableMapping[str, str], *, terminal: bool) -> None:
    """Keep other libraries' remarks, and bars that nobody wants, off stderr; what the user has set stays.

    Their bars stay on a terminal, where they show the download of a base; the demo downloads none. What a training
    script says is its own.
    """
    if "attach" in arguments:
        return
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        environ.setdefault(f"{library}_VERBOSITY", "error")
    if not terminal or {"demo", "-q", "--quiet"} & set(arguments):
        environ.setdefault("TQDM_DISABLE", "1")
