"""One HTML page that shows a sweep: no request leaves it, and it runs no script at all."""

from __future__ import annotations

from collections import Counter
from typing import Any

from markupsafe import Markup

from lorabench.records.sweep import Sweep
from lorabench.report import sweep_view
from lorabench.report.page import asset, content_security_policy, environment
from lorabench.report.thumbnails import PictureSource, make_thumbnails


def render_sweep(sweep: Sweep, *, picture: PictureSource, max_edge: int = 160) -> str:
    """Render a sweep as one self-contained HTML page.

    All text is escaped, and a content security policy forbids the page every request and every script.

    Args:
        sweep: What was found.
        picture: SHA-256 of the pixels to the picture, uint8 (h, w, 3) RGB; None where it is gone, which the page says.
        max_edge: Longest edge of a picture, in pixels.

    Returns:
        The page.

    Raises:
        ValueError: `max_edge` is not positive.
    """
    style = asset("css", "report.css") + asset("css", "course.css") + asset("css", "sweep.css")
    strips = sweep_strips(sweep)
    shown = [sha for rows in strips.values() for sha in sweep_view.shown_in(rows)]
    return (
        environment()
        .get_template("sweep.html.j2")
        .render(
            sweep=sweep,
            results=sweep,  # the section of gates is shared with the report of a run
            strips=strips,
            thumbnails=make_thumbnails(shown, picture=picture, max_edge=max_edge),
            policy=content_security_policy(style=style),
            style=Markup(style),  # noqa: S704 - our own files
            tally=Counter(gate.outcome.value.lower() for gate in sweep.gates),
            sweep_digest=sweep.content_digest(),
            **sweep_drawings(sweep),
        )
    )


def sweep_strips(sweep: Sweep) -> dict[str, tuple[sweep_view.Strip, ...]]:
    """Its strips of pictures, by axis."""
    return {
        "strength": sweep_view.strength_strips(sweep),
        "guidance": sweep_view.guidance_strips(sweep),
        "trigger": sweep_view.trigger_strips(sweep),
    }


def sweep_drawings(sweep: Sweep) -> dict[str, Any]:
    """Its charts and sentences, by the names under which templates know them."""
    return {
        "strength_charts": sweep_view.strength_charts(sweep),
        "guidance_charts": sweep_view.guidance_charts(sweep),
        "strength_told": () if sweep.strength is None else sweep_view.strength_sentences(sweep.strength),
        "guidance_told": () if sweep.guidance is None else sweep_view.guidance_sentences(sweep.guidance),
        "range_text": sweep_view.range_text,
    }
