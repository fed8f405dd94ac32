from __future__ import annotations

import pytest

from stiefel_lora.ui.controllers.findings import examine, locks


@pytest.mark.parametrize(
    ("data", "key", "part"),
    [
        ({"lora_rank": 0}, "lora_rank", "at least 1"),
        ({"steps": "many"}, "steps", "integer"),
        ({"lora_alpha": 1.0}, "lora_alpha", "Must be equal to lora_rank"),
        (
            {"optimizer": {"name": "adamw", "beta1": 2.0}},
            "optimizer.beta1",
            "less than 1",
        ),
        (
            {"lora_init": "stella"},
            "lora_init",
            "is only supported by the optimizer stella",
        ),
        ({"samples": [{"prompt": ""}]}, "samples", "must not be empty"),
        ({"concepts": [{"path": "/no/such place"}]}, "concepts", "does not exist"),
        (
            {"steps": 5, "learning_rate_warmup_steps": 9},
            "learning_rate_warmup_steps",
            "at most steps",
        ),
    ],
)
def test_a_mistake_is_shown_at_its_field(data, key, part):
    errors = examine(data).errors
    assert list(errors) == [key]
    assert part in errors[key][0]


def test_several_mistakes_are_shown_together():
    found = examine({"lora_alpha": 1.0, "use_dora": True, "weight_dtype": "int8"})
    assert set(found.errors) == {"lora_alpha", "use_dora"}
    assert not found.ready


def test_what_is_missing_is_named_without_the_command_line():
    found = examine({})
    assert found.missing == ["base_model_name", "concepts"]
    assert not found.errors
    assert not found.ready
    texts = [text for texts in found.remarks.values() for text in texts]
    assert not [text for text in texts if "--set" in text]


def test_complete_settings_are_ready(tmp_path):
    data = {"base_model_name": str(tmp_path), "concepts": [{"path": str(tmp_path)}]}
    assert examine(data).ready


def test_a_far_rate_is_a_remark():
    found = examine({"optimizer": {"name": "adamw"}, "learning_rate": 0.5})
    assert "usual learning rate" in found.remarks["learning_rate"][0]
    assert not found.errors


def test_alpha_is_locked_while_the_optimizer_owns_the_scale():
    assert "Stiefel LoRA" in locks({})["lora_alpha"]
    assert locks({"optimizer": {"name": "adamw"}}) == {}


def test_steps_are_locked_while_epochs_determine_them():
    assert "steps" not in locks({"steps": 7})
    assert "epochs" in locks({"epochs": 2})["steps"]
