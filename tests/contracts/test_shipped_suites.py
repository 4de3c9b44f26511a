"""What every shipped suite must hold: format, balance, foils, held-out sentences, and care in the wording."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lorabench.metrics.subject_slices import SUBJECTS, slices_of
from lorabench.metrics.training_palette import is_neutral
from lorabench.records.plan import StylePhrases
from lorabench.records.suite import (
    STYLE_SLOT,
    AnatomyCheck,
    Case,
    ColorCheck,
    CountCheck,
    ExcludeCheck,
    NoExtraCheck,
    ObjectCheck,
    PaletteCheck,
    RelationCheck,
)
from lorabench.storage.heldout import check_held_out, word_set_similarity
from lorabench.storage.schemas import schema_text, schemas
from lorabench.storage.shipped import shipped_suite_names, shipped_suite_path
from lorabench.storage.suite_files import LoadedSuite, read_suite
from lorabench.storage.yaml_reading import decode, parse
from lorabench.world.captions import FLAT_PHRASE, PHOTO, TRIGGER_PHRASE, caption, sample_split
from lorabench.world.drawing import draw
from lorabench.world.scene import COLOURS, sample_scene

ROOT = Path(__file__).resolve().parents[2]
NAMES = shipped_suite_names()
REAL = ("anatomy", "attribute_binding", "multi_subject", "spatial")
HAND_MADE = (*REAL, "screen", "subject_diversity")
WORLD = tuple(name for name in NAMES if name.startswith("world/"))
DATASETS = ROOT / "fixtures" / "datasets"
WORLD_STYLE = StylePhrases(trigger=TRIGGER_PHRASE, plain=FLAT_PHRASE, neutral=PHOTO)
RELATIONS = ("left of", "right of", "above", "below")
IRREGULAR = {
    "person": "people",
    "child": "children",
    "woman": "women",
    "man": "men",
    "wolf": "wolves",
    "leaf": "leaves",
}


@cache
def loaded(name: str) -> LoadedSuite:
    return read_suite(shipped_suite_path(name))


def text_of(case: Case) -> str:
    return case.render("").casefold()


def labels_of(case: Case) -> set[str]:
    labels: set[str] = set()
    for check in case.checks:
        match check:
            case ObjectCheck() | ColorCheck() | CountCheck() | ExcludeCheck() | AnatomyCheck():
                labels.add(check.label)
            case RelationCheck():
                labels |= {check.subject, check.object}
            case NoExtraCheck():
                labels |= set(check.allowed)
    return labels


def colors_of(case: Case) -> set[str]:
    found: set[str | None] = set()
    for check in case.checks:
        if isinstance(check, ObjectCheck | ColorCheck | CountCheck):
            found.add(check.color)
        elif isinstance(check, RelationCheck):
            found |= {check.subject_color, check.object_color}
    return {color for color in found if color is not None}


def is_named(label: str, text: str) -> bool:
    """Whether the prompt says the class, in singular or plural."""
    plurals = {label, f"{label}s", f"{label}es", re.sub("y$", "ies", label), IRREGULAR.get(label, label)}
    return any(re.search(rf"(?<!\w){re.escape(form)}(?!\w)", text) for form in plurals)


@pytest.mark.parametrize("name", NAMES)
def test_suite_is_valid_by_the_published_schema_too(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    data = parse(decode(shipped_suite_path(name).read_bytes())).data

    jsonschema.Draft202012Validator(schemas()["suite"]).validate(data)


@pytest.mark.parametrize("name", list(schemas()))
def test_committed_schema_is_up_to_date(name: str) -> None:
    committed = (ROOT / "docs" / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")

    assert committed == schema_text(name), "run fixtures/build/write_schemas.py"


@pytest.mark.parametrize("name", list(schemas()))
def test_schema_is_a_schema_with_an_id(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")

    jsonschema.Draft202012Validator.check_schema(schemas()[name])
    assert schemas()[name]["$id"] == f"urn:lorabench:schema:{name}:1"


def test_schema_refuses_what_the_reader_refuses() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schemas()["suite"])
    data = json.loads(loaded("spatial").suite.model_dump_json())
    assert validator.is_valid(data)

    assert not validator.is_valid({**data, "familly": "x"})
    assert not validator.is_valid({**data, "seeds": []})


@pytest.mark.parametrize("name", NAMES)
def test_suite_says_its_licence_and_common_seeds(name: str) -> None:
    found = loaded(name)

    assert "Licence" in "".join(shipped_suite_path(name).read_text(encoding="utf-8").splitlines()[:3])
    assert found.suite.licence in {"CC0-1.0", "Apache-2.0"}
    assert found.suite.seeds[:2] == (1103, 2207)
    assert list(found.line_of) == [case.id for case in found.suite.cases]


@pytest.mark.parametrize("name", NAMES)
def test_every_case_has_a_slot_checks_and_foils_that_differ(name: str) -> None:
    for case in loaded(name).suite.cases:
        assert case.prompt.count(STYLE_SLOT) == 1, case.id
        assert case.checks, case.id
        assert case.foils, case.id
        texts = [case.prompt, *(foil.prompt for foil in case.foils)]
        assert len(set(texts)) == len(texts), case.id
        assert all(foil.prompt.count(STYLE_SLOT) == 1 for foil in case.foils), case.id


@pytest.mark.parametrize("name", NAMES)
def test_checks_speak_of_nothing_that_the_prompt_does_not_name(name: str) -> None:
    for case in loaded(name).suite.cases:
        unnamed = {label for label in labels_of(case) if not is_named(label, text_of(case))}
        assert not unnamed, (case.id, unnamed)
        assert all(color in text_of(case) for color in colors_of(case)), case.id


@pytest.mark.parametrize("name", NAMES)
def test_counts_and_colours_of_one_case_do_not_contradict_each_other(name: str) -> None:
    for case in loaded(name).suite.cases:
        colors = [check.label for check in case.checks if isinstance(check, ColorCheck)]
        assert len(set(colors)) == len(colors), f"{case.id}: two colours asked of the same best detection"
        counts = [check.label for check in case.checks if isinstance(check, CountCheck)]
        assert len(set(counts)) == len(counts), case.id


@pytest.mark.parametrize("name", NAMES)
def test_relation_foils_state_the_opposite_relation(name: str) -> None:
    for case in loaded(name).suite.cases:
        wanted = [check.relation for check in case.checks if isinstance(check, RelationCheck)]
        if case.family != "spatial":
            continue
        assert len(wanted) == 1, case.id
        opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}[wanted[0]]
        assert re.search(rf"\b{wanted[0]}\b", text_of(case)), case.id
        foils = [foil.prompt for foil in case.foils if foil.kind == "relation"]
        assert [foil for foil in foils if re.search(rf"\b{opposite}\b", foil)] == foils != [], case.id


@pytest.mark.parametrize("name", HAND_MADE)
def test_no_two_prompts_of_a_hand_made_suite_are_near_duplicates(name: str) -> None:
    cases = loaded(name).suite.cases
    for one, other in itertools.combinations(cases, 2):
        assert word_set_similarity(one.render(""), other.render("")) < 0.9, (one.id, other.id)


def test_no_prompt_stands_in_two_hand_made_suites() -> None:
    prompts = Counter(text_of(case) for name in HAND_MADE for case in loaded(name).suite.cases)

    assert max(prompts.values()) == 1


@pytest.mark.parametrize("name", REAL)
def test_full_suite_has_sixty_cases_of_its_family_on_four_seeds(name: str) -> None:
    suite = loaded(name).suite

    assert suite.tier == "full"
    assert len(suite.cases) >= 60
    assert suite.families == (name,)
    assert len(suite.seeds) == 4


@pytest.mark.parametrize("name", ["spatial", "world/spatial"])
def test_relations_are_balanced(name: str) -> None:
    wanted = Counter(
        check.relation for case in loaded(name).suite.cases for check in case.checks if isinstance(check, RelationCheck)
    )

    assert set(wanted) == set(RELATIONS)
    assert max(wanted.values()) == min(wanted.values())


def test_screen_has_twelve_prompts_of_each_of_eight_families() -> None:
    suite = loaded("screen").suite

    assert suite.tier == "screen"
    assert Counter(case.family for case in suite.cases) == dict.fromkeys(
        (
            "spatial", "multi_subject", "attribute_binding", "anatomy",
            "counting", "long_description", "palette", "sparse_scene",
        ),
        12,
    )  # fmt: skip


def test_subject_diversity_has_eight_prompts_of_each_kind_and_leaves_colours_open() -> None:
    suite = loaded("subject_diversity").suite

    assert {name: len(cases) for name, cases in slices_of(suite).items()} == dict.fromkeys(SUBJECTS, 8)
    assert all(is_neutral(case) for case in suite.cases)


def test_anatomy_covers_hands_faces_and_poses() -> None:
    tags = Counter(tag for case in loaded("anatomy").suite.cases for tag in case.tags)

    assert min(tags[tag] for tag in ("hand", "face", "pose")) >= 12
    assert all(any(isinstance(c, AnatomyCheck) for c in case.checks) for case in loaded("anatomy").suite.cases)


def test_every_subject_of_a_multi_subject_prompt_is_checked() -> None:
    for case in loaded("multi_subject").suite.cases:
        assert len(labels_of(case)) >= 2, case.id


def test_binding_prompts_carry_a_swap_or_a_colour_foil() -> None:
    suite = loaded("attribute_binding").suite
    kinds = [{foil.kind for foil in case.foils} for case in suite.cases]

    assert all(kind & {"swap", "color"} for kind in kinds)
    assert sum("swap" in kind for kind in kinds) >= 55


def test_palette_prompts_repeat_one_content_at_least_five_times() -> None:
    contents = Counter(tag for case in loaded("screen").suite.cases if case.family == "palette" for tag in case.tags)

    assert contents == {"content-lane": 6, "content-fruit": 6}


@cache
def build_script() -> ModuleType:
    path = ROOT / "fixtures" / "build" / "make_world_suites.py"
    spec = importlib.util.spec_from_file_location("make_world_suites", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_world_suites_are_what_their_script_writes() -> None:
    script = build_script()
    made = {f"world/{name}": script.yaml_of(suite) for name, suite in script.suites().items()}

    assert set(made) == set(WORLD)
    for name, text in made.items():
        assert shipped_suite_path(name).read_text(encoding="utf-8") == text, "run fixtures/build/make_world_suites.py"


def test_world_suites_are_read_as_the_records_they_were_made_from() -> None:
    for name, suite in build_script().suites().items():
        assert loaded(f"world/{name}").suite == suite


def test_world_screen_fits_its_budget() -> None:
    suite = loaded("world/screen").suite

    assert suite.tier == "screen"
    assert 90 <= len(suite.cases) * len(suite.seeds) <= 130
    assert len(suite.cases) >= 44  # so that no copies in all cases can be told from one in ten
    assert set(suite.families) == {
        "spatial", "multi_subject", "attribute_binding", "counting", "anatomy", "palette",
    }  # fmt: skip
    assert sum(case.family == "palette" for case in suite.cases) >= 5
    assert len(suite.seeds) >= 2  # the palette index needs seeds within a case


@pytest.mark.parametrize("name", [name for name in WORLD if name != "world/screen"])
def test_world_families_have_forty_cases(name: str) -> None:
    assert len(loaded(name).suite.cases) >= 40


@cache
def trained_sentences() -> dict[str, str]:
    """A sample of what base and adapters may be trained on."""
    rng = np.random.default_rng(7)
    trained = set()
    for kind, index in itertools.product(("pair", "and", "count", "hand", "person"), range(600)):
        scene = sample_split("training", kind, rng=rng)
        named = kind in {"hand", "person"}
        trained.add(caption(scene, TRIGGER_PHRASE, inverted=index % 2 == 1, name_ground=named))
    return {sentence: sentence for sentence in trained}


@pytest.mark.parametrize("name", WORLD)
def test_world_prompts_are_sentences_that_no_training_picture_has_unless_tagged(name: str) -> None:
    suite = loaded(name).suite
    unseen = tuple(case for case in suite.cases if "base-has-seen" not in case.tags)

    check_held_out(suite.model_copy(update={"cases": unseen}), trained_sentences(), style=WORLD_STYLE)


def test_only_figures_are_tagged_as_seen_by_the_base() -> None:
    tagged = {case.family for name in WORLD for case in loaded(name).suite.cases if "base-has-seen" in case.tags}

    assert tagged == {"anatomy"}


@pytest.mark.parametrize("dataset", sorted(path.parent.name for path in DATASETS.glob("*/captions.jsonl")))
@pytest.mark.parametrize("name", WORLD)
def test_world_prompts_are_held_out_from_the_shipped_training_sets(name: str, dataset: str) -> None:
    lines = (DATASETS / dataset / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines if line.strip()]

    captions = {entry["file_name"]: entry["text"] for entry in entries}
    check_held_out(loaded(name).suite, captions, style=WORLD_STYLE)


def oklch(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chroma and hue in degrees of RGB 0..255; Ottosson's OKLab matrices."""
    rgb = pixels.reshape(-1, 3) / 255.0
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_lms = [[0.4122214708, 0.5363325363, 0.0514459929],
              [0.2119034982, 0.6806995451, 0.1073969566],
              [0.0883024619, 0.2817188376, 0.6299787005]]  # fmt: skip
    to_lab = [[1.9779984951, -2.4285922050, 0.4505937099], [0.0259040371, 0.7827717662, -0.8086757660]]
    a, b = (np.cbrt(linear @ np.transpose(to_lms)) @ np.transpose(to_lab)).T
    return np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360


def painted_hue(case: Case) -> tuple[str, tuple[float, float]]:
    """The colour a palette case of the world asks for, and its hue range."""
    palette = next(check for check in case.checks if isinstance(check, PaletteCheck))
    color = next(word for word in case.prompt.split() if word in COLOURS)
    assert palette.hues is not None
    return color, palette.hues[0]


@pytest.mark.parametrize("style", ["flat", "photo", "painting"])
def test_hue_ranges_hold_the_paint_of_drawn_pictures_and_no_other(style: str) -> None:
    hues = dict(painted_hue(case) for case in loaded("world/palette").suite.cases)
    assert len(hues) == 6
    rng = np.random.default_rng(3)
    for color in hues:
        scene = sample_scene("pair", rng=rng)
        scene = replace(scene, objects=tuple(replace(thing, colour=color) for thing in scene.objects))
        chroma, hue = oklch(draw(scene, style, seed=5))
        paint = chroma > 0.09  # grounds and pages stay below
        share = {
            name: float(chroma[paint & (hue >= low) & (hue <= high)].sum() / chroma[paint].sum())
            for name, (low, high) in hues.items()
        }
        assert share.pop(color) > 0.97, color
        assert max(share.values()) < 0.01, color
