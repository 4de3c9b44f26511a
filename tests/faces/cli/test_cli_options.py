from __future__ import annotations

import inspect
from typing import Any

import pytest

from lorabench.cli.options import SETTINGS_OF, stated_settings
from lorabench.cli.running import run
from lorabench.records.config import Config


def setting(key: str) -> Any:
    """The default of a setting by its dotted key."""
    value: Any = Config()
    for part in key.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", sorted(SETTINGS_OF))
def test_every_option_that_is_a_setting_names_one_and_is_an_option_of_run(name: str) -> None:
    for key in SETTINGS_OF[name]:
        setting(key)
    assert name in inspect.signature(run).parameters


def test_settings_are_told_from_other_parameters() -> None:
    given = {"device": "cpu", "lora": None, "quiet": True, "report": "page.html", "limit": 3}

    assert stated_settings(given) == {
        "model.device": "cpu",
        "judges.device": "cpu",
        "candidate.lora": None,
        "limit": 3,
    }
