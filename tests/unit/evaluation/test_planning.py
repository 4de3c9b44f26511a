from lorabench.evaluation.planning import plan_cells
from lorabench.records.plan import Arm, Plan

ARMS = (Arm.BASE, Arm.CONTROL, Arm.CANDIDATE)


def plan(lab, **changes) -> Plan:
    plain = {"style": lab.style, "settings": lab.settings, "arms": ARMS}
    return plan_cells(lab.suite(*lab.cases[:2]), **{**plain, **changes})


def test_cells_come_case_by_case_seed_by_seed_arm_by_arm(lab) -> None:
    cells = [(one.cell.case, one.cell.seed, one.cell.arm.value) for one in plan(lab).cells]

    assert cells == [
        (case, seed, arm) for case in ("spatial-1", "spatial-2") for seed in (7, 11) for arm in ("B0", "B1", "L1")
    ]


def test_only_arms_with_the_adapter_have_its_scale(lab) -> None:
    cells = plan(lab, arms=tuple(Arm), scale=0.75).cells

    assert {one.cell.arm: one.cell.scale for one in cells} == {
        Arm.BASE: 0.0,
        Arm.CONTROL: 0.0,
        Arm.CANDIDATE: 0.75,
        Arm.NEUTRAL: 0.75,
    }


def test_each_arm_has_its_own_phrase_in_the_style_slot(lab) -> None:
    first = {one.cell.arm: one.prompt for one in plan(lab, arms=tuple(Arm)).cells[:4]}

    assert first == {
        Arm.BASE: "a photo of a red circle left of a blue square",
        Arm.CONTROL: "a flat illustration of a red circle left of a blue square",
        Arm.CANDIDATE: "a zvq drawing of a red circle left of a blue square",
        Arm.NEUTRAL: "a photo of a red circle left of a blue square",
    }


def test_seeds_replace_those_of_the_suite(lab) -> None:
    assert {one.cell.seed for one in plan(lab, seeds=(3, 4, 5)).cells} == {3, 4, 5}


def test_limit_keeps_the_first_cases(lab) -> None:
    assert {one.cell.case for one in plan(lab, limit=1).cells} == {"spatial-1"}


def test_plan_knows_its_suite_and_settings(lab) -> None:
    made = plan(lab, limit=1)

    assert made.suite_digest == lab.suite(*lab.cases[:2]).content_digest()
    assert made.settings == lab.settings
