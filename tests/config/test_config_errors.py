from __future__ import annotations

import math

import pytest

from stiefel_lora._exceptions import ConfigError
from stiefel_lora.config import TrainConfig, check_complete, check_paths, parse_config
from stiefel_lora.config import remarks as remarks_of
from stiefel_lora.config.concept import Concept
from stiefel_lora.config.optimizer import OPTIMIZER_MODELS
from stiefel_lora.config.parts import Sample
from stiefel_lora.config.suggestions import FOREIGN_NAMES

METHODS = ", ".join(OPTIMIZER_MODELS)

MESSAGES = [
    ({"lora_rnk": 8}, "lora_rnk: there is no such key. Did you mean lora_rank?"),
    ({"xyzzy": 8}, "xyzzy: there is no such key. stiefel-lora schema lists all keys."),
    (
        {"momentum": 0.9},
        "momentum: there is no such key. Did you mean optimizer.momentum?",
    ),
    (
        {"concepts": [{"path": "a", "repeat": 2}]},
        "concepts.0.repeat: there is no such key. Did you mean concepts.0.repeats?",
    ),
    (
        {"samples": [{"prompt": "a", "cfg_scale": 2}]},
        "samples.0.cfg_scale: there is no such key. Did you mean samples.0.guidance?",
    ),
    (
        {"optimizer": {"name": "adamw", "beta_1": 0.5}},
        "optimizer.beta_1: there is no such key. Did you mean optimizer.beta1?",
    ),
    (
        {"optimizer": {"name": "adamw", "xyzzy": 0.5}},
        "optimizer.xyzzy: there is no such key. Valid keys are name, weight_decay, "
        "beta1, beta2, eps.",
    ),
    (
        {"optimizer": {"name": "adamw", "class": "torch.optim.RAdam"}},
        "optimizer.class: there is no such key. It is an option of custom, not "
        "of adamw.",
    ),
    (
        {"optimizer": {"name": "adamw", "transport": "none"}},
        "optimizer.transport: there is no such key. It is an option of "
        "stiefel_lora, not of adamw.",
    ),
    (
        {"optimizer": {"name": "adamv"}},
        "optimizer.name: there is no optimizer 'adamv'. Did you mean adamw?",
    ),
    (
        {"optimizer": {"name": "StiefelLoRA"}},
        "optimizer.name: there is no optimizer 'StiefelLoRA'. Did you mean "
        "stiefel_lora?",
    ),
    (
        {"optimizer": {"name": "xyzzy"}},
        f"optimizer.name: there is no optimizer 'xyzzy'. Available are {METHODS}. "
        "If a plug-in adds it, name the file or module of the plug-in in "
        "plugins, or with --plugin.",
    ),
    ({"optimizer": {}}, f"optimizer.name: is missing. Write one of {METHODS}."),
    (
        {"optimizer": "adamw"},
        'optimizer: must be an object such as {"name": "adamw"}, not "adamw".',
    ),
    (
        {"optimizer": {"name": "custom", "class": "RAdam"}},
        "optimizer.class: must be a module and a class with a dot between them, not "
        "'RAdam'. Write it as \"torch.optim.RAdam\".",
    ),
    (
        {"optimizer": {"name": "custom"}},
        "optimizer.class: is missing and has no default. Write it.",
    ),
    (
        {"optimizer": {"name": "adamw", "beta1": 1}},
        "optimizer.beta1: must be less than 1, not 1.",
    ),
    (
        {"optimizer": {"name": "adamw", "eps": 0}},
        "optimizer.eps: must be more than 0, not 0.",
    ),
    (
        {"lora_rank": 16, "lora_alpha": 1},
        "lora_alpha: must equal lora_rank=16, not 1, with stiefel_lora, which "
        "sets the scale of the LoRA itself. Leave lora_alpha out or write 16.",
    ),
    (
        {"steps": 10, "learning_rate_warmup_steps": 11},
        "learning_rate_warmup_steps: must not be more than steps=10, as 11 is. "
        "Write at most 10.",
    ),
    (
        {"output_formats": ["kohya", "kohya"]},
        "output_formats: names 'kohya' twice. Write it once.",
    ),
    ({"output_formats": []}, "output_formats: must not be empty."),
    (
        {"output_formats": ["khoya"]},
        'output_formats.0: must be one of kohya, peft, not "khoya". Did you '
        "mean kohya?",
    ),
    ({"samples": [{}]}, "samples.0.prompt: is missing and has no default. Write it."),
    ({"samples": [{"prompt": ""}]}, "samples.0.prompt: must not be empty."),
    ({"samples": ["a"]}, 'samples.0: must be an object in { }, not "a".'),
    ({"concepts": [""]}, "concepts.0.path: must not be empty."),
    ({"concepts": 3}, "concepts: must be a list in [ ], not 3."),
    (
        {"concepts": [{"path": 3}]},
        "concepts.0.path: must be a path in double quotes, not 3.",
    ),
    ({"steps": "200"}, 'steps: must be a whole number, not "200".'),
    ({"steps": True}, "steps: must be a whole number, not true."),
    ({"steps": 10**9}, "steps: must be at most 100000000, not 1000000000."),
    ({"learning_rate": 0}, "learning_rate: must be more than 0, not 0."),
    ({"learning_rate": math.nan}, "learning_rate: must be a finite number, not NaN."),
    ({"learning_rate": "fast"}, 'learning_rate: must be a number, not "fast".'),
    (
        {"gradient_checkpointing": 1},
        "gradient_checkpointing: must be true or false, not 1.",
    ),
    ({"resolution": 100}, "resolution: must be a multiple of 8, not 100."),
    (
        {"train_dtype": "bf16"},
        'train_dtype: must be one of float32, bfloat16, float16, not "bf16". '
        "Did you mean bfloat16?",
    ),
    ({"model_type": "sd4"}, 'model_type: must be one of sdxl, sd15, flux, not "sd4".'),
    (
        {"device": "gpu"},
        'device: must be auto, cpu, cuda, cuda:0 (a number), mps or xpu, not "gpu".',
    ),
    ({"comment": 3}, "comment: must be a text in double quotes, not 3."),
    (
        {"run_name": "a/b"},
        "run_name: 'a/b' cannot be the name of a folder on every system. Use "
        "letters, digits, spaces inside, - and _.",
    ),
    (
        {"schema_version": 99},
        "schema_version: 99 is newer than 3, the latest of this stiefel-lora. "
        "Update it with pip install -U stiefel-lora.",
    ),
    (
        {"schema_version": "1"},
        "schema_version: must be a whole number from 1 to 3, not '1'. Leave it "
        "out for a new file.",
    ),
    (
        {"steps": 0, "lora_rnk": 3, "seed": -1},
        "seed: must be at least 0, not -1.\nsteps: must be at least 1, not 0.\n"
        "lora_rnk: there is no such key. Did you mean lora_rank?",
    ),
    (
        {"run_name": "con", "lora_alpha": 2.5},
        "run_name: 'con' cannot be the name of a folder on every system. Use "
        "letters, digits, spaces inside, - and _.\nlora_alpha: must equal "
        "lora_rank=16, not 2.5, with stiefel_lora, which sets the scale of the "
        "LoRA itself. Leave lora_alpha out or write 16.",
    ),
]


