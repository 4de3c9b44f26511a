"""The calls of accelerate and diffusers that a training script makes anyway, heard by somebody else as well.

    with heard_by(listener):
        runpy.run_path("train_dreambooth_lora_flux.py", run_name="__main__")

Only public calls are listened to: `ArgumentParser.parse_args`, `from_pretrained`, and `prepare`, `accumulate`,
`backward`, `clip_grad_norm_`, `log`, `save_state`, `load_state`, `wait_for_everyone` and `end_training` of
`accelerate.Accelerator`. Each does and returns what it always does. One thing is added: a prepared data loader ends
early when the listener says so. Afterwards all are as they were.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

Replacement = Callable[..., Any]


class Listener(Protocol):
    """What hears of the script's calls. `accelerator` is the script's own."""

    def parsed(self, settings: argparse.Namespace) -> None:
        """The script read its command line."""

    def loaded(self, model: Any, *, source: str, component: str | None) -> None:
        """A network was loaded from a folder or hub id, from the component's subfolder if one was named."""

    def prepared(self, accelerator: Any, given: Sequence[Any], made: Sequence[Any]) -> None:
        """Objects were prepared; `made` is what the script got for `given`."""

    def batch_begins(self, accelerator: Any) -> None:
        """A batch begins, inside `accumulate`."""

    def backward_was_run(self, loss: Any) -> None:
        """A loss was propagated."""

    def gradients_were_clipped(self, norm: Any) -> None:
        """Gradients were clipped; their norm before that."""

    def batch_ended(self, accelerator: Any) -> None:
        """A batch ended; its optimiser step, if it made one, is done."""

    def logged(self, step: int | None) -> None:
        """The script logged numbers."""

    def saved(self, folder: Path) -> None:
        """The training's state was written."""

    def resumed(self, folder: Path) -> None:
        """The training's state was read."""

    def all_wait(self) -> None:
        """The processes wait for one another, as after the last step."""

    def training_ends(self) -> None:
        """The script is done; trackers are still open."""

    def has_ended(self) -> bool:
        """Whether no further batch must be given."""


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Let the listener hear of everything that runs in here.

    Args:
        listener: Hears; must not change what it is given.
    """
    from accelerate import Accelerator
    from accelerate.data_loader import DataLoaderDispatcher, DataLoaderShard
    from diffusers import ModelMixin
    from transformers import PreTrainedModel

    seams: list[tuple[type, str, Callable[[Replacement], Any]]] = [
        (argparse.ArgumentParser, "parse_args", lambda original: _parse_args(original, listener)),
        (DataLoaderShard, "__iter__", lambda original: _iterate(original, listener)),
        (DataLoaderDispatcher, "__iter__", lambda original: _iterate(original, listener)),
        *(
            (owner, "from_pretrained", lambda one: _from_pretrained(one, listener))
            for owner in (ModelMixin, PreTrainedModel)
        ),
        *((Accelerator, name, _bound(make, listener)) for name, make in _ACCELERATOR.items()),
    ]
    with ExitStack() as stack:
        for owner, name, make in seams:
            original = owner.__dict__[name]
            setattr(owner, name, make(original))
            stack.callback(setattr, owner, name, original)
        yield


def _bound(make: Callable[[Replacement, Listener], Any], listener: Listener) -> Callable[[Replacement], Any]:
    return lambda original: make(original, listener)


def _parse_args(original: Replacement, listener: Listener) -> Replacement:
    def parse_args(self: argparse.ArgumentParser, *args: Any, **more: Any) -> Any:
        settings = original(self, *args, **more)
        listener.parsed(settings)
        return settings

    return parse_args


def _from_pretrained(original: Any, listener: Listener) -> Any:
    def from_pretrained(cls: type, source: Any, *args: Any, **more: Any) -> Any:
        model = original.__func__(cls, source, *args, **more)
        network = model[0] if isinstance(model, tuple) else model  # a tuple where loading remarks were asked for
        listener.loaded(network, source=str(source), component=more.get("subfolder") or None)
        return model

    return classmethod(from_pretrained)


def _iterate(original: Replacement, listener: Listener) -> Replacement:
    def iterate(self: Any) -> Iterator[Any]:
        if listener.has_ended():
            return
        for batch in original(self):
            yield batch
            if listener.has_ended():
                return

    return iterate


def _prepare(original: Replacement, listener: Listener) -> Replacement:
    def prepare(self: Any, *given: Any, **more: Any) -> Any:
        made = original(self, *given, **more)
        listener.prepared(self, given, made if isinstance(made, tuple) else (made,))
        return made

    return prepare


def _accumulate(original: Replacement, listener: Listener) -> Replacement:
    @contextmanager
    def accumulate(self: Any, *models: Any) -> Iterator[None]:
        listener.batch_begins(self)
        with original(self, *models):
            yield
        listener.batch_ended(self)

    return accumulate


def _backward(original: Replacement, listener: Listener) -> Replacement:
    def backward(self: Any, loss: Any, **more: Any) -> None:
        original(self, loss, **more)
        listener.backward_was_run(loss)

    return backward


def _clip_grad_norm(original: Replacement, listener: Listener) -> Replacement:
    def clip_grad_norm_(self: Any, *args: Any, **more: Any) -> Any:
        norm = original(self, *args, **more)
        listener.gradients_were_clipped(norm)
        return norm

    return clip_grad_norm_


def _log(original: Replacement, listener: Listener) -> Replacement:
    def log(self: Any, values: Any, step: int | None = None, *args: Any, **more: Any) -> None:
        original(self, values, step, *args, **more)
        listener.logged(step)

    return log


def _wait_for_everyone(original: Replacement, listener: Listener) -> Replacement:
    def wait_for_everyone(self: Any) -> None:
        listener.all_wait()
        original(self)

    return wait_for_everyone


def _save_state(original: Replacement, listener: Listener) -> Replacement:
    def save_state(self: Any, *args: Any, **more: Any) -> Any:
        folder = original(self, *args, **more)
        listener.saved(Path(folder))
        return folder

    return save_state


def _load_state(original: Replacement, listener: Listener) -> Replacement:
    def load_state(self: Any, input_dir: str | None = None, *args: Any, **more: Any) -> None:
        original(self, input_dir, *args, **more)
        if input_dir is not None:
            listener.resumed(Path(input_dir))

    return load_state


def _end_training(original: Replacement, listener: Listener) -> Replacement:
    def end_training(self: Any) -> None:
        listener.training_ends()
        original(self)

    return end_training


_ACCELERATOR: dict[str, Callable[[Replacement, Listener], Any]] = {
    "prepare": _prepare,
    "accumulate": _accumulate,
    "backward": _backward,
    "clip_grad_norm_": _clip_grad_norm,
    "log": _log,
    "save_state": _save_state,
    "load_state": _load_state,
    "wait_for_everyone": _wait_for_everyone,
    "end_training": _end_training,
}
