"""A server whose disk is full, or whose queue is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("nicegui", reason="nicegui is not installed")

from stiefel_lora._exceptions import OutputError
from stiefel_lora.ui.controllers import memory
from stiefel_lora.ui.web.context import WebContext
from stiefel_lora.ui.web.pages.shared_jobs import jobs_of


@pytest.fixture
def context(own_home: Path) -> WebContext:
    return WebContext()


def test_settings_are_saved_as_soon_as_there_is_space(
    context: WebContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, **_: object) -> None:
        raise OutputError(f"{path} cannot be written: No space left on device.")

    context.document.set("run_name", "cat")
    with monkeypatch.context() as patch:
        patch.setattr(memory, "atomic_write", full)
        context.save()
    assert context.save_problem.startswith("The settings are not saved.")
    assert "No space left on device" in context.save_problem
    context.save()
    assert context.save_problem == ""
    assert WebContext().memory.data["run_name"] == "cat"


def test_a_queue_that_cannot_be_read_is_a_message(
    context: WebContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged() -> None:
        raise OutputError("The queue is damaged.")

    with monkeypatch.context() as patch:
        patch.setattr(context.trainings, "jobs", damaged)
        assert jobs_of(context) == []
    assert context.queue_problem == "The queue is damaged."
    assert jobs_of(context, fresh=True) == []
    assert context.queue_problem == ""
