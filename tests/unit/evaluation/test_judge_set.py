from pathlib import Path

import pytest

from lorabench.evaluation.judge_set import JudgeSet, UnknownDetectorError, load_judges
from lorabench.judges.oracle_detector import OracleDetector
from lorabench.records.config import JudgesConfig


def test_nothing_configured_leaves_every_judge_absent_with_its_reason() -> None:
    judges = load_judges(JudgesConfig(), memorisation=False)

    assert (judges.clip, judges.lpips, judges.detector) == (None, None, None)
    assert judges.why_absent("clip") == "no CLIP model is configured ([judges] clip)"
    assert judges.why_absent("detector") == "no detector is configured ([judges] detector)"
    assert judges.why_absent("lpips") == "no training pictures are configured ([training_set] folder)"
    assert judges.digests() == {}


def test_reason_of_a_judge_that_was_handed_in_as_none() -> None:
    assert JudgeSet().why_absent("clip") == "no clip judge is configured"


def test_missing_lpips_weights_are_a_reason_not_an_error(tmp_path: Path) -> None:
    config = JudgesConfig(lpips_weights=tmp_path / "nowhere.pth")

    judges = load_judges(config, memorisation=True)

    assert judges.lpips is None
    assert "nowhere.pth" in judges.why_absent("lpips")


def test_oracle_is_loaded_by_its_name_alone() -> None:
    judges = load_judges(JudgesConfig(detector="oracle"), memorisation=False)

    assert isinstance(judges.detector, OracleDetector)
    assert judges.digests() == {"oracle": OracleDetector().weights_digest}


@pytest.mark.parametrize("value", ["oracel", "oracle:x", "owlv2", "owlv2:", "yolo:some/folder"])
def test_detector_that_is_not_understood_gets_the_three_forms(value: str) -> None:
    with pytest.raises(UnknownDetectorError) as caught:
        load_judges(JudgesConfig(detector=value), memorisation=False)

    assert str(caught.value) == (
        "[judges] detector must be 'oracle', 'owlv2:<folder or id>' or 'grounding-dino:<folder or id>'; "
        f"found {value!r}."
    )
    assert caught.value.exit_code == 2


def test_digests_name_each_judge_that_is_there(lab) -> None:
    judges = lab.judges(clip=lab.clip(), lpips=lab.thumbnails())

    assert set(judges.digests()) == {"words", "thumbnails", "oracle"}


@pytest.mark.parametrize("ocr", ["", "off"])
def test_text_reader_is_absent_unless_it_is_named(ocr: str) -> None:
    judges = load_judges(JudgesConfig(ocr=ocr), memorisation=False)

    assert judges.reader is None
    assert judges.why_absent("reader") == "no text reader is configured ([judges] ocr)"


def test_world_knows_its_classes_and_needs_no_vocabulary() -> None:
    judges = load_judges(JudgesConfig(detector="oracle"), memorisation=False)

    assert judges.vocabulary is None
    assert {"circle", "hand", "person", "blob"} <= set(judges.world_classes or ())
    assert JudgeSet().world_classes is None