@pytest.mark.parametrize(("data", "message"), MESSAGES, ids=lambda part: str(part)[:40])
def test_each_bad_input_has_its_message(data, message):
    with pytest.raises(ConfigError) as error:
        parse_config(data)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        ("network_dim", "lora_rank"),
        ("network_alpha", "lora_alpha"),
        ("train_batch_size", "batch_size"),
        ("max_train_steps", "steps"),
        ("unet_lr", "learning_rate"),
        ("pretrained_model_name_or_path", "base_model_name"),
        ("lr_scheduler", "learning_rate_scheduler"),
        ("output_name", "run_name"),
        ("optimizer_type", "optimizer.name"),
        ("output_model_destination", "output_dir"),
        ("sample_after", "sample_every"),
    ],
)
def test_names_of_other_trainers(foreign, ours):
    with pytest.raises(ConfigError) as error:
        parse_config({foreign: 1})
    assert str(error.value) == f"{foreign}: there is no such key. Did you mean {ours}?"


def test_foreign_names_lead_to_keys_and_are_none_themselves():
    keys = {*TrainConfig.model_fields, *Concept.model_fields, *Sample.model_fields}
    assert {name.partition(".")[0] for name in FOREIGN_NAMES.values()} <= keys
    assert not keys & FOREIGN_NAMES.keys()
    assert list(FOREIGN_NAMES) == sorted(FOREIGN_NAMES)


