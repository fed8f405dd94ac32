"""Basic settings first; those without an effect and of other families are hidden."""

from __future__ import annotations

import pytest

from stiefel_lora.config import parse_config
from stiefel_lora.config.presets import find_config
from stiefel_lora.config.relevance import settings_without_effect
from stiefel_lora.ui.controllers.form_state import tab_of
from stiefel_lora.ui.controllers.pages import BASIC, all_fields


def shown(window) -> set[str]:
    return {key for key, row in window.settings.rows() if row.shown}


def visible(window, key: str) -> bool:
    row = dict(window.settings.rows())[key]
    window.tabs.setCurrentIndex(
        [window.tabs.tabText(i) for i in range(window.tabs.count())].index(tab_of(key))
    )
    return row.editor.isVisible() and row.label.isVisible()


@pytest.fixture
def window(open_window):
    opened = open_window()
    opened.open_file(find_config("demo_adamw"))
    return opened


def test_basic_settings_are_shown_and_the_others_on_request(window):
    assert set(BASIC) <= set(all_fields())
    assert shown(window) == set(BASIC)
    assert visible(window, "lora_rank")
    assert not visible(window, "seed")
    window.advanced.click()
    assert visible(window, "seed")
    assert shown(window) > set(BASIC)
    window.advanced.click()
    assert shown(window) == set(BASIC)


def test_rank_and_alpha_come_first(window):
    window.advanced.click()
    (form,) = [form for form in window.settings.forms if "lora_rank" in form.rows]
    assert list(form.rows)[:2] == ["lora_rank", "lora_alpha"]
    window.tabs.setCurrentIndex(3)
    window.grab()
    tops = [row.editor.y() for row in form.rows.values() if row.shown]
    assert tops == sorted(tops)


def test_the_choice_is_kept_for_the_next_start(window, open_window):
    window.advanced.click()
    window.close()
    again = open_window()
    assert again.advanced.isChecked()
    assert "seed" in shown(again)


def test_a_changed_setting_and_one_with_a_message_are_shown(window):
    window.document.set("seed", 7)
    window.examine()
    assert "seed" in shown(window)
    window.document.set("cache_dir", "x" * 5000)
    window.examine()
    assert "cache_dir" in window.findings.errors
    assert "cache_dir" in shown(window)
    window.document.undo()
    window.document.undo()
    window.examine()
    assert shown(window) == set(BASIC)


def test_a_setting_that_is_wanted_is_shown(window):
    assert not visible(window, "seed")
    window.go_to("seed")
    assert visible(window, "seed")
    window.examine()
    assert visible(window, "seed")
    assert not visible(window, "comment") or "comment" in window.document.data


def test_sections_without_a_visible_setting_are_hidden(window):
    titles = {box.title(): box for box in window.settings.boxes}
    assert titles["Model component overrides"].isHidden()
    assert titles["Objective"].isHidden()
    assert not titles["LoRA"].isHidden()
    window.advanced.click()
    assert not titles["Model component overrides"].isHidden()


# Families -----------------------------------------------------------------------------

OF_FLUX = {
    "transformer_model_name",
    "tokenizer_2_model_name",
    "text_encoder_2_sequence_length",
    "dynamic_timestep_shifting",
    "guidance_scale",
}
OF_UNETS = {"unet_model_name", "conv_rank", "prediction_type", "zero_terminal_snr"}
SECOND_ENCODER = {"text_encoder_2_model_name", "train_text_encoder_2"}


def test_settings_of_other_families_are_hidden(window):
    window.advanced.click()
    for family, hidden, kept in (
        ("sdxl", OF_FLUX, OF_UNETS | SECOND_ENCODER),
        ("sd15", OF_FLUX | SECOND_ENCODER, OF_UNETS),
        ("flux", OF_UNETS, OF_FLUX | SECOND_ENCODER),
    ):
        window.document.set("model_type", family)
        window.examine()
        assert not shown(window) & hidden, family
        assert kept <= shown(window), family


def test_a_setting_of_another_family_is_shown_while_it_is_set(window):
    window.advanced.click()
    window.document.set("conv_rank", 4)
    window.document.set("guidance_scale", 3.0)
    window.examine()
    assert "guidance_scale" in window.findings.errors
    assert "guidance_scale" in shown(window)


