"""Processes of one training, connected by gloo on this machine, for tests."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from helpers.forked import start_forked
from stiefel_lora.config import TrainConfig, parse_config
from stiefel_lora.config.dump import dump_full

__all__ = ["SIGKILL", "SIGTERM", "Team", "kill_at", "start_team"]

# For a machine that is busy; the trainings take seconds.
_SECONDS = 300


class Team:
    """Running processes of a training, and what they print."""

    def __init__(self, processes: list[ForkServerProcess], logs: list[Path]) -> None:
        self.processes, self._logs = processes, logs

    def codes(self) -> list[int | None]:
        """Wait for the end of all processes, and return their exit codes."""
        for process in self.processes:
            process.join(_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        return [process.exitcode for process in self.processes]

    def printed(self, index: int) -> str:
        return self._logs[index].read_text("utf-8", "replace")


def start_team(config: TrainConfig, logs: Path, count: int = 2, **options: Any) -> Team:
    """Start a training on ``count`` processes.

    Options are ``resume`` and ``check_every`` of ``train``, and ``before``: a function
    of a test module that each process calls with its number.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = [logs / f"process-{index}.txt" for index in range(count)]
    settings = json.loads(dump_full(config))
    processes = [
        start_forked(_run, index, count, port, settings, options, log=log)
        for index, log in enumerate(files)
    ]
    return Team(processes, files)


def _run(
    index: int,
    count: int,
    port: int,
    settings: Mapping[str, Any],
    options: dict[str, Any],
) -> None:
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "WORLD_SIZE": str(count),
        "RANK": str(index),
        "LOCAL_RANK": str(index),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    import torch

    from stiefel_lora._entry import outcome_of
    from stiefel_lora.training import train

    torch.set_num_threads(1)
    before: Callable[[int], object] = options.pop("before", lambda index: None)
    before(index)
    try:
        result = train(parse_config(dict(settings)), **options)
    except Exception as error:
        outcome = outcome_of(error)
        if outcome is None:
            raise
        print(outcome[0], file=sys.stderr, flush=True)
        sys.exit(outcome[1])
    sys.exit(130 if result.interrupted else 0)


def kill_at(step: int, number: int, sent: int, index: int) -> None:
    """Send a signal to process ``number`` while it computes the step after ``step``."""
    from stiefel_lora.training.state import TrainingState

    plain = TrainingState.loss
    calls = 0

    def loss(self: TrainingState, *arguments: Any) -> Any:
        nonlocal calls
        found = plain(self, *arguments)
        if index == number and calls == step:
            os.kill(os.getpid(), sent)
        calls += 1
        return found

    TrainingState.loss = loss  # type: ignore[method-assign]


SIGKILL, SIGTERM = signal.SIGKILL, signal.SIGTERM
