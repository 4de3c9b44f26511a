"""CLIP through open_clip: pictures and sentences as unit vectors in one space.

Three faults of commonly used CLIP scoring code cannot happen here: the end token of a long sentence is never cut off
(the vector would no longer depend on the sentence), pictures are taken as uint8 only (floats would be rescaled twice),
and weights trained with QuickGELU never run with another activation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lorabench.errors import MeasurementError
from lorabench.judges.devices import full_precision, resolve_device, untouched_random_state
from lorabench.judges.digests import tensors_digest
from lorabench.judges.hub import hub_problem, in_hub_cache
from lorabench.judges.pictures import check_pictures
from lorabench.judges.protocols import Picture, Vectors
from lorabench.judges.torchvision_compat import declare_missing_operators

LOCAL_DIR = "local-dir:"
HUB = "hf-hub:"
_CLAUSE_END = re.compile(r"\s*[,;:.!?]+(?:\s+|$)|\s+[-–—]\s+|\s+and\s+")
_BATCH = 8


class ClipLoadError(MeasurementError):
    """A CLIP model that could not be loaded as it was asked for."""

    def __init__(self, model: str, problem: str, remedy: str) -> None:
        super().__init__(f"judges.clip must name an open_clip model with its weights; {model!r}: {problem}. {remedy}")
        self.model, self.problem = model, problem


class ClipEncoder:
    """An open_clip model as judge.

    Sentences longer than the context length are split into clauses at punctuation and "and" (a clause that is still too
    long, at the word in its middle); the vector of the sentence is the normalised mean of its clauses' unit vectors.
    Shorter ones are encoded whole. `clauses` shows how a sentence is treated.
    """

    def __init__(self, model: str, pretrained: str = "", *, device: str = "auto") -> None:
        """Load model, preprocessing and tokenizer.

        Args:
            model: open_clip name (`ViT-L-14-quickgelu`), or `local-dir:<folder>` with `open_clip_config.json`, weights
                and tokenizer.
            pretrained: open_clip tag or file of weights; must be empty with `local-dir:`.
            device: torch device, or `auto`.

        Raises:
            ClipLoadError: No such model, no weights, weights that do not fit, or another activation than the weights
                need.
        """
        self.device = resolve_device(device)
        self.notes: tuple[str, ...] = ()
        """What was decided while loading, for the report."""
        _check_reachable(model, pretrained)
        quick_gelu = self._settle_activation(model, pretrained)
        self._model, self._preprocess = _load(model, pretrained, quick_gelu=quick_gelu, device=self.device)
        self._tokenizer = _tokenizer(model)
        self.context_length = int(self._tokenizer.context_length)
        self.name = "clip-" + (Path(model.removeprefix(LOCAL_DIR)).name if model.startswith(LOCAL_DIR) else model)
        with full_precision(self.device):
            self.logit_scale = float(self._model.logit_scale.exp())
        self.weights_digest = tensors_digest(self._model.state_dict(), settings=self._settings(model))
        """Over the tensors and all that changes the vectors: activation, preprocessing, tokenizer, clause rule."""

    def encode_images(self, pictures: Sequence[Picture]) -> Vectors:
        """Unit vectors of the pictures.

        Args:
            pictures: uint8 arrays of shape (height, width, 3), RGB.

        Returns:
            float32 (n, d).

        Raises:
            ValueError: Something else than uint8 RGB pictures.
        """
        check_pictures(pictures)
        import torch
        from PIL import Image

        vectors = []
        for start in range(0, len(pictures), _BATCH):
            chunk = [self._preprocess(Image.fromarray(picture)) for picture in pictures[start : start + _BATCH]]
            with full_precision(self.device):
                vectors.append(self._model.encode_image(torch.stack(chunk).to(self.device)).float().cpu().numpy())
        return _unit(np.concatenate(vectors)) if vectors else np.empty((0, self._width()), dtype=np.float32)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of the sentences; too long ones as the mean of their clauses, never cut.

        Returns:
            float32 (k, d).

        Raises:
            ValueError: An empty sentence.
        """
        pieces = [self.clauses(text) for text in texts]
        flat = [piece for group in pieces for piece in group]
        if not flat:
            return np.empty((0, self._width()), dtype=np.float32)
        vectors = _unit(np.concatenate([self._encode(flat[at : at + _BATCH]) for at in range(0, len(flat), _BATCH)]))
        ends = np.cumsum([len(group) for group in pieces])
        return _unit(np.stack([group.mean(axis=0) for group in np.split(vectors, ends[:-1])]))

    def clauses(self, text: str) -> tuple[str, ...]:
        """The pieces a sentence is encoded in: itself, where it fits into the context.

        Raises:
            ValueError: The sentence is empty.
        """
        if not text.strip():
            msg = "a sentence to encode must not be empty; give the prompt's words"
            raise ValueError(msg)
        if self._fits(text):
            return (text,)
        parts = [part for part in (piece.strip() for piece in _CLAUSE_END.split(text)) if part]
        return tuple(piece for part in parts for piece in self._halved(part))

    def _halved(self, clause: str) -> tuple[str, ...]:
        """A clause in pieces that fit, cut at words; a single word is left to the tokenizer."""
        words = clause.split()
        if len(words) < 2 or self._fits(clause):
            return (clause,)
        middle = len(words) // 2
        return (*self._halved(" ".join(words[:middle])), *self._halved(" ".join(words[middle:])))

    def _fits(self, text: str) -> bool:
        """Whether nothing of the text is lost in the context: a longer one brings no further token."""
        return self._n_tokens(text, 4 * self.context_length) <= self.context_length

    def _n_tokens(self, text: str, context_length: int) -> int:
        """Tokens up to and with the end token, in a row of the given length."""
        row: list[int] = self._tokenizer([text], context_length=context_length)[0].tolist()
        end = self.end_token_id
        return row.index(end) + 1 if end in row else sum(token != row[-1] for token in row)

    @property
    def end_token_id(self) -> int | None:
        """Id of the token that ends a sentence, where the tokenizer has one."""
        inner = getattr(self._tokenizer, "tokenizer", None)
        found = getattr(self._tokenizer, "eot_token_id", None) if inner is None else inner.eos_token_id
        return None if found is None else int(found)

    def token_ids(self, text: str) -> list[int]:
        """The row of `context_length` token ids the text tower gets for a piece of text.

        Raises:
            ClipLoadError: The tokenizer cut the end token off.
        """
        row: list[int] = self._tokenizer([text])[0].tolist()
        if self.end_token_id is not None and self.end_token_id not in row:
            problem = f"its tokenizer drops the end token of long text (first words: {text[:40]!r})"
            raise ClipLoadError(self.name, problem, "Use the tokenizer that belongs to the model.")
        return row

    def _encode(self, texts: Sequence[str]) -> Vectors:
        import torch

        tokens = torch.tensor([self.token_ids(text) for text in texts], device=self.device)
        with full_precision(self.device):
            vectors: Vectors = self._model.encode_text(tokens).float().cpu().numpy()
        return vectors

    def _width(self) -> int:
        return int(self._encode(["a"]).shape[1])

    def _settle_activation(self, model: str, pretrained: str) -> bool:
        """Whether QuickGELU must be switched on because the weights were trained with it."""
        declare_missing_operators()
        import open_clip

        known = {} if model.startswith(LOCAL_DIR) else open_clip.get_pretrained_cfg(model.replace("/", "-"), pretrained)
        if not known:
            return False
        configured = bool((open_clip.get_model_config(model) or {}).get("quick_gelu", False))
        needed = bool(known.get("quick_gelu", False))
        if configured and not needed:
            remedy = f"Write {model.removesuffix('-quickgelu')!r} instead."
            raise ClipLoadError(model, f"weights {pretrained!r} were trained without QuickGELU", remedy)
        if needed and not configured:
            self.notes = (f"QuickGELU switched on: weights {pretrained!r} were trained with it, {model!r} has it off",)
        return needed and not configured

    def _settings(self, model: str) -> str:
        """Everything beside the tensors that changes a vector, as text."""
        kinds = {type(module).__name__ for module in self._model.modules()}
        folder = Path(model.removeprefix(LOCAL_DIR)) if model.startswith(LOCAL_DIR) else None
        tokenizer = folder / "tokenizer.json" if folder is not None else None
        return json.dumps(
            {
                "activations": sorted(kind for kind in kinds if "GELU" in kind),
                "preprocess": str(self._preprocess),
                "context_length": self.context_length,
                "tokenizer": tokenizer.read_text("utf-8") if tokenizer is not None and tokenizer.is_file() else model,
                "clauses": _CLAUSE_END.pattern,
            },
            sort_keys=True,
        )


