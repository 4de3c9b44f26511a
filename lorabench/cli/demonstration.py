"""`demo`: three real adapters on the embedded model, judged here and now, against what is true of them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench.cli import output
from lorabench.cli.guarding import print_error
from lorabench.cli.options import CacheFolder
from lorabench.cli.reporting import write_report
from lorabench.cli.running import evaluate_suite
from lorabench.cli.verdicts import Judged
from lorabench.cli.weights import fetch_with_words
from lorabench.errors import ExitCode, MeasurementError

if TYPE_CHECKING:
    from lorabench.evaluation.demonstration import Demonstration

LPIPS = "lpips"


@dataclass(frozen=True, slots=True)
class Shown:
    """One adapter of the demo, judged."""

    demonstration: Demonstration
    judged: Judged
    page: Path

    @property
    def false_reasons(self) -> list[str]:
        """Gates that failed although nothing is wrong there."""
        return [gate for gate in self.failed if gate not in self.demonstration.true_gates]

    @property
    def failed(self) -> list[str]:
        """Gates that failed, in the order of testing."""
        return [gate.gate for gate in self.judged.results.gates if gate.outcome == "FAIL"]

    @property
    def differences(self) -> list[str]:
        """What is not as it should be, in words."""
        name, found = self.demonstration.name, self.judged.results.verdict.outcome
        told = []
        if found is not self.demonstration.expected:
            told.append(f"{name}: expected {self.demonstration.expected}, found {found}")
        if self.false_reasons:
            told.append(f"{name}: failed without cause: {', '.join(self.false_reasons)}")
        if missed := sorted(self.demonstration.own_gates.difference(self.failed)):
            told.append(f"{name}: should have failed and did not: {', '.join(missed)}")
        return told


def demo(
    to: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where reports go.")] = Path(
        "lorabench-demo"
    ),
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed per prompt: half the pictures, wider intervals.")
    ] = False,
    no_fetch: Annotated[
        bool, typer.Option("--no-fetch", help="Download nothing, even if LPIPS weights are missing.")
    ] = False,
    train: Annotated[
        bool, typer.Option("--train", help="Train a LoRA with the monitor attached instead, until it is stopped.")
    ] = False,
    cache_dir: CacheFolder = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Judge three LoRAs that come with lorabench: a healthy, an overtrained and a palette-locked one.

    Exit code 0 only if each verdict is the true one and no gate failed without cause.
    """
    if train:
        from lorabench.cli.training_demonstration import demonstrate_training

        raise typer.Exit(demonstrate_training(to / "course", cache_dir=cache_dir, quiet=quiet))
    from lorabench.evaluation.demonstration import demonstrations
    from lorabench.storage.atomic import write_text

    prepared = demonstrations(runs_dir=to / "runs", cache_dir=cache_dir)
    _bring_weights(fetching=not no_fetch)
    shown = _judge_all(prepared, folder=to, quick=quick, quiet=quiet)
    index = to / "index.html"
    write_text(index, _index_page(shown))
    _show_table(shown)
    output.data(f"Open {index}")
    raise typer.Exit(_exit_code(shown))


def _bring_weights(*, fetching: bool) -> None:
    """Without LPIPS, copies of training pictures cannot be measured; all else can."""
    from lorabench.judges.weights import list_weights

    if next(status.present for status in list_weights() if status.name == LPIPS):
        return
    if not fetching:
        output.message("LPIPS weights are not in the weights cache and --no-fetch is given.")
        return
    try:
        fetch_with_words(LPIPS)
    except MeasurementError as error:
        print_error(error)
        output.message("Going on without LPIPS: copies of training pictures will be unmeasured.")


def _judge_all(prepared: Sequence[Demonstration], *, folder: Path, quick: bool, quiet: bool) -> list[Shown]:
    from lorabench.cli.progress import observing
    from lorabench.evaluation.demonstration import SUITE
    from lorabench.storage.suite_files import find_suites, read_suite

    loaded = read_suite(find_suites([SUITE])[0])
    shown: list[Shown] = []
    backend, judges = None, None
    for demonstration in prepared:
        config = demonstration.config
        if shown and config.model != shown[-1].demonstration.config.model:
            backend = None
        if quick:
            config = config.model_copy(update={"seeds": loaded.suite.seeds[:1]})
        output.message(f"{demonstration.name}: {demonstration.story}")
        with observing(quiet=quiet) as observer:
            judged, backend, judges = evaluate_suite(
                config, loaded, observer=observer, backend=backend, judges=judges, command="lorabench demo"
            )
        target = folder / f"{demonstration.name}.html"
        page = write_report(judged.results, folder=judged.results_path.parent, target=target)
        shown.append(Shown(demonstration, judged, page))
        _show_block(shown[-1])
    return shown


def _show_block(one: Shown) -> None:
    from rich.text import Text

    from lorabench.report.terminal import outcome_text

    verdict = one.judged.results.verdict
    output.show(
        Text.assemble((one.demonstration.name, "bold"), "  ", outcome_text(verdict.outcome), "  ", verdict.headline)
    )
    for reason in verdict.reasons:
        output.show(Text(f"  - {reason}"))
    blind = [gate for gate in one.judged.results.gates if gate.outcome == "UNMEASURED" and not gate.required]
    for gate in blind:
        output.show(Text(f"  - {gate.reason}", style="dim"))
    output.data(f"  {one.page}\n")


def _show_table(shown: Sequence[Shown]) -> None:
    rows = []
    for one in shown:
        verdict = one.judged.results.verdict
        false = ", ".join(one.false_reasons) or "none"
        rows.append(
            [
                one.demonstration.name,
                str(one.demonstration.expected),
                str(verdict.outcome),
                ", ".join(one.failed) or "none",
                false,
            ]
        )
    output.table(["Adapter", "Expected", "Found", "Failed gates", "Without cause"], rows)
    differences = [text for one in shown for text in one.differences]
    output.data(
        "\n".join(differences) if differences else "Every verdict is the true one, and no gate failed without cause."
    )


def _exit_code(shown: Sequence[Shown]) -> ExitCode:
    """3 where a verdict is missing, 1 where one is not the true one."""
    if any(one.judged.results.verdict.outcome == "UNMEASURED" for one in shown):
        return ExitCode.NOT_MEASURED
    return ExitCode.FAILED if any(one.differences for one in shown) else ExitCode.PASSED


def _index_page(shown: Sequence[Shown]) -> str:
    items = "\n".join(
        f'<li><a href="{html.escape(one.page.name)}">{html.escape(one.demonstration.name)}</a>: '
        f"{html.escape(str(one.judged.results.verdict.outcome))}. {html.escape(one.demonstration.story)}.</li>"
        for one in shown
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>lorabench demo</title></head>\n'
        f"<body><h1>lorabench demo</h1>\n<ul>\n{items}\n</ul></body></html>\n"
    )
