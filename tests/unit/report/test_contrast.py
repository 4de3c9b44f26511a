"""Colours of the page against WCAG 2.2 AA: 4.5 to 1 for text, 3 to 1 for marks."""

import re
from importlib import resources

import pytest

CSS = resources.files("lorabench.report").joinpath("css/report.css").read_text(encoding="utf-8")
COURSE_CSS = resources.files("lorabench.report").joinpath("css/course.css").read_text(encoding="utf-8")
ON_PAGE = ("ink", "soft", "link", "pass", "fail", "maybe", "none", "worse", "better")


def palette(dark: bool, css: str = CSS) -> dict[str, str]:
    light_block, dark_block = re.findall(r":root\s*{(.*?)}", css, flags=re.DOTALL)[:2]
    colors = dict(re.findall(r"--([a-z-]+):\s*(#[0-9a-f]{6})", light_block))
    return colors | (dict(re.findall(r"--([a-z-]+):\s*(#[0-9a-f]{6})", dark_block)) if dark else {})


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_black_and_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("ground", ["paper", "sheet", "sunk"])
@pytest.mark.parametrize("ink", ON_PAGE)
def test_text_is_readable_on_every_ground(ink: str, ground: str, dark: bool) -> None:
    colors = palette(dark)

    assert contrast(colors[ink], colors[ground]) >= 4.5


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("tone", ["pass", "fail", "maybe", "none"])
def test_status_words_are_readable_on_their_tint(tone: str, dark: bool) -> None:
    colors = palette(dark)

    assert contrast(colors[tone], colors[f"{tone}-tint"]) >= 4.5
    assert contrast(colors["ink"], colors[f"{tone}-tint"]) >= 7


@pytest.mark.parametrize("dark", [False, True])
def test_marked_words_are_readable_and_focus_is_visible(dark: bool) -> None:
    colors = palette(dark)

    assert contrast(colors["mark-ink"], colors["mark"]) >= 4.5
    assert contrast(colors["focus"], colors["paper"]) >= 3


@pytest.mark.parametrize("dark", [False, True])
def test_words_of_a_course_are_readable(dark: bool) -> None:
    colors = palette(dark) | palette(dark, COURSE_CSS)

    for ground in ("paper", "sheet", "sunk"):
        assert contrast(colors["best"], colors[ground]) >= 4.5
        assert contrast(colors["onset"], colors[ground]) >= 4.5
    assert contrast(colors["best"], colors["best-tint"]) >= 4.5
    assert contrast(colors["ink"], colors["best-tint"]) >= 7
