"""Keys under which the plugin keeps its state on pytest's own objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lorabench.pytest_plugin.options import Options
    from lorabench.pytest_plugin.runner import Subject
    from lorabench.pytest_plugin.suite_items import PromptReference, SuiteSession

OPTIONS: pytest.StashKey[Options] = pytest.StashKey()
"""On the configuration: flags and ini keys."""
SESSION: pytest.StashKey[SuiteSession] = pytest.StashKey()
"""On the configuration: there once a suite was collected."""
FROM_WORKERS: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()
"""On the controller's configuration: what the workers say about their suites."""
FILES: pytest.StashKey[list[str]] = pytest.StashKey()
"""On the configuration: what became of the files asked for, for the summary."""
PROMPT: pytest.StashKey[PromptReference] = pytest.StashKey()
"""On items: the prompt."""
GATE: pytest.StashKey[tuple[Subject, str]] = pytest.StashKey()
"""On gate items: the subject and the gate's name."""
