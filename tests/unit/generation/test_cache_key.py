from __future__ import annotations

from typing import Any

import pytest

from lorabench.generation.cache_key import key_material, picture_key
from lorabench.records.plan import Arm, Cell, GenerationSettings, PlannedCell

SETTINGS = GenerationSettings(
    height=64,
    width=64,
    num_inference_steps=8,
    guidance_scale=3.5,
    true_cfg_scale=2.0,
    negative_prompt="x",
    max_sequence_length=24,
)
FINGERPRINT = {
    "backend": "diffusers",
    "base": "b",
    "dtype": "float32",
    "device_class": "cpu",
    "torch": "2",
    "noise": "1",
}


def planned(arm: Arm = Arm.CANDIDATE, **changes: Any) -> PlannedCell:
    values: dict[str, Any] = {"case": "one", "seed": 1, "scale": 1.0, "prompt": "a cat"} | changes
    prompt = values.pop("prompt")
    return PlannedCell(cell=Cell(arm=arm, **values), prompt=prompt)


def key(cell: PlannedCell, **changes: Any) -> str:
    arguments: dict[str, Any] = {"settings": SETTINGS, "fingerprint": FINGERPRINT, "adapter_digest": "d"} | changes
    return picture_key(cell, **arguments)


@pytest.mark.parametrize("change", [{"case": "two"}, {"seed": 0}, {"scale": 0.0}, {"scale": 0.5}, {"prompt": "a dog"}])
def test_every_field_of_a_cell_counts(change: dict[str, Any]) -> None:
    assert key(planned(**change)) != key(planned())


@pytest.mark.parametrize("field", GenerationSettings.model_fields)
def test_every_setting_counts(field: str) -> None:
    old = getattr(SETTINGS, field)
    new = f"{old}y" if isinstance(old, str) else old + 16
    changed = {key(planned(), settings=SETTINGS.model_copy(update={field: value})) for value in (new, old)}

    assert len(changed) == 2
    assert key(planned()) in changed


@pytest.mark.parametrize("field", FINGERPRINT)
def test_every_entry_of_the_fingerprint_counts(field: str) -> None:
    assert key(planned(), fingerprint=FINGERPRINT | {field: "other"}) != key(planned())
    assert key(planned(), fingerprint={k: v for k, v in FINGERPRINT.items() if k != field}) != key(planned())


def test_order_of_the_fingerprint_does_not_count() -> None:
    assert key(planned(), fingerprint=dict(reversed(FINGERPRINT.items()))) == key(planned())


def test_adapter_counts_in_its_own_arms_only() -> None:
    for arm in (Arm.CANDIDATE, Arm.NEUTRAL):
        assert key(planned(arm), adapter_digest="other") != key(planned(arm))
    for arm in (Arm.BASE, Arm.CONTROL):
        assert key(planned(arm), adapter_digest="other") == key(planned(arm)) == key(planned(arm), adapter_digest=None)
        assert key(planned(arm)) != key(planned())


def test_arms_of_the_base_share_the_picture_of_one_prompt() -> None:
    assert key(planned(Arm.BASE, scale=0.0)) == key(planned(Arm.CONTROL, scale=0.0))


def test_material_is_plain_and_names_all_that_counts() -> None:
    material = key_material(planned(), settings=SETTINGS, fingerprint=FINGERPRINT, adapter_digest="d")

    assert material["adapter"] == {"digest": "d", "scale": 1.0}
    assert set(material["settings"]) == set(GenerationSettings.model_fields)


def test_candidate_cell_without_adapter_digest_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="a cell that uses an adapter needs its digest; L1/one/seed1/x1 has none"):
        key(planned(), adapter_digest=None)
