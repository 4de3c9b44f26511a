"""Reads a prompt of the mini world back into a scene: the inverse of `captions.caption`, with the layout drawn anew."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lorabench.world.captions import INVERSE, NUMBERS, plural
from lorabench.world.scene import COLOURS, FIGURES, GROUNDS, POSITIONS, SHAPES, Kind, Relation, Scene, sample_scene

if TYPE_CHECKING:
    import numpy as np

_COLOUR: Final = "|".join(COLOURS)
_NOUN: Final = "|".join((*SHAPES, *FIGURES))
_PLURALS: Final = {plural(shape): shape for shape in SHAPES}
_NUMBERS: Final = {word: number for number, word in NUMBERS.items()}
_DIRECT: Final[dict[str, Relation]] = {"left of": "left of", "above": "above"}
_INVERTED: Final[dict[str, Relation]] = {INVERSE[name]: relation for name, relation in _DIRECT.items()}

_STYLE: Final = re.compile(r"^an? (?:\w+ )*?(?:photo|painting|illustration|drawing|picture) of ")
_GROUND: Final = re.compile(rf" on an? (?P<ground>{'|'.join(GROUNDS)}) background$")
_COUNT: Final = re.compile(rf"(?P<number>{'|'.join(_NUMBERS)}) (?P<colour>{_COLOUR}) (?P<things>{'|'.join(_PLURALS)})")
_TWO: Final = re.compile(
    rf"an? (?P<colour>{_COLOUR}) (?P<noun>{_NOUN}) (?P<relation>left of|right of|above|below|and) "
    rf"an? (?P<colour2>{_COLOUR}) (?P<noun2>{_NOUN})"
)
_ONE: Final = re.compile(
    rf"an? (?P<colour>{_COLOUR}) (?P<noun>{_NOUN})(?: at the (?P<position>{'|'.join(POSITIONS)}))?$"
)


def read_prompt(prompt: str, *, rng: np.random.Generator) -> Scene | None:
    """A scene that a prompt is true of.

    >>> import numpy as np
    >>> scene = read_prompt("a photo of a red circle right of a blue cross", rng=np.random.default_rng(0))
    >>> [thing.colour for thing in scene.objects], scene.relation
    (['blue', 'red'], 'left of')

    Args:
        prompt: A prompt of the grammar in `captions`, with any style phrase.
        rng: Draws what the prompt leaves open: jitter, sizes, and the ground if none is named.

    Returns:
        The scene, or None where the prompt is not in the grammar.
    """
    text = " ".join(prompt.lower().split()).strip(" .,")
    ground = match["ground"] if (match := _GROUND.search(text)) else None
    scene = _read_content(_STYLE.sub("", _GROUND.sub("", text)), rng=rng)
    return replace(scene, ground=ground) if scene is not None and ground is not None else scene


def _read_content(text: str, *, rng: np.random.Generator) -> Scene | None:
    if match := _COUNT.fullmatch(text):
        looks = [(match["colour"], _PLURALS[match["things"]])] * _NUMBERS[match["number"]]
        return _scene("count", looks, rng=rng)
    if match := _TWO.fullmatch(text):
        looks = [(match["colour"], match["noun"]), (match["colour2"], match["noun2"])]
        return _two(match["relation"], looks, rng=rng)
    if match := _ONE.fullmatch(text):
        look = (match["colour"], match["noun"])
        if match["noun"] in FIGURES:
            return _scene("hand" if match["noun"] == "hand" else "person", [look], rng=rng)
        kind: Kind = "position" if match["position"] else "single"
        return _scene(kind, [look], rng=rng, position=match["position"])
    return None


def _two(word: str, looks: list[tuple[str, str]], *, rng: np.random.Generator) -> Scene:
    if word == "and":
        return _scene("and", looks, rng=rng)
    if word in _INVERTED:
        return _scene("pair", looks[::-1], rng=rng, relation=_INVERTED[word])
    return _scene("pair", looks, rng=rng, relation=_DIRECT[word])


def _scene(
    kind: Kind,
    looks: list[tuple[str, str]],
    *,
    rng: np.random.Generator,
    relation: Relation | None = None,
    position: str | None = None,
) -> Scene:
    """Draw layouts of the kind until one has the structure, then give its objects their looks."""
    while True:
        scene = sample_scene(kind, rng=rng, pairs="any")
        if len(scene.objects) == len(looks) and scene.relation == relation and scene.position == position:
            things = (replace(thing, colour=c, shape=s) for thing, (c, s) in zip(scene.objects, looks, strict=True))
            return replace(scene, objects=tuple(things))
