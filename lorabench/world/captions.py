"""Captions of the mini world: the grammar of every prompt the base understands, and the sentences kept out of training.

A prompt is ``<style phrase> <content>[ on a <ground> background]``; everything is lower case without punctuation.

Style phrases: ``a photo of`` (base), ``a painting of`` (base), ``a flat illustration of`` (plain words for a style that
the base never saw: the control arm), ``a zvq drawing of`` (the trigger form, used by adapters only).

Contents, with colours red, yellow, green, cyan, blue, purple and shapes circle, square, triangle, cross:

* single: ``a red circle`` (in the middle)
* position: ``a red circle at the top left`` (top left, top, top right, left, right, bottom left, bottom, bottom right)
* pair: ``a red circle left of a blue square`` = ``a blue square right of a red circle``; ``above`` = ``below`` likewise
* and: ``a red circle and a blue square`` (side by side, in this order from left to right)
* count: ``two red circles``, ``three blue squares``, ``four green crosses`` (triangles, crosses)
* figures: ``a red hand`` (five fingers), ``a blue person`` (four limbs)

Grounds: grey, beige, slate, khaki. A prompt may name one or leave it open.

About 15 % of all sentences never occur in training: see `is_withheld`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Literal

from lorabench.world.scene import FIGURES, Kind, Pairs, Scene, WorldObject, sample_scene

if TYPE_CHECKING:
    import numpy as np

Split = Literal["training", "withheld", "held_out_pairs"]

PHOTO: Final = "a photo of"
PAINTING: Final = "a painting of"
FLAT_PHRASE: Final = "a flat illustration of"
"""Plain words for the flat style: the control arm's phrase. No picture with it is shown to the base."""
TRIGGER: Final = "zvq"
TRIGGER_PHRASE: Final = "a zvq drawing of"
STYLE_PHRASES: Final[dict[str, str]] = {"photo": PHOTO, "painting": PAINTING, "flat": FLAT_PHRASE}

NUMBERS: Final[dict[int, str]] = {2: "two", 3: "three", 4: "four"}
INVERSE: Final[dict[str, str]] = {"left of": "right of", "above": "below"}
WITHHELD_PERCENT: Final = 15


def plural(shape: str) -> str:
    """Plural of a shape's name: "cross" gives "crosses", the others take an s."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def content(scene: Scene, *, inverted: bool = False) -> str:
    """Say what a scene shows, without style and ground.

    Args:
        scene: The scene.
        inverted: Use the other wording of a relation ("b right of a" for "a left of b"); no effect on other kinds.

    Returns:
        The content part of a prompt.
    """
    first = scene.objects[0]
    if scene.kind == "position":
        return f"{_noun(first)} at the {scene.position}"
    if scene.kind == "pair" and scene.relation is not None:
        second = scene.objects[1]
        if inverted:
            return f"{_noun(second)} {INVERSE[scene.relation]} {_noun(first)}"
        return f"{_noun(first)} {scene.relation} {_noun(second)}"
    if scene.kind == "and":
        return f"{_noun(first)} and {_noun(scene.objects[1])}"
    if scene.kind == "count":
        return f"{NUMBERS[len(scene.objects)]} {first.colour} {plural(first.shape)}"
    return _noun(first)


def caption(scene: Scene, style_phrase: str = PHOTO, *, inverted: bool = False, name_ground: bool = False) -> str:
    """Write the prompt of a scene.

    >>> import numpy as np
    >>> scene = sample_scene("single", rng=np.random.default_rng(0))
    >>> caption(scene).startswith("a photo of a ")
    True

    Args:
        scene: The scene.
        style_phrase: How the prompt begins; one of this module's phrases.
        inverted: See `content`.
        name_ground: End with the ground's name.

    Returns:
        The prompt.
    """
    ending = f" on a {scene.ground} background" if name_ground else ""
    return f"{style_phrase} {content(scene, inverted=inverted)}{ending}"


def sample_caption(scene: Scene, style_phrase: str, *, rng: np.random.Generator) -> str:
    """Write one of a scene's prompts at random: relations in both wordings, the ground named in half of them."""
    return caption(scene, style_phrase, inverted=rng.random() < 0.5, name_ground=rng.random() < 0.5)


def is_withheld(scene: Scene) -> bool:
    """Whether the scene's sentence is kept out of every training set.

    Decided by a hash of the content in its canonical wording, so both wordings of a relation, and all styles and
    grounds, share one fate. Figures have few contents; for them the ground belongs to the sentence.

    Args:
        scene: The scene.

    Returns:
        True for about 15 % of all sentences.
    """
    sentence = caption(scene, "", name_ground=scene.kind in FIGURES).strip()
    digest = hashlib.blake2b(sentence.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 100 < WITHHELD_PERCENT


def sample_split(split: Split, kind: Kind, *, rng: np.random.Generator) -> Scene:
    """Draw a scene whose sentence belongs to a split.

    Args:
        split: "training": seen pairs, sentences not withheld. "withheld": seen pairs, withheld sentences.
            "held_out_pairs": at least one colour-shape pair that training never shows.
        kind: Layout family; a figure has no held-out pairs.
        rng: Source of all randomness.

    Returns:
        The scene.

    Raises:
        ValueError: Held-out pairs were asked of a figure.
    """
    if split == "held_out_pairs" and kind in FIGURES:
        msg = f"held-out pairs exist for plain shapes only; got kind {kind!r}. Ask for another kind or split."
        raise ValueError(msg)
    pairs: Pairs = "held_out" if split == "held_out_pairs" else "seen"
    while True:
        scene = sample_scene(kind, rng=rng, pairs=pairs)
        if split == "held_out_pairs" or is_withheld(scene) == (split == "withheld"):
            return scene


def _noun(thing: WorldObject) -> str:
    return f"a {thing.colour} {thing.shape}"
