"""`doctor`: what is installed or missing, which settings hold, and whether evaluations disturb a training here."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lorabench import __version__
from lorabench.cli import output
from lorabench.cli.options import Assignments, load_settings
from lorabench.errors import ExitCode, LorabenchError, SpecError

if TYPE_CHECKING:
    from lorabench.records.config import Config
    from lorabench.storage.config_files import Origins

State = Literal["ok", "missing", "note"]
CORE = ("numpy", "scipy", "scikit-learn", "pillow", "pydantic", "ruamel.yaml", "safetensors", "jinja2", "rich", "typer")
MODELS = ("torch", "torchvision", "diffusers", "transformers", "accelerate", "peft", "open_clip_torch", "lpips")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the examination. `missing` means that a run with these settings cannot be measured in full."""

    what: str
    state: State
    found: str
    remedy: str = ""


class BaseWithoutProofError(SpecError):
    """A base for nothing."""

    def __init__(self) -> None:
        super().__init__("--base names the base of the proof; found it without --prove-undisturbed. Give both.")


def doctor(  # noqa: PLR0917 - each is an option
    settings: Annotated[
        bool, typer.Option("--config", help="Print the settings that hold, each with its origin.")
    ] = False,
    config_file: Annotated[Path | None, typer.Option("--config-file", metavar="FILE", help="Settings file.")] = None,
    assignments: Assignments = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    prove_undisturbed: Annotated[
        bool,
        typer.Option(
            "--prove-undisturbed",
            help="Train a small adapter with and without evaluations and compare bit by bit. Exit code 1 where they "
            "differ, 3 where nothing can be shown.",
        ),
    ] = False,
    base: Annotated[
        Path | None,
        typer.Option("--base", metavar="FOLDER", help="Base for --prove-undisturbed; the embedded one without it."),
    ] = None,
) -> None:
    """Say what is installed, what is missing and how to get it. Exit code 3 where a run could not be measured."""
    if base is not None and not prove_undisturbed:
        raise BaseWithoutProofError
    if prove_undisturbed:
        _prove(base, device=_settings(config_file, assignments)[0].model.device, as_json=as_json)
        return
    config, origins, problem = _settings(config_file, assignments)
    checks = [*([problem] if problem else []), *_examine(config)]
    shown = _shown_settings(config, origins) if settings else {}
    if as_json:
        output.json_data({"checks": [asdict(check) for check in checks], "settings": shown})
    else:
        output.table(
            ["", "What", "Found", "To do"], [[check.state, check.what, check.found, check.remedy] for check in checks]
        )
        if shown:
            output.table(
                ["Setting", "Value", "From"], [[key, one["value"], one["origin"]] for key, one in shown.items()]
            )
    if any(check.state == "missing" for check in checks):
        raise typer.Exit(ExitCode.NOT_MEASURED)


def _prove(base: Path | None, *, device: str, as_json: bool) -> None:
    """Print the proof, and end with the exit code of its outcome."""
    from lorabench.storage.shipped import shipped_data
    from lorabench.training.proof import prove

    folder = shipped_data("fixtures/models/tiny-flux") if base is None else base
    with output.stdout_for_data():
        proof = prove(folder, device=device, observe=output.message)
    if as_json:
        output.json_data({"outcome": proof.outcome, "sentence": proof.sentence, **asdict(proof)})
    else:
        output.data(proof.sentence)
    if proof.outcome != "identical":
        raise typer.Exit(ExitCode.FAILED if proof.outcome == "disturbed" else ExitCode.NOT_MEASURED)


def _settings(config_file: Path | None, assignments: list[str] | None) -> tuple[Config, Origins | None, Check | None]:
    """The settings; the defaults and what is wrong where they cannot be used."""
    from lorabench.records.config import Config

    try:
        config, origins = load_settings({}, config_file=config_file, assignments=assignments)
    except LorabenchError as error:
        return Config(), None, Check("settings", "missing", str(error), "Correct them; defaults are examined below.")
    return config, origins, None


def _examine(config: Config) -> Iterator[Check]:
    yield Check(
        "lorabench", "ok", f"{__version__}, Python {platform.python_version()}, {sys.platform} {platform.machine()}"
    )
    yield from (_package(name, needed=True, remedy="pip install lorabench") for name in CORE)
    needed = config.model.backend == "diffusers" or bool(config.judges.clip) or config.training_set.folder is not None
    yield from (_package(name, needed=needed, remedy="pip install 'lorabench[models]'") for name in MODELS)
    if find_spec("torch") is not None:
        yield _torchvision()
        yield _device(config.model.device)
    yield _memory()
    yield from _weights(config)
    yield from _folders(config)


def _package(name: str, *, needed: bool, remedy: str) -> Check:
    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        return Check(name, "missing" if needed else "note", "not installed", remedy)


def _torchvision() -> Check:
    from lorabench.judges.torchvision_compat import declare_missing_operators

    if find_spec("torchvision") is None:
        return Check("torchvision build", "note", "not installed", "pip install 'lorabench[models]'")
    if declared := declare_missing_operators():
        words = f"its compiled operators do not load ({', '.join(declared)}): built for another torch"
        return Check(
            "torchvision build", "note", words, "Works here, since no judge calls them; else install a matching pair."
        )
    return Check("torchvision build", "ok", "fits torch")


def _device(asked: str) -> Check:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return Check(
            "device", "ok", f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        )
    if asked.startswith("cuda"):
        return Check(
            "device",
            "missing",
            f"{asked} is asked for; torch {torch.__version__} sees no GPU",
            "Install a CUDA build of torch.",
        )
    return Check(
        "device", "note", f"no GPU; torch {torch.__version__} on the CPU", "Enough for the demo; slow for large models."
    )


def _memory() -> Check:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return Check("memory", "note", "not known on this system")
    return Check("memory", "ok", f"{free / 2**30:.1f} GiB free")


def _weights(config: Config) -> Iterator[Check]:
    from lorabench.judges.weights import list_weights

    wanted = "lpips" if config.judges.lpips_net == "alex" else "lpips-vgg"
    needed = config.training_set.folder is not None and config.judges.lpips_weights is None
    for one in list_weights():
        if one.present:
            yield Check(f"weights {one.name}", "ok", str(one.path))
        else:
            state: State = "missing" if needed and one.name == wanted else "note"
            yield Check(f"weights {one.name}", state, "not fetched", f"lorabench weights fetch {one.name}")


def _folders(config: Config) -> Iterator[Check]:
    from lorabench.evaluation.engine import default_cache_dir

    for what, folder in (("cache", config.cache_dir or default_cache_dir()), ("runs", config.runs_dir)):
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not os.access(there, os.W_OK):
            yield Check(
                f"{what} folder", "missing", f"{folder} cannot be written", "Change its permissions, or name another."
            )
        else:
            yield Check(
                f"{what} folder", "ok", f"{folder}, {shutil.disk_usage(there).free / 2**30:.1f} GiB free on its disk"
            )


def _shown_settings(config: Config, origins: Origins | None) -> dict[str, dict[str, str]]:
    from functools import reduce

    values = config.model_dump(mode="json")
    shown = {}
    for key, origin in sorted((origins or {}).items()):
        value = reduce(lambda inner, part: inner[part] if isinstance(inner, dict) else inner, key.split("."), values)
        shown[key] = {"value": str(value), "origin": origin}
    return shown
