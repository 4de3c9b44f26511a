"""From a folder of training pictures to its `Audit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from lorabench.dataset.captions import caption_facts, constant_words
from lorabench.dataset.compression import BLOCKY
from lorabench.dataset.picture_reading import PictureReading, read_picture
from lorabench.dataset.resemblance import Embedder, Resemblance, resemblance
from lorabench.dataset.source_pictures import read_sources
from lorabench.judges.protocols import Detector, TextReader
from lorabench.metrics.lettering import lettering_of
from lorabench.records.audit import Audit

PARTS: Final = MappingProxyType({"hand": 5, "person": 4})
"""Figures and the number of parts, fingers and limbs, that each has."""
NOISY: Final = 1.5
"""Grey levels of noise where a picture is smooth, from which on people see it."""
SOFT: Final = 2.0
"""Pixels of blur from which on edges are out of focus."""
COARSE: Final = 0.35
"""Contrast in the finest octave under which a picture was enlarged, or is out of focus: sharp drawings and photographs
have 0.55 to 0.75, the same enlarged twice 0.17 to 0.29. Noise added afterwards hides it."""
SMALL: Final = 0.9
"""Pixels over those of the training size, under which a trainer enlarges."""
LOW_QUALITY: Final = 80
FLAT_SET: Final = 0.4
"""Median flat fraction from which on a set is flat art, among which photographs are strangers."""
PHOTO_FLAT: Final = 0.4
"""Flat fraction of a photograph in such a set, over the set's median, at most."""
PHOTO_NOISE: Final = 0.8
"""Grey levels of noise that a photograph has at least."""
FAMILY_LEAST: Final = 0.03
"""Share of the colour that makes a hue family count."""
_EXTREME: Final = 2.0


@dataclass(frozen=True, slots=True)
class Senses:
    """Judges an audit may use; what is not there is not measured.

    Attributes:
        lpips: For near duplicates.
        reader: For lettering.
        detector: For figures with wrong parts; it must count parts.
        absent: Of `lpips`, `reader`, `detector`: why it is not there.
    """

    lpips: Embedder | None = None
    reader: TextReader | None = None
    detector: Detector | None = None
    absent: Mapping[str, str] = field(default_factory=dict)

    def why_absent(self, name: str) -> str:
        """The reason, in words."""
        return self.absent.get(name, f"no {name} is at hand.")


@dataclass(slots=True)
class _Found:
    """Facts, reasons, and marks of pictures, as they come in."""

    readings: Sequence[PictureReading]
    facts: dict[str, float] = field(default_factory=dict)
    unmeasured: dict[str, str] = field(default_factory=dict)
    marks: dict[str, list[str]] = field(default_factory=dict)

    def share(self, name: str, mark: str, holds: Callable[[PictureReading], bool]) -> None:
        """Keep the share of pictures for which something holds, and mark them."""
        marked = [one.facts.name for one in self.readings if holds(one)]
        for picture in marked:
            self.marks.setdefault(picture, []).append(mark)
        self.facts[name] = len(marked) / len(self.readings)


def audit(
    folder: Path,
    *,
    captions: Path | None = None,
    trigger: str | None = None,
    training_size: int | None = None,
    senses: Senses | None = None,
) -> Audit:
    """Say what is true of a training set.

    Args:
        folder: The pictures; captions are found as a run finds them.
        captions: Captions as JSON lines, elsewhere.
        trigger: Phrase that calls the style; None leaves it out.
        training_size: Edge in pixels that was, or will be, trained at.
        senses: Judges to use.

    Returns:
        The audit.

    Raises:
        MeasurementError: No pictures, or a picture or caption file that cannot be used.
    """
    used = senses or Senses()
    readings = [read_picture(one, trigger=trigger or None) for one in read_sources(folder, captions)]
    found = _Found(readings)
    alike = resemblance(readings, lpips=used.lpips)
    _sizes(found, training_size)
    _repeats(found, alike)
    _colors(found)
    _texts(found)
    _surfaces(found)
    _judged(found, used)
    there = [one.caption for one in readings if one.caption is not None]
    return Audit(
        folder=folder.as_posix(),
        trigger=trigger or None,
        training_size=training_size,
        pictures=tuple(
            one.facts.model_copy(
                update={"composition_group": group, "marks": tuple(sorted(found.marks.get(one.facts.name, ())))}
            )
            for one, group in zip(readings, alike.groups, strict=True)
        ),
        duplicates=alike.duplicates,
        facts=found.facts,
        unmeasured=found.unmeasured,
        constant_words=constant_words(there),
    )


