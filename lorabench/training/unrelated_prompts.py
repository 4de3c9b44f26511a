"""Prompts that no style or subject LoRA has a reason to answer otherwise than its base: what the drift is read on."""

from __future__ import annotations

from typing import Final

UNRELATED_PROMPTS: Final = (
    "a red bicycle leaning against a brick wall",
    "two cups of coffee on a wooden table, seen from above",
    "a lighthouse on a cliff at dusk",
    "an old man reading a newspaper on a park bench",
    "three green apples in a glass bowl",
    "a blue car parked in front of a bakery",
    "a dog running along a beach",
    "a bowl of noodle soup with chopsticks",
    "a mountain lake in the early morning",
    "a woman with an umbrella crossing a street",
    "a stack of books beside a desk lamp",
    "a train arriving at an empty station",
    "a black cat sitting on a white chair",
    "a market stall with oranges and lemons",
    "an open window with a view of roofs",
    "a wooden boat on a calm river",
    "a child flying a yellow kite",
    "a kitchen with copper pans on the wall",
    "a snow covered path between pine trees",
    "a violin lying on a velvet cloth",
    "an airport hall full of people",
    "a clock tower above a village square",
    "a bridge over a narrow canal",
    "a slice of chocolate cake on a plate",
    "a horse standing behind a fence",
    "a laptop and a pair of glasses on a desk",
    "a field of sunflowers under a cloudy sky",
    "an empty classroom with a green blackboard",
    "a glass of water next to a pitcher",
    "a crane beside a house that is being built",
    "a shelf with five small ceramic vases",
    "a desert road that leads to the horizon",
)
