"""One HTML page that shows a run: no request leaves it, and it is complete without JavaScript."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from lorabench.records.diagnosis import Diagnosis
from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.report.case_view import CaseReader, CaseView
from lorabench.report.file_findings import file_findings
from lorabench.report.findings_view import findings_view
from lorabench.report.page import asset, content_security_policy, environment, island
from lorabench.report.review_facts import review_facts
from lorabench.report.run_view import family_table, missing_rows, pictures_left_over, set_table, tally
from lorabench.report.thumbnails import EXACT_EDGE, PictureSource, large_pictures, make_thumbnails

SCRIPTS: Final = ("state", "cards", "filters", "viewer", "review", "blind", "keys", "start")
"""Modules of the page's script, in the order in which they need each other."""
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

    Returns:
        The page.

    Raises:
        ValueError: `max_edge` is not positive.
    """
    reader = CaseReader(results)
    cases = reader.read_all()
    shown = shown_pictures(cases, training_images_included=training_images_included)
    style, script = asset("css", "report.css") + asset("css", "interaction.css"), joined_script()
    # Whoever asks for smaller previews than usual gets no larger ones either.
    grave = [case for case in cases if case.needs_a_look] if EXACT_EDGE <= max_edge < LARGE_EDGE else []
    close = set(shown_pictures(grave, training_images_included=training_images_included))
    large = large_pictures(sorted(close), picture=picture, beyond=max_edge, max_edge=LARGE_EDGE)
    template = environment().get_template("report.html.j2")
    return template.render(
        results=results,
        reader=reader,
        cases=cases,
        thumbnails=make_thumbnails(shown, picture=picture, max_edge=max_edge),
        facts=island(review_facts(reader, cases, large=large)),
        training_images_included=training_images_included,
        max_edge=max_edge,
        open_seeds=OPEN_SEEDS,
        findings=findings_view(diagnosis, results),
        policy=content_security_policy(style=style, script=script),
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        **_facts(results),
    )


def write_html(
    results: Results,
    path: Path,
    *,
    picture: PictureSource,
    training_images_included: bool = True,
    max_edge: int = 256,
    diagnosis: Diagnosis | None = None,
) -> Path:
    """Render a run and put the page at `path` in one move: a reader never sees half a page.

    Args:
        results: The run.
        path: Where the page goes; folders are made, an earlier page is replaced.
        picture: As for `render_html`.
        training_images_included: As for `render_html`.
        max_edge: As for `render_html`.
        diagnosis: As for `render_html`.

    Returns:
        `path`.
    """
    page = render_html(
        results,
        picture=picture,
        training_images_included=training_images_included,
        max_edge=max_edge,
        diagnosis=diagnosis,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(page)
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def joined_script() -> str:
    """The modules as one script with a scope of its own."""
    modules = "\n".join(asset("js", f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{modules}}})();\n'


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
        "families": family_table(results),
        "family_sizes": Counter(case.family for case in results.suite.cases),
        "sets": set_table(results),
        "missing": missing_rows(results),
        "left_over": pictures_left_over(results),
        "trigger": results.style.of(Arm.CANDIDATE),
        "suite_digest": results.suite.content_digest(),
        "results_digest": results.content_digest(),
    }
