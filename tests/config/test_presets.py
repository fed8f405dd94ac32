from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from stiefel_lora._exceptions import ConfigError
from stiefel_lora.config import dump_lean, load_config, parse_config, presets, remarks
from stiefel_lora.config.json_schema import json_schema, json_schema_text
from stiefel_lora.config.presets import (
    find_config,
    list_presets,
    presets_folder,
    select_presets,
)
from stiefel_lora.families.catalogue import record_of
from stiefel_lora.methods import CATALOGUE, PACKAGED
from stiefel_lora.ui.controllers.library import OWN, entries

PRESETS = list_presets()
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=PRESETS, ids=lambda preset: preset.name)
def preset(request):
    return request.param


def test_presets_whose_names_stay():
    names = {entry.name for entry in PRESETS}
    assert names >= {
        "demo_adamw",
        "demo_stiefel_lora",
        "sdxl_adamw",
        "sdxl_stiefel_lora",
    }


def test_every_preset_is_valid_and_names_the_source_of_its_values(preset):
    config = load_config(preset.path)
    assert config.run_name == preset.name
    assert preset.comment == config.comment
    sources = ("common practice", "one seed", "three seeds")
    assert any(source in preset.comment for source in sources)
    assert preset.summary in preset.comment


def test_every_preset_is_lean(preset):
    """Nothing is written that the defaults, or the file it extends, already say."""
    data = json.loads(preset.path.read_text(encoding="utf-8"))
    below = {key: data[key] for key in ("optimizer", "extends") if key in data}
    under = parse_config(below, folder=preset.path.parent).model_dump(mode="json")
    kept = {"schema_version", "optimizer", "learning_rate", "lora_rank"}
    same = [key for key in data.keys() - kept if data[key] == under.get(key)]
    assert not same


def test_every_preset_points_to_the_schema(preset):
    data = json.loads(preset.path.read_text(encoding="utf-8"))
    schema = preset.path.parent / data["$schema"]
    assert schema.resolve() == presets_folder().resolve() / "train_config.schema.json"


DEMOS = ["demo_adamw", "demo_stiefel_lora"]
FLUX_DEMOS = [name.replace("demo", "demo_flux") for name in DEMOS]


@pytest.mark.parametrize("name", [*DEMOS, *FLUX_DEMOS])
def test_demo_presets_show_the_first_validation_concepts(name):
    config = load_config(find_config(name))
    captions = sorted(config.validation_concepts[0].path.glob("*.txt"))
    prompts = [sample.prompt for sample in config.samples]
    first = captions[: len(prompts)]
    assert prompts == [path.read_text(encoding="utf-8").strip() for path in first]
    assert {sample.seed for sample in config.samples} == {0}


@pytest.mark.parametrize("names", [DEMOS, FLUX_DEMOS])
def test_the_demo_presets_differ_in_the_optimizer_alone(names):
    one, other = (
        load_config(find_config(name)).model_dump(
            exclude={"optimizer", "learning_rate", "run_name", "comment"}
        )
        for name in names
    )
    assert one == other


MODELS = {
    "SDXL": "stabilityai/stable-diffusion-xl-base-1.0",
    "SD15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "FLUX": "black-forest-labs/FLUX.1-dev",
}
FULL_SIZE = [entry for entry in PRESETS if not entry.name.startswith("demo")]


@pytest.mark.parametrize("preset", FULL_SIZE, ids=lambda preset: preset.name)
def test_a_full_size_preset_starts_once_the_images_are_set(preset):
    assert "set concepts and trigger_word" in preset.summary
    assert "Learning rate" in preset.comment
    config = load_config(preset.path, ["trigger_word=ohwx", "validation_split=0.1"])
    assert [found.key for found in remarks(config)] == ["concepts"]
    assert config.base_model_name == MODELS[preset.family]
    assert config.base_model_name in record_of(config.model_type).hub_models
    assert 2 <= len(config.samples) <= 3
    assert all("[trigger]" in sample.prompt for sample in config.samples)
    assert config.sample_every
    assert config.checkpoint_every
    assert config.epochs or config.steps >= 1000


def test_presets_are_grouped_by_family_and_gpu():
    places = [(entry.family, entry.memory_gb or 0) for entry in PRESETS]
    assert places == sorted(places)
    listed = [entry.group for entry in entries() if entry.group != OWN]
    together = [group for group, _ in itertools.groupby(listed)]
    assert len(together) == len(set(together))
    assert {"SDXL", "SDXL, 8 GB", "SDXL, 24 GB", "FLUX, 12 GB"} < set(together)
    found = [entry.name for entry in entries("sdxl 12 gb")]
    assert found[0] == "sdxl_stiefel_lora_12gb"
    assert all(name.endswith("12gb") for name in found)


@pytest.mark.parametrize("family", ["SDXL", "FLUX"])
def test_demos_that_are_not_installed_are_hidden_but_found(
    family, tmp_path, monkeypatch
):
    # As in an installation without the folder of the demo.
    copy = tmp_path / "a" / "presets"
    shutil.copytree(presets_folder(), copy)
    before = {preset.name for preset in select_presets(family)}
    monkeypatch.setattr(presets, "presets_folder", lambda: copy)
    after = {preset.name for preset in select_presets(family)}
    assert before - after == {name for name in before if name.startswith("demo")}
    assert len(before - after) == 2
    assert not [entry for entry in entries("demo") if entry.path.is_relative_to(copy)]
    assert find_config("demo_adamw").is_file()


def test_a_preset_without_images_has_remarks():
    found = remarks(load_config(find_config("sdxl_stiefel_lora")))
    assert [violation for violation in found if violation.key == "concepts"]


def test_a_preset_round_trips(preset):
    config = load_config(preset.path)
    assert parse_config(json.loads(dump_lean(config))) == config


def test_a_file_comes_before_a_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo_adamw").write_text("{}", encoding="utf-8")
    assert find_config("demo_adamw") == Path("demo_adamw")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "demo_adamv",
            "The file demo_adamv does not exist. Did you mean the preset demo_adamw?",
        ),
        (
            "xyzzy.json",
            "The file xyzzy.json does not exist. Run stiefel-lora presets to list "
            "all presets.",
        ),
    ],
)
def test_neither_file_nor_preset(name, message):
    with pytest.raises(ConfigError) as error:
        find_config(name)
    assert str(error.value) == message


def test_the_committed_json_schema_is_up_to_date():
    committed = ROOT / "training_presets" / "train_config.schema.json"
    assert committed.read_text(encoding="utf-8") == json_schema_text(), (
        "run: stiefel-lora schema --output training_presets/train_config.schema.json"
    )


def test_the_json_schema_serves_an_editor():
    schema = json_schema()
    properties = schema["properties"]
    assert properties["$schema"]["type"] == "string"
    assert schema["additionalProperties"] is False
    assert all("description" in entry for entry in properties.values())
    assert properties["steps"]["minimum"] == 1
    assert properties["learning_rate"]["exclusiveMinimum"] == 0
    tags = {
        name: entry["properties"]["name"]["const"]
        for name, entry in schema["$defs"].items()
        if name.endswith(("Options", "Optimizer"))
    }
    assert set(tags.values()) == {*CATALOGUE, *PACKAGED, "custom"}
    assert all("\n" not in text for text in _descriptions(schema))


def _descriptions(node):
    if isinstance(node, dict):
        if isinstance(node.get("description"), str):
            yield node["description"]
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _descriptions(item)
