"""One question to the model hub before a load: without it, each of a model's many files waits half a minute in vain."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

PATIENCE: Final = 8.0
"""Seconds that the hub has to answer; a new process of its client may ask something of its own before, for 3 more."""


def hub_problem(repository: str) -> str | None:
    """Why a model cannot come from the hub now; None if it can.

    Asks once, without trying again. Loaders try each of a model's files several times, which for a mistyped name or a
    machine without network takes minutes; so whoever is given a reason looks into the cache only.

    Args:
        repository: Hub id, `owner/name`.

    Returns:
        The reason in words, without a full stop.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    # The hub's client stands on another library from version to version; its own error derives from that library's.
    of_transport: Any = HfHubHTTPError.__bases__[0]
    try:
        get_hf_file_metadata(hf_hub_url(repository, "config.json"), timeout=PATIENCE)
    except EntryNotFoundError:
        return None  # the model is there; its loader knows better which files it needs
    except (RepositoryNotFoundError, HFValidationError):
        return "the hub has no such model, or keeps it from you"
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE forbids to ask the hub"
    except (of_transport, OSError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return f"the hub cannot be asked ({reason[0].rstrip('.')})"
    return None


def in_hub_cache(repository: str) -> bool:
    """Whether any file of a model lies in the hub's cache on this machine."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
    return any(folder.glob("*/*"))
