"""A run as JUnit XML: one testcase per gate and one per case."""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree as Xml

from lorabench.records.comparison import Outcome, Verdict
from lorabench.records.images import Image
from lorabench.records.results import Results
from lorabench.report.case_view import CaseReader, CaseView
from lorabench.report.notation import against, given, interval, signed

_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped."""


def render_junit(results: Results) -> str:
    """Render a run as JUnit XML.

    Nothing but a PASS looks green: a FAIL is a `failure`, an INCONCLUSIVE gate is an `error` of type `inconclusive`,
    an UNMEASURED one an `error` of type `unmeasured`, or `skipped` where the gate is not required. A case is a
    `failure` only where it is golden and a check of the candidate does not hold, an `error` where a picture is
    missing; all other findings on single cases are told in its output, since only gates decide on them.

    Args:
        results: The run.

    Returns:
        The document, with its XML declaration.
    """
    views = {view.case.id: view for view in CaseReader(results).read_all()}
    cases = [views[case.id] for case in results.suite.cases if case.id in views]
    gates = _suite(f"{results.suite.name}.gates", [_gate(gate, results) for gate in results.gates])
    seconds = _seconds_by_case(results.images)
    prompts = _suite(results.suite.name, [_case(view, results, seconds=seconds.get(view.case.id, 0)) for view in cases])
    prompts.insert(0, _properties(_run_properties(results)))
    root = Xml.Element("testsuites", {"name": "lorabench"})
    root.extend((gates, prompts))
    for count in ("tests", "failures", "errors", "skipped"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in (gates, prompts))))
    Xml.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def xml_text(text: str) -> str:
    r"""Text without the characters that XML cannot hold.

    >>> xml_text("a\x00b\x1b[0m")
    'ab[0m'
    """
    return _FORBIDDEN.sub("", text)


def _suite(name: str, cases: list[Xml.Element]) -> Xml.Element:
    suite = Xml.Element("testsuite", {"name": xml_text(name), "tests": str(len(cases))})
    for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(count, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("time", f"{sum(float(case.get('time', '0')) for case in cases):.3f}")
    suite.extend(cases)
    return suite


def _gate(gate: Verdict, results: Results) -> Xml.Element:
    case = Xml.Element("testcase", {"classname": f"{results.suite.name}.gates", "name": gate.gate, "time": "0"})
    case.append(_properties(_gate_properties(gate)))
    message = xml_text(gate.reason)
    if gate.outcome is Outcome.FAIL:
        Xml.SubElement(case, "failure", {"type": "regression", "message": message}).text = _numbers(gate)
    elif gate.outcome is Outcome.INCONCLUSIVE:
        Xml.SubElement(case, "error", {"type": "inconclusive", "message": message}).text = _numbers(gate)
    elif gate.outcome is Outcome.UNMEASURED and gate.required:
        Xml.SubElement(case, "error", {"type": "unmeasured", "message": message}).text = _numbers(gate)
    elif gate.outcome is Outcome.UNMEASURED:
        Xml.SubElement(case, "skipped", {"type": "unmeasured", "message": message})
    return case


def _case(view: CaseView, results: Results, *, seconds: float) -> Xml.Element:
    classname = f"{results.suite.name}.{view.case.family}"
    case = Xml.Element("testcase", {"classname": classname, "name": view.case.id, "time": f"{seconds:.3f}"})
    by_kind = {flag.kind: xml_text(flag.text) for flag in view.flags}
    if "missing" in by_kind:
        Xml.SubElement(case, "error", {"type": "no picture", "message": by_kind["missing"]}).text = _absent(view)
    elif "golden" in by_kind:
        Xml.SubElement(case, "failure", {"type": "golden", "message": by_kind["golden"]})
    told = "\n".join((view.case.prompt, *(flag.text for flag in view.flags)))
    Xml.SubElement(case, "system-out").text = xml_text(told)
    return case


def _absent(view: CaseView) -> str:
    pictures = [picture for seed in view.seeds for picture in seed.pictures if picture.image is None]
    return xml_text("\n".join(f"{p.column.arm.value} seed {p.seed}: {p.missing}" for p in pictures))


def _numbers(gate: Verdict) -> str:
    k = gate.comparison
    if k is None:
        return f"{gate.metric}: no number"
    spread = f"{signed(k.estimate)} {k.unit}, interval {interval(k.low, k.high)}, margin {given(gate.margin)}"
    return xml_text(f"{gate.metric}, {against(k)}: {spread}, {k.n_cases} cases")


def _properties(values: dict[str, str]) -> Xml.Element:
    properties = Xml.Element("properties")
    for name, value in values.items():
        Xml.SubElement(properties, "property", {"name": xml_text(name), "value": xml_text(value)})
    return properties


def _gate_properties(gate: Verdict) -> dict[str, str]:
    values = {
        "lorabench.verdict": gate.outcome.value,
        "lorabench.metric": gate.metric,
        "lorabench.margin": given(gate.margin),
    }
    if gate.comparison is not None:
        k = gate.comparison
        values |= {
            "lorabench.difference": repr(k.estimate),
            "lorabench.low": repr(k.low),
            "lorabench.high": repr(k.high),
            "lorabench.n_cases": str(k.n_cases),
        }
    return values


def _run_properties(results: Results) -> dict[str, str]:
    candidate = results.candidate
    return {
        "lorabench.run_id": results.run_id,
        "lorabench.verdict": results.verdict.outcome.value,
        "lorabench.exit_code": str(results.verdict.exit_code),
        "lorabench.complete": str(results.verdict.complete).lower(),
        "lorabench.candidate": candidate.name if candidate else "",
        "lorabench.candidate_digest": candidate.digest if candidate else "",
        "lorabench.base": results.base.name,
    }


def _seconds_by_case(images: tuple[Image, ...]) -> dict[str, float]:
    total: dict[str, float] = {}
    for image in images:
        total[image.cell.case] = total.get(image.cell.case, 0.0) + image.generation_seconds
    return total
