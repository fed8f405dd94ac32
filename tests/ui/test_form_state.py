"""State of the rows of the form, for the window and the browser."""

from __future__ import annotations

import pytest

from stiefel_lora.config.presets import find_config
from stiefel_lora.ui.controllers.document import Document
from stiefel_lora.ui.controllers.findings import examine
from stiefel_lora.ui.controllers.form_state import FormState, tab_of
from stiefel_lora.ui.controllers.pages import BASIC, all_fields
from stiefel_lora.ui.controllers.problem_list import open_problems


def never(_: str) -> bool:
    return False


@pytest.fixture
def document() -> Document:
    found = Document()
    found.load(find_config("demo_stiefel_lora"))
    return found


def shown(state: FormState) -> set[str]:
    rows = state.rows(examine(state.document.data), never)
    return {key for key, row in rows.items() if row.visible}


def test_every_setting_has_a_row(document):
    rows = FormState(document).rows(examine(document.data), never)
    assert rows.keys() | {"optimizer"} == all_fields().keys()


def test_alpha_is_locked_to_the_rank_with_a_reason(document):
    document.set("lora_rank", 8)
    row = FormState(document).rows(examine(document.data), never)["lora_alpha"]
    assert row.value == 8
    assert "Stiefel LoRA" in (row.lock or "")
    document.choose_optimizer("adamw")
    row = FormState(document).rows(examine(document.data), never)["lora_alpha"]
    assert row.lock is None


def test_changed_revealed_and_edited_settings_are_shown(document):
    state = FormState(document)
    assert "seed" not in BASIC
    assert "seed" not in shown(state)
    document.set("seed", 7)
    assert "seed" in shown(state)
    document.undo()
    assert "seed" not in shown(state)
    rows = state.rows(examine(document.data), lambda key: key == "seed")
    assert rows["seed"].visible
    assert state.reveal("seed")
    assert not state.reveal("seed")
    assert "seed" in shown(state)


def test_advanced_shows_everything_with_an_effect(document):
    state = FormState(document)
    state.advanced = True
    assert len(shown(state)) > 2 * len(BASIC)


def test_an_error_shows_its_row(document):
    document.set("seed", "seven")
    findings = examine(document.data)
    row = FormState(document).rows(findings, never)["seed"]
    assert row.visible
    assert row.errors
    (problem,) = open_problems(findings, document.optimizer)
    assert problem.key == "seed"
    assert problem.title.startswith("Seed: ")


def test_options_of_the_optimizer(document):
    state = FormState(document)
    options = state.options(examine(document.data), never)
    assert options
    assert not any(row.visible for row in options.values())
    name = next(iter(options))
    state.reveal(f"optimizer.{name}")
    assert state.options(examine(document.data), never)[name].visible


def test_tab_of_a_setting():
    assert tab_of("lora_rank") == "LoRA"
    assert tab_of("optimizer.momentum") == "Optimizer"
