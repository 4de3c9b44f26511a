"""What all HTML pages share: templates, style, and the policy that forbids them every request."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lorabench.report import notation
from lorabench.report.interval_drawing import draw_interval
from lorabench.report.run_view import tone

_BLOCKS: Final = (
    "table|caption|thead|tbody|tr|td|th|div|figure|figcaption|section|article|details|ul|ol|li|dl|dt|dd|p|h2|h3|h4|"
    "rect|line|path|circle|desc"
)
_BESIDE_BLOCKS: Final = re.compile(rf"(?<=>)\s+(?=</?(?:{_BLOCKS})\b)|(?<=</td>)\s+|(?<=</tr>)\s+|(?<=</div>)\s+")


def content_security_policy(*, style: str, script: str | None = None) -> str:
    """A policy that lets a page show embedded pictures and use exactly these two texts, and nothing else.

    Args:
        style: Content of the one `<style>` element.
        script: Content of the one `<script>` element; None for a page that runs none.

    Returns:
        The value of a `Content-Security-Policy`.
    """
    runs = "" if script is None else f" script-src '{_source_hash(script)}';"
    return (
        f"default-src 'none'; img-src data:; style-src '{_source_hash(style)}';{runs} "
        "base-uri 'none'; form-action 'none'"
    )


def mark_phrase(text: str, phrase: str) -> Markup:
    """Escape a prompt and put the style phrase in it into `<mark>`.

    >>> str(mark_phrase("a dog, ohwx <b>", "ohwx"))
    'a dog, <mark>ohwx</mark> &lt;b&gt;'
    """
    if not phrase:
        return Markup.escape(text)
    return Markup("<mark>{}</mark>").format(phrase).join(text.split(phrase))


def island(data: object) -> Markup:
    """Data for a page's script as JSON that no text in it can break out of: `<`, `>` and `&` are written as escapes."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - the characters that matter are escaped above


@cache
def asset(folder: str, name: str) -> str:
    """Text of a file that is shipped beside the templates."""
    return resources.files("lorabench.report").joinpath(folder, name).read_text(encoding="utf-8")


def joined_script(names: Iterable[str]) -> str:
    """Modules of `js/` as one script with a scope of its own, in the order in which they need each other."""
    modules = "\n".join(asset("js", f"{name}.js") for name in names)
    return f'"use strict";\n(() => {{\n{modules}}})();\n'


def squeezed(page: str) -> str:
    """A page without the white space beside elements that begin a line of their own: unseen, it costs nodes.

    >>> squeezed("<tr> <td>a <b>b</b> <i>c</i></td> </tr>")
    '<tr><td>a <b>b</b> <i>c</i></td></tr>'
    """
    return _BESIDE_BLOCKS.sub("", page)


@cache
def environment() -> Environment:
    """Templates that escape everything and refuse unknown names."""
    found = Environment(
        loader=PackageLoader("lorabench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.globals.update(
        number=notation.number,
        given=notation.given,
        signed=notation.signed,
        interval=notation.interval,
        margins=notation.margins,
        p_value=notation.p_value,
        percent=notation.percent,
        counted=notation.counted,
        seconds=notation.seconds,
        metric_words=notation.metric_words,
        against=notation.against,
        direction=notation.direction,
        hex_colors=notation.hex_colors,
        draw_interval=draw_interval,
        mark_phrase=mark_phrase,
        tone=tone,
        zip=zip,
    )
    return found


def _source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
