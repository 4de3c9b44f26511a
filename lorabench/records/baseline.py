"""A baseline: the numbers of a run that a person accepted. Small, committed, changed only by `accept`."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import FiniteFloat, PositiveInt

from lorabench.records.plan import GenerationSettings, StylePhrases
from lorabench.records.record import Identifier, Record, Sha256
from lorabench.records.results import AdapterInfo, BaseInfo

BASELINE_SCHEMA_VERSION: Final = 1


class Baseline(Record):
    """Accepted numbers of one candidate on one suite."""

    schema_version: Literal[1] = BASELINE_SCHEMA_VERSION
    name: Identifier
    number: PositiveInt
    """Counts the acceptances under this name."""
    suite: Identifier
    suite_digest: str
    base: BaseInfo
    candidate: AdapterInfo
    scale: FiniteFloat
    style: StylePhrases
    settings: GenerationSettings
    metrics: dict[str, PositiveInt]
    """Metric name to version."""
    scores: dict[str, dict[str, dict[str, FiniteFloat]]]
    """Case to seed to metric to value, of the candidate's arm."""
    pictures: dict[str, dict[str, Sha256]]
    """Case to seed to the picture's digest; the pictures themselves lie in the blob folder."""
    run_id: str
    accepted_at: str
    accepted_by: str
    reason: str
