from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from lorabench.judges.restricted_pickle import UnsafePickleError, load_arrays


class RunsACommand:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_nested_arrays_come_back_as_they_were() -> None:
    tree = {
        "layer": {"kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "bias": np.zeros(3, np.float32)},
        "n": 2,
    }

    for protocol in (3, 4):
        found = load_arrays(pickle.dumps(tree, protocol=protocol), source="here")

        np.testing.assert_array_equal(found["layer"]["kernel"], tree["layer"]["kernel"])
        assert found["n"] == 2


def test_malicious_pickle_is_refused_before_it_runs(tmp_path) -> None:
    trace = tmp_path / "ran"
    data = pickle.dumps({"kernel": RunsACommand(f"touch {trace}")})

    with pytest.raises(
        UnsafePickleError, match=r"NumPy arrays only; found the name \w+\.system in model\.ckpt"
    ) as caught:
        load_arrays(data, source="model.ckpt")

    assert "Nothing of it was run" in str(caught.value)
    assert not trace.exists()


@pytest.mark.parametrize("name", [b"cnumpy\nload\n", b"cbuiltins\neval\n", b"cnumpy.core.multiarray\nscalar\n"])
def test_every_other_name_is_refused(name) -> None:
    with pytest.raises(UnsafePickleError, match="found the name"):
        load_arrays(name + b".", source="here")


def test_arrays_of_objects_are_refused() -> None:
    with pytest.raises(UnsafePickleError, match="unreadable content"):
        load_arrays(pickle.dumps(np.array([{}, []], dtype=object)), source="here")


@pytest.mark.parametrize("data", [b"", b"not a pickle", b"\x80\x04K"])
def test_a_broken_file_is_refused_in_words(data) -> None:
    with pytest.raises(UnsafePickleError, match="unreadable content"):
        load_arrays(data, source="here")
