"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def world_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of pictures of the embedded model, shared by all tests of a session, also across workers."""
    return tmp_path_factory.getbasetemp().parent / "world-cache"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the person who runs the tests must not change them."""
    for name in list(os.environ):
        if name.startswith("LORABENCH_") and name not in ("LORABENCH_TEST_DATA", "LORABENCH_WEIGHTS_DIR"):
            monkeypatch.delenv(name)
