"""`sweep`: a candidate along strength, guidance and trigger."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabench.cli import output
from lorabench.cli.options import (
    Alpha,
    Assignments,
    Base,
    BatchSize,
    CacheFolder,
    CacheOnly,
    Captions,
    Clip,
    ClipPretrained,
    ConfigFile,
    Detector,
    Device,
    Dtype,
    Lora,
    LpipsWeights,
    Neutral,
    NoReport,
    PlainStyle,
    Quiet,
    RunsFolder,
    Scale,
    Seeds,
    TrainingFolder,
    Trigger,
    load_settings,
    stated_settings,
    whole_numbers,
    words,
)
from lorabench.cli.sweep_pages import write_sweep_page
from lorabench.cli.verdicts import combined
from lorabench.errors import SpecError

if TYPE_CHECKING:
    from lorabench.evaluation.sweeping import Swept
    from lorabench.records.config import Config
    from lorabench.records.sweep import PanelConfig, Sweep
    from lorabench.storage.suite_files import LoadedSuite


class SweepFormat(StrEnum):
    """How a sweep is printed."""

    HUMAN = "human"
    JSON = "json"
    MARKDOWN = "markdown"


class GridError(SpecError):
    """A grid or a list of axes that is none."""

    def __init__(self, option: str, found: str) -> None:
        super().__init__(
            f"{option} must fit a sweep, such as --strengths 0,0.5,1, --guidances 1,2,4 or --axes strength,trigger; "
            f"found {found}."
        )
        self.option, self.found = option, found


class OneSweepSuiteError(SpecError):
    """A sweep of several suites at once."""

    def __init__(self, found: int) -> None:
        super().__init__(f"a sweep must be of one suite; found {found} files. Name one of them.")
        self.found = found


def sweep(
    ctx: typer.Context,
    suite: Annotated[
        str | None, typer.Argument(metavar="[SUITE]", help="Suite file or shipped suite; else course.suite.")
    ] = None,
    *,
    base: Base = None,
    lora: Lora = None,
    scale: Scale = None,
    alpha: Alpha = None,
    trigger: Trigger = None,
    plain_style: PlainStyle = None,
    neutral: Neutral = None,
    training_folder: TrainingFolder = None,
    captions: Captions = None,
    detector: Detector = None,
    clip: Clip = None,
    clip_pretrained: ClipPretrained = None,
    lpips_weights: LpipsWeights = None,
    device: Device = None,
    dtype: Dtype = None,
    batch_size: BatchSize = None,
    axes: Annotated[
        str | None, typer.Option(metavar="AXIS,...", help="Of strength, guidance, trigger; else all.")
    ] = None,
    strengths: Annotated[
        str | None, typer.Option(metavar="A,A,...", help="Adapter scales; 0 and --scale are added.")
    ] = None,
    guidances: Annotated[str | None, typer.Option(metavar="G,G,...", help="Values of the guidance parameter.")] = None,
    dial: Annotated[
        str | None, typer.Option(help="Which that is: guidance_scale or true_cfg_scale; else what the settings state.")
    ] = None,
    n_cases: Annotated[
        int | None, typer.Option("--n-cases", min=2, help="Cases, by turns from the families: 12.")
    ] = None,
    n_seeds: Annotated[int | None, typer.Option("--n-seeds", min=1, help="First seeds of the suite: 2.")] = None,
    trigger_word: Annotated[
        str | None, typer.Option("--trigger-word", help="Word of the trigger phrase that the placebo replaces.")
    ] = None,
    seeds: Seeds = None,
    cache_dir: CacheFolder = None,
    runs_dir: RunsFolder = None,
    config_file: ConfigFile = None,
    assignments: Assignments = None,
    cache_only: CacheOnly = False,
    style: Annotated[SweepFormat, typer.Option("--format", help="How it is printed.")] = SweepFormat.HUMAN,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> None:
    """Judge an adapter along strength, guidance and trigger, on a small panel of a suite's cases.

    Says from which strength to which it can be used, whether it still answers to guidance, and what its trigger does.
    """
    stated = stated_settings(locals()) | {"seeds": whole_numbers("--seeds", seeds)}
    config, _ = load_settings(stated, config_file=config_file, assignments=assignments, quiet=quiet)
    panel = panel_of(
        axes=words(axes),
        strengths=numbers("--strengths", strengths),
        guidances=numbers("--guidances", guidances),
        dial=dial,
        n_cases=n_cases,
        n_seeds=n_seeds,
        trigger_word=trigger_word,
    )
    loaded = _suite(suite or config.course.suite)
    done = _swept(
        config, loaded, panel=panel, command=shlex.join(["lorabench", *ctx.obj]), cache_only=cache_only, quiet=quiet
    )
    page = None if no_report else write_sweep_page(done.folder.folder)
    show(done.sweep, style)
    if style is SweepFormat.HUMAN:
        output.data(f"sweep:  {done.folder.sweep_path}")
        if page is not None:
            output.data(f"report: {page}")
    raise typer.Exit(combined([done.sweep.verdict.exit_code]))


def panel_of(**stated: Any) -> PanelConfig:
    """The panel of what was stated; the rest as usual.

    Raises:
        GridError: Something of it cannot be.
    """
    from pydantic import ValidationError

    from lorabench.records.sweep import PanelConfig

    try:
        return PanelConfig.model_validate({name: value for name, value in stated.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = str(first["loc"][0])
        raise GridError(f"--{place.replace('_', '-')}", f"{stated[place]!r} ({first['msg']})") from error


def numbers(option: str, text: str | None) -> list[float] | None:
    """Numbers of a comma-separated option; None where it was not given.

    Raises:
        GridError: A part is no number.
    """
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise GridError(option, repr(text)) from None


def show(found: Sweep, style: SweepFormat) -> None:
    """Print a sweep on stdout."""
    if style is SweepFormat.JSON:
        output.json_data(found.model_dump(mode="json"))
    elif style is SweepFormat.MARKDOWN:
        from lorabench.report.sweep_text import markdown_sweep

        output.data(markdown_sweep(found))
    else:
        from lorabench.report.sweep_text import render_terminal_sweep

        output.show(render_terminal_sweep(found))


def _suite(name: str) -> LoadedSuite:
    from lorabench.storage.suite_files import find_suites, read_suite

    paths = find_suites([name])
    if len(paths) != 1:
        raise OneSweepSuiteError(len(paths))
    return read_suite(paths[0])


def _swept(
    config: Config, loaded: LoadedSuite, *, panel: PanelConfig, command: str, cache_only: bool, quiet: bool
) -> Swept:
    from lorabench.cli.progress import observing
    from lorabench.evaluation.sweeping import sweep_in_folder

    with observing(quiet=quiet) as observer, output.stdout_for_data():
        return sweep_in_folder(
            config,
            suite=loaded.suite,
            panel=panel,
            observer=observer,
            line_of=loaded.line_of,
            cache_only=cache_only,
            command=command,
        )
