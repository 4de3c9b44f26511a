"""Everything on the page of a run that is worked out from its results, its pictures and its sweep."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.records.sweep import Sweep
from lorabench.report import sweep_view
from lorabench.report.case_view import CaseReader, CaseView
from lorabench.report.heat_table import heat_table
from lorabench.report.pareto_chart import run_pareto, sweep_pareto
from lorabench.report.sweep_html import sweep_drawings, sweep_strips
from lorabench.report.texture_tiles import texture_maps
from lorabench.report.thumbnails import PictureSource
from lorabench.report.top_reasons import looks, reasons, tightest


@dataclass(frozen=True, slots=True)
class RunContent:
    """What the templates need beside the results themselves."""

    facts: Mapping[str, Any]
    """By the name under which templates know it."""
    shown: list[str]
    """SHA-256 of each further picture, as often as the page shows it."""
    styles: tuple[str, ...]
    """Further style sheets."""


def run_content(
    reader: CaseReader, cases: Sequence[CaseView], *, picture: PictureSource, sweep: Sweep | None = None
) -> RunContent:
    """Work out what stands above and beside the cases.

    Args:
        reader: Of the run.
        cases: The cases on the page, worst first.
        picture: Where pictures of the run and of the sweep come from.
        sweep: The candidate along strength and guidance; None where there is none.
    """
    told = reasons(reader.results)
    first_looks = looks(cases, named=told)
    strips = {} if sweep is None else sweep_strips(sweep)
    facts = {
        "reasons": told,
        "looks": first_looks,
        "tightest": tightest(reader.results),
        "heat": heat_table(reader.results, cases),
        "textures": texture_maps(reader, cases, picture=picture),
        "detected": frozenset(case.case.id for case in cases if _detected(case)),
        "pareto": run_pareto(reader) if sweep is None else sweep_pareto(sweep),
        "sweep": sweep,
        "sweep_command": sweep_command(reader.results),
        "strips": strips,
        **({} if sweep is None else sweep_drawings(sweep)),
    }
    pairs = [view.image for look in first_looks for view in (look.control, look.candidate)]
    shown = [image.sha256 for image in pairs if image is not None]
    shown += [sha for rows in strips.values() for sha in sweep_view.shown_in(rows)]
    return RunContent(facts, shown, () if sweep is None and facts["pareto"] is None else ("course", "sweep"))


def sweep_command(results: Results) -> str:
    """The command that makes a sweep of this candidate; what a run does not record stands in capitals."""
    phrases = (("--trigger", Arm.CANDIDATE), ("--plain-style", Arm.CONTROL), ("--neutral", Arm.BASE))
    stated = [part for option, arm in phrases if (text := results.style.of(arm)) for part in (option, text)]
    fixed = ["lorabench", "sweep", "SUITE", "--base", "BASE", "--lora", "ADAPTER", "--training-folder", "FOLDER"]
    return shlex.join([*fixed, *stated])


def _detected(case: CaseView) -> bool:
    return any(one.overlay is not None for seed in case.seeds for one in seed.pictures)
