"""What the tests of every real host share."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import torch

from stiefel_lora import StiefelLoRA

__all__ = ["UnmodifiedHost", "assert_goes_on", "replay"]

HERE = Path(__file__).parent


class UnmodifiedHost:
    """A checkout with an environment, named by an environment variable."""

    def __init__(self, variable: str) -> None:
        named = os.environ.get(variable, "")
        self.given = bool(named)
        self.root = Path(named).resolve()

    def run(self, *command: str | Path, code: int = 0) -> str:
        """Run the host's Python; what it printed, or the end of it as an assertion."""
        # Wide, so that the host's log does not fold the lines.
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "QT_QPA_PLATFORM": "offscreen",
            "PYTHONPATH": str(HERE.parent),
            "COLUMNS": "400",
        }
        done = subprocess.run(
            [self.root / ".venv" / "bin" / "python", *command],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert done.returncode == code, output[-4000:]
        return output

    def changes(self) -> str:
        """What git finds changed in the checkout."""
        command = ["git", "-C", str(self.root), "status", "--porcelain"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout


def assert_goes_on(first: Path, second: Path) -> int:
    """The second recording starts with the bits that the first ended with.

    Returns:
        How many steps the second one holds.
    """
    last = torch.load(first, weights_only=True)[-1]
    steps = torch.load(second, weights_only=True)
    assert last["names"] == steps[0]["names"]
    pairs = zip(last["after"], steps[0]["before"], strict=True)
    assert all(torch.equal(old, new) for old, new in pairs)
    ended, begun = last["state_after"], steps[0]["state"]
    assert ended.keys() == begun.keys()
    assert any(ended.values())
    for number, values in ended.items():
        assert values.keys() == begun[number].keys()
        for name, value in values.items():
            assert torch.equal(
                torch.as_tensor(value), torch.as_tensor(begun[number][name])
            )
    return len(steps)


def replay(dump: Path, lr: float) -> tuple[int, int]:
    """Take the recorded steps again, and find the recorded factors to 1e-6.

    Returns:
        How many steps and how many pairs there were.
    """
    steps = torch.load(dump, weights_only=True)
    tensors = [torch.nn.Parameter(value) for value in steps[0]["before"]]
    optimizer = StiefelLoRA(zip(steps[0]["names"], tensors, strict=True), lr=lr)
    for step in steps:
        for tensor, grad in zip(tensors, step["grads"], strict=True):
            tensor.grad = grad
        for group in optimizer.param_groups:
            (group["lr"],) = set(step["lr"])
        optimizer.step()
        for tensor, expected in zip(tensors, step["after"], strict=True):
            assert (tensor.detach() - expected).abs().max() <= 1e-6
    return len(steps), len(optimizer.pairs)
