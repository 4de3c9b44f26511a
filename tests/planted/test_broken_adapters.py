"""Every way in which an adapter file is broken is found before anything is scored, each with words of its own."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from lorabench.errors import ExitCode, LorabenchError, MeasurementError, SpecError
from lorabench.generation.adapter import AdapterFile, read_adapter
from lorabench.generation.placement import check_fit

Tensors = dict[str, Any]

FLUX_BASE = {
    "transformer.transformer_blocks.0.attn.to_q": (8, 8),
    "transformer.transformer_blocks.0.attn.to_k": (8, 8),
    "transformer.single_transformer_blocks.0.attn.to_q": (8, 8),
}
ALPHA = {"lora_adapter_metadata": json.dumps({"transformer.r": 2, "transformer.lora_alpha": 2})}


def healthy() -> Tensors:
    rng = np.random.default_rng(0)
    tensors: Tensors = {}
    for layer in FLUX_BASE:
        tensors[f"{layer}.lora_A.weight"] = rng.normal(size=(2, 8)).astype(np.float32)
        tensors[f"{layer}.lora_B.weight"] = rng.normal(size=(8, 2)).astype(np.float32)
    return tensors


def write(folder: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    path = folder / "candidate.safetensors"
    save_file(tensors, path, metadata=ALPHA if metadata is None else metadata)
    return path


def first_up(tensors: Tensors) -> str:
    return next(key for key in tensors if "lora_B" in key)


def with_value(value: float) -> Tensors:
    tensors = healthy()
    tensors[first_up(tensors)][3, 1] = value
    return tensors


def without_one_down() -> Tensors:
    tensors = healthy()
    del tensors[next(key for key in tensors if "lora_A" in key)]
    return tensors


def other_ranks() -> Tensors:
    tensors = healthy()
    tensors[first_up(tensors)] = np.ones((8, 3), np.float32)
    return tensors


def never_trained() -> Tensors:
    return {key: value * 0 if "lora_B" in key else value for key, value in healthy().items()}


def renamed(old: str, new: str) -> Tensors:
    return {key.replace(old, new): value for key, value in healthy().items()}


BROKEN_CONTENT: dict[str, tuple[Callable[[], Tensors], type[LorabenchError], str]] = {
    "empty": (dict, MeasurementError, "must hold LoRA weights; candidate holds none: it holds no tensor at all"),
    "a whole model": (
        lambda: {"transformer.proj_out.weight": np.ones((2, 2), np.float32)},
        MeasurementError,
        "must hold LoRA weights; .* its 1 tensors are others",
    ),
    "not a number": (
        lambda: with_value(np.nan),
        MeasurementError,
        r"must be finite; .* NaN or Inf in 1 .*to_q\.lora_B",
    ),
    "infinite": (lambda: with_value(np.inf), MeasurementError, "must be finite; .* NaN or Inf in 1 tensors"),
    "up without down": (
        without_one_down,
        MeasurementError,
        r"one down and one up matrix.* in candidate 1 .*up without down",
    ),
    "ranks disagree": (other_ranks, MeasurementError, r"of the same rank; .*down \[2, 8\], up \[8, 3\]"),
    "never trained": (
        never_trained,
        MeasurementError,
        "must change the base; .* all 3 pairs of matrices is zero: it was never",
    ),
    "LoHa": (
        lambda: {"lora_unet_a.hada_w1_a": np.ones((2, 2), np.float32)},
        SpecError,
        "must be a plain LoRA; candidate holds LoHa weights",
    ),
    "DoRA": (
        lambda: (
            healthy() | {"transformer.transformer_blocks.0.attn.to_q.lora_magnitude_vector": np.ones(8, np.float32)}
        ),
        SpecError,
        "must be a plain LoRA; candidate holds DoRA weights",
    ),
}


@pytest.mark.parametrize("fault", BROKEN_CONTENT)
def test_broken_content_is_refused_by_name(fault: str, tmp_path: Path) -> None:
    make, kind, words = BROKEN_CONTENT[fault]

    with pytest.raises(kind, match=words):
        read_adapter(write(tmp_path, make()))


def test_the_healthy_file_that_all_faults_start_from_is_accepted(tmp_path: Path) -> None:
    adapter = read_adapter(write(tmp_path, healthy()))

    assert len(check_fit(adapter, FLUX_BASE)) == 3


@pytest.mark.parametrize("keep", [4, 60, 0.5, 0.999])
def test_truncated_file_is_refused(keep: float, tmp_path: Path) -> None:
    path = write(tmp_path, healthy())
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])

    with pytest.raises(MeasurementError, match=r"is truncated: .* Wait until the trainer has finished"):
        read_adapter(path)


class _Harmful:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("name", ["lora.pt", "lora.ckpt", "lora.bin", "renamed.safetensors", "zipped.safetensors"])
def test_pickle_is_refused_unread(name: str, tmp_path: Path) -> None:
    content = pickle.dumps(_Harmful(tmp_path / "ran"))
    if name.startswith("zipped"):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("archive/data.pkl", content)
        content = stream.getvalue()
    (tmp_path / name).write_bytes(content)

    with pytest.raises(SpecError, match="loading a pickle runs the code inside it"):
        read_adapter(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"<html>not found</html>",
        (10).to_bytes(8, "little") + b"not json!!",
        (2).to_bytes(8, "little") + b"[]",
        save({"a": np.ones(2, np.float32)}).replace(b'"F32"', b'"X32"'),
        save({"a": np.ones(2, np.float32)}).replace(b"[2]", b"[3]"),
    ],
)
def test_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "lora.safetensors").write_bytes(content)

    with pytest.raises(SpecError, match=r"must be a safetensors file; lora\.safetensors has no valid header"):
        read_adapter(tmp_path / "lora.safetensors")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"found neither at .* Check the path"):
        read_adapter(tmp_path)


def test_unknown_alpha_is_asked_for_and_then_taken(tmp_path: Path) -> None:
    path = write(tmp_path, healthy(), metadata={})

    with pytest.raises(
        SpecError, match=r"alpha must be known, .* \(rank 2\) carries it neither .* --alpha 2"
    ) as caught:
        read_adapter(path)
    assert caught.value.exit_code is ExitCode.USAGE
    assert read_adapter(path, alpha=4.0).modules[0].scaling == 2.0


def test_contradicting_alpha_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="stated alpha must agree with the file; stated 4, candidate carries 2"):
        read_adapter(write(tmp_path, healthy()), alpha=4.0)


def fit_of(folder: Path, tensors: Tensors) -> AdapterFile:
    return read_adapter(write(folder, tensors))


def test_wrong_family_is_refused(tmp_path: Path) -> None:
    adapter = fit_of(tmp_path, renamed("transformer_blocks.0.attn", "down_blocks.1.attentions.0.attn1"))

    with pytest.raises(
        MeasurementError, match=r"must be made for the base; none of the 3 modules .* Stable Diffusion UNet"
    ):
        check_fit(adapter, FLUX_BASE)


def test_half_matching_file_is_refused_and_names_what_is_missing(tmp_path: Path) -> None:
    adapter = fit_of(tmp_path, renamed("single_transformer_blocks.0", "single_transformer_blocks.37"))

    with pytest.raises(MeasurementError, match=r"2 of the 3 of candidate are. Without a place: .*\.37\.attn\.to_q"):
        check_fit(adapter, FLUX_BASE)


def test_other_widths_are_refused(tmp_path: Path) -> None:
    adapter = fit_of(tmp_path, healthy())
    wider = dict.fromkeys(FLUX_BASE, (16, 8))

    with pytest.raises(MeasurementError, match=r"must have the widths of the base; 3 .*file 8 x 8, base 16 x 8"):
        check_fit(adapter, wider)


def test_layer_adapted_twice_is_refused(tmp_path: Path) -> None:
    tensors = healthy()
    for part, shape in (("A", (2, 8)), ("B", (8, 2))):
        tensors[f"transformer_blocks.0.attn.to_q.lora_{part}.weight"] = np.ones(shape, np.float32)
    path = write(tmp_path, tensors, metadata={})

    with pytest.raises(MeasurementError, match=r"to_q \(adapted twice\)"):
        check_fit(read_adapter(path, alpha=2.0), FLUX_BASE)


def test_learned_tokens_can_be_read_but_not_scored(tmp_path: Path) -> None:
    adapter = fit_of(tmp_path, healthy() | {"<s1>": np.ones(8, np.float32)})

    assert adapter.unused == ("<s1>",)
    with pytest.raises(
        MeasurementError, match=r"all weights of an adapter must be applied; .* no LoRA layer takes: <s1>"
    ):
        check_fit(adapter, FLUX_BASE)
