"""RapidOCR on drawn words and on drawings without any."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from lorabench.judges import text_reader
from lorabench.judges.text_reader import RapidTextReader, TextReaderError
from lorabench.metrics.lettering import edit_distance, lettering_of, plain
from lorabench.world.drawing import draw
from lorabench.world.scene import sample_scene

SIZE = (512, 512)
WORDS = ("BAKERY", "Summer Sale", "OPEN DAILY", "Night Train", "HARBOUR 12", "Orchard")
GROUNDS = ((235, 225, 205), (190, 215, 235), (250, 250, 250), (225, 190, 190), (120, 140, 120))


def drawing(index: int) -> Image.Image:
    """A flat illustration without lettering: a scene of the mini world, enlarged."""
    scene = sample_scene("pair", rng=np.random.default_rng(index))
    small = Image.fromarray(draw(scene, "flat", seed=index))
    return small.resize((512, 512), Image.Resampling.BICUBIC)


def with_word(image: Image.Image, word: str, *, at: tuple[int, int], size: int) -> Image.Image:
    """Pillow's own font has Latin letters."""
    ImageDraw.Draw(image).text(at, word, font=ImageFont.load_default(size), fill=(30, 20, 60))
    return image


@pytest.fixture(scope="module")
def reader() -> RapidTextReader:
    pytest.importorskip("rapidocr")
    return RapidTextReader()


@pytest.mark.weights
def test_planted_words_are_read_in_28_of_30_scenes(reader: RapidTextReader) -> None:
    found = 0
    for index in range(30):
        word = WORDS[index % len(WORDS)]
        image = with_word(drawing(index), word, at=(20 + 7 * (index % 9), 8), size=(20, 28, 40)[index % 3])
        seen = lettering_of(reader.read([np.asarray(image)])[0], size=SIZE)
        texts = [plain(one.text) for one in seen if one.script == "Latin"]
        found += any(edit_distance(plain(word), text) <= 0.2 for text in texts)

    assert found >= 28


@pytest.mark.weights
def test_nothing_is_read_on_drawings_without_lettering(reader: RapidTextReader) -> None:
    pictures = [np.asarray(drawing(index)) for index in range(20)]

    assert [lettering_of(seen, size=SIZE) for seen in reader.read(pictures)] == [()] * 20


@pytest.mark.weights
def test_scripts_it_cannot_read_are_found_and_called_unknown(reader: RapidTextReader) -> None:
    """Lines of strokes that are no letters of any script the reader knows, as Cyrillic lines are to it."""
    fonts = [
        path for name in ("DejaVuSans-Bold", "DejaVuSans") for path in Path("/usr/share/fonts").rglob(f"{name}.ttf")
    ]
    if not fonts:
        pytest.skip("no font with Cyrillic letters is installed")
    found = []
    for index, word in enumerate(("МОЛОКО", "Доброе утро", "ХЛЕБ", "ЯРМАРКА")):
        image = Image.new("RGB", (512, 512), GROUNDS[index])
        font = ImageFont.truetype(str(fonts[0]), 40)
        ImageDraw.Draw(image).text((60, 200), word, font=font, fill=(30, 20, 60))
        found.append(lettering_of(reader.read([np.asarray(image)])[0], size=SIZE))

    assert all(found)
    assert {one.script for seen in found for one in seen} == {"unknown"}


@pytest.mark.weights
def test_boxes_lie_on_the_words_also_in_small_and_in_long_pictures(reader: RapidTextReader) -> None:
    for width, height, size in ((128, 128, 14), (512, 128, 40), (300, 700, 40)):
        image = with_word(Image.new("RGB", (width, height), (240, 240, 230)), "OPEN", at=(10, 30), size=size)
        seen = reader.read([np.asarray(image)])[0]

        assert [one.text for one in seen] == ["OPEN"]
        left, top, right, bottom = seen[0].box
        reach = size / 2
        assert abs(left - 10) < reach
        assert 30 - reach < top < bottom < 30 + size + reach
        assert right <= width
        assert seen[0].likeness > 0.5


@pytest.mark.weights
def test_equal_pictures_give_equal_readings_and_empty_ones_none(reader: RapidTextReader) -> None:
    picture = np.asarray(with_word(drawing(1), "BAKERY", at=(30, 10), size=30))

    assert reader.read([picture]) == reader.read([np.ascontiguousarray(picture)])
    assert reader.read([np.full((64, 64, 3), 128, np.uint8)]) == [()]
    assert len(reader.weights_digest) == 64


def test_boxes_without_text_have_no_score_and_no_script() -> None:
    corners = np.array([[-3.0, 5.0], [40.0, 5.0], [40.0, 19.0], [-3.0, 19.0]])

    for text, score in (("", 0.9), ("  ", 0.9), ("x", math.nan)):
        seen = text_reader._lettering(corners, text, scores=(score, 0.7), size=(64, 32))

        assert (seen.score, seen.script, seen.box) == (0.0, "unknown", (0.0, 5.0, 32.0, 19.0))


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rapidocr", None)

    with pytest.raises(TextReaderError, match=r"needs the package rapidocr 3\.10 .* Install lorabench\[ocr\]") as error:
        RapidTextReader()
    assert "it cannot be imported" in str(error.value)


def test_package_without_models_says_which_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = type(text_reader)("rapidocr")
    module.__file__ = str(tmp_path / "__init__.py")
    monkeypatch.setitem(__import__("sys").modules, "rapidocr", module)

    with pytest.raises(TextReaderError, match=r"found no PP-OCRv6_det_small\.onnx in it"):
        RapidTextReader()
