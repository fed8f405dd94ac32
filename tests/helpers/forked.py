"""Processes that are forks of one which has the large libraries loaded already.

Their import takes seconds of each process that trains; a fork takes milliseconds. The
processes are real: they have their own number, locks and files, and can be killed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

__all__ = ["HUNG", "run_forked", "start_forked"]

HUNG = "\nstopped, as it took too long"

LIBRARIES = [
    "accelerate",
    "diffusers.pipelines.flux.pipeline_flux",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "peft",
    "pytest",
    "torch",
    "transformers.models.clip.modeling_clip",
    "transformers.models.t5.modeling_t5",
]


def run_forked(
    arguments: Sequence[str], modules: Path, log: Path, seconds: float
) -> str:
    """What pytest prints, up to where it was stopped for taking too long.

    Args:
        arguments: of pytest.
        modules: folder to take packages from first.
        log: file for what is printed.
        seconds: how long it may take.
    """
    run = start_forked(_pytest, list(arguments), modules, log=log)
    run.join(seconds)
    hung = run.is_alive()
    if hung:
        run.kill()
        run.join()
    return log.read_text("utf-8", "replace") + (HUNG if hung else "")


def start_forked(
    target: Callable[..., object], *arguments: object, log: Path
) -> ForkServerProcess:
    """Start a process that calls ``target`` and prints into ``log``.

    Args:
        target: a function of a module; it may end the process with an exit code.
        arguments: of the function.
        log: file, which is written from its beginning.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    # A daemon ends with the tests, whatever became of the one that started it.
    process = context.Process(
        target=_printing, args=(target, arguments, log), daemon=True
    )
    process.start()
    return process


def _printing(
    target: Callable[..., object], arguments: tuple[object, ...], log: Path
) -> None:
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    target(*arguments)


def _pytest(arguments: list[str], modules: Path) -> None:
    # For processes that tests start, and for this one.
    os.environ["PYTHONPATH"] = str(modules)
    sys.path.insert(0, str(modules))
    # The next run finds what this one compiled.
    sys.dont_write_bytecode = False
    # Tests may start processes, which multiprocessing forbids to daemons.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    import pytest

    code = pytest.main(arguments)
    sys.stdout.flush()
    os._exit(code)
