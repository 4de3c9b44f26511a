"""How numbers, checks and arms are written, the same in every rendering."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from lorabench.records.comparison import Comparison, Outcome
from lorabench.records.plan import Arm
from lorabench.records.suite import (
    AnatomyCheck,
    Check,
    ColorCheck,
    CountCheck,
    ExcludeCheck,
    NoExtraCheck,
    ObjectCheck,
    PaletteCheck,
    QuestionCheck,
    RelationCheck,
    TextCheck,
)

MINUS: Final = "\u2212"
DASH: Final = "\u2013"

ARM_NAMES: Final[dict[Arm, str]] = {
    Arm.BASE: "Base",
    Arm.CONTROL: "Control",
    Arm.CANDIDATE: "Candidate",
    Arm.NEUTRAL: "Candidate, no trigger",
}
"""The word printed above a picture of each arm."""

OUTCOME_MARKS: Final[dict[Outcome, str]] = {
    Outcome.PASS: "✓",
    Outcome.FAIL: "✗",
    Outcome.INCONCLUSIVE: "?",
    Outcome.UNMEASURED: "∅",
}
"""One character per outcome, for text renderings; it always stands beside the word."""

_DECIMALS: Final = ((100.0, 0), (10.0, 1), (1.0, 2), (0.01, 3))
"""From this size on, this many decimals."""
_HEX: Final = re.compile(r"#[0-9a-fA-F]{6}")
_BIDI: Final = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def number(value: float | None) -> str:
    """About three digits, without exponent where that stays readable; an en dash where there is no number.

    >>> number(0.12345), number(1234.5), number(12.345), number(0.0), number(None), number(0.00001234)
    ('0.123', '1234', '12.3', '0', '–', '1.2e-05')
    """
    if value is None:
        return DASH
    if value == 0:
        return "0"
    size = abs(value)
    decimals = next((n for limit, n in _DECIMALS if size >= limit), 4)
    text = f"{size:.1e}" if size < 0.0005 else f"{size:.{decimals}f}"
    return f"{MINUS}{text}" if value < 0 else text


def given(value: float) -> str:
    """A number that a person chose, as they would write it.

    >>> given(0.05), given(1.0)
    ('0.05', '1')
    """
    return f"{value:g}"


def signed(value: float | None) -> str:
    """A difference: the sign is always written.

    >>> signed(0.5), signed(-0.25), signed(0.0)
    ('+0.500', '−0.250', '0')
    """
    text = number(value)
    return f"+{text}" if value is not None and value > 0 else text


def interval(low: float, high: float) -> str:
    """Both ends of an interval of differences.

    >>> interval(-0.1, 0.25)
    '−0.100 to +0.250'
    """
    return f"{signed(low)} to {signed(high)}"


def margins(value: float) -> str:
    """A harm in units of its margin: two decimals, the sign always written.

    >>> margins(0.1234), margins(-1.6), margins(0.0001), margins(-0.0001)
    ('+0.12', '−1.60', '0.00', '0.00')
    """
    text = f"{abs(value):.2f}"
    if float(text) == 0:
        return text
    return f"{MINUS}{text}" if value < 0 else f"+{text}"


def p_value(value: float | None) -> str:
    """A probability; below a thousandth only that it is below.

    >>> p_value(0.0004), p_value(0.0312), p_value(None)
    ('< 0.001', '0.031', '–')
    """
    if value is None:
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(share: float) -> str:
    """A share in 0..1 in whole per cent.

    >>> percent(0.954)
    '95 %'
    """
    return f"{share * 100:.0f} %"


def counted(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> counted(1, "case"), counted(3, "case"), counted(2, "copy", "copies")
    ('1 case', '3 cases', '2 copies')
    """
    return f"{n} {one if n == 1 else many or one + 's'}"


