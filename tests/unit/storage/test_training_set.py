"""Training pictures: what is converted, what is refused, and how captions are found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorabench.errors import ExitCode
from lorabench.storage import training_set
from lorabench.storage.pictures import pixel_digest
from lorabench.storage.training_set import (
    CaptionsError,
    TrainingFolderError,
    TrainingPictureError,
    read_training_picture,
    read_training_set,
)

SIZE = (16, 24)


def picture(height: int = 16, width: int = 24, *, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_pictures_of_the_right_size_keep_every_pixel(tmp_path: Path) -> None:
    picture(seed=1).save(tmp_path / "b.png")
    picture(seed=2).save(tmp_path / "a.png")

    found = read_training_set(tmp_path, size=SIZE)

    assert found.names == ("a.png", "b.png")
    assert np.array_equal(found.pictures[0], np.asarray(picture(seed=2)))
    assert found.pictures[0].dtype == np.uint8
    assert found.digests == tuple(pixel_digest(pixels) for pixels in found.pictures)
    assert found.resized == (False, False)


def test_other_sizes_are_resized_cropped_and_recorded(tmp_path: Path) -> None:
    wide = np.zeros((32, 96, 3), dtype=np.uint8)
    wide[:, 24:72] = 255  # the centre that has the right proportions
    Image.fromarray(wide).save(tmp_path / "a.png")

    found = read_training_set(tmp_path, size=SIZE)

    assert found.pictures[0].shape == (16, 24, 3)
    assert found.pictures[0].min() > 240
    assert found.original_sizes == ((32, 96),)
    assert found.resized == (True,)


def test_resizing_is_antialiased(tmp_path: Path) -> None:
    stripes = np.zeros((160, 240, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")

    pixels, _ = read_training_picture(tmp_path / "a.png", size=SIZE)

    assert np.abs(pixels.astype(int) - 127).max() <= 6  # picking single pixels would give 0 or 255


def test_subfolders_are_read_and_hidden_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "10_zvq").mkdir()
    (tmp_path / ".thumbs").mkdir()
    picture().save(tmp_path / "10_zvq" / "a.png")
    picture().save(tmp_path / ".thumbs" / "a.png")
    (tmp_path / "notes.md").write_text("x")

    assert read_training_set(tmp_path, size=SIZE).names == ("10_zvq/a.png",)


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_and_palette_pictures_become_rgb(tmp_path: Path, mode: str) -> None:
    picture().convert(mode).save(tmp_path / "a.png")

    pixels, _ = read_training_picture(tmp_path / "a.png", size=SIZE)

    assert np.array_equal(pixels, np.asarray(picture().convert(mode).convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_are_laid_on_white(tmp_path: Path, mode: str) -> None:
    clear = picture().convert(mode)
    clear.putalpha(0)
    clear.save(tmp_path / "a.png")

    pixels, _ = read_training_picture(tmp_path / "a.png", size=SIZE)

    assert pixels.min() == 255


def test_palette_transparency_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (24, 16), 0)
    image.putpalette([10, 20, 30])
    image.save(tmp_path / "a.png", transparency=0)

    assert read_training_picture(tmp_path / "a.png", size=SIZE)[0].min() == 255


def test_exif_turn_is_applied(tmp_path: Path) -> None:
    image = picture(height=24, width=16)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)

    pixels, original = read_training_picture(tmp_path / "a.png", size=SIZE)

    assert original == SIZE
    assert np.array_equal(pixels, np.rot90(np.asarray(image), k=-1))


def _cmyk(path: Path) -> None:
    picture().convert("CMYK").save(path, format="JPEG")


def _grey16(path: Path) -> None:
    Image.fromarray(np.full((16, 24), 40000, dtype=np.uint16)).save(path, format="PNG")


def _rgb16(path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + b"\x12\x34" * (3 * 24) for _ in range(16))
    head = struct.pack(">IIBBBBB", 24, 16, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def _animated(path: Path) -> None:
    picture().save(path, format="GIF", save_all=True, append_images=[picture(seed=5)])


def _cut_off(path: Path) -> None:
    picture(200, 200).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:3000])


def _text(path: Path) -> None:
    path.write_text("not a picture")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_cmyk, "its colour mode is CMYK. Convert it to RGB"),
        (_grey16, "it has 16 or 32 bits a channel. Save it with 8 bits"),
        (_rgb16, "it has 16 or 32 bits a channel. Save it with 8 bits"),
        (_animated, "it has 2 frames"),
        (_cut_off, "it is damaged or cut off"),
        (_text, "it is no picture that can be read"),
    ],
)
def test_unusable_pictures_are_named(tmp_path: Path, make, words: str) -> None:
    path = tmp_path / "odd.png"
    make(path)

    with pytest.raises(TrainingPictureError) as caught:
        read_training_set(tmp_path, size=SIZE)

    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code is ExitCode.NOT_MEASURED


def test_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)

    with pytest.raises(TrainingPictureError, match="it has more than 89,478,485 pixels"):
        read_training_set(tmp_path, size=SIZE)


def test_limit_in_the_message_is_the_limit_of_pillow() -> None:
    assert training_set.MAX_PIXELS == Image.MAX_IMAGE_PIXELS


def test_missing_and_empty_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingFolderError, match=r"must hold pictures .* holds none"):
        read_training_set(tmp_path, size=SIZE)
    with pytest.raises(TrainingFolderError, match="is not a folder"):
        read_training_set(tmp_path / "none", size=SIZE)


@pytest.mark.parametrize(("name", "field"), [("captions.jsonl", "file"), ("metadata.jsonl", "file_name")])
def test_captions_are_found_in_either_file(tmp_path: Path, name: str, field: str) -> None:
    picture().save(tmp_path / "a.png")
    picture().save(tmp_path / "b.png")
    (tmp_path / name).write_text(json.dumps({field: "b.png", "text": "a dog", "extra": 1}) + "\n\n")
    (tmp_path / "a.txt").write_text("a cat\n")

    found = read_training_set(tmp_path, size=SIZE)

    assert found.captions == ("a cat", "a dog")
    assert dict(found.caption_of) == {"a.png": "a cat", "b.png": "a dog"}


def test_named_caption_file_wins_and_pictures_without_caption_have_none(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    picture().save(tmp_path / "b.png")
    (tmp_path / "captions.jsonl").write_text('{"file": "a.png", "text": "old"}\n')
    (tmp_path / "mine.jsonl").write_text('{"file": "a.png", "text": "new"}\n')

    assert read_training_set(tmp_path, tmp_path / "mine.jsonl", size=SIZE).captions == ("new", None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{oops\n", r"captions\.jsonl:1: it is not JSON"),
        ('{"file": "a.png"}\n', "`text` must both be texts"),
        ("[1]\n", "`text` must both be texts"),
        ('{"file": "z.png", "text": "x"}\n', "no picture 'z.png'"),
        ('{"file": "a.png", "text": "x"}\n{"file": "a.png", "text": "y"}\n', r":2: a second caption for 'a\.png'"),
    ],
)
def test_wrong_captions_are_told_with_their_line(tmp_path: Path, text: str, words: str) -> None:
    picture().save(tmp_path / "a.png")
    (tmp_path / "captions.jsonl").write_text(text)

    with pytest.raises(CaptionsError, match=words):
        read_training_set(tmp_path, size=SIZE)


def test_caption_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    with pytest.raises(CaptionsError, match="cannot be read as UTF-8 text"):
        read_training_set(tmp_path, tmp_path / "none.jsonl", size=SIZE)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(CaptionsError, match=r"a\.txt: it cannot be read as UTF-8 text"):
        read_training_set(tmp_path, size=SIZE)
