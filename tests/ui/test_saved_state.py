"""The state that the window keeps between sessions, also if its file is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stiefel_lora.ui.controllers.memory import Memory, home


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STIEFEL_LORA_UI", str(tmp_path))
    return tmp_path


def test_it_is_loaded_as_it_was_saved() -> None:
    Memory(data={"lora_rank": 4}, size=[900, 700], tab=2, first=False).save()
    assert Memory.load() == Memory(
        {"lora_rank": 4}, size=[900, 700], tab=2, first=False
    )


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "null",
        "[1]",
        '"text"',
        "{",
        json.dumps({"size": ["a", None], "tab": "x", "data": [], "first": 0}),
        json.dumps({"size": [1], "theme": None, "advanced": "yes"}),
        json.dumps({"size": [900, 700, 1], "source": "\0", "run": "\ud800"}),
    ],
)
def test_what_is_damaged_is_replaced_by_defaults(content: str) -> None:
    (home() / "window.json").write_text(content, "utf-8")
    assert Memory.load() == Memory()


def test_text_that_cannot_be_encoded_does_not_stop_the_window() -> None:
    Memory(run="a").save()
    Memory(run="\ud800").save()
    assert Memory.load().run == "a"
