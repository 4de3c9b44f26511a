"""What is true of a folder of training pictures and captions. Facts only: what they mean is the diagnosis's."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, FiniteFloat, NonNegativeFloat, NonNegativeInt, PositiveInt

from lorabench.records.record import Identifier, Record, Sha256

AUDIT_SCHEMA_VERSION: Final = 1

AUDIT_FACTS: Final[dict[str, tuple[str, str]]] = {
    "n_pictures": ("pictures", "pictures in the folder"),
    "n_different": ("pictures", "pictures left when duplicates count once"),
    "duplicate_share": ("share", "pictures that an earlier one repeats, also mirrored, recompressed or nearly so"),
    "small_share": ("share", "pictures with fewer pixels than the training size asks for"),
    "smallest_edge": ("pixels", "shortest edge of the smallest picture"),
    "upscaled_share": ("share", "pictures without detail in the finest octave: enlarged, or out of focus"),
    "n_aspects": ("shapes", "different aspect ratios, to a tenth of an octave"),
    "extreme_aspect_share": ("share", "pictures more than twice as long as wide: a square crop loses half"),
    "composition_distance": ("distance", "mean distance of two pictures in composition, 0 to 2"),
    "composition_cluster_share": ("share", "pictures in the largest group of like compositions"),
    "hue_families": ("families", "of 12 hue families, those that make up 3 % of the colour or more"),
    "hue_largest_share": ("share", "colour that lies in the two largest neighbouring hue families"),
    "palette_spread": ("OKLab", "mean distance of two pictures in palette"),
    "caption_missing_share": ("share", "pictures without a caption"),
    "caption_trigger_share": ("share", "captions that hold the trigger"),
    "caption_words": ("words", "words in a caption, median, the trigger left out"),
    "caption_content_words": ("words", "words in a caption that say something, median, the trigger left out"),
    "caption_vague_share": ("share", "captions with fewer than two words that say something"),
    "caption_identical_share": ("share", "captions that say the same as an earlier one"),
    "caption_color_share": ("share", "captions with a colour word"),
    "caption_vocabulary": ("words", "different words that say something"),
    "caption_constant_words": ("words", "words outside the trigger that stand in every caption"),
    "color_agreement": ("share", "colours named in captions that the picture shows"),
    "color_agreement_chance": ("share", "the same with captions dealt to other pictures"),
    "color_unnamed_share": ("share", "colours of a picture that its caption does not name, mean"),
    "lettering_share": ("share", "pictures with readable lettering"),
    "jpeg_share": ("share", "pictures stored as JPEG"),
    "jpeg_low_share": ("share", "JPEG pictures saved below quality 80"),
    "blocky_share": ("share", "pictures with traces of JPEG's 8 x 8 grid, whatever their file format"),
    "noise_median": ("grey levels", "smooth-zone sigma, median"),
    "noisy_share": ("share", "pictures with visible noise where they are smooth"),
    "noise_spread": ("ratio", "90th over 10th percentile of the smooth-zone sigma"),
    "edge_sigma_median": ("pixels", "blur of edges, median"),
    "soft_share": ("share", "pictures whose edges are wider than two pixels"),
    "photo_share": ("share", "pictures with photographic texture in a set that is flat otherwise"),
    "part_error_share": ("share", "pictures with a figure that has the wrong number of parts"),
}
"""Every fact an audit can hold, with its unit and meaning. Shares are 0 to 1."""


class AuditedPicture(Record):
    """One training picture."""

    name: str
    sha256: Sha256
    """Of its pixels as they are in the file."""
    height: PositiveInt
    width: PositiveInt
    file_format: str
    jpeg_quality: NonNegativeInt | None = None
    """Estimated from the quantisation table."""
    blockiness: FiniteFloat | None = None
    """How much emptier blocks are on one 8 x 8 grid than on others: near 0 without JPEG, up to 0.6."""
    noise: NonNegativeFloat
    """Smooth-zone sigma in grey levels."""
    flat_fraction: NonNegativeFloat
    edge_sigma: NonNegativeFloat | None = None
    composition_group: NonNegativeInt
    """Pictures of one number are composed alike; 0 is the largest group."""
    marks: tuple[Identifier, ...] = ()
    """What is peculiar: `blocky`, `noisy`, `photo`, `small`, `upscaled`, `soft`, `lettering`, `vague-caption`, ..."""
    caption: str | None = None


class Duplicate(Record):
    """A picture that repeats an earlier one."""

    name: str
    of: str
    how: Literal["pixels", "mirrored", "near", "near-mirrored"]
    distance: NonNegativeFloat
    """0 for equal pixels; else in the descriptor that found it."""
    by: Literal["pixels", "structure-and-palette", "lpips"]


class Audit(Record):
    """Everything that was found out about a training set."""

    schema_version: Literal[1] = AUDIT_SCHEMA_VERSION
    folder: str
    trigger: str | None = None
    training_size: PositiveInt | None = None
    """Edge in pixels that the pictures were trained at, if stated."""
    pictures: tuple[AuditedPicture, ...]
    duplicates: tuple[Duplicate, ...] = ()
    facts: dict[Identifier, FiniteFloat]
    """Name, one of `AUDIT_FACTS`, to its value."""
    unmeasured: dict[Identifier, str] = Field(default_factory=dict)
    """Name to the reason why there is no value."""
    constant_words: tuple[str, ...] = ()
    """Words that stand in every caption."""
