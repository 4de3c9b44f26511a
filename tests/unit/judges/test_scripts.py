"""Scripts by the letters of a text."""

import pytest

from lorabench.judges.scripts import script_of


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("OPEN 24h", "Latin"),
        ("Łódź", "Latin"),
        ("ХЛЕБ", "Cyrillic"),
        ("Доброе утро, Bob", "Cyrillic"),
        ("ΚΑΛΗΜΕΡΑ", "Greek"),
        ("中国银行", "Han"),
        ("さくら", "Kana"),
        ("東京タワー", "Kana"),
        ("日本語のカメラ", "Kana"),
        ("서울", "Hangul"),
        ("שלום", "Hebrew"),
        ("مرحبا", "Arabic"),
        ("नमस्ते", "Devanagari"),
        ("10-18", "unknown"),
        ("", "unknown"),
        ("★ ☆", "unknown"),
    ],
)
def test_most_letters_decide_the_script(text: str, script: str) -> None:
    assert script_of(text) == script
