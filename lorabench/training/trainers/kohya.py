"""A monitor inside kohya's sd-scripts (SD1.5, SDXL, FLUX and their kin), without an edit of them.

    # train_with_lorabench.py, in the folder of sd-scripts
    from lorabench.callback import Monitor
    from lorabench.training.trainers.kohya import KohyaMonitor

    KohyaMonitor(Monitor.from_config("lorabench.toml")).launch("flux_train_network")

Models there are sd-scripts' own, no pipeline fits around them. So the network is written at the monitor's cadence, as
sd-scripts would, and that file is judged on the base that `[model]` names, loaded a second time.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from lorabench.training.trainers.attachment import Attachment, TrainingMonitor
from lorabench.training.trainers.inside import (
    Losses,
    MissingHookError,
    NothingHeardError,
    SavedByTrainer,
    StopTrainingError,
    UnsuitedTrainingError,
    called_with,
    need,
    need_parameters,
)

TRAINER: Final = "sd-scripts"
READ: Final = "48d368f of February 2026"
_PRECISIONS: Final = {"fp16": "float16", "bf16": "bfloat16", "float": "float32"}


class KohyaMonitor(Attachment):
    """A monitor on a training with a `NetworkTrainer`.

    Every process calls `sample_images` after each optimiser step; that is where steps are told. sd-scripts knows no
    stop: a private exception leaves `train`, and nothing more is saved.
    """

    def __init__(self, monitor: TrainingMonitor, *, restart: bool = False) -> None:
        """Hang up a monitor that was given neither pipeline nor adapter.

        Args:
            monitor: A `lorabench.callback.Monitor`.
            restart: Begin a new history where a stored state belongs to another suite or other metrics.
        """
        super().__init__(monitor, restart=restart)
        self._losses = Losses()
        self._last_step: int | None = None
        self._network: Any = None

    def launch(self, script: str) -> None:
        """Train as `python SCRIPT.py` would, with the command line that this process was given.

        Args:
            script: Name of the script without its ending: `train_network`, `sdxl_train_network`, `flux_train_network`.

        Raises:
            MissingHookError: This version of sd-scripts, or this folder, is not as needed.
            NothingHeardError: The training ended and no step was heard of.
        """
        module, tools = _module(script), _module("library.train_util")
        need(module, ["setup_parser"], trainer=TRAINER, read=READ)
        need(tools, ["read_config_from_file", "verify_command_line_training_args"], trainer=TRAINER, read=READ)
        trainer_class = trainer_class_of(module)
        parser = module.setup_parser()
        args = parser.parse_args()
        tools.verify_command_line_training_args(args)
        self.train(trainer_class, tools.read_config_from_file(args, parser))

    def train(self, trainer_class: type, args: Any) -> None:
        """Train with a trainer of this class until its end, or until the monitor stops it.

        Args:
            trainer_class: A `NetworkTrainer`.
            args: What its `train` takes.

        Raises:
            MissingHookError: The class has not the hooks that are needed.
            NothingHeardError: The training ended and no step was heard of.
        """
        trainer = self.watched(trainer_class)()
        try:
            trainer.train(args)
        except StopTrainingError as stopped:
            accelerator = stopped.args[0]
            accelerator.end_training()
        if self._last_step is None:
            raise NothingHeardError(TRAINER)
        self.finish()

    def watched(self, trainer_class: type) -> type:
        """A subclass that tells the monitor; everything else is the trainer's.

        Raises:
            MissingHookError: The class has not the hooks that are needed.
        """
        check = {"trainer": TRAINER, "read": READ}
        need(trainer_class, ["train"], **check)
        need_parameters(trainer_class, "sample_images", ["accelerator", "args", "epoch", "global_step"], **check)
        need_parameters(trainer_class, "post_process_network", ["network"], **check)
        methods = {name: _hook(self, trainer_class, name) for name in ("sample_images", "post_process_network")}
        if hasattr(trainer_class, "process_batch"):  # older ones compute the loss inside `train`: then it is not known
            methods["process_batch"] = _hook(self, trainer_class, "process_batch")
        return type(f"Watched{trainer_class.__name__}", (trainer_class,), methods)

    def before_sample_images(self, call: Any) -> None:
        """Before the first step, after each optimiser step, and at the end of each epoch; the last is not ours.

        Raises:
            StopTrainingError: The monitor says stop.
        """
        if self._last_step is None:
            self._attach(call["args"])
        training_step = int(call["global_step"])
        if call["epoch"] is not None or training_step == self._last_step:
            return
        self._last_step = training_step
        self.monitor.on_step_end(training_step, loss=self._losses.mean())
        if self.monitor.should_stop:
            raise StopTrainingError(call["accelerator"])

    def before_post_process_network(self, call: Any) -> None:
        """The network was made.

        Raises:
            MissingHookError: It cannot be saved as sd-scripts' networks can.
        """
        need(call["network"], ["save_weights"], trainer=TRAINER, read=READ)
        self._network = call["network"]

    def after_process_batch(self, call: Any, loss: Any) -> None:
        """The loss of a batch; those of validation are not the training's."""
        if call.get("is_train", True):
            self._losses.note(loss)

    def _attach(self, args: Any) -> None:
        if self._network is None:
            raise MissingHookError(
                TRAINER, needed="post_process_network before the first step", found="no such call", read=READ
            )
        if getattr(args, "deepspeed", False):
            raise UnsuitedTrainingError(TRAINER, found="DeepSpeed")
        network, dtype = self._network, _dtype(getattr(args, "save_precision", None))
        self.monitor.adapter = SavedByTrainer(lambda path: network.save_weights(str(path), dtype, {}))
        self.monitor.modules = (network,)
        self._last_step = 0
        # Schedule-free optimisers show the averaged weights whenever this hook is called: none is handed over.
        self.begin(None, stored=None)


def trainer_class_of(module: ModuleType) -> type:
    """The trainer that a script defines.

    Raises:
        MissingHookError: It defines none, or several.
    """
    base = getattr(_module("train_network"), "NetworkTrainer", None)
    found = [
        one
        for one in vars(module).values()
        if isinstance(one, type) and isinstance(base, type) and issubclass(one, base)
    ]
    own = [one for one in found if one.__module__ == module.__name__]
    if len(own) != 1:
        names = ", ".join(one.__name__ for one in own) or "none"
        needed = f"one subclass of train_network.NetworkTrainer in {module.__name__}"
        raise MissingHookError(TRAINER, needed=needed, found=names, read=READ)
    return own[0]


def _hook(hooks: KohyaMonitor, trainer_class: type, name: str) -> Any:
    before, after = getattr(hooks, f"before_{name}", None), getattr(hooks, f"after_{name}", None)
    method: Any = getattr(trainer_class, name)

    def hook(self: Any, *given: Any, **named: Any) -> Any:
        call = called_with(method, self, *given, **named)
        if before is not None:
            before(call)
        result = method(self, *given, **named)
        if after is not None:
            after(call, result)
        return result

    return hook


def _module(name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise  # something that sd-scripts itself needs
        found = f"no module {error.name} from {folder}"
        raise MissingHookError(
            TRAINER, needed=f"its folder as the working directory, with {name}", found=found, read=READ
        ) from error


def _dtype(precision: str | None) -> Any:
    import torch

    return getattr(torch, _PRECISIONS[precision]) if precision in _PRECISIONS else None
