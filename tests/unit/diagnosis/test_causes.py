"""The table of causes: well formed, grounded in facts that exist, and each cause found where it is typical."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorabench.diagnosis.adapter_facts import ADAPTER_FACTS
from lorabench.diagnosis.causes import Cause, CausesFileError, read_causes, shipped_causes
from lorabench.diagnosis.course_facts import COURSE_FACTS
from lorabench.diagnosis.facts import RUN_FACTS, Facts
from lorabench.diagnosis.reasoning import diagnose
from lorabench.diagnosis.sweep_facts import SWEEP_FACTS
from lorabench.evaluation.gates import DEFAULT_GATES
from lorabench.evaluation.sweep_gates import SWEEP_GATES
from lorabench.records.audit import AUDIT_FACTS
from lorabench.records.diagnosis import Fact
from lorabench.registry import METRICS

CAUSES = {cause.id: cause for cause in shipped_causes().table.causes}
GATES = [gate.name for gate in (*DEFAULT_GATES, *SWEEP_GATES)]
HEALTHY: dict[str, float | str] = {
    **{f"gate.{name}": "PASS" for name in GATES},
    **{f"harm.{name}": 0.1 for name in GATES},
    "metric.composition_collapse": 0.1,
    "metric.palette_pull": 0.1,
    "metric.part_count_error": 0.0,
    "metric.edge_sigma": 0.02,
    "metric.jpeg_halo": 0.1,
    "change.smooth_zone_sigma": 0.8,
    "change.flat_fraction": 1.5,
    "change.clip_text_similarity": 0.95,
    "run.identical": "no",
    "run.failed_gates": 0.0,
    "run.scale": 1.0,
    "run.style_uptake": 0.9,
    "course.gap_rise": 0.01,
    "course.held_out_rise": 0.0,
    "course.first_harm": 0.1,
    "course.harm_rise": 0.2,
    "course.best_share": 0.9,
    "course.within_share": 1.0,
    "course.style": 0.8,
    "course.style_rise": 0.03,
    "course.last_reason": "healthy",
    "course.not_finite": "no",
    "course.step_time": "usual",
    "course.step_time_ratio": 1.0,
    "sweep.window_place": "inside",
    "sweep.trigger": "works",
    "sweep.no_usable_point": "no",
    "adapter.rank": 16.0,
    "adapter.rank_share": 0.05,
    "adapter.alpha_over_rank": 1.0,
    "adapter.text_encoder": "no",
    "adapter.learning_rate": 1e-4,
    "adapter.training_guidance": 1.0,
    "adapter.views_per_picture": 100.0,
    "adapter.base_fits": "yes",
    "adapter.health": "healthy",
    "adapter.zero_share": 0.0,
    "adapter.relative_norm": 0.05,
    "audit.n_different": 40.0,
    "audit.duplicate_share": 0.0,
    "audit.composition_cluster_share": 0.15,
    "audit.hue_families": 6.0,
    "audit.caption_missing_share": 0.0,
    "audit.caption_trigger_share": 1.0,
    "audit.caption_vague_share": 0.0,
    "audit.caption_identical_share": 0.05,
    "audit.caption_color_share": 0.9,
    "audit.caption_vocabulary": 60.0,
    "audit.color_agreement": 0.97,
    "audit.color_unnamed_share": 0.1,
    "audit.lettering_share": 0.0,
    "audit.blocky_share": 0.0,
    "audit.jpeg_low_share": 0.0,
    "audit.noisy_share": 0.0,
    "audit.soft_share": 0.0,
    "audit.upscaled_share": 0.0,
    "audit.small_share": 0.0,
    "audit.photo_share": 0.0,
    "audit.part_error_share": 0.0,
}
"""All that can be known, of a training that went well."""
COPIES = {"gate.copy": "FAIL", "gate.descriptor-copy": "FAIL", "gate.prompt": "FAIL"}
TYPICAL: dict[str, dict[str, float | str]] = {
    "dead-adapter": {"run.identical": "yes", "adapter.health": "dead", "run.style_uptake": 0.0, "gate.trigger": "FAIL"},
    "meaningless-pictures": {
        "gate.broken": "FAIL",
        "gate.prompt": "FAIL",
        "harm.prompt": 9.0,
        "gate.seed-collapse": "FAIL",
        "gate.prompt-collapse": "FAIL",
        "metric.composition_collapse": 0.95,
        "change.clip_text_similarity": 0.1,
        "change.smooth_zone_sigma": 6.0,
        "gate.foils": "FAIL",
        "gate.anatomy": "FAIL",
        "gate.palette": "FAIL",
        "gate.palette-collapse": "FAIL",
        "course.not_finite": "yes",
    },
    "wrong-base": {"adapter.base_fits": "no", "gate.prompt": "FAIL", "gate.anatomy": "FAIL"},
    "duplicates": {**COPIES, "audit.duplicate_share": 0.4},
    "uniform-pictures": {
        "gate.composition": "FAIL",
        "gate.prompt-collapse": "FAIL",
        "gate.copy": "FAIL",
        "gate.prompt": "FAIL",
        "audit.composition_cluster_share": 0.9,
    },
    "too-few-pictures": {**COPIES, "audit.n_different": 7.0},
    "over-trained": {**COPIES, "course.gap_rise": 0.2, "course.best_share": 0.4, "course.harm_rise": 4.0},
    "captions-without-colours": {
        "gate.palette": "FAIL",
        "gate.palette-collapse": "FAIL",
        "audit.caption_color_share": 0.0,
        "audit.color_unnamed_share": 1.0,
    },
    "one-palette": {"gate.palette": "FAIL", "gate.palette-collapse": "FAIL", "audit.hue_families": 2.0},
    "captions-vague": {"gate.prompt": "FAIL", "gate.foils": "FAIL", "audit.caption_vague_share": 1.0},
    "captions-wrong": {"gate.prompt": "FAIL", "gate.foils": "FAIL", "audit.color_agreement": 0.3},
    "trigger-missing": {"audit.caption_trigger_share": 0.0, "gate.style-leak": "FAIL", "sweep.trigger": "always on"},
    "text-encoder-too-strong": {"gate.prompt": "FAIL", "gate.foils": "FAIL", "adapter.text_encoder": "yes"},
    "learning-rate-too-high": {"gate.prompt": "FAIL", "adapter.learning_rate": 0.003, "course.first_harm": 3.0},
    "learning-rate-too-low": {
        "run.style_uptake": 0.05,
        "gate.photo-bleed": "FAIL",
        "gate.trigger": "FAIL",
        "course.style": 0.05,
        "adapter.learning_rate": 1e-6,
        "adapter.relative_norm": 0.001,
    },
    "rank-too-high": {"gate.copy": "FAIL", "adapter.rank": 256.0, "adapter.rank_share": 0.8, "course.first_harm": 1.5},
    "rank-too-low": {
        "run.style_uptake": 0.35,
        "gate.style-colours": "FAIL",
        "adapter.rank": 1.0,
        "course.style": 0.4,
        "course.style_rise": 0.0,
    },
    "under-trained": {
        "run.style_uptake": 0.2,
        "gate.photo-bleed": "FAIL",
        "gate.trigger": "FAIL",
        "course.style": 0.2,
        "course.style_rise": 0.1,
        "course.best_share": 1.0,
        "adapter.relative_norm": 0.001,
    },
    "strength-out-of-window": {
        "gate.strength-window": "FAIL",
        "gate.overcooked": "FAIL",
        "gate.saturation": "FAIL",
        "sweep.window_place": "below",
        "adapter.alpha_over_rank": 4.0,
    },
    "guidance-in-training": {"gate.guidance": "FAIL", "adapter.training_guidance": 3.5},
    "noisy-pictures": {"change.smooth_zone_sigma": 2.5, "gate.hot-tiles": "FAIL", "audit.noisy_share": 1.0},
    "compressed-pictures": {"gate.halo": "FAIL", "metric.jpeg_halo": 0.9, "audit.blocky_share": 0.8},
    "soft-pictures": {"gate.blur": "FAIL", "metric.edge_sigma": 0.6, "audit.soft_share": 0.7},
    "photographs-among-drawings": {"gate.photo-bleed": "FAIL", "gate.photo-look": "FAIL", "audit.photo_share": 0.2},
    "lettering-in-data": {"gate.lettering": "FAIL", "gate.lettering-leak": "FAIL", "audit.lettering_share": 0.3},
    "unlabelled-clutter": {"gate.clutter": "FAIL", "gate.invented": "FAIL", "audit.color_unnamed_share": 0.6},
    "wrong-figures": {"gate.anatomy": "FAIL", "metric.part_count_error": 1.2, "audit.part_error_share": 0.5},
    "uneven-data": {"gate.worst-slice": "FAIL", "audit.composition_cluster_share": 0.4},
    "identity-not-held": {"gate.identity": "FAIL"},
    "colours-not-learned": {"gate.style-colours": "FAIL"},
    "step-time": {"course.step_time": "slow", "course.step_time_ratio": 5.0},
    "style-not-tractable": {
        "sweep.no_usable_point": "yes",
        "gate.strength-window": "FAIL",
        "course.within_share": 0.0,
        "run.failed_gates": 3.0,
    },
}
"""Cause to what is then otherwise than in a training that went well."""


def facts_from(values: dict[str, float | str]) -> Facts:
    known = {name: Fact(name=name, value=value, quote=f"{name}: {value}") for name, value in values.items()}
    return Facts("run", "candidate", "0" * 64, ("run",), known, {})


def names(values: dict[str, float | str]) -> list[str]:
    return [one.cause for one in diagnose(facts_from(values)).causes]


def test_every_cause_has_a_typical_case() -> None:
    assert sorted(TYPICAL) == sorted(CAUSES)


@pytest.mark.parametrize("cause", TYPICAL)
def test_cause_is_named_first_where_it_is_typical(cause: str) -> None:
    assert names(HEALTHY | TYPICAL[cause])[0] == cause


@pytest.mark.parametrize("cause", TYPICAL)
def test_cause_is_named_on_its_typical_facts_alone_or_says_what_is_missing(cause: str) -> None:
    found = diagnose(facts_from(TYPICAL[cause]))

    named = {one.cause: one for one in found.causes}
    assert cause in named
    known = {name for name in TYPICAL[cause] if any(name == c.fact for c in CAUSES[cause].conditions)}
    quoted = {one.fact.name for one in (*named[cause].supporting, *named[cause].opposing)}
    assert quoted <= known
    missing = {fact for gap in named[cause].missing for fact in gap.facts}
    assert missing == {c.fact for c in CAUSES[cause].conditions} - TYPICAL[cause].keys()


def test_nothing_is_named_where_all_is_well() -> None:
    found = diagnose(facts_from(HEALTHY))

    assert found.causes == ()
    assert found.risks == ()
    assert found.headline == "Nothing is wrong that a cause would explain."


def test_nothing_is_named_where_nothing_is_known() -> None:
    assert names({}) == []


@pytest.mark.parametrize("cause", CAUSES)
def test_every_condition_asks_a_fact_that_exists(cause: str) -> None:
    tables: dict[str, Any] = {
        "gate": GATES,
        "harm": GATES,
        "metric": METRICS.names(),
        "change": METRICS.names(),
        "run": RUN_FACTS,
        "course": COURSE_FACTS,
        "sweep": SWEEP_FACTS,
        "adapter": ADAPTER_FACTS,
        "audit": AUDIT_FACTS,
    }
    for condition in CAUSES[cause].conditions:
        kind, _, name = condition.fact.partition(".")
        assert name in tables[kind], condition.fact


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_has_sources_fixes_and_a_reason(cause: str) -> None:
    one: Cause = CAUSES[cause]

    assert one.sources
    assert one.fixes
    assert one.because.endswith(".")
    assert all(fix.do.endswith(".") for fix in one.fixes)


def test_pages_named_as_sources_exist() -> None:
    root = Path(__file__).resolve().parents[3]
    pages = {source for cause in CAUSES.values() for source in cause.sources if source.startswith("docs/")}

    assert [page for page in pages if not (root / page.partition(":")[0]).is_file()] == []


def test_every_gate_is_taken_up_by_a_cause() -> None:
    asked = {c.fact for cause in CAUSES.values() for c in cause.symptoms}

    assert [name for name in GATES if f"gate.{name}" not in asked] == []


def test_a_cause_covers_what_is_part_of_it() -> None:
    found = diagnose(facts_from(TYPICAL["meaningless-pictures"]))

    first = found.causes[0]
    assert "captions-wrong" in first.covers
    assert not {one.cause for one in found.causes} & set(first.covers)


# ------------------------------------------------------------------------------------------------ reading


GOOD = """
measures:
  "gate.*": judge it
