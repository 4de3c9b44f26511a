"""Options that several commands share, and the settings they end up in."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lorabench.cli import output
from lorabench.errors import SpecError
from lorabench.report.layout import Layout

if TYPE_CHECKING:
    from lorabench.records.config import Config
    from lorabench.storage.config_files import Origins

Base = Annotated[str | None, typer.Option(help="Base model: folder of a diffusers pipeline, or a hub id.")]
TrainingBase = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", help="Base the adapter was trained on, if it is another: judge it on both."),
]
Lora = Annotated[str | None, typer.Option(metavar="PATH", help="The adapter under test: file or folder.")]
Scale = Annotated[float | None, typer.Option(help="Adapter scale.")]
Alpha = Annotated[float | None, typer.Option(help="LoRA alpha, for files that state none.")]
Trigger = Annotated[str | None, typer.Option(help="Trigger phrase: fills {style} for the candidate.")]
PlainStyle = Annotated[str | None, typer.Option(help="The style in plain words: fills {style} for the control.")]
Neutral = Annotated[str | None, typer.Option(help="Fills {style} in the neutral arms; usually nothing.")]
Detector = Annotated[str | None, typer.Option(help="oracle, owlv2:<folder or id>, grounding-dino:<folder or id>.")]
Clip = Annotated[str | None, typer.Option(help="CLIP: open_clip model name, or local-dir:<folder>.")]
ClipPretrained = Annotated[str | None, typer.Option(help="open_clip tag, or path to weights.")]
LpipsWeights = Annotated[Path | None, typer.Option(metavar="FILE", help="Trunk weights of LPIPS.")]
Device = Annotated[str | None, typer.Option(help="Where base and judges run: auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str | None, typer.Option(help="auto, float32, float16, bfloat16.")]
BatchSize = Annotated[int | None, typer.Option(min=0, help="Most pictures made at once; 0 lets the backend choose.")]
Seeds = Annotated[str | None, typer.Option(metavar="N,N,...", help="Instead of the suite's seeds.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first cases; the run is then partial (exit code 5).")]
Arms = Annotated[str | None, typer.Option(metavar="ARM,...", help="Of B0, B1, L1, L0; B1 and L1 decide.")]
BaselineName = Annotated[str | None, typer.Option("--baseline", metavar="NAME", help="Compare with this baseline too.")]
NoBaseline = Annotated[bool, typer.Option("--no-baseline", help="Ignore the baseline of the settings.")]
CacheOnly = Annotated[bool, typer.Option("--cache-only", help="Make no picture; those not cached count as failed.")]
ReportPath = Annotated[
    Path | None, typer.Option("--report", metavar="PATH", help="Report file, or folder; else in the run folder.")
]
NoReport = Annotated[bool, typer.Option("--no-report", help="Write no HTML page.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]
Suites = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SUITE]...", help="Suite files, folders, or names of shipped suites; else those of the settings."
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file; no other is searched for then.")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting by its dotted key; may be repeated. Lists as [1, 2]."),
]
TrainingFolder = Annotated[
    Path | None, typer.Option("--training-folder", metavar="FOLDER", help="The pictures the adapter was trained on.")
]
Captions = Annotated[
    Path | None, typer.Option("--captions", metavar="FILE", help="Their captions as JSON lines (file, text).")
]
CacheFolder = Annotated[
    Path | None, typer.Option("--cache-dir", metavar="FOLDER", help="Cache of pictures and features.")
]
RunsFolder = Annotated[Path | None, typer.Option("--runs-dir", metavar="FOLDER", help="Where run folders go.")]
ScreenSuite = Annotated[str | None, typer.Option("--suite", help="Suite of the screen: a shipped name, or a file.")]
CourseDir = Annotated[
    Path | None, typer.Option("--course-dir", metavar="FOLDER", help="Where history and kept checkpoints go.")
]
PageLayout = Annotated[
    Layout,
    typer.Option("--layout", help="One file, a folder for strict servers, or auto: a folder beyond 25 MiB."),
]
NoTrainingImages = Annotated[
    bool, typer.Option("--no-training-images", help="Leave pictures of the training set out of the page.")
]


SETTINGS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "base": ("model.base",),
    "training_base": ("model.training_base",),
    "device": ("model.device", "judges.device"),
    "dtype": ("model.dtype",),
    "batch_size": ("model.batch_size",),
    "lora": ("candidate.lora",),
    "scale": ("candidate.scale",),
    "alpha": ("candidate.alpha",),
    "trigger": ("style.trigger",),
    "plain_style": ("style.plain",),
    "neutral": ("style.neutral",),
    "training_folder": ("training_set.folder",),
    "captions": ("training_set.captions",),
    "detector": ("judges.detector",),
    "clip": ("judges.clip",),
    "clip_pretrained": ("judges.clip_pretrained",),
    "lpips_weights": ("judges.lpips_weights",),
    "limit": ("limit",),
    "baseline": ("baseline",),
    "cache_dir": ("cache_dir",),
    "runs_dir": ("runs_dir",),
}
"""Parameters of commands that are settings, to the dotted keys that they set."""


class AssignmentError(SpecError):
    """A `--set` that cannot be read."""

    def __init__(self, text: str, found: str) -> None:
        super().__init__(f"--set must be KEY=VALUE, such as --set generation.height=512; found {text!r}: {found}.")
        self.text = text


class NumbersError(SpecError):
    """A list of numbers that is none."""

    def __init__(self, option: str, text: str) -> None:
        super().__init__(
            f"{option} must be whole numbers separated by commas; found {text!r}. Write for example 1,2,3."
        )
        self.option, self.text = option, text


def stated_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those parameters of a command that are settings by another name, as `load_settings` takes them.

    Args:
        given: Parameter to value; None means not given. Parameters that are no settings are left out.
    """
    return {key: value for name, value in given.items() for key in SETTINGS_OF.get(name, ())}


def load_settings(
    stated: Mapping[str, Any], *, config_file: Path | None, assignments: Iterable[str] | None, quiet: bool = False
) -> tuple[Config, Origins]:
    """The settings of a command: its options over `--set` over environment over files.

    Args:
        stated: Dotted key to value; None means not given.
        config_file: As given by `--config`.
        assignments: As given by `--set`.
        quiet: Keep notes to yourself.

    Raises:
        SpecError: Something in them is wrong.
    """
    from lorabench.storage.config_files import load_config

    given = {**assigned(assignments or ()), **{key: value for key, value in stated.items() if value is not None}}
    config, origins = load_config(given, start=Path.cwd(), explicit=config_file, environ=os.environ)
    for note in () if quiet else origins.notes:
        output.message(note)
    return config, origins


def assigned(texts: Iterable[str]) -> dict[str, Any]:
    """Read `KEY=VALUE`. A value in brackets, braces or quotes is TOML; any other is text.

    Raises:
        AssignmentError: There is no `=`, or the TOML is wrong.
    """
    values = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise AssignmentError(text, "there is no key before a `=`")
        values[key.strip()] = _value(text, value.strip())
    return values


def whole_numbers(option: str, text: str | None) -> list[int] | None:
    """Numbers of a comma-separated option; None where it was not given.

    Raises:
        NumbersError: A part is no whole number.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise NumbersError(option, text) from None


def words(text: str | None) -> list[str] | None:
    """Parts of a comma-separated option; None where it was not given."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _value(text: str, value: str) -> Any:
    if not value.startswith(("[", "{", '"', "'")):
        return value
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise AssignmentError(text, f"the value is not TOML ({error})") from None