def seconds(value: float) -> str:
    """A duration as a person says it.

    >>> seconds(0.25), seconds(42.0), seconds(185.0), seconds(7260.0)
    ('0.2 s', '42 s', '3 min 5 s', '2 h 1 min')
    """
    if value < 10:
        return f"{value:.1f} s"
    if value < 60:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def metric_words(name: str) -> str:
    """The name of a metric with blanks.

    >>> metric_words("clip_text_similarity")
    'clip text similarity'
    """
    return name.replace("_", " ")


def plain(text: str) -> str:
    r"""One line without control, escape and direction characters: safe in a terminal and in a table.

    >>> plain("a\x1b[31m b\n\tc\u202e")
    'a[31m b c'
    """
    kept = (" " if char.isspace() else char for char in text if _harmless(char))
    return re.sub(" +", " ", "".join(kept)).strip()


def hex_colors(values: tuple[str, ...]) -> tuple[str, ...]:
    """Those entries of a palette that are colours (`#rrggbb`).

    >>> hex_colors(("#102030", "red; background: url(x)"))
    ('#102030',)
    """
    return tuple(value for value in values if _HEX.fullmatch(value))


def against(comparison: Comparison) -> str:
    """What was subtracted from what.

    >>> from lorabench.records.plan import Arm
    >>> against(Comparison(
    ...     metric="m", metric_version=1, higher_is_better=True, unit="", candidate_arm=Arm.CANDIDATE, reference="B1",
    ...     family=None, estimate=0, low=0, high=0, confidence_level=0.9, p_harm=1, n_cases=1, n_pairs=1, method="t",
    ... ))
    'L1 − B1'
    """
    if comparison.reference == "none":
        return comparison.candidate_arm.value
    if comparison.reference == "training":
        return f"{comparison.candidate_arm.value} against training"
    return f"{comparison.candidate_arm.value} {MINUS} {comparison.reference}"


def direction(higher_is_better: bool) -> str:
    """Which way is better, in words."""
    return "higher is better" if higher_is_better else "lower is better"


def check_words(check: Check) -> str:
    """A check as a reader says it.

    >>> check_words(RelationCheck(subject="dog", relation="left of", object="cat", subject_color="red"))
    'red dog left of cat'
    """
    match check:
        case ObjectCheck():
            words = f"at least {check.count} {_colored(check.label, check.color)}"
        case ExcludeCheck():
            words = f"no {check.label}" if check.count == 1 else f"fewer than {check.count} {check.label}"
        case CountCheck():
            words = f"exactly {check.count} {_colored(check.label, check.color)}"
        case ColorCheck():
            words = f"{check.label} is {check.color}"
        case RelationCheck():
            subject, other = _colored(check.subject, check.subject_color), _colored(check.object, check.object_color)
            words = f"{subject} {check.relation} {other}"
        case QuestionCheck():
            words = f"{check.text} → {check.expect}"
        case PaletteCheck():
            words = _palette_words(check)
        case NoExtraCheck():
            words = f"nothing but {', '.join(check.allowed) or 'the ground'}"
        case TextCheck():
            words = "no lettering" if check.text is None else f"reads “{check.text}”"
        case AnatomyCheck():
            words = _anatomy_words(check)
    return words


def _colored(label: str, color: str | None) -> str:
    return f"{color} {label}" if color else label


def _palette_words(check: PaletteCheck) -> str:
    if check.hues is not None:
        return "hues within " + ", ".join(f"{low:g}°{DASH}{high:g}°" for low, high in check.hues)
    if check.colors is not None:
        return "colours " + ", ".join(check.colors)
    return "no hue" if check.monochrome == "grey" else "a single hue"


def _anatomy_words(check: AnatomyCheck) -> str:
    who = check.label if check.subjects == 1 else f"{check.subjects} × {check.label}"
    return f"{who} is there" if check.parts is None else f"{who} with {check.parts} parts"


def _harmless(char: str) -> bool:
    if char in "\t\n\r":
        return True
    return unicodedata.category(char) not in {"Cc", "Cs"} and unicodedata.bidirectional(char) not in _BIDI
