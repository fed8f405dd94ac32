from __future__ import annotations

import json

import pytest

from helpers.plugin_methods import forgetting_plugins, write_plugin
from stiefel_lora._exceptions import ConfigError, OutputError
from stiefel_lora.config import load_config
from stiefel_lora.config.plugins import offer_methods
from stiefel_lora.config.presets import find_config, list_presets
from stiefel_lora.methods import CATALOGUE, load_plugin
from stiefel_lora.ui.controllers.document import Document
from stiefel_lora.ui.controllers.findings import examine
from stiefel_lora.ui.controllers.preset_differences import differences


@pytest.fixture
def document():
    found = Document()
    found.load(find_config("sdxl_adamw"))
    return found


@pytest.mark.parametrize("preset", list_presets(), ids=lambda preset: preset.name)
def test_a_preset_loads_saves_and_means_the_same(preset, tmp_path):
    document = Document()
    document.load(preset.path)
    path = tmp_path / "Ordner mit Ümlauten 猫" / f"{preset.name}.json"
    document.save(path)
    assert load_config(path) == load_config(preset.path)


def test_undo_takes_typing_back_as_one_and_redo_does_it_again(document):
    for letters in (1, 12, 128):
        document.set("lora_rank", letters, typing=True)
    document.set("use_dora", True)
    document.undo()
    assert (document.value("lora_rank"), document.value("use_dora")) == (128, False)
    document.undo()
    assert document.value("lora_rank") == 32
    document.redo()
    assert document.value("lora_rank") == 128
    document.set("seed", 1)
    assert not document.can_redo


def test_another_optimizer_comes_with_its_defaults_and_its_rate(document):
    document.set("lora_alpha", 1.0)
    document.choose_optimizer("stiefel_lora")
    assert document.data["optimizer"] == {"name": "stiefel_lora"}
    assert document.value("learning_rate") == CATALOGUE["stiefel_lora"].default_lr
    assert document.value("lora_alpha") is None
    assert document.config().resolved_alpha == document.value("lora_rank")
    document.undo()
    assert (document.optimizer, document.value("lora_alpha")) == ("adamw", 1.0)
    assert document.value("optimizer.weight_decay") == 0.01


def test_an_optimizer_of_a_plugin_is_saved_with_its_file(document, tmp_path):
    plugin = write_plugin(tmp_path)
    with forgetting_plugins():
        load_plugin(str(plugin))
        offer_methods()
        document.choose_optimizer("sign_lora")
        assert document.value("optimizer.momentum") == 0.9
        assert document.value("learning_rate") == CATALOGUE["sign_lora"].default_lr
        assert document.value("plugins") == [str(plugin)]
        document.choose_optimizer("stella")
        document.choose_optimizer("sign_lora")
        assert document.value("plugins") == [str(plugin)]
        document.save(tmp_path / "mine.json")
    with forgetting_plugins():
        again = Document()
        again.load(tmp_path / "mine.json")
        assert again.value("optimizer.momentum") == 0.9


def test_settings_of_last_time_whose_plugin_is_gone_are_shown(tmp_path):
    plugin = write_plugin(tmp_path)
    data = {"optimizer": {"name": "sign_lora"}, "plugins": [str(plugin)]}
    with forgetting_plugins():
        document = Document()
        document.restore(data, None)
        assert document.value("optimizer.momentum") == 0.9
    plugin.unlink()
    with forgetting_plugins():
        document = Document()
        document.restore(data, None)
        assert document.value("optimizer.momentum") is None
        assert document.value("learning_rate") > 0
        found = examine(document.data)
        assert found.errors["plugins"][0].startswith("The file ")


def test_a_default_is_not_kept(document):
    document.set("seed", 7)
    assert document.is_set("seed")
    document.set("seed", 42)
    assert "seed" not in document.data
    document.set("learning_rate", None)
    assert document.value("learning_rate") == CATALOGUE["adamw"].default_lr


def test_differences_name_what_changed_and_reset_takes_it_back(document):
    assert differences(document) == []
    document.set("lora_rank", 8)
    document.set("optimizer.beta1", 0.8)
    found = {entry.label: (entry.before, entry.now) for entry in differences(document)}
    assert found == {"LoRA rank": ("32", "8"), "Beta1": ("0.9", "0.8")}
    document.reset("lora_rank")
    document.reset("optimizer")
    assert differences(document) == []


def test_a_file_that_breaks_a_rule_changes_nothing(document, tmp_path):
    before = document.data
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({"lora_rnak": 8}))
    with pytest.raises(ConfigError, match="Did you mean lora_rank"):
        document.load(path)
    assert document.data == before


def test_saving_is_all_or_nothing(document, tmp_path):
    path = tmp_path / "mine.json"
    document.save(path)
    good = path.read_text()
    document.set("lora_rank", 0)
    with pytest.raises(ConfigError, match="must be at least 1"):
        document.save(path)
    document.undo()
    with pytest.raises(OutputError, match="could not be written"):
        document.save(path / "inside a file.json")
    assert path.read_text() == good


def test_watchers_hear_of_every_change(document):
    heard = []
    document.subscribe(lambda: heard.append(document.value("seed")))
    document.set("seed", 5)
    document.undo()
    assert heard == [5, 42]


def test_a_length_replaces_the_other_in_one_undo_step():
    document = Document()
    document.set("steps", 500)
    document.set("epochs", 3)
    assert document.data == {"epochs": 3}
    document.undo()
    assert document.data == {"steps": 500}
    document.redo()
    document.set("epochs", None)
    document.set("steps", 20)
    assert document.data == {"steps": 20}


def test_an_optimizer_of_another_package_has_its_rate_and_options():
    document = Document()
    document.choose_optimizer("prodigy")
    assert document.value("learning_rate") == 1.0
    document.set("optimizer.d_coef", 2.0)
    document.set("optimizer.options", {"fsdp_in_use": False})
    assert document.data["optimizer"] == {
        "name": "prodigy",
        "d_coef": 2.0,
        "options": {"fsdp_in_use": False},
    }
    document.set("optimizer.d_coef", 1.0)
    assert "d_coef" not in document.data["optimizer"]
    document.choose_optimizer("schedule_free_adamw")
    assert document.data["optimizer"] == {"name": "schedule_free_adamw"}
