"""Texts can be reworded: a form finds fields and placeholders without reading them."""

from __future__ import annotations

from typing import Any

import pytest

from stiefel_lora.config import Concept, Sample, TrainConfig, Violation
from stiefel_lora.config.optimizer import OPTIMIZER_MODELS
from stiefel_lora.ui.controllers import pages
from stiefel_lora.ui.controllers.findings import examine

LOREM = "Lorem steps: ipsum. Unset: dolor seed. Sit lora_rank amet"
CACHED = (pages.all_fields, pages._fields_of_model, pages.sections)


@pytest.fixture
def scrambled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put other words in place of every message, fix and docstring."""
    first = Violation.__init__

    def scramble(self: Violation, key: str, *texts: str, **more: str) -> None:
        first(self, key, LOREM, f"{LOREM} 2")

    monkeypatch.setattr(Violation, "__init__", scramble)
    for model in (TrainConfig, Concept, Sample, *OPTIMIZER_MODELS.values()):
        for field in model.model_fields.values():
            monkeypatch.setattr(field, "description", LOREM)
        model.model_rebuild(force=True)
    for cached in CACHED:
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for model in (Concept, Sample, *OPTIMIZER_MODELS.values(), TrainConfig):
        model.model_rebuild(force=True)
    for cached in CACHED:
        cached.cache_clear()


WRONG = [
    ({"lora_rank": 0}, "lora_rank"),
    ({"lora_alpha": 3.0}, "lora_alpha"),
    ({"train_text_encoder_2": True, "lora_init": "loi"}, "train_text_encoder_2"),
    ({"samples": [{"prompt": ""}]}, "samples"),
    ({"concepts": [{"path": "/no/such place"}]}, "concepts"),
    ({"learning_rate_warmup_steps": 9, "steps": 5}, "learning_rate_warmup_steps"),
    ({"optimizer": {"name": "adamw", "beta1": 2.0}}, "optimizer.beta1"),
    ({"optimizer": {"name": "adamv"}}, "optimizer"),
    ({"plugins": ["no_such_module"]}, "plugins"),
]


@pytest.mark.usefixtures("scrambled")
def test_errors_stand_at_their_fields_whatever_they_read() -> None:
    for data, key in WRONG:
        errors = examine(data).errors
        assert list(errors) == [key], data
        assert LOREM in errors[key][0]


@pytest.mark.usefixtures("scrambled")
def test_the_form_marks_the_field_and_shows_its_placeholder(open_window) -> None:
    window = open_window()
    rows: dict[str, Any] = dict(window.settings.rows())
    window.document.set("lora_rank", 0)
    window.document.set("learning_rate_warmup_steps", 5000)
    window.examine()
    marked = {key for key, row in rows.items() if row.editor.focusProxy()}
    marked = {key for key in marked if rows[key].editor.focusProxy().property("wrong")}
    assert marked == {"lora_rank"}
    assert rows["lora_rank"].note.text() == f"{LOREM}. {LOREM} 2."
    window.document.set("lora_rank", 8)
    window.examine()
    assert rows["learning_rate_warmup_steps"].editor.line.property("wrong")
    assert not rows["lora_rank"].editor.line.property("wrong")
    line = rows["text_encoder_learning_rate"].editor.line
    assert line.placeholderText() == "learning_rate"
    assert rows["cache_dir"].editor.line.placeholderText() == "inside output_dir"
    assert LOREM in rows["lora_rank"].editor.toolTip()
    window.document.set("optimizer.beta1", 2.0)
    window.examine()
    assert window.settings.optimizer.form.rows["beta1"].note.text().startswith(LOREM)
    window.go_to_problem()
    labels = [action.text() for action in window.top.problems.menu().actions()]
    assert labels[0].startswith("Beta1: Lorem")
