"""What holds for every record: frozen, closed, finite, loss-free in JSON, and named by its content."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from pathlib import Path

import pytest
from pydantic import ValidationError

import lorabench.records
from lorabench.records.comparison import Comparison
from lorabench.records.config import Config
from lorabench.records.measurement import Measurement
from lorabench.records.plan import Arm, Cell, GenerationSettings, StylePhrases
from lorabench.records.record import Record, digest_of
from lorabench.records.suite import Case, Foil, PaletteCheck, RelationCheck, Suite, fill_style


def all_records() -> list[type[Record]]:
    found: dict[str, type[Record]] = {}
    for module in pkgutil.iter_modules(lorabench.records.__path__):
        for _, item in inspect.getmembers(importlib.import_module(f"lorabench.records.{module.name}"), inspect.isclass):
            if issubclass(item, Record):
                found[item.__name__] = item
    return [found[name] for name in sorted(found)]


RECORDS = all_records()
CELL = Cell(arm=Arm.CANDIDATE, case="spatial-001", seed=7, scale=1.0)
SUITE = Suite(
    name="mine",
    licence="CC0-1.0",
    seeds=(1, 2),
    cases=(
        Case(
            id="a",
            family="spatial",
            prompt="{style} a cat left of a dog",
            checks=(RelationCheck(subject="cat", relation="left of", object="dog"),),
            foils=(Foil(kind="relation", prompt="{style} a cat right of a dog"),),
        ),
    ),
)
EXAMPLES = [CELL, SUITE, GenerationSettings(), StylePhrases(trigger="zvq"), Config(suites=(Path("spatial"),))]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_record_is_frozen_closed_finite_and_documented(record: type[Record]) -> None:
    assert record.model_config["frozen"] is True
    assert record.model_config["extra"] == "forbid"
    assert record.model_config["allow_inf_nan"] is False
    assert record.__doc__


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_record_has_a_json_schema_that_is_closed(record: type[Record]) -> None:
    assert record.model_json_schema()["additionalProperties"] is False


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_json_gives_the_record_back(example: Record) -> None:
    again = type(example).model_validate_json(example.model_dump_json())

    assert again == example
    assert again.content_digest() == example.content_digest()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_record_never_changes(example: Record) -> None:
    name = next(iter(type(example).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(example, name, getattr(example, name))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_unknown_key_is_refused(example: Record) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        type(example).model_validate({**example.model_dump(), "surprise": 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_number_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Measurement(cell=CELL, metric="broken_rate", metric_version=1, value=value)


def test_digest_is_of_the_content_not_of_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    with pytest.raises(ValueError, match="Out of range float values"):
        digest_of({"a": float("nan")})


def test_digest_does_not_move_between_versions() -> None:
    assert digest_of(json.loads('{"é": "🐈", "n": 1.5}')) == (
        "dac8cc5b38f5610a94cd8e38f4ab57413216079a6d874751c85a2843fb1412ea"
    )


@pytest.mark.parametrize("bad", ["A", "ä", "-a", "", "a b", "a/b", "x" * 121])
def test_id_is_safe_in_file_names_and_node_ids(bad: str) -> None:
    with pytest.raises(ValidationError):
        Case(id=bad, family="spatial", prompt="a cat")


@pytest.mark.parametrize("prompt", ["", "x" * 4001])
def test_prompt_has_a_length(prompt: str) -> None:
    with pytest.raises(ValidationError):
        Case(id="a", family="spatial", prompt=prompt)


def test_palette_check_states_exactly_one_thing() -> None:
    for fields in ({}, {"hues": ((0, 10),), "monochrome": "grey"}):
        with pytest.raises(ValidationError, match="exactly one of hues, monochrome, colors"):
            PaletteCheck.model_validate(fields)


def test_suite_refuses_repeated_ids_and_seeds_and_emptiness() -> None:
    data = SUITE.model_dump()
    with pytest.raises(ValidationError, match="case ids must be unique; found a more than once"):
        Suite.model_validate({**data, "cases": data["cases"] * 2})
    with pytest.raises(ValidationError, match="seeds must be unique; found 3 more than once"):
        Suite.model_validate({**data, "seeds": (3, 3)})
    for name in ("cases", "seeds"):
        with pytest.raises(ValidationError, match="at least 1 item"):
            Suite.model_validate({**data, name: ()})


@pytest.mark.parametrize(
    ("template", "style", "text"),
    [
        ("{style} a cat", "a drawing of", "a drawing of a cat"),
        ("{style} a cat", "", "a cat"),
        ("a cat, {style}", "", "a cat"),
        ("a cat, {style}, at night", "", "a cat, at night"),
        ("a cat, {style}, at night", " in ink ", "a cat, in ink, at night"),
        ("{style}, a cat", "", "a cat"),
        ("a cat", "ignored", "a cat"),
    ],
)
def test_empty_style_leaves_no_debris(template: str, style: str, text: str) -> None:
    assert fill_style(template, style) == text


def test_cell_key_is_short_and_stable() -> None:
    assert CELL.key == "L1/spatial-001/seed7/x1"
    assert Cell(arm=Arm.BASE, case="a", seed=0).key == "B0/a/seed0/x0"


def test_style_phrase_belongs_to_its_arm() -> None:
    phrases = StylePhrases(trigger="t", plain="p", neutral="n")

    assert [phrases.of(arm) for arm in Arm] == ["n", "p", "t", "n"]
    assert [arm.uses_adapter for arm in Arm] == [False, False, True, True]


def test_orientation_turns_a_metric_so_that_higher_is_better() -> None:
    fields = {
        "metric": "m", "metric_version": 1, "unit": "u", "candidate_arm": Arm.CANDIDATE, "reference": "B1",
        "family": None, "estimate": 0.2, "low": 0.1, "high": 0.4, "confidence_level": 0.95, "p_harm": 0.5,
        "n_cases": 3, "n_pairs": 6, "method": "t",
    }  # fmt: skip

    assert Comparison(**fields, higher_is_better=True).oriented() == (0.2, 0.1, 0.4)
    assert Comparison(**fields, higher_is_better=False).oriented() == (-0.2, -0.4, -0.1)
