import importlib
import inspect
import pkgutil

import pytest

import lorabench
from lorabench.errors import ExitCode, LorabenchError, MeasurementError, SpecError
from lorabench.training.trainers.inside import StopTrainingError


def test_exit_codes_are_the_documented_ones() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "PASSED": 0,
        "FAILED": 1,
        "USAGE": 2,
        "NOT_MEASURED": 3,
        "INCONCLUSIVE": 4,
        "INCOMPLETE": 5,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize(("kind", "code"), [(SpecError, 2), (MeasurementError, 3), (LorabenchError, 3)], ids=str)
def test_error_class_says_who_must_act(kind: type[LorabenchError], code: int) -> None:
    assert kind("x").exit_code == code
    assert issubclass(kind, LorabenchError)


CAUGHT = {StopTrainingError}
"""Raised inside a trainer to leave its loop, and always caught around it."""


def all_errors() -> list[type[BaseException]]:
    found = set()
    for module in pkgutil.walk_packages(lorabench.__path__, "lorabench."):
        if module.name.endswith("__main__"):
            continue
        for _, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            ours = value.__module__.startswith("lorabench.") and issubclass(value, Exception) and value not in CAUGHT
            if ours and (value.__name__.endswith("Error") or issubclass(value, LorabenchError)):
                found.add(value)
    return sorted(found, key=lambda value: value.__qualname__)


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
def test_every_error_of_ours_is_one_that_a_face_understands_or_the_programmers(error: type[BaseException]) -> None:
    assert issubclass(error, LorabenchError | ValueError | TypeError)
    assert error.__name__.endswith("Error")
    assert error.__doc__