@pytest.mark.parametrize("path", ["not_there.Class", "json.NotThere"])
def test_a_custom_class_that_is_not_there(path):
    config = parse_config({"optimizer": {"name": "custom", "class": path}})
    with pytest.raises(ConfigError, match=f"^optimizer.class: '{path}'"):
        config.optimizer.load()


def test_a_custom_class_is_imported():
    config = parse_config(
        {"optimizer": {"name": "custom", "class": "json.JSONDecoder"}}
    )
    assert config.optimizer.load().__name__ == "JSONDecoder"


def test_paths_that_are_set_and_missing(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "cats").mkdir()
    data = {
        "base_model_name": "./sdxl",
        "concepts": ["cats", "dogs"],
        "validation_concepts": ["file"],
        "output_dir": "file",
    }
    with pytest.raises(ConfigError) as error:
        check_paths(parse_config(data, folder=tmp_path))
    assert str(error.value).splitlines() == [
        f"base_model_name: there is no file or folder {tmp_path / 'sdxl'}.",
        f"concepts.1.path: there is no folder {tmp_path / 'dogs'}.",
        f"validation_concepts.0.path: there is no folder {tmp_path / 'file'}.",
        f"output_dir: {tmp_path / 'file'} is a file. Write a folder.",
    ]
    check_paths(parse_config({"base_model_name": "org/hub", "concepts": str(tmp_path)}))


def test_what_is_unset_is_a_remark_until_training_starts(tmp_path):
    config = parse_config({})
    check_paths(config)
    found = remarks_of(config)
    assert [violation.key for violation in found] == ["base_model_name", "concepts"]
    with pytest.raises(ConfigError) as error:
        check_complete(config)
    assert str(error.value).splitlines() == [str(text) for text in found]


@pytest.mark.parametrize(
    ("data", "remark"),
    [
        (
            {"validate_every": 5},
            "validate_every: has no effect without validation_concepts or "
            "validation_split.",
        ),
        ({"sample_every": 5}, "sample_every: has no effect without samples."),
        (
            {"samples": [{"prompt": "a"}]},
            "samples: no samples are generated during training while sample_every "
            "is 0.",
        ),
        ({"alpha_mask": True}, "alpha_mask: has no effect with masked_training off."),
        (
            {"concepts": ["a", "b"], "validation_concepts": ["c", "b"]},
            "validation_concepts.1: is among concepts too: its loss also falls when "
            "the LoRA only memorizes images.",
        ),
        (
            {"optimizer": {"name": "adamw"}, "learning_rate": 2e-2},
            "learning_rate: 0.02 is 200 times above 0.0001, where adamw usually "
            "begins; "
            "each optimizer has its own unit.",
        ),
        (
            {"optimizer": {"name": "stiefel_lora"}, "learning_rate": 1e-4},
            "learning_rate: 0.0001 is 200 times below 0.02, where stiefel_lora usually "
            "begins; each optimizer has its own unit.",
        ),
    ],
)
def test_remarks(data, remark):
    assert remark in [str(found) for found in remarks_of(parse_config(data))]
