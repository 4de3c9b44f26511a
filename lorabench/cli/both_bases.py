"""`run --training-base`: the same suites on the base that an adapter was trained on and on the one in use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.cli import output
from lorabench.cli.comparing import changes_as_json
from lorabench.cli.verdicts import Format, Judged
from lorabench.errors import SpecError

if TYPE_CHECKING:
    from lorabench.records.config import Config


class OneBaseError(SpecError):
    """The same base twice."""

    def __init__(self, base: str) -> None:
        super().__init__(f"--training-base must be another base than --base; found {base!r} for both. Leave it out.")
        self.base = base


class NoCandidateForBothError(SpecError):
    """Two bases and nothing to compare on them."""

    def __init__(self) -> None:
        super().__init__("--training-base compares an adapter on two bases; no adapter is named. Give --lora.")


def on_training_base(config: Config) -> Config:
    """The settings with the training base in place of the base; without a baseline, which belongs to the other.

    Raises:
        SpecError: Both are one base, or there is no adapter.
    """
    model = config.model
    if not config.candidate.lora:
        raise NoCandidateForBothError
    if _same(model.base, model.training_base):
        raise OneBaseError(model.base)
    update = {"base": model.training_base, "training_base": ""}
    return config.model_copy(update={"model": model.model_copy(update=update), "baseline": None})


def show_both_bases(judged: Sequence[Judged], trained_on: Sequence[Judged], style: Format) -> None:
    """Print the comparison of each suite that both bases have results of; nothing in formats of a single verdict."""
    from lorabench.report.both_bases import render_both_bases, render_both_bases_markdown

    for used, trained in _pairs(judged, trained_on):
        if style is Format.HUMAN:
            output.show(render_both_bases(trained.results, used.results))
            output.data(f"results on the training base: {trained.results_path}")
            if trained.report_path is not None:
                output.data(f"report on the training base:  {trained.report_path}")
        elif style is Format.MARKDOWN:
            output.data(render_both_bases_markdown(trained.results, used.results))


def both_bases_summary(judged: Sequence[Judged], trained_on: Sequence[Judged]) -> dict[str, Any]:
    """The same as plain JSON types; nothing where there is one base only."""
    from lorabench.report.both_bases import base_findings

    if not trained_on:
        return {}
    return {
        "training_base": [one.as_json() for one in trained_on],
        "both_bases": [
            {
                "suite": used.results.suite.name,
                "trained_on": trained.results.base.name,
                "used_on": used.results.base.name,
                "findings": list(base_findings(trained.results, used.results)),
                "gates": changes_as_json(trained.results, used.results),
            }
            for used, trained in _pairs(judged, trained_on)
        ],
    }


def _pairs(judged: Sequence[Judged], trained_on: Sequence[Judged]) -> Iterator[tuple[Judged, Judged]]:
    """Runs of one suite on the base in use and on the training base."""
    by_suite = {one.results.suite.content_digest(): one for one in trained_on}
    for used in judged:
        trained = by_suite.get(used.results.suite.content_digest())
        if trained is not None:
            yield used, trained


def _same(base: str, other: str) -> bool:
    first, second = Path(base).expanduser(), Path(other).expanduser()
    return base == other or (first.is_dir() and second.is_dir() and first.resolve() == second.resolve())
