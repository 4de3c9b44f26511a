# ruff: noqa: NPY002, PT012 - global generators are what must not be disturbed, by more than one statement
from __future__ import annotations

import copy
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lorabench.errors import MeasurementError, SpecError
from lorabench.training import guard_state
from lorabench.training.fingerprint import Subjects, differences, fingerprint
from lorabench.training.guard import refuse, undisturbed
from lorabench.training.guard_errors import CannotGuardError, EmaMismatchError, LeftChangedError, NotRestoredError
from lorabench.training.guard_state import checksums


class Block(torch.nn.Module):
    """A layer with dropout, a buffer and a switch for gradient checkpointing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)
        self.dropout = torch.nn.Dropout(0.5)
        self.gradient_checkpointing = True
        self.processor = SimpleNamespace(kind="first")
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.layer(x))


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    made = torch.nn.Sequential(Block(), Block(), torch.nn.Linear(3, 1))
    made[1].eval()
    made[0].layer.requires_grad_(False)
    return made


def stepped(model: torch.nn.Module, *, optimizer: Any = None) -> Any:
    """An optimiser after one step, with gradients pending."""
    optimizer = optimizer or torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=0.1)
    for _ in range(2):
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    return optimizer


def values(model: torch.nn.Module) -> list[torch.Tensor]:
    return [one.detach().clone() for one in model.parameters()]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# ------------------------------------------------------------------------------------------------ inside


def test_inside_everything_is_in_evaluation_mode_without_gradients(model: torch.nn.Module) -> None:
    with undisturbed(modules=[model]):
        assert not any(part.training for part in model.modules())
        assert not model[0].gradient_checkpointing
        assert not model(torch.ones(1, 3)).requires_grad
        assert not torch.is_inference_mode_enabled()


def test_modes_come_back_module_by_module(model: torch.nn.Module) -> None:
    modes = [part.training for part in model.modules()]
    with undisturbed(modules=[model]):
        model.train()

    assert [part.training for part in model.modules()] == modes
    assert len(set(modes)) == 2
    assert model[0].gradient_checkpointing is True


def test_modules_are_switched_without_their_own_eval(model: torch.nn.Module) -> None:
    class Merging(Block):
        def train(self, mode: bool = True) -> Merging:
            raise AssertionError("some layers merge an adapter here")

    merging = Merging()
    with undisturbed(modules=[merging]):
        assert not merging.training
    assert merging.training


# ------------------------------------------------------------------------------------------------ comes back


def test_all_global_generators_come_back() -> None:
    model = torch.nn.Linear(1, 1)
    draws = []
    for evaluated in (False, True):
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        if evaluated:
            with undisturbed(modules=[model]):
                torch.rand(3)
                random.random()
                np.random.rand(3)
        draws.append((torch.rand(2).tolist(), random.random(), np.random.rand(2).tolist()))

    assert draws[0] == draws[1]


def test_every_cuda_generator_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    states = {0: "first", 1: "second"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(states.values()))
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device: states.update({int(device.removeprefix("cuda:")): state})
    )
    with undisturbed(modules=[torch.nn.Linear(1, 1)]):
        states.update({0: "drawn", 1: "drawn"})

    assert states == {0: "first", 1: "second"}


def test_what_requires_a_gradient_comes_back(model: torch.nn.Module) -> None:
    flags = [one.requires_grad for one in model.parameters()]
    with undisturbed(modules=[model]):
        model.requires_grad_(True)
        model[2].requires_grad_(False)

    assert [one.requires_grad for one in model.parameters()] == flags


def test_gradients_are_the_same_objects_with_the_same_values(model: torch.nn.Module) -> None:
    optimizer = stepped(model)
    before = [one.grad for one in model.parameters()]
    numbers = [None if one is None else one.clone() for one in before]
    with undisturbed(modules=[model], optimizer=optimizer):
        before[-1].zero_()
        optimizer.zero_grad(set_to_none=True)

    after = [one.grad for one in model.parameters()]
    assert all(x is y for x, y in zip(before, after, strict=True))
    assert all(x is None or torch.equal(x, y) for x, y in zip(numbers, after, strict=True))


def test_weights_in_training_come_back_also_after_hidden_writes(model: torch.nn.Module) -> None:
    before = values(model)
    with undisturbed(modules=[model]):
        model[2].weight.data.mul_(2)
        model[2].bias.data = torch.ones(1)

    assert equal(values(model), before)


def test_submodules_processors_and_switches_come_back(model: torch.nn.Module) -> None:
    first, processor = model[0], model[0].processor
    with undisturbed(modules=[model]):
        model[0] = torch.nn.Identity()
        model.append(torch.nn.Identity())
        first.processor.kind = "second"
        first.processor = None
        first.added = 1

    assert [type(one).__name__ for one in model] == ["Block", "Block", "Linear"]
    assert model[0] is first
    assert first.processor is processor
    assert processor.kind == "first"
    assert not hasattr(first, "added")


def test_settings_of_torch_come_back() -> None:
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    with undisturbed(modules=[torch.nn.Linear(1, 1)]):
        torch.set_num_threads(threads + 1)
        torch.set_float32_matmul_precision("medium")
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        torch.set_autocast_enabled("cpu", True)

    assert torch.get_num_threads() == threads
    assert torch.get_float32_matmul_precision() == precision
    assert not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.allow_tf32
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.is_autocast_enabled("cpu")


class Scheduler:
    """A scheduler that counts its time steps."""

    def __init__(self) -> None:
        self.config = {"n": 1000}
        self.timesteps = list(range(1000))

    @classmethod
    def from_config(cls, config: dict[str, int]) -> Scheduler:
        assert config == {"n": 1000}
        return cls()


def pipeline_of(model: torch.nn.Module) -> Any:
    scheduler = Scheduler()
    parts = {"transformer": model, "scheduler": scheduler, "tokenizer": object()}
    return SimpleNamespace(components=parts, **parts, _progress_bar_config={"disable": False})


def test_the_pipelines_scheduler_and_progress_bar_come_back(model: torch.nn.Module) -> None:
    pipe = pipeline_of(model)
    scheduler = pipe.scheduler
    with undisturbed(pipe):
        assert pipe.scheduler is not scheduler
        pipe.scheduler.timesteps = [1]
        scheduler.timesteps.clear()
        pipe._progress_bar_config["disable"] = True
        pipe._guidance_scale = 3.5

    assert pipe.scheduler is scheduler
    assert len(scheduler.timesteps) == 1000
    assert pipe._progress_bar_config == {"disable": False}
    assert not hasattr(pipe, "_guidance_scale")


def test_the_pipeline_and_further_modules_are_both_guarded(model: torch.nn.Module) -> None:
    other = torch.nn.Linear(2, 2)
    with undisturbed(pipeline_of(model), modules=[other, model]):
        assert not other.training
        assert not model.training
    assert other.training


def test_everything_comes_back_when_the_evaluation_fails(model: torch.nn.Module) -> None:
    optimizer = stepped(model)
    subjects = Subjects.of(None, modules=[model], optimizer=optimizer, ema=None)
    before = fingerprint(subjects)
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        undisturbed(modules=[model], optimizer=optimizer, verify=True),
    ):
        torch.rand(1)
        model.train()
        model[2].weight.data.zero_()
        raise RuntimeError("out of memory")

    assert differences(before, fingerprint(subjects)) == []


# ------------------------------------------------------------------------------------------------ adapters


@pytest.fixture
def adapted() -> Any:
    from lorabench.judges.torchvision_compat import declare_missing_operators

    declare_missing_operators()
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    return inject_adapter_in_model(LoraConfig(r=2, target_modules=["0"], init_lora_weights=False), net)


def test_switches_scales_and_frozen_halves_of_an_adapter_come_back(adapted: Any) -> None:
    layer = adapted[0]
    layer.lora_A.requires_grad_(False)
    flags = [one.requires_grad for one in adapted.parameters()]
    with undisturbed(modules=[adapted], verify=True):
        layer.enable_adapters(False)
        layer.enable_adapters(True)
        assert layer.lora_A["default"].weight.requires_grad
        layer._disable_adapters = True
        layer.scaling["default"] = 0.0
        layer.set_adapter([])

    assert [one.requires_grad for one in adapted.parameters()] == flags
    assert layer.active_adapters == ["default"]
    assert not layer.disable_adapters
    assert layer.scaling["default"] == 4.0


@pytest.mark.filterwarnings("ignore:Already found a .peft_config")
def test_a_second_adapter_is_taken_out_again(adapted: Any) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    keys = list(adapted.state_dict())
    with undisturbed(modules=[adapted], verify=True):
        inject_adapter_in_model(LoraConfig(r=1, target_modules=["0", "2"]), adapted, adapter_name="second")
        assert len(adapted.state_dict()) > len(keys)

    assert list(adapted.state_dict()) == keys
    assert adapted[0].active_adapters == ["default"]
    assert list(adapted.peft_config) == ["default"]


def test_an_adapter_that_was_fused_is_found_out(adapted: Any) -> None:
    with (
        pytest.raises(NotRestoredError, match=r"must be as it was before; not restored: the values of .*base_layer"),
        undisturbed(modules=[adapted]),
    ):
        adapted[0].merge()


# ------------------------------------------------------------------------------------------------ found out


def test_casting_is_found_out_and_undone(model: torch.nn.Module) -> None:
    stepped(model)
    before, gradient = values(model), model[2].weight.grad.clone()
    with (
        pytest.raises(LeftChangedError, match="must leave dtypes, devices and hooks alone; this one changed") as error,
        undisturbed(modules=[model], verify=True),
    ):
        model.to(torch.float16)

    assert "module 0.0.layer.weight from torch.float32 on cpu to torch.float16 on cpu" in str(error.value)
    assert equal(values(model), before)
    assert torch.equal(model[2].weight.grad, gradient)


def test_hooks_left_behind_are_found_out_and_taken_off(model: torch.nn.Module) -> None:
    with pytest.raises(LeftChangedError, match=r"forward_hooks of module 0\.2"), undisturbed(modules=[model]):
        model[2].register_forward_hook(lambda *_: None)

    assert not model[2]._forward_hooks


def test_written_frozen_weights_and_buffers_are_found_out(model: torch.nn.Module) -> None:
    with (
        pytest.raises(NotRestoredError, match=r"values of module 0\.0\.layer\.weight, the values of module 0\.1\.seen"),
        undisturbed(modules=[model]),
    ):
        model[0].layer.weight.data[0, 0] += 1
        model[1].seen += 1


def test_written_optimiser_state_is_found_out(model: torch.nn.Module) -> None:
    optimizer = stepped(model)
    with (
        pytest.raises(NotRestoredError, match="optimiser state exp_avg of parameter 0"),
        undisturbed(modules=[model], optimizer=optimizer),
    ):
        next(iter(optimizer.state.values()))["exp_avg"].zero_()


def test_a_disturbance_outweighs_the_failure_that_caused_it(model: torch.nn.Module) -> None:
    with pytest.raises(NotRestoredError) as error, undisturbed(modules=[model]):
        model[0].layer.weight.data[0, 0] += 1
        raise RuntimeError("crashed")

    assert str(error.value.__cause__) == "crashed"


def test_long_lists_of_changes_are_cut() -> None:
    assert "a, b, c and 2 more" in str(NotRestoredError(list("abcde")))


# ------------------------------------------------------------------------------------------------ optimiser, average


def test_a_schedule_free_optimiser_shows_its_average_and_comes_back_bit_for_bit(model: torch.nn.Module) -> None:
    from schedulefree import AdamWScheduleFree

    optimizer = AdamWScheduleFree([one for one in model.parameters() if one.requires_grad], lr=0.1)
    optimizer.train()
    stepped(model, optimizer=optimizer)
    before = values(model)
    with undisturbed(modules=[model], optimizer=optimizer, verify=True):
        shown = values(model)
        assert not optimizer.param_groups[0]["train_mode"]

    assert optimizer.param_groups[0]["train_mode"]
    assert equal(values(model), before)
    assert not equal(shown, before)


def test_the_way_back_of_a_schedule_free_optimiser_alone_loses_bits() -> None:
    from schedulefree import AdamWScheduleFree

    torch.manual_seed(0)
    net = torch.nn.Linear(64, 64)
    optimizer = AdamWScheduleFree(net.parameters(), lr=0.1)
    optimizer.train()
    for _ in range(3):
        net(torch.randn(4, 64)).square().sum().backward()
        optimizer.step()
    before = values(net)
    optimizer.eval()
    optimizer.train()

    assert not equal(values(net), before)


def test_an_optimiser_that_shows_its_average_already_is_left_so(model: torch.nn.Module) -> None:
    from schedulefree import AdamWScheduleFree

    optimizer = AdamWScheduleFree([one for one in model.parameters() if one.requires_grad], lr=0.1)
    optimizer.train()
    stepped(model, optimizer=optimizer)
    optimizer.eval()
    before = values(model)
    with undisturbed(modules=[model], optimizer=optimizer, verify=True):
        assert equal(values(model), before)

    assert not optimizer.param_groups[0]["train_mode"]


def test_the_optimiser_is_found_inside_the_wrapper_of_accelerate(model: torch.nn.Module) -> None:
    inner = stepped(model)
    wrapper = SimpleNamespace(optimizer=inner, param_groups=inner.param_groups, eval=None)
    with undisturbed(modules=[model], optimizer=wrapper, verify=True):
        inner.param_groups[0]["lr"] = 5.0

    assert inner.param_groups[0]["lr"] == 0.1


def test_averaged_weights_stand_in_and_the_trainers_stored_ones_stay(model: torch.nn.Module) -> None:
    from diffusers.training_utils import EMAModel

    moving = [one for one in model.parameters() if one.requires_grad]
    ema = EMAModel(moving)
    ema.store(moving)
    stored = ema.temp_stored_params
    for one in moving:
        one.data.add_(1)
    before = values(model)
    with undisturbed(modules=[model], ema=ema, verify=True):
        assert equal([one.detach() for one in moving], ema.shadow_params)
        ema.store(moving)

    assert equal(values(model), before)
    assert ema.temp_stored_params is stored


def test_an_average_of_all_parameters_and_one_that_is_a_module_stand_in(model: torch.nn.Module) -> None:
    from diffusers.training_utils import EMAModel
    from torch.optim.swa_utils import AveragedModel

    for make in (lambda: EMAModel(model.parameters()), lambda: AveragedModel(model)):
        ema, average = make(), values(model)
        for one in model.parameters():
            one.data.add_(1)
        with undisturbed(modules=[torch.nn.Linear(1, 1), model], ema=ema, verify=True):
            assert equal(values(model), average)
        assert not equal(values(model), average)


def test_an_average_that_fits_nothing_is_refused(model: torch.nn.Module) -> None:
    from diffusers.training_utils import EMAModel
    from torch.optim.swa_utils import AveragedModel

    other = torch.nn.Linear(7, 7)
    wrong = {
        r"EMAModel does not: it has 2 tensors, the training": EMAModel(other.parameters()),
        r"no module in training has the same named parameters": AveragedModel(other),
        r"it has neither copy_to and shadow_params": object(),
    }
    before = values(model)
    for words, ema in wrong.items():
        with (
            pytest.raises(EmaMismatchError, match=rf"averaged weights must fit the weights in training, .*{words}"),
            undisturbed(modules=[model], ema=ema),
        ):
            raise AssertionError("never reached")
    assert issubclass(EmaMismatchError, SpecError)
    assert equal(values(model), before)


def test_a_stated_list_decides_where_the_average_goes(model: torch.nn.Module) -> None:
    from diffusers.training_utils import EMAModel

    chosen = [model[2].weight]
    ema = EMAModel(chosen)
    model[2].weight.data.add_(1)
    with undisturbed(modules=[model], ema=ema, ema_parameters=chosen):
        assert torch.equal(model[2].weight, ema.shadow_params[0])


# ------------------------------------------------------------------------------------------------ refused


def offloaded_by_accelerate() -> Any:
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    net = torch.nn.Sequential(torch.nn.Linear(2, 2))
    add_hook_to_module(net[0], AlignDevicesHook(execution_device="cpu", offload=True, weights_map={}))
    return net


def offloaded_as_a_whole() -> Any:
    from accelerate import cpu_offload_with_hook

    net = torch.nn.Linear(2, 2)
    cpu_offload_with_hook(net, execution_device="cpu")
    return net


def offloaded_by_diffusers() -> Any:
    from diffusers.hooks import apply_group_offloading

    net = torch.nn.Sequential(torch.nn.Linear(2, 2))
    apply_group_offloading(net, onload_device=torch.device("cpu"), offload_type="leaf_level")
    return net


def on_meta() -> Any:
    return torch.nn.Linear(2, 2, device="meta")


def sharded() -> Any:
    kind = type("FullyShardedDataParallel", (torch.nn.Linear,), {"__module__": "torch.distributed.fsdp.wrapped"})
    return torch.nn.Sequential(kind(2, 2))


def of_deepspeed() -> Any:
    return type("DeepSpeedEngine", (torch.nn.Linear,), {"__module__": "deepspeed.runtime.engine"})(2, 2)


def partitioned() -> Any:
    net = torch.nn.Linear(2, 2)
    net.weight.ds_id = 0
    return net


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (offloaded_by_accelerate, r"module 0\.0 is moved in and out of memory by accelerate's AlignDevicesHook"),
        (offloaded_as_a_whole, r"is moved in and out of memory by accelerate's CpuOffload"),
        (offloaded_by_diffusers, r"is moved in and out of memory by diffusers' \w*GroupOffloadingHook"),
        (on_meta, r"module 0\.weight has no data \(it lies on the meta device\)"),
        (sharded, r"module 0\.0 is sharded by FSDP, whose forward needs every rank"),
        (of_deepspeed, r"module 0 belongs to DeepSpeed, which keeps and moves the weights itself"),
        (partitioned, r"module 0\.weight is partitioned by DeepSpeed"),
    ],
)
def test_a_training_that_cannot_be_guarded_is_refused_with_another_way(make: Any, words: str) -> None:
    whole = rf"must be able to put everything back; .*{words}.* from another process: `lorabench watch FOLDER`"
    with pytest.raises(CannotGuardError, match=whole), undisturbed(modules=[make()]):
        raise AssertionError("never reached")
    assert issubclass(CannotGuardError, MeasurementError)


def test_weights_on_two_kinds_of_devices_are_taken_for_swapped_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def parameter(kind: str) -> Any:
        return SimpleNamespace(device=SimpleNamespace(type=kind), is_meta=False, data=None)

    swapped = SimpleNamespace(
        named_modules=list, named_parameters=lambda: [("a", parameter("cuda")), ("b", parameter("cpu"))]
    )
    with pytest.raises(CannotGuardError, match="parts of unet lie on cpu and cuda, so something swaps them in and out"):
        refuse({"unet": swapped})


def test_a_hook_that_moves_inputs_only_is_no_offloading() -> None:
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    net = torch.nn.Linear(2, 2)
    add_hook_to_module(net, AlignDevicesHook(execution_device="cpu"))
    with undisturbed(modules=[net], verify=True):
        net(torch.ones(1, 2))


def test_a_sharded_optimiser_is_refused(model: torch.nn.Module) -> None:
    kind = type("DeepSpeedZeroOptimizer", (torch.optim.SGD,), {"__module__": "deepspeed.runtime.zero"})
    with pytest.raises(CannotGuardError, match="the optimiser DeepSpeedZeroOptimizer belongs to DeepSpeed"):
        refuse({"m": model}, optimizer=kind(model.parameters()))


def test_nothing_to_guard_is_a_mistake() -> None:
    words = "undisturbed needs what is trained; got neither a pipeline nor modules"
    with pytest.raises(ValueError, match=words), undisturbed():
        pass


# ------------------------------------------------------------------------------------------------ fingerprint


def test_a_fingerprint_names_what_differs(model: torch.nn.Module) -> None:
    optimizer = stepped(model)
    subjects = Subjects.of(None, modules=[model], optimizer=optimizer, ema=None)
    before = fingerprint(subjects)
    assert differences(before, fingerprint(subjects)) == []

    optimizer.param_groups[0]["lr"] = 0.2
    model[2].bias.data += 1
    model[0].layer.weight.data += 1
    model[2].weight.grad += 1
    model[0].train(False)
    torch.rand(1)

    assert differences(before, fingerprint(subjects)) == [
        "generator torch",
        "module 0.2.bias",
        "frozen module 0.0.layer.weight",
        "gradient of module 0.2.weight",
        "mode of module 0.0",
        "mode of module 0.0.layer",
        "mode of module 0.0.dropout",
        "optimiser group 0",
    ]


def test_sums_over_bits_tell_tensors_of_every_type_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_state, "_SUMMED_AT_ONCE", 3)
    kinds = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.complex64)
    named = {str(kind): torch.arange(8).to(kind) for kind in kinds}
    named |= {"bool": torch.ones(4, dtype=torch.bool), "empty": torch.empty(0), "scalar": torch.tensor(1.0)}
    before = checksums(named)
    named["strided"] = named["torch.float32"][::2]
    for one in named.values():
        one.reshape(-1)[-1:] = 0
    after = checksums(named)

    assert [name for name, total in before.items() if after[name] == total] == ["empty"]
    assert "strided" in after


def test_a_cuda_generator_that_came_into_being_is_no_difference() -> None:
    assert differences({"generator torch": "a"}, {"generator torch": "a", "generator cuda:0": "b"}) == []
    assert differences({"generator cuda:0": "a"}, {"generator cuda:0": "b"}) == ["generator cuda:0"]


def test_copies_of_a_model_have_one_fingerprint(model: torch.nn.Module) -> None:
    prints = [
        fingerprint(Subjects.of(None, modules=[one], optimizer=None, ema=None)) for one in (model, copy.deepcopy(model))
    ]

    assert prints[0] == prints[1]
