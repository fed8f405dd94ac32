"""Problems of model, memory and hardware are marked at their fields."""

from __future__ import annotations

import json

import pytest

from stiefel_lora.config.presets import find_config


@pytest.fixture
def window(open_window, monkeypatch):
    """The window, with recorded commands in place of processes."""
    opened = open_window()
    machine = opened.machine
    commands: list[list[str]] = []
    monkeypatch.setattr(machine._process, "start", commands.append)
    machine._timer.setInterval(0)
    machine.enabled = True
    opened.commands = commands
    return opened


def answer(window, errors=(), warnings=()) -> None:
    lists = {"errors": list(errors), "warnings": list(warnings)}
    window.machine._ended(0, json.dumps(lists), "")


def note(window, key: str) -> str:
    return dict(window.settings.rows())[key].note.text()


def test_what_the_other_process_finds_is_marked_and_blocks_the_start(window, qtbot):
    window.open_file(find_config("demo_adamw"))
    qtbot.waitUntil(lambda: len(window.commands) == 1)
    command = window.commands[0]
    assert command[1:4] == ["-m", "stiefel_lora", "validate"]
    assert command[-1] == "--json"
    with open(command[4], encoding="utf-8") as file:
        assert json.load(file)["steps"] == window.document.value("steps")
    answer(
        window,
        errors=[{"key": "base_model_name", "message": "The model is damaged."}],
        warnings=[{"key": "gradient_checkpointing", "message": "Too little memory."}],
    )
    assert note(window, "base_model_name") == "The model is damaged."
    assert note(window, "gradient_checkpointing") == "Too little memory."
    assert window.top.problems.text().startswith("1 problem ")
    window.start()
    assert window.runs.trainings.jobs() == []
    assert window.tabs.tabText(window.tabs.currentIndex()) == "General"


def test_a_change_is_checked_again_and_old_results_are_not_shown(window, qtbot):
    window.open_file(find_config("demo_adamw"))
    qtbot.waitUntil(lambda: len(window.commands) == 1)
    answer(window, errors=[{"key": "device", "message": "No such device."}])
    assert "device" in window.findings.errors
    window.document.set("seed", 5)
    window.examine()
    assert "device" not in window.findings.errors
    qtbot.waitUntil(lambda: len(window.commands) == 2)
    answer(window)
    assert window.findings.ready


def test_the_same_settings_are_checked_again_after_a_refused_start(window, qtbot):
    window.open_file(find_config("demo_adamw"))
    qtbot.waitUntil(lambda: len(window.commands) == 1)
    answer(window, errors=[{"key": "weight_dtype", "message": "Not installed."}])
    window.start()
    window.examine()
    assert window.findings.ready
    qtbot.waitUntil(lambda: len(window.commands) == 2)


def test_settings_with_an_error_are_not_checked(window, qtbot):
    window.document.set("lora_rank", 0)
    window.examine()
    qtbot.wait(30)
    assert window.commands == []
    answer(window, errors=[{"key": "steps", "message": "late"}])
    assert "steps" not in window.findings.errors


@pytest.mark.slow
def test_a_real_check_reports_a_device_that_is_not_here(open_window, qtbot):
    window = open_window()
    window.machine.enabled = True
    window.open_file(find_config("demo_adamw"))
    window.document.set("device", "xpu:7")
    qtbot.waitUntil(lambda: "device" in window.findings.errors, timeout=300_000)
    assert "xpu is not available" in window.findings.errors["device"][0]
