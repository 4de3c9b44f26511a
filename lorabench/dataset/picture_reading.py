"""One training picture as numbers: everything that needs no other picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.dataset.captions import CaptionReading, read_caption
from lorabench.dataset.color_words import hue_histogram, prominent_classes, shown_classes
from lorabench.dataset.compression import blockiness
from lorabench.dataset.source_pictures import SourcePicture
from lorabench.metrics.color import luma
from lorabench.metrics.palette import palette_embedding
from lorabench.metrics.sharpness import edge_sigma
from lorabench.metrics.structure import structure_descriptor
from lorabench.metrics.texture import flat_fraction, smooth_zone_sigma
from lorabench.records.audit import AuditedPicture
from lorabench.storage.pictures import pixel_digest

Vector = NDArray[Any]

N_FAMILIES: Final = 12
LEAST_CONTRAST: Final = 0.01
"""Squared grey levels per pixel under which a picture has no contrast between neighbours."""


@dataclass(frozen=True, slots=True)
class PictureReading:
    """What is read of one picture.

    Attributes:
        facts: What the audit keeps of it, before it is seen beside the others.
        caption: Its caption, taken apart.
        mirrored_sha256: Digest of the mirrored pixels.
        structure: Structure descriptor.
        mirrored_structure: Of the mirrored picture.
        palette: Palette embedding.
        hues: Shares of 12 hue families.
        shown: Classes of colour that it shows.
        prominent: Classes of hue that are worth naming.
        fine_share: Detail in the finest octave, as a share of all detail; None for a picture without any.
        small: At most 512 pixels long, for judges.
    """

    facts: AuditedPicture
    caption: CaptionReading | None
    mirrored_sha256: str
    structure: Vector
    mirrored_structure: Vector
    palette: Vector
    hues: Vector
    shown: frozenset[str]
    prominent: frozenset[str]
    fine_share: float | None
    small: NDArray[np.uint8]


def read_picture(source: SourcePicture, *, trigger: str | None) -> PictureReading:
    """Read one picture.

    Noise, edges, blocks and detail are read in its own size, the rest at 512 pixels.
    """
    small = source.small
    mirrored = np.ascontiguousarray(small[:, ::-1])
    edge = edge_sigma(source.pixels)
    height, width = source.size
    facts = AuditedPicture(
        name=source.name,
        sha256=source.sha256,
        height=height,
        width=width,
        file_format=source.file_format,
        jpeg_quality=source.jpeg_quality,
        blockiness=blockiness(source.pixels),
        noise=smooth_zone_sigma(source.pixels),
        flat_fraction=flat_fraction(small),
        edge_sigma=edge if isinstance(edge, float) else None,
        composition_group=0,
        caption=source.caption,
    )
    return PictureReading(
        facts=facts,
        caption=None if source.caption is None else read_caption(source.caption, trigger=trigger),
        mirrored_sha256=pixel_digest(np.ascontiguousarray(source.pixels[:, ::-1])),
        structure=structure_descriptor(small),
        mirrored_structure=structure_descriptor(mirrored),
        palette=palette_embedding(small),
        hues=hue_histogram(small, n=N_FAMILIES),
        shown=shown_classes(small),
        prominent=prominent_classes(small),
        fine_share=fine_share(source.pixels),
        small=small,
    )


def fine_share(picture: NDArray[np.uint8]) -> float | None:
    """How much of the contrast between neighbouring pixels lies in the finest octave.

    A picture that was enlarged twice or more, or that is out of focus, has next to none there.

    Args:
        picture: RGB, uint8, (height, width, 3).

    Returns:
        Root of the share, 0 to 1, of that contrast's energy at half the finest frequency and above, along either side;
        None for a picture without contrast.
    """
    from scipy.fft import dctn

    energy = np.square(dctn(luma(picture), norm="ortho"))  # (h, w)
    down, across = (np.arange(edge) / edge for edge in energy.shape)
    slopes = np.sin(np.pi / 2 * down)[:, None] ** 2 + np.sin(np.pi / 2 * across)[None, :] ** 2
    contrast = energy * slopes
    total = float(contrast.sum())
    if total < LEAST_CONTRAST * energy.size:
        return None
    fine = np.maximum(down[:, None], across[None, :]) >= 0.5
    return float(np.sqrt(contrast[fine].sum() / total))
