from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from helpers.jobs import ready_config
from helpers.runs import make_images
from stiefel_lora import ConfigError
from stiefel_lora.config import TrainConfig
from stiefel_lora.jobs import make_plans
from stiefel_lora.jobs import plan as plan_module
from stiefel_lora.jobs.naming import LONGEST, unique_names
from stiefel_lora.jobs.setting_differences import different_keys


def names(*arguments):
    return [plan.config.run_name for plan in make_plans(*arguments)]


def test_one_config_keeps_its_name(config):
    assert names([str(config)]) == ["cats"]


def test_names_tell_what_was_swept(config):
    found = names([str(config)], [], ["lora_rank=8,16", "optimizer.name=adamw,stella"])
    assert found == [
        "cats-lora_rank_8-adamw",
        "cats-lora_rank_8-stella",
        "cats-lora_rank_16-adamw",
        "cats-lora_rank_16-stella",
    ]


def test_configs_of_one_name_get_their_differences_as_suffix(tmp_path):
    configs = []
    for number, seed in enumerate((3, 4)):
        folder = tmp_path / str(number)
        folder.mkdir()
        configs.append(str(ready_config(folder, seed=seed, output_dir=str(tmp_path))))
    # The two also have base models and pictures in folders of their own.
    found = names(configs)
    assert len(set(found)) == 2
    assert found[0].startswith("cats-")
    assert "seed_3" in found[0]


def test_one_name_in_two_folders_is_no_clash(tmp_path):
    configs = []
    for number in (0, 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        configs.append(str(ready_config(folder)))
    assert names(configs) == ["cats", "cats"]


def test_a_sweep_reaches_options_of_the_optimizer(config):
    plans = make_plans(
        [str(config)],
        ["optimizer.weight_decay=0.25"],
        ["optimizer.name=adamw,lora_plus"],
    )
    assert [plan.config.optimizer.name for plan in plans] == ["adamw", "lora_plus"]
    assert {plan.settings["optimizer"]["weight_decay"] for plan in plans} == {0.25}
    # The rate is each optimizer's own, as the file sets none.
    assert plans[0].config.learning_rate == plans[0].config.optimizer.method.default_lr


@pytest.mark.parametrize("key", list(TrainConfig.model_fields))
def test_a_sweep_reaches_every_field(config, key):
    (plain,) = make_plans([str(config)])
    text = json.dumps(plain.settings[key])
    (swept,) = make_plans([str(config)], [], [f"{key}={text}"])
    assert list(swept.changes) == [key]
    assert swept.config == plain.config


def test_all_broken_configs_are_named_and_the_good_ones_counted(
    config, broken, tmp_path
):
    lost = ready_config(tmp_path, "lost", concepts="nowhere")
    with pytest.raises(ConfigError) as error:
        make_plans([str(config), str(broken), str(lost)])
    first, *others = str(error.value).splitlines()
    assert first == "No job was started. Fix these errors:"
    assert "broken.json" in others[0]
    assert "Did you mean lora_rank?" in others[0]
    assert "lost.json" in others[1]
    assert "does not exist" in others[1]
    assert len(others) == 2


def test_a_mistake_of_a_sweep_is_reported_once(config):
    with pytest.raises(ConfigError) as error:
        make_plans([str(config)], [], ["lora_rank=0,4", "seed=1,2,3"])
    assert str(error.value).count("lora_rank: must be at least 1, but got 0") == 1


def test_a_folder_without_images(config, tmp_path):
    shutil.rmtree(tmp_path / "pictures")
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ConfigError, match="contains no images"):
        make_plans([str(config)])


def test_a_config_that_is_not_complete():
    with pytest.raises(ConfigError, match="concepts: is not set"):
        make_plans(["sdxl_adamw"])


def test_the_same_config_twice(config):
    with pytest.raises(ConfigError, match="is given twice"):
        make_plans([str(config), str(config)])


def test_the_same_training_twice(config, tmp_path):
    shutil.copy(config, tmp_path / "dogs.json")
    both = [str(config), str(tmp_path / "dogs.json")]
    with pytest.raises(ConfigError, match="are the same training in"):
        make_plans(both, ["run_name=pets"])


def test_patterns_are_spelled_out(config, tmp_path):
    ready_config(tmp_path, "dogs")
    assert names([str(tmp_path / "*.json")]) == ["cats", "dogs"]
    with pytest.raises(ConfigError, match="no file matches"):
        make_plans([str(tmp_path / "*.yaml")])


def test_options_count_among_jobs_of_one_optimizer():
    adamw = {"optimizer": {"name": "adamw", "weight_decay": 0.0}}
    heavy = {"optimizer": {"name": "adamw", "weight_decay": 0.1}}
    stella = {"optimizer": {"name": "stella", "momentum": 0.9}}
    assert different_keys([adamw, stella]) == ["optimizer.name"]
    found = different_keys([adamw, heavy, stella])
    assert found == ["optimizer.name", "optimizer.weight_decay"]


def test_names_stay_folder_names_and_differ():
    paths = [f"C:\\models\\{'x' * 80}\\base{i}/" for i in range(3)]
    configs = [{"output_dir": "runs", "base_model_name": path} for path in paths]
    found = unique_names(["n" * 90] * 3, configs, [["base_model_name"]] * 3)
    assert len({name.casefold() for name in found}) == 3
    assert all(len(name) <= LONGEST for name in found)
    assert not set("".join(found)) & set('<>:"/\\|?*')


def test_a_made_name_does_not_take_that_of_another_job():
    configs = [{"output_dir": "r", "seed": seed} for seed in (1, 2, 3)]
    found = unique_names(["a", "a", "A-seed_1"], configs, [["seed"]] * 3)
    assert found == ["a-seed_1-2", "a-seed_2", "A-seed_1"]


def test_a_pattern_or_sweep_leaves_no_trace(config, tmp_path):
    before = sorted(Path(tmp_path).rglob("*"))
    make_plans([str(config)], [], ["lora_rank=4,8"])
    assert sorted(Path(tmp_path).rglob("*")) == before


def test_jobs_show_steps_for_epochs_and_count_the_images_once(tmp_path, monkeypatch):
    path = ready_config(tmp_path, steps=7, resolution=32, bucket_step=8)
    folder = json.loads(path.read_text())["concepts"]
    make_images(tmp_path / folder, count=5)
    counted = []
    real = plan_module.images_per_epoch
    monkeypatch.setattr(
        plan_module,
        "images_per_epoch",
        lambda *given: counted.append(1) or real(*given),
    )
    plans = make_plans([str(path)], ["batch_size=1"], ["epochs=1,2,3"])
    assert [plan.config.steps for plan in plans] == [5, 10, 15]
    assert [plan.settings["epochs"] for plan in plans] == [None] * 3
    assert [plan.changes for plan in plans] == [{"epochs": n} for n in (1, 2, 3)]
    assert len({plan.config.run_name for plan in plans}) == 3
    assert counted == [1]
    other = make_plans([str(path)], ["batch_size=1"], ["bucket_step=8,16", "epochs=1"])
    assert len(other) == 2
    assert counted == [1, 1, 1]
    (tmp_path / folder / "00.png").unlink()
    with pytest.raises(ConfigError, match="None of the 4 images can be read"):
        make_plans([str(path)], ["bucket_step=64", "resolution=64", "epochs=1"])
