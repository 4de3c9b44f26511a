"""One HTML page that shows a run: no request leaves it, and it is complete without JavaScript."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from lorabench.records.diagnosis import Diagnosis
from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.records.sweep import Sweep
from lorabench.report.case_view import CaseReader, CaseView
from lorabench.report.file_findings import file_findings
from lorabench.report.findings_view import findings_view
from lorabench.report.forms import Form, OneFile, write
from lorabench.report.layout import BUDGET_BYTES, Layout
from lorabench.report.page import asset, environment, island, joined_script, squeezed
from lorabench.report.review_facts import review_facts
from lorabench.report.run_content import run_content
from lorabench.report.run_view import missing_rows, pictures_left_over, set_table, tally
from lorabench.report.thumbnails import EXACT_EDGE, PictureSource, make_previews, place

SCRIPTS: Final = ("state", "cards", "filters", "viewer", "keys", "review", "blind", "start")
"""Modules of the page's script, in the order in which they need each other."""
STYLES: Final = ("report", "content", "interaction")
"""Style sheets of every page of a run."""
LARGE_EDGE: Final = 768
"""Longest edge of pictures that a reviewer will want to see closely: those of cases with a grave flag."""
OPEN_SEEDS = 2
"""Seeds of a case that are shown at once; the others are folded away."""


def render_html(
    results: Results,
    *,
    picture: PictureSource,
    training_images_included: bool = True,
    max_edge: int = 256,
    diagnosis: Diagnosis | None = None,
    sweep: Sweep | None = None,
) -> str:
    """Render a run as one self-contained HTML page.

    Everything that comes from a suite, a file or a judge is escaped; a content security policy forbids the page every
    request and every script but its own. Pictures are WebP previews, each content embedded once.

    Args:
        results: The run.
        picture: SHA-256 of the pixels to the picture, uint8 (h, w, 3) RGB; None where it is gone, which the page says.
        training_images_included: Whether pictures of the training set are embedded. Without, the page names the
            nearest one and its distance only.
        max_edge: Longest edge of a preview, in pixels.
        diagnosis: Likely causes, shown in a section of their own; None leaves it out.
        sweep: The candidate along strength and guidance, whose pictures the same source has; None leaves it out.

    Returns:
        The page.

    Raises:
        ValueError: `max_edge` is not positive.
    """
    page = RunPage(
        results,
        picture=picture,
        training_images_included=training_images_included,
        max_edge=max_edge,
        diagnosis=diagnosis,
        sweep=sweep,
    )
    return page.render(OneFile())


def write_html(
    results: Results,
    path: Path,
    *,
    picture: PictureSource,
    training_images_included: bool = True,
    max_edge: int = 256,
    diagnosis: Diagnosis | None = None,
    sweep: Sweep | None = None,
    layout: Layout = Layout.SINGLE,
    budget: int = BUDGET_BYTES,
) -> Path:
    """Render a run and put the page at `path` in one move: a reader never sees half a page.

    Args:
        results: The run.
        path: Where the page goes, if it is one file; a folder gets its name without `.html`. Folders above are made,
            an earlier page is replaced.
        picture: As for `render_html`.
        training_images_included: As for `render_html`.
        max_edge: As for `render_html`.
        diagnosis: As for `render_html`.
        sweep: As for `render_html`.
        layout: One file, a folder, or whichever fits the budget.
        budget: Largest page that is still written as one file under `Layout.AUTO`, in bytes.

    Returns:
        `path`, or the `index.html` of the folder.

    Raises:
        NotAReportFolderError: The folder is there and holds something else.
    """
    page = RunPage(
        results,
        picture=picture,
        training_images_included=training_images_included,
        max_edge=max_edge,
        diagnosis=diagnosis,
        sweep=sweep,
    )
    return write(page, path, layout=layout, budget=budget)


class RunPage:
    """A run that is read and whose pictures are encoded: what is left is to put it into one form or the other."""

    def __init__(
        self,
        results: Results,
        *,
        picture: PictureSource,
        training_images_included: bool = True,
        max_edge: int = 256,
        diagnosis: Diagnosis | None = None,
        sweep: Sweep | None = None,
    ) -> None:
        """Read the run and encode its pictures; the arguments are those of `render_html`."""
        self._results, self._max_edge, self._training = results, max_edge, training_images_included
        self._reader = CaseReader(results)
        self._cases = self._reader.read_all()
        self._findings = findings_view(diagnosis, results)
        self._content = run_content(self._reader, self._cases, picture=picture, sweep=sweep)
        shown = shown_pictures(self._cases, training_images_included=training_images_included)
        self._times = Counter([*shown, *self._content.shown])
        self._previews = make_previews(self._times, picture=picture, max_edge=max_edge)
        # Whoever asks for smaller previews than usual gets no larger ones either.
        grave = [case for case in self._cases if case.needs_a_look] if EXACT_EDGE <= max_edge < LARGE_EDGE else []
        close = sorted(set(shown_pictures(grave, training_images_included=training_images_included)))
        self._large = make_previews(close, picture=picture, max_edge=LARGE_EDGE, beyond=max_edge)

    @property
    def n_picture_bytes(self) -> int:
        """Size of all pictures together."""
        return sum(len(one.content) for found in (self._previews, self._large) for one in found.values())

    def render(self, form: Form) -> str:
        """The page's text. What it needs beside itself is left in the form."""
        large = {sha256: form.picture(one.content) for sha256, one in self._large.items()}
        style = "".join(asset("css", f"{name}.css") for name in (*STYLES, *self._content.styles))
        return squeezed(
            environment()
            .get_template("report.html.j2")
            .render(
                results=self._results,
                reader=self._reader,
                cases=self._cases,
                address=form.picture,
                thumbnails=place(self._previews, self._times, form=form),
                facts=island(review_facts(self._reader, self._cases, large=large)),
                training_images_included=self._training,
                max_edge=self._max_edge,
                open_seeds=OPEN_SEEDS,
                findings=self._findings,
                head=form.head(style=style, script=joined_script(SCRIPTS)),
                **self._content.facts,
                **_facts(self._results),
            )
        )


def shown_pictures(cases: Iterable[CaseView], *, training_images_included: bool) -> list[str]:
    """SHA-256 of each picture on the page, as often as it stands there."""
    seeds = [seed for case in cases for seed in case.seeds]
    shown = [picture.image.sha256 for seed in seeds for picture in seed.pictures if picture.image is not None]
    if training_images_included:
        nearest = [seed.neighbour.training for seed in seeds if seed.neighbour is not None]
        shown += [training.sha256 for training in nearest if training is not None]
    return shown


def _facts(results: Results) -> Mapping[str, Any]:
    return {
        "tally": tally(results),
        "file_findings": file_findings(results.candidate),
        "family_sizes": Counter(case.family for case in results.suite.cases),
        "sets": set_table(results),
        "missing": missing_rows(results),
        "left_over": pictures_left_over(results),
        "trigger": results.style.of(Arm.CANDIDATE),
        "suite_digest": results.suite.content_digest(),
        "results_digest": results.content_digest(),
    }