def _sizes(found: _Found, training_size: int | None) -> None:
    sizes = [(one.facts.height, one.facts.width) for one in found.readings]
    found.facts["n_pictures"] = float(len(sizes))
    found.facts["smallest_edge"] = float(min(min(size) for size in sizes))
    found.facts["n_aspects"] = float(len({round(10 * np.log2(width / height)) for height, width in sizes}))
    found.share("extreme_aspect_share", "extreme-aspect", lambda one: _aspect(one) > _EXTREME)
    if training_size is None:
        found.unmeasured["small_share"] = "no training size is named; give --size."
    else:
        least = SMALL * training_size**2
        found.share("small_share", "small", lambda one: one.facts.height * one.facts.width < least)
    found.share("upscaled_share", "upscaled", lambda one: one.fine_share is not None and one.fine_share < COARSE)


def _aspect(one: PictureReading) -> float:
    longer, shorter = max(one.facts.height, one.facts.width), min(one.facts.height, one.facts.width)
    return longer / shorter


def _repeats(found: _Found, alike: Resemblance) -> None:
    n = len(found.readings)
    for one in alike.duplicates:
        found.marks.setdefault(one.name, []).append("duplicate")
    found.facts["n_different"] = float(n - len(alike.duplicates))
    found.facts["duplicate_share"] = len(alike.duplicates) / n
    found.facts["composition_cluster_share"] = alike.groups.count(0) / n
    for name, value in (
        ("composition_distance", alike.composition_distance),
        ("palette_spread", alike.palette_spread),
    ):
        if value is None:
            found.unmeasured[name] = "a distance needs two different pictures; there is one."
        else:
            found.facts[name] = value


def _colors(found: _Found) -> None:
    hues = np.stack([one.hues for one in found.readings])  # (n, 12)
    colored = hues[hues.sum(axis=1) > 0]
    if len(colored) == 0:
        for name in ("hue_families", "hue_largest_share"):
            found.unmeasured[name] = "hues need colour; no picture has any."
        return
    shares = colored.mean(axis=0)
    found.facts["hue_families"] = float((shares >= FAMILY_LEAST).sum())
    found.facts["hue_largest_share"] = float((shares + np.roll(shares, -1)).max())


def _texts(found: _Found) -> None:
    captions = [one.caption for one in found.readings]
    facts, unmeasured = caption_facts(captions)
    found.facts |= facts
    found.unmeasured |= unmeasured
    for one in found.readings:
        if one.caption is None:
            found.marks.setdefault(one.facts.name, []).append("no-caption")
        elif one.caption.is_vague:
            found.marks.setdefault(one.facts.name, []).append("vague-caption")
    _color_words(found)


def _color_words(found: _Found) -> None:
    """Colours in words against colours in pictures; captions dealt to every other picture say what chance gives."""
    named = [(one.caption.colors, one) for one in found.readings if one.caption is not None and one.caption.colors]
    if len(named) < 2:
        why = f"two captions with colour words are needed; found {len(named)}."
        found.unmeasured |= {"color_agreement": why, "color_agreement_chance": why}
    else:
        found.facts["color_agreement"] = float(np.mean([_agreement(words, one) for words, one in named]))
        dealt = [_agreement(words, other) for words, one in named for _, other in named if other is not one]
        found.facts["color_agreement_chance"] = float(np.mean(dealt))
        for words, one in named:
            if _agreement(words, one) < 1.0:
                found.marks.setdefault(one.facts.name, []).append("other-colors")
    told = [one for one in found.readings if one.caption is not None and one.prominent]
    if told:
        found.facts["color_unnamed_share"] = float(np.mean([_unnamed(one) for one in told]))
    else:
        found.unmeasured["color_unnamed_share"] = "no captioned picture has a colour worth naming."


