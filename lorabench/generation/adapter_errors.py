"""What can be wrong with an adapter file, one class for each fault."""

from __future__ import annotations

from collections.abc import Sequence

from lorabench.errors import MeasurementError, SpecError


def listing(names: Sequence[str], *, most: int = 3) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


class NoLoraKeysError(MeasurementError):
    """A safetensors file without low-rank weights."""

    def __init__(self, name: str, *, found: Sequence[str]) -> None:
        what = (
            f"its {len(found)} tensors are others (first: {listing(found)})" if found else "it holds no tensor at all"
        )
        super().__init__(
            f"an adapter must hold LoRA weights; {name} holds none: {what}. Give the LoRA that was trained."
        )
        self.found = tuple(found)


class UnsupportedAdapterError(SpecError):
    """Weights of another method than LoRA."""

    def __init__(self, name: str, *, method: str, example: str) -> None:
        super().__init__(
            f"an adapter must be a plain LoRA; {name} holds {method} weights ({example}). "
            f"Convert it to LoRA with the tool that made it."
        )
        self.method = method


class UnpairedWeightsError(MeasurementError):
    """Down without up, or up without down, or both with different ranks."""

    def __init__(self, name: str, *, problems: Sequence[str]) -> None:
        super().__init__(
            f"each adapted module must have one down and one up matrix of the same rank; in {name} "
            f"{len(problems)} have not: {listing(problems)}. The file is damaged or was cut; save it again."
        )
        self.problems = tuple(problems)


class NotFiniteError(MeasurementError):
    """NaN or infinity among the weights."""

    def __init__(self, name: str, *, tensors: Sequence[str]) -> None:
        super().__init__(
            f"all weights of an adapter must be finite; {name} has NaN or Inf in {len(tensors)} tensors: "
            f"{listing(tensors)}. Training diverged before this file was saved; take an earlier checkpoint."
        )
        self.tensors = tuple(tensors)


class NeverTrainedError(MeasurementError):
    """All low-rank products are zero, as before the first optimiser step."""

    def __init__(self, name: str, *, n_modules: int) -> None:
        super().__init__(
            f"an adapter must change the base; in {name} the product of all {n_modules} pairs of matrices is zero: it "
            f"was never trained. Take a checkpoint saved after the first optimiser step."
        )
        self.n_modules = n_modules


class AlphaUnknownError(SpecError):
    """The file does not say alpha, so its strength is unknown."""

    def __init__(self, name: str, *, ranks: Sequence[int]) -> None:
        super().__init__(
            f"alpha must be known, because the strength of an adapter is alpha / rank; {name} (rank "
            f"{', '.join(map(str, ranks))}) carries it neither as tensors nor in its header. State it: --alpha "
            f"{ranks[0]} if it was trained with alpha = rank, else the value in the training configuration."
        )
        self.ranks = tuple(ranks)


class AlphaContradictionError(SpecError):
    """The alpha that was stated is not the file's."""

    def __init__(self, name: str, *, stated: float, found: Sequence[float]) -> None:
        super().__init__(
            f"a stated alpha must agree with the file; stated {stated:g}, {name} carries "
            f"{', '.join(f'{value:g}' for value in found)}. Leave --alpha out: the file says it."
        )
        self.stated, self.found = stated, tuple(found)


class WrongFamilyError(MeasurementError):
    """Not one module of the file is in the base."""

    def __init__(self, name: str, *, found: Sequence[str], guess: str | None) -> None:
        hint = f"; its names are those of {guess}" if guess else ""
        super().__init__(
            f"an adapter must be made for the base; none of the {len(found)} modules of {name} is in it{hint} "
            f"(first: {listing(found)}). Give the base that it was trained on."
        )
        self.found, self.guess = tuple(found), guess


class PartialFitError(MeasurementError):
    """Some modules of the file have no place in the base."""

    def __init__(self, name: str, *, n_fitting: int, n_modules: int, missing: Sequence[str]) -> None:
        super().__init__(
            f"all modules of an adapter must be in the base; {n_fitting} of the {n_modules} of {name} are. Without a "
            f"place: {listing(missing)}. Half an adapter is not scored: give the base that it was trained on."
        )
        self.n_fitting, self.n_modules, self.missing = n_fitting, n_modules, tuple(missing)


class ShapeMismatchError(MeasurementError):
    """The modules are there, but with other widths."""

    def __init__(self, name: str, *, problems: Sequence[str]) -> None:
        super().__init__(
            f"an adapter must have the widths of the base; {len(problems)} modules of {name} have not: "
            f"{listing(problems)}. It was trained on another size of this family; give that base."
        )
        self.problems = tuple(problems)


class UnusedWeightsError(MeasurementError):
    """The file holds more than low-rank weights (learned tokens, biases, whole layers)."""

    def __init__(self, name: str, *, unused: Sequence[str]) -> None:
        super().__init__(
            f"all weights of an adapter must be applied; {name} holds {len(unused)} that no LoRA layer takes: "
            f"{listing(unused)}. Pictures without them would not be those of the adapter: save it without learned "
            f"tokens, biases and whole layers."
        )
        self.unused = tuple(unused)


class NoEffectError(MeasurementError):
    """Attached as asked, and the pictures do not change."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"an adapter must change what the base makes; with {name} at scale 1 the base's output stays the same to "
            f"the last bit. Check that it is the trained file, and that the base's dtype can hold so small a change."
        )


class NotSwitchedOffError(MeasurementError):
    """At scale 0 something of the adapter stays behind."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"an adapter at scale 0 must leave the base's output as it is, to the last bit; with {name} it differs, so "
            f"base and candidate could not be told apart. Its weights may overflow in this dtype: take float32."
        )
