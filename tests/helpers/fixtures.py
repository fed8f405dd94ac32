"""Fixtures that several test folders import in their conftest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from helpers.shared import shared_folder
from helpers.tiny_flux import build_tiny_flux
from helpers.tiny_sd15 import build_tiny_sd15
from helpers.tiny_sdxl import build_tiny_sdxl
from stiefel_lora.training import send_command
from stiefel_lora.training.loop import Loop

__all__ = ["StopAfter", "stop_after", "tiny_flux", "tiny_sd15", "tiny_sdxl"]

StopAfter = Callable[[int, str | int], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def tiny_sdxl(request: pytest.FixtureRequest) -> Path:
    """A tiny random SDXL, shared by all processes of a run; do not change it."""
    return shared_folder(request, "tiny_sdxl", build_tiny_sdxl)


@pytest.fixture(scope="session")
def tiny_sd15(request: pytest.FixtureRequest) -> Path:
    """A tiny random SD 1.5, shared by all processes of a run; do not change it."""
    return shared_folder(request, "tiny_sd15", build_tiny_sd15)


@pytest.fixture(scope="session")
def tiny_flux(request: pytest.FixtureRequest) -> Path:
    """A tiny random FLUX dev, shared by all processes of a run; do not change it."""
    return shared_folder(request, "tiny_flux", build_tiny_flux)


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> StopAfter:
    """Ask for a stop as soon as a step is done: by a file, or by a signal."""

    @contextmanager
    def arrange(step: int, order: str | int) -> Iterator[None]:
        log = Loop._log_step

        def log_then_stop(self: Loop, *figures: float) -> None:
            log(self, *figures)
            if self.step == step:
                if isinstance(order, str):
                    send_command(self._folder.root, order)  # type: ignore[arg-type]
                else:
                    os.kill(os.getpid(), order)

        with monkeypatch.context() as patch:
            patch.setattr(Loop, "_log_step", log_then_stop)
            yield

    return arrange
