"""The base of every record: frozen, closed, finite, and with a digest that names its content."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=120)]
"""Ids of suites, cases, metrics and gates: safe in file names, shells and node ids."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
UnitFloat = Annotated[float, Field(ge=0.0, le=1.0)]


class Record(BaseModel):
    """A noun of the pipeline. Unknown keys, NaN and infinities are refused; instances never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def content_digest(self) -> str:
        """SHA-256 (hex) over the canonical JSON of this record: equal content, equal digest."""
        return digest_of(self.model_dump(mode="json"))


def digest_of(value: Any) -> str:
    """SHA-256 (hex) over canonical JSON (sorted keys, no spaces) of plain JSON types."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
