"""What stands at the top: reasons with their gates, and the pictures to look at first."""

from lorabench.records.comparison import Outcome
from lorabench.report.case_view import CaseReader
from lorabench.report.top_reasons import N_LOOKS, looks, reasons, tightest, worst_cases


def with_reasons(results, *texts: str):
    return results.model_copy(update={"verdict": results.verdict.model_copy(update={"reasons": texts})})


def test_a_reason_is_bound_to_the_gate_it_names(example) -> None:
    gate = next(gate for gate in example.results.gates if gate.outcome is Outcome.FAIL)

    found, loose, other = reasons(
        with_reasons(example.results, f"{gate.gate}: worse.", "Something else.", "nogate: is a word.")
    )

    assert (found.text, found.gate) == ("worse.", gate)
    assert (loose.text, loose.gate, loose.cases) == ("Something else.", None, ())
    assert (other.text, other.gate) == ("nogate: is a word.", None)


def test_the_worst_cases_are_those_most_on_the_harmful_side(example) -> None:
    for gate in example.results.gates:
        if gate.comparison is None:
            assert worst_cases(gate) == ()
            continue
        sign = -1 if gate.comparison.higher_is_better else 1
        harms = [sign * one.difference for one in worst_cases(gate)]
        known = sorted((sign * d.difference for d in gate.comparison.differences), reverse=True)
        assert harms == [harm for harm in known[:3] if harm > 0]


def test_pictures_of_the_named_cases_come_first(example) -> None:
    reader = CaseReader(example.results)
    gate = next(gate for gate in example.results.gates if gate.outcome is Outcome.FAIL and worst_cases(gate))
    told = reasons(with_reasons(example.results, f"{gate.gate}: worse."))

    found = looks(reader.read_all(), named=told)

    assert [look.view.case.id for look in found][: len(told[0].cases)] == [one.case for one in told[0].cases]
    assert len(found) <= N_LOOKS
    assert all(look.control.image is not None and look.candidate.image is not None for look in found)


def test_without_reasons_the_cases_that_need_a_look_are_shown(small_example) -> None:
    cases = CaseReader(small_example.results).read_all()

    assert all(look.view.needs_a_look for look in looks(cases, named=()))


def test_the_tightest_gate_is_the_passed_one_nearest_to_its_margin(example) -> None:
    found = tightest(example.results)
    ends = {
        gate.gate: -gate.comparison.oriented()[1] / gate.margin
        for gate in example.results.gates
        if gate.outcome is Outcome.PASS and gate.comparison is not None
    }

    assert found is not None
    assert found[1] == max(ends.values())
    assert ends[found[0].gate] == found[1]


def test_without_a_passed_gate_none_is_the_tightest(example) -> None:
    assert tightest(example.results.model_copy(update={"gates": ()})) is None