causes:
  - id: one
    name: one thing
    because: It is so.
    symptoms:
      - {fact: gate.copy, is: [FAIL], weight: 2.0, otherwise: 0.5}
    fixes:
      - {effort: setting, do: Do it.}
    sources: [a book]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "causes.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_of_ones_own_is_read(tmp_path: Path) -> None:
    table = read_causes(written(tmp_path, GOOD)).table

    assert [cause.id for cause in table.causes] == ["one"]
    assert table.causes[0].prior == -1.0


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "words"),
    [
        (
            "weight: 2.0",
            "weight: 2.0, wieght: 1",
            9,
            "causes[0].symptoms[0].wieght",
            "unknown key 'wieght'. Did you mean 'weight'",
        ),
        ("is: [FAIL], ", "", 9, "causes[0].symptoms[0]", "a condition must ask for words (`is`) or for a range"),
        ("is: [FAIL]", "is: FAIL", 9, "causes[0].symptoms[0].is", "must be a list; found 'FAIL'"),
        ("fact: gate.copy", "fact: grate.copy", 9, "causes[0].symptoms[0].fact", "must match"),
        ("sources: [a book]", "sources: []", 12, "causes[0].sources", "at least 1 item"),
        (
            "effort: setting",
            "effort: prayer",
            11,
            "causes[0].fixes[0].effort",
            "must be one of setting, training, data",
        ),
        ("gate.*", "audit.*", 1, "the file", "must say how each fact is measured; found nothing for gate.copy"),
        ("    name: one thing\n", "", 5, "causes[0].name", "must be given; found no 'name'"),
    ],
)
def test_what_is_wrong_in_a_table_is_told_with_file_line_and_key(
    tmp_path: Path, old: str, new: str, line: int, key: str, words: str
) -> None:
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new))

    with pytest.raises(CausesFileError) as caught:
        read_causes(path)

    assert str(caught.value).startswith("a table of causes must be valid; found 1 wrong. Correct each:\n")
    assert caught.value.exit_code == 2
    (problem,) = caught.value.problems
    assert problem.key == key
    assert words in problem.words
    if key != "the file":
        assert f"{path}:{line}: " in str(caught.value)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (GOOD.partition("causes:\n")[2], "ids of causes must be unique; found one twice"),
        (GOOD.partition("causes:\n")[2].replace("id: one", "id: two\n    covers: [three]"), "found three"),
    ],
)
def test_ids_and_covers_are_checked(tmp_path: Path, extra: str, words: str) -> None:
    with pytest.raises(CausesFileError, match=words):
        read_causes(written(tmp_path, GOOD + extra))


def test_fixes_out_of_order_are_refused(tmp_path: Path) -> None:
    text = GOOD.replace("    fixes:\n", "    fixes:\n      - {effort: data, do: Draw anew.}\n")

    with pytest.raises(CausesFileError, match="fixes must stand in the order setting, training, data"):
        read_causes(written(tmp_path, text))


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CausesFileError, match="must be a table with `measures` and `causes`; found a list"):
        read_causes(written(tmp_path, "- a\n- b\n"))
    with pytest.raises(CausesFileError, match="must be YAML"):
        read_causes(written(tmp_path, "a: [b\n"))
    with pytest.raises(CausesFileError, match="must be a file that can be read; No such file"):
        read_causes(tmp_path / "missing.yaml")