def test_the_negative_prompt_is_hidden_for_flux_unless_it_is_set(window):
    window.advanced.click()
    window.document.set("samples", [{"prompt": "a"}, {"prompt": "b"}])
    entries = dict(window.settings.rows())["samples"].editor.entries
    for entry in entries:
        entry._more.setChecked(True)
    rows = [entry.form.rows["negative_prompt"] for entry in entries]
    assert [row.shown for row in rows] == [True, True]
    window.document.set("model_type", "flux")
    assert [row.shown for row in rows] == [False, False]
    assert entries[0].form.rows["seed"].shown
    window.document.set(
        "samples", [{"prompt": "a"}, {"prompt": "b", "negative_prompt": "c"}]
    )
    assert [row.shown for row in rows] == [False, True]


# Without an effect --------------------------------------------------------------------

PAIRS = [
    ("ema", "gpu", {"ema_decay", "ema_update_step_interval", "save_without_ema"}),
    ("masked_training", True, {"alpha_mask", "unmasked_weight"}),
    ("huber_strength", 0.5, {"huber_delta"}),
    ("loss_weight_fn", "min_snr_gamma", {"loss_weight_strength"}),
    ("lora_init", "loi", {"loi_batches", "loi_file_rank"}),
    (
        "train_text_encoder",
        True,
        {"text_encoder_learning_rate", "text_encoder_stop_training_after"},
    ),
    ("validate_every", 10, {"validation_timesteps_per_picture"}),
    ("validation_split", 0.1, {"validation_seed"}),
    ("learning_rate_scheduler", "linear", {"learning_rate_min_factor"}),
    ("learning_rate_scheduler", "polynomial", {"learning_rate_power"}),
    ("learning_rate_scheduler", "cosine_with_restarts", {"learning_rate_cycles"}),
    ("multires_noise_iterations", 6, {"multires_noise_discount"}),
    ("timestep_distribution", "sigmoid", {"noising_weight", "noising_bias"}),
    ("early_stop_patience", 3, {"early_stop_min_delta"}),
]


def test_settings_without_an_effect_are_hidden(open_window):
    window = open_window()
    window.advanced.click()
    for key, value, others in PAIRS:
        assert not shown(window) & others, key
        window.document.set(key, value)
        if key == "early_stop_patience":
            window.document.set("validate_every", 10)
        assert others <= shown(window), key
        window.document.reset(key)
        window.document.reset("validate_every")
        assert not shown(window) & others, key


def test_settings_that_are_replaced_by_another_are_hidden(open_window):
    window = open_window()
    window.advanced.click()
    assert {"bucket_step", "max_aspect_ratio"} <= shown(window)
    window.document.set("aspect_ratio_bucketing", False)
    assert not {"bucket_step", "max_aspect_ratio"} & shown(window)
    window.document.set("model_type", "flux")
    assert "timestep_shift" in shown(window)
    window.document.set("dynamic_timestep_shifting", True)
    assert "timestep_shift" not in shown(window)


def test_options_of_the_optimizer_without_an_effect_are_hidden(open_window):
    window = open_window()
    window.advanced.click()
    panel = window.settings.optimizer
    window.document.choose_optimizer("stiefel_lora")
    entry = next(o for o in _method("stiefel_lora").options if o.needs)
    name, needed = entry.needs
    for value in _choices("stiefel_lora", name):
        window.document.set(f"optimizer.{name}", value)
        assert panel.form.rows[entry.name].shown is (value == needed), value
    window.advanced.click()
    options = {key for key, row in panel.form.rows.items() if row.shown}
    assert options <= {name}


def _method(name):
    from stiefel_lora.methods import CATALOGUE

    return CATALOGUE[name]


def _choices(method, option):
    return next(o for o in _method(method).options if o.name == option).choices


def test_presets_set_nothing_that_the_window_would_hide():
    """Errors and notes exist for what is set without an effect; presets have none."""
    for name in ("demo_adamw", "sdxl_stiefel_lora", "flux_stiefel_lora_24gb"):
        from stiefel_lora.config import load_config

        config = load_config(find_config(name))
        without = settings_without_effect(lambda key, c=config: getattr(c, key))
        default = parse_config({"model_type": config.model_type})
        for key in without - {"samples.negative_prompt"}:
            assert getattr(config, key) == getattr(default, key), (name, key)


def test_a_list_of_lora_files_is_edited_as_lines(open_window):
    window = open_window()
    editor = dict(window.settings.rows())["lora_model_name"].editor
    assert editor.text.toPlainText() == ""
    editor.text.setPlainText("a.safetensors\nb.safetensors:0.5")
    assert window.document.value("lora_model_name") == [
        "a.safetensors",
        "b.safetensors:0.5",
    ]