def _agreement(words: Sequence[frozenset[str]], one: PictureReading) -> float:
    """Share of the colours named that the picture shows."""
    return sum(bool(classes & one.shown) for classes in words) / len(words)


def _unnamed(one: PictureReading) -> float:
    named = frozenset().union(*one.caption.colors) if one.caption is not None else frozenset()
    return len(one.prominent - named) / len(one.prominent)


def _surfaces(found: _Found) -> None:
    found.share("jpeg_share", "jpeg", lambda one: one.facts.file_format in ("JPEG", "MPO"))
    found.share("jpeg_low_share", "jpeg-low", lambda one: (one.facts.jpeg_quality or 100) < LOW_QUALITY)
    found.share("blocky_share", "blocky", lambda one: (one.facts.blockiness or 0.0) >= BLOCKY)
    noise = np.array([one.facts.noise for one in found.readings])
    found.facts["noise_median"] = float(np.median(noise))
    found.share("noisy_share", "noisy", lambda one: one.facts.noise >= NOISY)
    low, high = np.quantile(noise, [0.1, 0.9])
    found.facts["noise_spread"] = float((high + 0.05) / (low + 0.05))
    edges = [one.facts.edge_sigma for one in found.readings if one.facts.edge_sigma is not None]
    if edges:
        found.facts["edge_sigma_median"] = float(np.median(edges))
        found.share("soft_share", "soft", lambda one: (one.facts.edge_sigma or 0.0) > SOFT)
    else:
        found.unmeasured |= dict.fromkeys(("edge_sigma_median", "soft_share"), "no picture has edges enough.")
    _photographs(found)


def _photographs(found: _Found) -> None:
    """Strangers in a set of flat art: little of them is flat, and they have grain."""
    flat = float(np.median([one.facts.flat_fraction for one in found.readings]))
    if flat < FLAT_SET:
        found.unmeasured["photo_share"] = (
            f"photographs stand out in a set of flat pictures only; half of these are flat in {flat:.0%} or less."
        )
        return
    found.share(
        "photo_share",
        "photo",
        lambda one: one.facts.flat_fraction <= PHOTO_FLAT * flat and one.facts.noise >= PHOTO_NOISE,
    )


def _judged(found: _Found, senses: Senses) -> None:
    pictures = [one.small for one in found.readings]
    if senses.reader is None:
        found.unmeasured["lettering_share"] = senses.why_absent("reader")
    else:
        seen = senses.reader.read(pictures)
        lettered = {
            one.facts.name
            for one, boxes in zip(found.readings, seen, strict=True)
            if lettering_of(boxes, size=(one.small.shape[0], one.small.shape[1]))
        }
        found.share("lettering_share", "lettering", lambda one: one.facts.name in lettered)
    labels = sorted(PARTS.keys() & senses.detector.counts_parts) if senses.detector is not None else []
    if senses.detector is None or not labels:
        why = senses.why_absent("detector") if senses.detector is None else "the detector counts no parts of figures."
        found.unmeasured["part_error_share"] = why
        return
    least = senses.detector.thresholds["presence"]
    wrong = {
        one.facts.name
        for one, seen_here in zip(found.readings, senses.detector.detect(pictures, labels=labels), strict=True)
        if any(d.score >= least and d.count is not None and d.count != PARTS[d.label] for d in seen_here)
    }
    found.share("part_error_share", "wrong-parts", lambda one: one.facts.name in wrong)
