from __future__ import annotations

import torch

from lorabench.judges.digests import tensors_digest


def test_order_of_names_does_not_matter() -> None:
    a, b = torch.ones(2), torch.zeros(3)

    assert tensors_digest({"a": a, "b": b}) == tensors_digest({"b": b, "a": a})


def test_every_change_shows() -> None:
    base = {"a": torch.arange(6.0).reshape(2, 3)}
    changed = [
        {"a": torch.arange(6.0).reshape(3, 2)},
        {"a": torch.arange(6.0).reshape(2, 3).double()},
        {"b": torch.arange(6.0).reshape(2, 3)},
        {"a": torch.arange(6.0).reshape(2, 3) + 1e-6},
        {},
    ]

    digests = {tensors_digest(tensors) for tensors in (base, *changed)} | {tensors_digest(base, settings="x")}

    assert len(digests) == len(changed) + 2


def test_memory_layout_does_not_matter() -> None:
    tensor = torch.arange(6.0).reshape(2, 3)

    assert tensors_digest({"a": tensor.T.contiguous().T}) == tensors_digest({"a": tensor})


def test_scalars_and_empty_tensors_have_digests() -> None:
    assert tensors_digest({"a": torch.tensor(2.0)}) != tensors_digest({"a": torch.empty(0)})
