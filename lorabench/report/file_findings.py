"""What the candidate's file showed without a picture, in sentences."""

from __future__ import annotations

from lorabench.records.adapter_health import AdapterVerdict, BaseRelation
from lorabench.records.results import AdapterInfo

_WORTH_SAYING = frozenset({BaseRelation.OTHER_VARIANT, BaseRelation.OTHER_FAMILY})


def file_findings(candidate: AdapterInfo | None) -> tuple[str, ...]:
    """What a reader must know before the pictures; empty for a sound file on the base it was trained on.

    Args:
        candidate: As in the results; None without a candidate.
    """
    if candidate is None:
        return ()
    health, match = candidate.health, candidate.base_match
    found = []
    if health is not None and health.verdict is not AdapterVerdict.HEALTHY:
        found += [f"The file is {health.verdict.value}: {reason}" for reason in health.reasons]
    if match is not None and match.relation in _WORTH_SAYING:
        found.append(match.sentence)
    return tuple(found)
