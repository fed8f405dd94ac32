"""Start of a training on several processes of this machine, by the launcher of torch.

Ctrl-C and SIGTERM are passed on to the processes of the training instead of torchrun,
which would only give them a limited time to save a checkpoint.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from ._exceptions import ConfigError

__all__ = ["check_not_started", "record_outcome", "run_processes"]

_OUTCOMES = "STIEFEL_LORA_OUTCOMES"
# A lost connection would be a page of C++ addresses; the message follows.
_DEFAULTS = {"TORCH_CPP_LOG_LEVEL": "ERROR"}


def check_not_started() -> None:
    """Check that this process was not started by torchrun or accelerate launch.

    Raises:
        ConfigError: If it was.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "--processes: the processes were already started by torchrun or accelerate "
            "launch. Remove --processes."
        )


def run_processes(count: int, arguments: Sequence[str]) -> int:
    """Run ``stiefel-lora`` with ``arguments`` in several processes.

    Returns:
        Exit code of the training.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["--standalone", "--nproc-per-node", str(count), "--module"]
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                f"{__package__}._torchrun",
                *options,
                str(__package__),
                *arguments,
            ],
            env={**_DEFAULTS, **_shared_cores(count), **os.environ, _OUTCOMES: folder},
            # Ctrl-C reaches this process only.
            start_new_session=True,
        )
        _wait(process)
        found = [int(path.read_text()) for path in sorted(Path(folder).iterdir())]
    # Interrupted and saved in all processes, or failed in one of them.
    return max(found, default=0) if process.returncode == 0 else max([1, *found])


def record_outcome(code: int) -> int:
    """Record the exit code of a process of the training. Return the one to exit with.

    Only failures end the other processes, so that an interrupted training can save.
    """
    folder, index = os.environ.get(_OUTCOMES), os.environ.get("RANK", "0")
    if folder is None:
        return code
    Path(folder, index).write_text(str(code))
    return 0 if code == 130 else code


def _shared_cores(count: int) -> Mapping[str, str]:
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}


def _wait(process: subprocess.Popen[Any]) -> None:
    """Wait for torchrun, and pass signals on to its processes."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for worker in _workers(process.pid):
            worker.send_signal(number)

    before = {
        number: signal.signal(number, pass_on)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _workers(launcher: int) -> Iterator[psutil.Process]:
    try:
        yield from psutil.Process(launcher).children()
    except psutil.Error:
        return
