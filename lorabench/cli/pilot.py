"""`pilot`: how far metrics spread on your own base, and which margins and sizes that allows."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench.cli import output
from lorabench.cli.options import (
    Alpha,
    Assignments,
    Base,
    BatchSize,
    CacheFolder,
    Captions,
    Clip,
    ClipPretrained,
    ConfigFile,
    Detector,
    Device,
    Dtype,
    Limit,
    Lora,
    LpipsWeights,
    Neutral,
    PlainStyle,
    Quiet,
    RunsFolder,
    Scale,
    TrainingFolder,
    Trigger,
    load_settings,
    stated_settings,
)
from lorabench.cli.planning_power import TableFormat
from lorabench.errors import SpecError

if TYPE_CHECKING:
    from lorabench.records.config import Config
    from lorabench.records.pilot import Advice, MetricPilot, Pilot, Ranged
    from lorabench.storage.suite_files import LoadedSuite

NONE = "–"
NOISE_HEADER = ("Metric", "Cases", "Mean", "Sd between", "Sd within", "Correlation", "Sd of difference")
GATE_HEADER = ("Gate", "Margin", "Standard error", "Shown at this size", "Prompts for it", "Seeds", "False stops, %")
LEGEND = (
    "In brackets: 90 % intervals. Between: cases. Within: seeds of one case; its square grows to 1 - correlation twice",
    "over in a difference. Shown at this size: the smallest margin that a candidate as good as the control passes in",
    "8 of 10 runs. Prompts, seeds: for the margin in force. False stops: simulated healthy trainings, with this noise.",
)


class OneSuiteError(SpecError):
    """A pilot of several suites at once."""

    def __init__(self, found: int) -> None:
        super().__init__(f"a pilot must be of one suite; found {found} files. Name one of them.")
        self.found = found


def pilot(
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
    n_seeds: Annotated[
        int, typer.Option("--n-seeds", min=2, help="Seeds per prompt: the suite's, then those of screens.")
    ] = 4,
    limit: Limit = None,
    cache_dir: CacheFolder = None,
    runs_dir: RunsFolder = None,
    config_file: ConfigFile = None,
    assignments: Assignments = None,
    to: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Store it too, for `power --pilot`.")
    ] = None,
    style: Annotated[TableFormat, typer.Option("--format", help="How it is printed.")] = TableFormat.HUMAN,
    quiet: Quiet = False,
) -> None:
    """Measure on your own base how far metrics spread; say which margins, prompts and seeds that allows.

    With --lora, give an adapter that is healthy and that you will not judge: its paired differences are measured. The
    pictures serve later runs and screens.
    """
    stated = stated_settings(locals())
    config, _ = load_settings(stated, config_file=config_file, assignments=assignments, quiet=quiet)
    loaded = _suite(suite or config.course.suite)
    found = _measured(config, loaded, n_seeds=n_seeds, command=shlex.join(["lorabench", *ctx.obj]), quiet=quiet)
    if to is not None:
        from lorabench.storage.pilot_files import write_pilot

        write_pilot(to, found)
    _show(found, style)


def _suite(name: str) -> LoadedSuite:
    from lorabench.storage.suite_files import find_suites, read_suite

    paths = find_suites([name])
    if len(paths) != 1:
        raise OneSuiteError(len(paths))
    return read_suite(paths[0])


def _measured(config: Config, loaded: LoadedSuite, *, n_seeds: int, command: str, quiet: bool) -> Pilot:
    from lorabench.cli.progress import observing
    from lorabench.training.pilot import measure_pilot

    with observing(quiet=quiet) as observer, output.stdout_for_data():
        return measure_pilot(
            config, suite=loaded.suite, n_seeds=n_seeds, observer=observer, line_of=loaded.line_of, command=command
        )


def _show(found: Pilot, style: TableFormat) -> None:
    from lorabench.report import markdown
    from lorabench.training.pilot import gate_lines

    noise = [_noise_row(one) for one in found.metrics if one.control is not None]
    gates = [_gate_row(one.advice, one) for one in found.metrics if one.advice is not None]
    if style is TableFormat.JSON:
        output.json_data({**found.model_dump(mode="json"), "gate_lines": gate_lines(found)})
    elif style is TableFormat.MARKDOWN:
        tables = (markdown.table(NOISE_HEADER, noise), markdown.table(GATE_HEADER, gates))
        toml = f"```toml\n{gate_lines(found)}```\n"
        output.data("\n".join((head(found), "", *tables, *sentences(found), "", toml)))
    else:
        output.data(head(found) + "\n")
        output.table(NOISE_HEADER, noise)
        output.data("")
        output.table(GATE_HEADER, gates)
        output.data("\n".join(("", *LEGEND, "", *sentences(found), "", gate_lines(found))))


def head(found: Pilot) -> str:
    """What the pilot was made of, in a line."""
    adapter = "the base alone" if found.adapter is None else f"adapter {found.adapter}"
    return (
        f"Pilot of {found.suite}: {found.n_cases} prompts x {found.n_seeds} seeds, {adapter}, on {found.base}. "
        f"{found.n_generated} pictures made, {found.n_from_cache} from the cache. Advice is for "
        f"{found.suite_seeds} seeds per prompt."
    )


def sentences(found: Pilot) -> list[str]:
    """Reasons of each gate's advice, then what could not be measured."""
    told = [f"- {one.advice.gate}: {' '.join(one.advice.reasons)}" for one in found.metrics if one.advice is not None]
    return told + [f"- {one.metric}: not measured. {one.unmeasured}" for one in found.metrics if one.unmeasured]


def _noise_row(one: MetricPilot) -> list[str]:
    control, difference = one.control, one.difference
    assert control is not None
    return [
        one.metric,
        f"{control.n_cases} x {control.n_pictures / control.n_cases:g}",
        f"{control.mean:.3g}",
        _value(control.between),
        _value(control.within),
        _text(None if difference is None else difference.rho),
        _text(None if difference is None else difference.seed_sd),
    ]


def _gate_row(advice: Advice, one: MetricPilot) -> list[str]:
    from lorabench.training.pilot import interval_text

    assert one.difference is not None
    stops = advice.false_stops
    return [
        advice.gate,
        f"{advice.margin:g}",
        _text(one.difference.standard_error),
        _text(advice.smallest_margin),
        interval_text(advice.cases_needed, digits=0),
        NONE if advice.seeds_needed is None else str(advice.seeds_needed),
        NONE if stops is None else f"{100 * stops.value:.1f} ({100 * stops.low:.1f}–{100 * (stops.high or 1):.1f})",
    ]


def _value(found: Ranged | None) -> str:
    return NONE if found is None else f"{found.value:.2g}"


def _text(found: Ranged | None) -> str:
    from lorabench.training.pilot import interval_text

    return NONE if found is None else interval_text(found)
