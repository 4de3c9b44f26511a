"""Shipped data is found in a source tree and in an installed package."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.storage import shipped
from lorabench.storage.shipped import (
    ShippedDataMissingError,
    UnknownShippedSuiteError,
    shipped_data,
    shipped_suite_names,
    shipped_suite_path,
)


def test_suites_have_names() -> None:
    assert {"spatial", "multi_subject", "attribute_binding", "anatomy", "screen", "world/screen"} <= set(
        shipped_suite_names()
    )
    assert shipped_suite_path("world/screen").is_file()


def test_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownShippedSuiteError, match=r"found no 'world/scren'\. Did you mean 'world/screen'"):
        shipped_suite_path("world/scren")


@pytest.mark.parametrize("relative", ["/etc/passwd", "suites/../../x"])
def test_path_must_stay_below_the_root(relative: str) -> None:
    with pytest.raises(ValueError, match="must stay below the project's root"):
        shipped_data(relative)


def test_missing_file_is_told() -> None:
    with pytest.raises(ShippedDataMissingError, match=r"found no suites/none in .*Install lorabench again"):
        shipped_data("suites/none")


def test_installed_package_carries_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "lorabench"
    suite = package / "_data" / "suites" / "world" / "screen.lora.yaml"
    suite.parent.mkdir(parents=True)
    suite.write_text("name: x\n")
    (tmp_path / "site-packages" / "suites").mkdir()
    monkeypatch.setattr(shipped, "_PACKAGE", package)

    assert shipped_suite_names() == ("world/screen",)
    assert shipped_suite_path("world/screen") == suite
