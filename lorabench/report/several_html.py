"""One page that shows several runs beside each other. It decides nothing: each verdict is its own run's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lorabench.records.results import Results
from lorabench.report.forms import Form, OneFile, write
from lorabench.report.html import OPEN_SEEDS
from lorabench.report.layout import BUDGET_BYTES, Layout
from lorabench.report.page import asset, environment, island, joined_script, squeezed
from lorabench.report.review_facts import DIGITS
from lorabench.report.several_cases import SharedCase, shared_cases, shown_pictures
from lorabench.report.several_pareto import draw, pareto
from lorabench.report.several_view import SeveralRuns
from lorabench.report.thumbnails import PictureSource, make_previews, place

SCRIPTS: Final = ("state", "cards", "filters", "viewer", "keys", "start_several")
STYLES: Final = ("report", "interaction", "several")


class SeveralPage:
    """Several runs, read and with their pictures encoded; `render` puts them into one form or the other."""

    def __init__(self, results: Sequence[Results], *, picture: PictureSource, max_edge: int = 256) -> None:
        """Read the runs and encode their pictures.

        Args:
            results: Two or more runs; the others are held against the first.
            picture: SHA-256 of the pixels to the picture, uint8 (h, w, 3) RGB; None where no run has it any more.
            max_edge: Longest edge of a preview, in pixels.

        Raises:
            RunCountError: There are fewer than two runs, or more than 26.
            ValueError: `max_edge` is not positive.
        """
        self._several = SeveralRuns(results)
        self._cases = shared_cases(self._several)
        self._times = Counter(shown_pictures(self._cases))
        self._previews = make_previews(self._times, picture=picture, max_edge=max_edge)

    @property
    def n_picture_bytes(self) -> int:
        """Size of all pictures together."""
        return sum(len(one.content) for one in self._previews.values())

    def render(self, form: Form) -> str:
        """The page's text. What it needs beside itself is left in the form."""
        found = pareto(self._several)
        return squeezed(
            environment()
            .get_template("several.html.j2")
            .render(
                several=self._several,
                cases=self._cases,
                pareto=found,
                chart=draw(found),
                thumbnails=place(self._previews, self._times, form=form),
                open_seeds=OPEN_SEEDS,
                facts=island(several_facts(self._several, self._cases)),
                head=form.head(
                    style="".join(asset("css", f"{name}.css") for name in STYLES), script=joined_script(SCRIPTS)
                ),
            )
        )


def render_several(results: Sequence[Results], *, picture: PictureSource, max_edge: int = 256) -> str:
    """Render several runs as one self-contained HTML page; the arguments are those of `SeveralPage`."""
    return SeveralPage(results, picture=picture, max_edge=max_edge).render(OneFile())


def write_several(
    results: Sequence[Results],
    path: Path,
    *,
    picture: PictureSource,
    max_edge: int = 256,
    layout: Layout = Layout.AUTO,
    budget: int = BUDGET_BYTES,
) -> Path:
    """Render several runs and put the page onto the disk.

    Args:
        results: As for `SeveralPage`.
        path: Where one file goes; a folder gets its name without `.html`.
        picture: As for `SeveralPage`.
        max_edge: As for `SeveralPage`.
        layout: One file, a folder, or whichever fits the budget.
        budget: Largest page that is still one file under `Layout.AUTO`, in bytes.

    Returns:
        Path of the page.
    """
    page = SeveralPage(results, picture=picture, max_edge=max_edge)
    return write(page, path, layout=layout, budget=budget)


def several_facts(several: SeveralRuns, cases: Sequence[SharedCase]) -> Mapping[str, Any]:
    """What the page's script needs to know: how far the runs lie apart, by case and metric."""
    names = dict.fromkeys(row.metric.name for case in cases for row in case.values)
    return {
        # a spread has no better side: the larger it is, the more there is to see
        "metrics": {name: {"higher_is_better": False} for name in names},
        "cases": {
            one.case.id: {"differences": {row.metric.name: round(row.spread, DIGITS) for row in one.values}}
            for one in cases
        },
        "large": {},
        "sides": [run.key for run in several.runs[:2]],
    }
