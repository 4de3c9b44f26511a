"""Each fact of an audit on a set of which the answer is known."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lorabench.dataset.auditing import Senses, audit
from lorabench.dataset.captions import read_caption
from lorabench.dataset.color_words import prominent_classes, shown_classes
from lorabench.dataset.compression import BLOCKY, blockiness
from lorabench.dataset.picture_reading import fine_share
from lorabench.dataset.resemblance import composition_groups
from lorabench.dataset.source_pictures import quality_of_table
from lorabench.errors import MeasurementError
from lorabench.records.audit import AUDIT_FACTS, Audit
from lorabench.records.detection import Detection, Lettering

Picture = NDArray[np.uint8]
SIDE = 96
PAGE = (238, 232, 218)
COLORS = {"red": (219, 31, 31), "blue": (31, 56, 214), "green": (33, 158, 43), "yellow": (242, 209, 26)}


def disc(color: str, x: float, y: float, radius: float = 16.0, *, side: int = SIDE) -> Picture:
    """An antialiased disc on an even page."""
    rows, columns = np.mgrid[0:side, 0:side]
    cover = np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0.0, 1.0)[..., None]
    return np.asarray(np.rint(cover * np.array(COLORS[color]) + (1 - cover) * np.array(PAGE)), dtype=np.uint8)


def bars(color: str, n: int, *, across: bool, side: int = SIDE) -> Picture:
    """Parallel bars: another composition than a disc."""
    picture = np.full((side, side, 3), PAGE, dtype=np.uint8)
    for k in range(n):
        start = int((k + 0.3) * side / n)
        where = (slice(start, start + side // (3 * n)), slice(8, side - 8))
        picture[where if across else where[::-1]] = COLORS[color]
    return picture


VARIED: dict[str, tuple[Picture, str]] = {
    "a.png": (disc("red", 25, 30), "zvq style, a red disc at the top left"),
    "b.png": (bars("blue", 2, across=True), "zvq style, two blue bars across"),
    "c.png": (bars("green", 3, across=False), "zvq style, three green bars upright"),
    "d.png": (disc("yellow", 64, 60, 26), "zvq style, a large yellow disc"),
}


def write(folder: Path, pictures: dict[str, tuple[Picture, str | None]]) -> Path:
    folder.mkdir(exist_ok=True)
    lines = []
    for name, (picture, caption) in pictures.items():
        Image.fromarray(picture).save(folder / name)
        if caption is not None:
            lines.append(json.dumps({"file": name, "text": caption}))
    if lines:
        (folder / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def audited(folder: Path, pictures: dict[str, Any], **options: Any) -> Audit:
    return audit(write(folder / "set", pictures), **options)


def captioned(*texts: str | None) -> dict[str, tuple[Picture, str | None]]:
    return {name: (picture, text) for (name, (picture, _)), text in zip(VARIED.items(), texts, strict=True)}


def as_jpeg(picture: Picture, quality: int) -> Picture:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def marked(found: Audit, mark: str) -> list[str]:
    return [one.name for one in found.pictures if mark in one.marks]


def test_a_good_set_shows_nothing_peculiar(tmp_path: Path) -> None:
    found = audited(tmp_path, VARIED, trigger="zvq style", training_size=SIDE)

    assert all(one.marks == () for one in found.pictures)
    zero = ("duplicate_share", "small_share", "upscaled_share", "extreme_aspect_share", "caption_missing_share")
    zero += (
        "caption_vague_share",
        "caption_identical_share",
        "blocky_share",
        "jpeg_share",
        "noisy_share",
        "photo_share",
    )
    assert {name: found.facts[name] for name in zero} == dict.fromkeys(zero, 0.0)
    assert found.facts["caption_trigger_share"] == found.facts["caption_color_share"] == 1.0
    assert found.facts["color_agreement"] == 1.0
    assert found.facts["color_unnamed_share"] == 0.0
    assert found.facts["hue_families"] == 4.0


def test_every_fact_is_told_or_has_a_reason(tmp_path: Path) -> None:
    found = audited(tmp_path, VARIED)

    assert found.facts.keys() | found.unmeasured.keys() == AUDIT_FACTS.keys()
    assert not found.facts.keys() & found.unmeasured.keys()
    assert all(0.0 <= value <= 1.0 for name, value in found.facts.items() if AUDIT_FACTS[name][0] == "share")


# ----------------------------------------------------------------------------------------------- repeats


@pytest.mark.parametrize(
    ("repeat", "how"),
    [
        (lambda picture: picture.copy(), "pixels"),
        (lambda picture: np.ascontiguousarray(picture[:, ::-1]), "mirrored"),
        (lambda picture: as_jpeg(picture, 75), "near"),
        (lambda picture: np.asarray(Image.fromarray(picture).resize((144, 144), Image.Resampling.LANCZOS)), "near"),
        (lambda picture: as_jpeg(np.ascontiguousarray(picture[:, ::-1]), 75), "near-mirrored"),
    ],
)
def test_repeats_are_found(tmp_path: Path, repeat: Callable[[Picture], Picture], how: str) -> None:
    again = {"z.png": (repeat(VARIED["a.png"][0]), "zvq style, once more")}

    found = audited(tmp_path, VARIED | again)

    assert [(one.name, one.of, one.how) for one in found.duplicates] == [("z.png", "a.png", how)]
    assert found.facts["duplicate_share"] == pytest.approx(0.2)
    assert found.facts["n_different"] == 4.0
    assert marked(found, "duplicate") == ["z.png"]


def test_pictures_composed_alike_in_other_colours_are_no_repeats_but_one_group(tmp_path: Path) -> None:
    alike = {f"{color}.png": (disc(color, 48, 48), f"a {color} disc") for color in COLORS}

    found = audited(tmp_path, alike)

    assert found.duplicates == ()
    assert found.facts["composition_cluster_share"] == 1.0
    assert found.facts["composition_distance"] < 0.1


def test_different_compositions_are_different_groups(tmp_path: Path) -> None:
    found = audited(tmp_path, VARIED)

    assert found.facts["composition_cluster_share"] <= 0.5
    assert found.facts["composition_distance"] > 0.5


def test_groups_are_numbered_by_falling_size() -> None:
    place = np.array([0.0, 1.0, 1.1, 1.2, 5.0, 5.1])
    distances = np.abs(place[:, None] - place[None, :])

    assert composition_groups(distances, reach=0.3) == (2, 0, 0, 0, 1, 1)


class OneVector:
    """A perceptual encoder for which all pictures are one."""

    def embed(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        return np.zeros((len(pictures), 4), dtype=np.float32)


def test_lpips_finds_repeats_too(tmp_path: Path) -> None:
    found = audited(tmp_path, VARIED, senses=Senses(lpips=OneVector()))

    assert [(one.name, one.of, one.by) for one in found.duplicates] == [
        (name, "a.png", "lpips") for name in ("b.png", "c.png", "d.png")
    ]


# ------------------------------------------------------------------------------------------------- sizes


def test_small_long_and_enlarged_pictures_are_marked(tmp_path: Path) -> None:
    long = np.ascontiguousarray(np.concatenate([disc("red", 48, 48)] * 3, axis=1))
    rng = np.random.default_rng(3)
    rough = np.asarray(rng.integers(0, 256, (48, 48, 3)), dtype=np.uint8)
    large = np.asarray(Image.fromarray(rough).resize((192, 192), Image.Resampling.BICUBIC))
    pictures = {"long.png": (long, None), "large.png": (large, None), "usual.png": (bars("red", 3, across=True), None)}

    found = audited(tmp_path, pictures, training_size=160)

    assert marked(found, "extreme-aspect") == ["long.png"]
    assert marked(found, "upscaled") == ["large.png"]
    assert marked(found, "small") == ["usual.png"]
    assert found.facts["smallest_edge"] == SIDE
    assert found.facts["n_aspects"] == 2.0


def test_detail_is_lost_by_halving_unless_it_was_never_there() -> None:
    rng = np.random.default_rng(1)
    rough = np.asarray(rng.integers(0, 256, (64, 64, 3)), dtype=np.uint8)
    doubled = np.asarray(Image.fromarray(rough).resize((256, 256), Image.Resampling.BICUBIC))

    sharp, soft = fine_share(rough), fine_share(doubled)
    assert sharp is not None
    assert soft is not None
    assert sharp > 0.3 > 0.1 > soft
    assert fine_share(np.full((32, 32, 3), 90, np.uint8)) is None


# ---------------------------------------------------------------------------------------------- captions


def test_captions_are_counted(tmp_path: Path) -> None:
    found = audited(tmp_path, captioned("zvq style, a red disc", "zvq style", "a red disc", None), trigger="zvq style")

    assert found.facts["caption_missing_share"] == 0.25
    assert found.facts["caption_trigger_share"] == pytest.approx(2 / 3)
    assert found.facts["caption_vague_share"] == pytest.approx(1 / 3)
    assert found.facts["caption_identical_share"] == pytest.approx(1 / 3)
    assert found.facts["caption_color_share"] == pytest.approx(2 / 3)
    assert marked(found, "no-caption") == ["d.png"]
    assert marked(found, "vague-caption") == ["b.png"]


def test_words_that_never_vary_are_told(tmp_path: Path) -> None:
    texts = ("a red disc, flat", "flat blue bars", "flat, green bars", "a flat yellow disc")

    found = audited(tmp_path, captioned(*texts))

    assert found.constant_words == ("flat",)
    assert found.facts["caption_constant_words"] == 1.0
    assert found.unmeasured["caption_trigger_share"] == "no trigger is named; give --trigger."


def test_a_trigger_counts_without_its_empty_words() -> None:
    trigger = "in the style of zvq"

    assert read_caption("zvq, a red disc", trigger=trigger).has_trigger
    assert read_caption("a red disc in the style of zvq", trigger=trigger).content == ("red", "disc")
    assert not read_caption("a red disc in the style of another", trigger=trigger).has_trigger
    assert read_caption("a red disc", trigger=None).has_trigger is None


def test_captions_of_other_pictures_disagree_about_colours(tmp_path: Path) -> None:
    wrong = captioned("a yellow disc", "two red bars", "three blue bars", "a green disc")

    found = audited(tmp_path, wrong)

    assert found.facts["color_agreement"] == 0.0
    assert found.facts["color_agreement_chance"] == pytest.approx(1 / 3)
    assert len(marked(found, "other-colors")) == 4


def test_captions_without_colours_leave_every_colour_unnamed(tmp_path: Path) -> None:
    found = audited(tmp_path, captioned("a disc", "two bars", "three bars", "a large disc"))

    assert found.facts["caption_color_share"] == 0.0
    assert found.facts["color_unnamed_share"] == 1.0
    assert "found 0" in found.unmeasured["color_agreement"]


def test_why_words_and_colours_cannot_be_compared_is_told(tmp_path: Path) -> None:
    texts = ("zvq style, a red disc", "zvq style, bars", "zvq style, bars", "zvq style, a disc")
    for name in ("one", "grey"):
        (tmp_path / name).mkdir()

    found = audited(tmp_path / "one", captioned(*texts))

    assert found.unmeasured["color_agreement"] == "two captions with colour words are needed; found 1."
    assert found.unmeasured["color_agreement_chance"] == found.unmeasured["color_agreement"]

    page = np.full((SIDE, SIDE, 3), 200, dtype=np.uint8)
    grey = audited(tmp_path / "grey", {f"{n}.png": (page - n, "zvq style, a page") for n in range(4)})
    assert grey.unmeasured["color_unnamed_share"] == "no captioned picture has a colour worth naming."


@pytest.mark.parametrize("color", COLORS)
def test_colours_are_seen_as_people_name_them(color: str) -> None:
    picture = disc(color, 48, 48, 20)

    assert color in shown_classes(picture)
    assert prominent_classes(picture) == {color}


def test_one_palette_is_one_family_of_hues(tmp_path: Path) -> None:
    red = {"a.png": (disc("red", 25, 30), None), "b.png": (bars("red", 2, across=True), None)}

    found = audited(tmp_path, red)

    assert found.facts["hue_families"] == 1.0
    assert found.facts["hue_largest_share"] == pytest.approx(1.0, abs=0.02)


def test_grey_pictures_have_no_hues(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(0, 256, (48, 48, 1)), 3, axis=2).astype(np.uint8)

    found = audited(tmp_path, {"a.png": (grey, "a grey square")})

    assert found.unmeasured["hue_families"] == "hues need colour; no picture has any."
    assert found.unmeasured["composition_distance"] == "a distance needs two different pictures; there is one."


# ---------------------------------------------------------------------------------------------- surfaces


def test_jpeg_traces_are_seen_in_a_png(tmp_path: Path) -> None:
    rough = disc("red", 40, 44) + np.random.default_rng(0).integers(0, 12, (SIDE, SIDE, 3)).astype(np.uint8)
    pictures = {"clean.png": (rough, None), "traced.png": (as_jpeg(rough, 60), None)}

    found = audited(tmp_path, pictures)

    assert marked(found, "blocky") == ["traced.png"]
    assert found.facts["jpeg_share"] == 0.0


def test_resizing_takes_the_grid_away() -> None:
    rough = np.random.default_rng(0).integers(60, 190, (128, 128, 3)).astype(np.uint8)
    traced = Image.fromarray(as_jpeg(rough, 50))

    before, after = blockiness(np.asarray(traced)), blockiness(np.asarray(traced.resize((102, 102))))
    assert before is not None
    assert after is not None
    assert before > BLOCKY > after
    assert blockiness(np.full((64, 64, 3), 200, np.uint8)) is None


def test_file_format_and_quality_are_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", VARIED)
    Image.fromarray(VARIED["a.png"][0]).save(folder / "e.jpg", quality=40)

    found = audit(folder)

    (jpeg,) = [one for one in found.pictures if one.file_format == "JPEG"]
    assert jpeg.jpeg_quality == pytest.approx(40, abs=2)
    assert marked(found, "jpeg-low") == ["e.jpg"]


@pytest.mark.parametrize("quality", [30, 50, 75, 90])
def test_quality_is_read_off_the_table(quality: int) -> None:
    stream = io.BytesIO()
    Image.fromarray(disc("red", 40, 40)).save(stream, "JPEG", quality=quality)
    tables = Image.open(stream).quantization  # type: ignore[attr-defined]

    assert quality_of_table(list(tables[0])) == pytest.approx(quality, abs=2)


def test_noise_is_marked(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 6, (SIDE, SIDE, 3))
    noisy = np.clip(disc("red", 30, 60) + noise, 0, 255).astype(np.uint8)

    found = audited(tmp_path, VARIED | {"z.png": (noisy, None)})

    assert marked(found, "noisy") == ["z.png"]
    assert marked(found, "photo") == ["z.png"]
    assert found.facts["photo_share"] == pytest.approx(0.2)
    assert found.facts["noise_spread"] > 2


def test_photographs_stand_out_in_flat_sets_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rough = {f"{k}.png": (rng.integers(0, 256, (48, 48, 3)).astype(np.uint8), None) for k in range(2)}

    found = audited(tmp_path, rough)

    assert "photographs stand out in a set of flat pictures only" in found.unmeasured["photo_share"]


# ------------------------------------------------------------------------------------------------ judges


class Reader:
    """A text reader that finds a word on dark pictures."""

    name, weights_digest = "reader", "0"

    def read(self, pictures: Sequence[Picture]) -> list[tuple[Lettering, ...]]:
        word = Lettering(text="sale", score=0.95, likeness=0.9, box=(4, 4, 40, 14), script="Latin")
        return [(word,) if picture.mean() < 60 else () for picture in pictures]


class Counter:
    """A detector that sees a hand with as many fingers as the red of the first pixel says."""

    name, weights_digest, reads_color = "counter", "0", False
    counts_parts = frozenset({"hand"})
    thresholds = MappingProxyType({"presence": 0.5, "count": 0.5})

    def detect(self, pictures: Sequence[Picture], *, labels: Sequence[str]) -> list[tuple[Detection, ...]]:
        assert list(labels) == ["hand"]
        return [
            (Detection(label="hand", box=(0, 0, 9, 9), score=0.9, count=int(picture[0, 0, 0])),) for picture in pictures
        ]


def test_lettering_and_wrong_parts_are_read_where_judges_are_there(tmp_path: Path) -> None:
    dark, light = (np.full((48, 48, 3), level, dtype=np.uint8) for level in (5, 90))

    found = audited(
        tmp_path,
        {"dark.png": (dark, None), "light.png": (light, None)},
        senses=Senses(reader=Reader(), detector=Counter()),
    )

    assert marked(found, "lettering") == ["dark.png"]
    assert marked(found, "wrong-parts") == ["light.png"]
    assert found.facts["lettering_share"] == found.facts["part_error_share"] == 0.5


def test_a_judge_that_is_absent_is_told_with_its_reason(tmp_path: Path) -> None:
    found = audited(tmp_path, VARIED, senses=Senses(absent={"reader": "rapidocr is not installed."}))

    assert found.unmeasured["lettering_share"] == "rapidocr is not installed."
    assert found.unmeasured["part_error_share"] == "no detector is at hand."


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="the training folder must hold pictures"):
        audit(tmp_path)