def _check_reachable(model: str, pretrained: str) -> None:
    """Refuse weights of which nothing is cached and that the hub does not give, before open_clip waits for them.

    Raises:
        ClipLoadError: They are not to be had.
    """
    repository = model.removeprefix(HUB) if model.startswith(HUB) else _home_of(model, pretrained)
    if not repository or in_hub_cache(repository):
        return
    if problem := hub_problem(repository):
        remedy = "Name a model that this machine has or can get, or local-dir:<folder written by open_clip>."
        raise ClipLoadError(model, f"{repository} is not in the hub's cache, and {problem}", remedy)


def _home_of(model: str, pretrained: str) -> str:
    """Hub id of the weights that a tag stands for; empty where they come from elsewhere."""
    if model.startswith(LOCAL_DIR):
        return ""
    declare_missing_operators()
    import open_clip

    place = str(open_clip.get_pretrained_cfg(model.replace("/", "-"), pretrained).get("hf_hub", ""))
    return place.rpartition("/")[0]


def _load(model: str, pretrained: str, *, quick_gelu: bool, device: str) -> tuple[Any, Any]:
    """Model in float32 and evaluation mode, and its preprocessing; weights strictly loaded or an error."""
    import open_clip

    if model.startswith(LOCAL_DIR) and pretrained:
        raise ClipLoadError(
            model, f"judges.clip_pretrained is {pretrained!r} beside a local folder", "Leave it empty, or name a model."
        )
    if not model.startswith(LOCAL_DIR) and not pretrained:
        remedy = f"Set judges.clip_pretrained to a tag of it: {', '.join(_tags(model)) or 'none known'}; or to a file."
        raise ClipLoadError(model, "no weights are named", remedy)
    try:
        with untouched_random_state():
            network, _, preprocess = open_clip.create_model_and_transforms(
                model,
                pretrained=pretrained or None,
                precision="fp32",
                device=device,
                force_quick_gelu=quick_gelu,
                require_pretrained=True,
                weights_only=True,
                pretrained_hf=False,
            )
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        remedy = "Name a model open_clip knows with one of its tags, or local-dir:<folder written by open_clip>."
        raise ClipLoadError(model, _first_line(error), remedy) from error
    return network.eval().requires_grad_(requires_grad=False), preprocess


def _tokenizer(model: str) -> Any:
    import open_clip

    try:
        return open_clip.get_tokenizer(model)
    except (ValueError, OSError, KeyError, TypeError) as error:
        remedy = "Put the tokenizer's files beside the weights."
        raise ClipLoadError(model, f"its tokenizer: {_first_line(error)}", remedy) from error


def _tags(model: str) -> list[str]:
    import open_clip

    return list(open_clip.list_pretrained_tags_by_model(model))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _unit(vectors: Vectors) -> Vectors:
    """Rows scaled to length one.

    Raises:
        MeasurementError: A row is zero or not finite.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        msg = (
            "CLIP vectors must be finite and not zero; found one that is not. The weights are damaged: get them again."
        )
        raise MeasurementError(msg)
    scaled: Vectors = (vectors / lengths).astype(np.float32)
    return scaled
