"""In which form a page is written. Light enough for a command line that only names the choice."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

BUDGET_BYTES: Final = 25 * 2**20
"""A page beyond this is slow to mail, to upload and to open: `Layout.AUTO` then writes a folder."""


class Layout(StrEnum):
    """One file, or a folder."""

    AUTO = "auto"
    """One file; a folder where that file would be past the budget."""
    SINGLE = "single"
    FOLDER = "folder"
