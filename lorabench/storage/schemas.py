"""JSON Schemas of the files people and programs exchange: suite, settings, results, course, pilot, sweep, baseline."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import BaseModel

from lorabench.records.audit import AUDIT_SCHEMA_VERSION, Audit
from lorabench.records.baseline import BASELINE_SCHEMA_VERSION, Baseline
from lorabench.records.config import Config
from lorabench.records.course import COURSE_SCHEMA_VERSION, Course
from lorabench.records.decisions import DECISIONS_SCHEMA_VERSION, Decisions
from lorabench.records.diagnosis import DIAGNOSIS_SCHEMA_VERSION, Diagnosis
from lorabench.records.pilot import PILOT_SCHEMA_VERSION, Pilot
from lorabench.records.results import RESULTS_SCHEMA_VERSION, Results
from lorabench.records.suite import SUITE_SCHEMA_VERSION, Suite
from lorabench.records.sweep import SWEEP_SCHEMA_VERSION, Sweep

CONFIG_SCHEMA_VERSION: Final = 1
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_FILES: Final[dict[str, tuple[type[BaseModel], int, str]]] = {
    "suite": (Suite, SUITE_SCHEMA_VERSION, "A suite of held-out prompts (`*.lora.yaml`)."),
    "config": (Config, CONFIG_SCHEMA_VERSION, "Settings (`lorabench.toml`, `[tool.lorabench]`)."),
    "results": (Results, RESULTS_SCHEMA_VERSION, "What one run found out (`results.json`)."),
    "course": (Course, COURSE_SCHEMA_VERSION, "What was judged and decided along a training (`course.json`)."),
    "pilot": (Pilot, PILOT_SCHEMA_VERSION, "How much each metric scatters on one base (`lorabench pilot`)."),
    "decisions": (Decisions, DECISIONS_SCHEMA_VERSION, "What a reviewer decided on a report (`decisions.json`)."),
    "sweep": (Sweep, SWEEP_SCHEMA_VERSION, "What one sweep found out (`sweep.json`)."),
    "audit": (Audit, AUDIT_SCHEMA_VERSION, "What is true of a training set (`audit.json`)."),
    "diagnosis": (Diagnosis, DIAGNOSIS_SCHEMA_VERSION, "Likely causes of what a run found (`diagnosis.json`)."),
    "baseline": (Baseline, BASELINE_SCHEMA_VERSION, "Accepted numbers of an earlier run."),
}


def schemas() -> dict[str, dict[str, Any]]:
    """The published JSON Schemas (draft 2020-12), by the name of the file format.

    Each has the id `urn:lorabench:schema:<name>:<version>`. Rules that a schema cannot say (unique ids, foils that
    differ) are checked on reading only.
    """
    return {name: _schema(name) for name in _FILES}


def schema_text(name: str) -> str:
    """A schema as it is committed in `docs/schemas/<name>.schema.json`."""
    return json.dumps(_schema(name), indent=2, ensure_ascii=False) + "\n"


def _schema(name: str) -> dict[str, Any]:
    model, version, description = _FILES[name]
    body = model.model_json_schema(mode="validation")
    body.pop("description", None)
    head = {"$schema": _DIALECT, "$id": f"urn:lorabench:schema:{name}:{version}", "description": description}
    return {**head, **body}
