from __future__ import annotations

import subprocess
import sys

from lorabench.judges import torchvision_compat
from lorabench.judges.torchvision_compat import declare_missing_operators


def in_fresh_interpreter(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_packages_built_on_torchvision_import_afterwards() -> None:
    code = (
        "from lorabench.judges.torchvision_compat import declare_missing_operators as declare\n"
        "declare()\n"
        "import torchvision, open_clip, lpips, peft\n"
        "from torchvision.transforms.v2 import functional\n"
        "print(declare(), 'imported')"
    )

    assert in_fresh_interpreter(code) == "() imported"


def test_operators_that_exist_are_left_alone() -> None:
    code = (
        "import torch\n"
        "real = torch.library.Library('torchvision', 'DEF')\n"
        "for name in ('nms', 'qnms'):\n"
        "    real.define(name + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "from lorabench.judges.torchvision_compat import declare_missing_operators as declare\n"
        "print(declare())"
    )

    assert in_fresh_interpreter(code) == "()"


def test_a_declared_operator_still_refuses_to_run() -> None:
    code = (
        "from lorabench.judges.torchvision_compat import declare_missing_operators as declare\n"
        "import torch\n"
        "names = declare()\n"
        "try:\n"
        "    torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)\n"
        "    print('ran', names)\n"
        "except NotImplementedError:\n"
        "    print('refused', names)\n"
    )

    assert in_fresh_interpreter(code) in {"refused ('nms', 'qnms')", "ran ()"}


def test_nothing_is_declared_without_torchvision(monkeypatch) -> None:
    monkeypatch.setattr(torchvision_compat, "_torchvision_folder", lambda: None)

    assert declare_missing_operators() == ()


def test_second_call_declares_nothing_more() -> None:
    declare_missing_operators()

    assert declare_missing_operators() == ()
