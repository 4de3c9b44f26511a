"""Names a picture before it is made: by everything that changes it, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorabench.records.plan import GenerationSettings, PlannedCell
from lorabench.records.record import digest_of

PICTURE_KEY_VERSION = 1


def key_material(
    planned: PlannedCell,
    *,
    settings: GenerationSettings,
    fingerprint: Mapping[str, str],
    adapter_digest: str | None,
) -> dict[str, Any]:
    """What a picture's key is made of: plain JSON types, stored beside the picture so that a miss can be explained.

    The adapter and its scale are part of it only in arms that use the adapter, so that all candidates share the control
    pictures. Case id and seed are in it because the noise is drawn from both; the arm's name and the suite are not.

    Args:
        planned: The cell and its prompt.
        settings: What the sampler is told.
        fingerprint: The backend's own share: base, library versions, dtype, device class.
        adapter_digest: The candidate's digest, or None without candidate.

    Raises:
        ValueError: The cell uses an adapter and none is given.
    """
    cell = planned.cell
    adapter: dict[str, Any] | None = None
    if cell.arm.uses_adapter:
        if adapter_digest is None:
            msg = f"a cell that uses an adapter needs its digest; {cell.key} has none. Pass adapter_digest."
            raise ValueError(msg)
        adapter = {"digest": adapter_digest, "scale": cell.scale}
    return {
        "version": PICTURE_KEY_VERSION,
        "case": cell.case,
        "seed": cell.seed,
        "prompt": planned.prompt,
        "settings": settings.model_dump(mode="json"),
        "backend": dict(sorted(fingerprint.items())),
        "adapter": adapter,
    }


def picture_key(
    planned: PlannedCell,
    *,
    settings: GenerationSettings,
    fingerprint: Mapping[str, str],
    adapter_digest: str | None,
) -> str:
    """SHA-256 (hex) of `key_material`: equal keys, equal pictures."""
    return digest_of(key_material(planned, settings=settings, fingerprint=fingerprint, adapter_digest=adapter_digest))
