from __future__ import annotations

import pytest
import torch

from lorabench.judges.devices import full_precision, resolve_device, untouched_random_state


def precisions() -> list[object]:
    backends = torch.backends
    return [
        backends.cuda.matmul.fp32_precision,
        backends.cudnn.conv.fp32_precision,
        backends.mkldnn.matmul.fp32_precision,
        backends.mkldnn.conv.fp32_precision,
    ]


@pytest.fixture
def precision_restored():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_precision_is_full_inside_and_put_back_outside(precision_restored, precision) -> None:
    torch.set_float32_matmul_precision(precision)
    before = precisions()

    with full_precision("cpu"):
        assert precisions() == ["ieee"] * 4
        assert not torch.is_grad_enabled()

    assert precisions() == before
    assert torch.get_float32_matmul_precision() == precision
    assert torch.is_grad_enabled()


def test_precision_is_put_back_after_an_error() -> None:
    before = precisions()

    with pytest.raises(ZeroDivisionError), full_precision("cpu"):
        raise ZeroDivisionError

    assert precisions() == before


def test_autocast_is_off_inside() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), full_precision("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_random_state_comes_back() -> None:
    before = torch.random.get_rng_state()

    with untouched_random_state():
        torch.rand(5)

    assert torch.equal(torch.random.get_rng_state(), before)


def test_auto_takes_what_is_there_and_names_stay() -> None:
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cuda:3") == "cuda:3"
