"""Run pytest in a fork of a process that has the large libraries loaded already."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["HUNG", "run_forked"]

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
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    run = context.Process(target=_pytest, args=(list(arguments), modules, log))
    run.start()
    run.join(seconds)
    hung = run.is_alive()
    if hung:
        run.kill()
        run.join()
    return log.read_text("utf-8", "replace") + (HUNG if hung else "")


def _pytest(arguments: list[str], modules: Path, log: Path) -> None:
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # For processes that tests start, and for this one.
    os.environ["PYTHONPATH"] = str(modules)
    sys.path.insert(0, str(modules))
    # The next run finds what this one compiled.
    sys.dont_write_bytecode = False
    import pytest

    code = pytest.main(arguments)
    sys.stdout.flush()
    os._exit(code)
