"""`inspect`: what a LoRA file shows without a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lorabench.cli import output
from lorabench.cli.options import Alpha, Assignments, ConfigFile, load_settings
from lorabench.errors import ExitCode

if TYPE_CHECKING:
    from lorabench.records.adapter_health import Examination, ModuleNorms

SHOWN: Final = 8
"""Modules in the table, the largest first."""


def inspect(
    lora: Annotated[Path, typer.Argument(metavar="LORA", help="The adapter: file or folder.")],
    *,
    base: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Base to hold it against; else that of the settings, if it is a folder."),
    ] = None,
    alpha: Alpha = None,
    all_modules: Annotated[bool, typer.Option("--all", help="List every module, not only the largest.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every number.")] = False,
    config_file: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Examine a LoRA file without making a picture. Exit code 1 where it is dead, partial or exploding."""
    from lorabench.generation.adapter_examination import examine_file
    from lorabench.records.adapter_health import AdapterVerdict

    config, _ = load_settings({}, config_file=config_file, assignments=assignments, quiet=as_json)
    known = Path(config.model.base).expanduser() if config.model.base else None
    folder = base or (known if known is not None and known.is_dir() else None)
    of_settings = config.candidate.lora and Path(config.candidate.lora).resolve() == lora.resolve()
    stated = alpha or (config.candidate.alpha if of_settings else None)
    found = examine_file(lora, base=folder, alpha=stated)
    if as_json:
        output.json_data(found.model_dump(mode="json"))
    else:
        _show(found, n_shown=len(found.modules) if all_modules else SHOWN)
    if found.health.verdict is not AdapterVerdict.HEALTHY:
        raise typer.Exit(ExitCode.FAILED)


def _show(found: Examination, *, n_shown: int) -> None:
    health = found.health
    against = "" if found.base is None else f" on {found.base}"
    output.data(f"{health.verdict.value.upper()}  {found.name}{against}, {health.n_modules} modules")
    for reason in health.reasons:
        output.data(f"  ! {reason}")
    if found.base_match is not None:
        output.data(f"  base: {found.base_match.sentence}")
    for remark in health.remarks:
        output.data(f"  {remark}")
    if not found.modules:
        return
    output.data(f"  {_figures(found)}")
    largest = sorted(found.modules, key=lambda one: -(one.relative_norm or one.update_norm))[:n_shown]
    header = ["Module", "Rank", "||dW||", "||dW||/||W||", "Top singular", "Effective rank", "z"]
    output.table(header, [_row(one) for one in largest])
    if n_shown < len(found.modules):
        output.data(f"{len(found.modules) - n_shown} more with --all")


def _figures(found: Examination) -> str:
    """The whole file in one line."""
    health = found.health
    parts = [] if health.relative_norm is None else [f"relative norm {health.relative_norm:.3g}"]
    if health.largest_relative_norm is not None:
        parts.append(f"largest of a module {health.largest_relative_norm:.3g}")
    if health.median_effective_rank is not None:
        parts.append(f"median effective rank {health.median_effective_rank:.1f}")
    parts.append(f"zero modules {health.n_zero} of {health.n_modules}")
    return "; ".join(parts)


def _row(one: ModuleNorms) -> list[str]:
    from lorabench.report.notation import DASH

    relative = DASH if one.relative_norm is None else f"{one.relative_norm:.3g}"
    z = DASH if one.outlier_z is None else f"{one.outlier_z:.1f}"
    norms = [f"{one.update_norm:.3g}", relative, f"{one.top_singular_value:.3g}", f"{one.effective_rank:.1f}"]
    return [one.module, str(one.rank), *norms, z]
