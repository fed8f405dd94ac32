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
    ({"lora_rnk": 8}, "lora_rnk: unknown key. Did you mean lora_rank?"),
    ({"xyzzy": 8}, "xyzzy: unknown key. All keys are listed by stiefel-lora schema."),
    (
        {"momentum": 0.9},
        "momentum: unknown key. Did you mean optimizer.momentum?",
    ),
    (
        {"concepts": [{"path": "a", "repeat": 2}]},
        "concepts.0.repeat: unknown key. Did you mean concepts.0.repeats?",
    ),
    (
        {"samples": [{"prompt": "a", "cfg_scale": 2}]},
        "samples.0.cfg_scale: unknown key. Did you mean samples.0.guidance?",
    ),
    (
        {"optimizer": {"name": "adamw", "beta_1": 0.5}},
        "optimizer.beta_1: unknown key. Did you mean optimizer.beta1?",
    ),
    (
        {"optimizer": {"name": "adamw", "xyzzy": 0.5}},
        "optimizer.xyzzy: unknown key. Valid keys are name, weight_decay, "
        "weight_decay_b, weight_decay_a, beta1, beta2, eps.",
    ),
    (
        {"optimizer": {"name": "adamw", "class": "torch.optim.RAdam"}},
        "optimizer.class: unknown key. It is an option of custom, but not of adamw.",
    ),
    (
        {"optimizer": {"name": "adamw", "transport": "none"}},
        "optimizer.transport: unknown key. It is an option of stiefel_lora, but not "
        "of adamw.",
    ),
    (
        {"optimizer": {"name": "adamv"}},
        "optimizer.name: unknown optimizer 'adamv'. Did you mean adamw?",
    ),
    (
        {"optimizer": {"name": "StiefelLoRA"}},
        "optimizer.name: unknown optimizer 'StiefelLoRA'. Did you mean stiefel_lora?",
    ),
    (
        {"optimizer": {"name": "xyzzy"}},
        f"optimizer.name: unknown optimizer 'xyzzy'. Available are {METHODS}. If it "
        "is defined in a plugin, add the file or module of the plugin to plugins or "
        "pass it with --plugin.",
    ),
    ({"optimizer": {}}, f"optimizer.name: is missing. Set it to one of {METHODS}."),
    (
        {"optimizer": "adamw"},
        'optimizer: must be an object such as {"name": "adamw"}, but got "adamw".',
    ),
    (
        {"optimizer": {"name": "custom", "class": "RAdam"}},
        "optimizer.class: must be the full name of a class, but got 'RAdam'. Use "
        'for example "torch.optim.RAdam".',
    ),
    (
        {"optimizer": {"name": "custom"}},
        "optimizer.class: is missing and has no default. Set it.",
    ),
    (
        {"optimizer": {"name": "adamw", "beta1": 1}},
        "optimizer.beta1: must be less than 1, but got 1.",
    ),
    (
        {"optimizer": {"name": "adamw", "eps": 0}},
        "optimizer.eps: must be greater than 0, but got 0.",
    ),
    (
        {"lora_rank": 16, "lora_alpha": 1},
        "lora_alpha: must be equal to lora_rank=16 because stiefel_lora controls the "
        "scale of the LoRA, but got 1. Set lora_alpha to 16 or remove it.",
    ),
    (
        {"optimizer": {"name": "stiefel_lora", "weight_decay": 60}},
        "optimizer.weight_decay: 60 times the learning rate 0.02 is 1.2. It must be at "
        "most 1, because each step multiplies the weights by 1 minus this product. Use "
        "a weight_decay of at most 50.",
    ),
    (
        {
            "optimizer": {"name": "adamw", "weight_decay": 1},
            "learning_rate": 0.5,
            "learning_rate_pattern": {"mid_block": 3},
        },
        "optimizer.weight_decay: 1 times the learning rate 1.5 is 1.5. It must be at "
        "most 1, because each step multiplies the weights by 1 minus this product. Use "
        "a weight_decay of at most 0.666.",
    ),
    (
        {"steps": 10, "learning_rate_warmup_steps": 11},
        "learning_rate_warmup_steps: must be at most steps=10, but got 11. Use at "
        "most 10.",
    ),
    (
        {"output_formats": ["kohya", "kohya"]},
        "output_formats: contains 'kohya' twice. Remove one of them.",
    ),
    ({"output_formats": []}, "output_formats: must not be empty."),
    (
        {"output_formats": ["khoya"]},
        'output_formats.0: must be one of kohya, peft, but got "khoya". Did you '
        "mean kohya?",
    ),
    ({"samples": [{}]}, "samples.0.prompt: is missing and has no default. Set it."),
    ({"samples": [{"prompt": ""}]}, "samples.0.prompt: must not be empty."),
    ({"samples": ["a"]}, 'samples.0: must be an object in { }, but got "a".'),
    ({"concepts": [""]}, "concepts.0.path: must not be empty."),
    ({"concepts": 3}, "concepts: must be a list in [ ], but got 3."),
    (
        {"concepts": [{"path": 3}]},
        "concepts.0.path: must be a path in double quotes, but got 3.",
    ),
    ({"steps": "200"}, 'steps: must be an integer, but got "200".'),
    ({"steps": True}, "steps: must be an integer, but got true."),
    ({"steps": 10**9}, "steps: must be at most 100000000, but got 1000000000."),
    ({"learning_rate": 0}, "learning_rate: must be greater than 0, but got 0."),
    (
        {"learning_rate": math.nan},
        "learning_rate: must be a finite number, but got NaN.",
    ),
    ({"learning_rate": "fast"}, 'learning_rate: must be a number, but got "fast".'),
    (
        {"gradient_checkpointing": 1},
        "gradient_checkpointing: must be true or false, but got 1.",
    ),
    ({"resolution": 100}, "resolution: must be a multiple of 8, but got 100."),
    (
        {"train_dtype": "bf16"},
        'train_dtype: must be one of float32, bfloat16, float16, but got "bf16". '
        "Did you mean bfloat16?",
    ),
    (
        {"model_type": "sd4"},
        'model_type: must be one of sdxl, sd15, flux, but got "sd4".',
    ),
    (
        {"device": "gpu"},
        "device: must be auto, cpu, cuda, cuda:0 (with any number), mps or xpu, but "
        'got "gpu".',
    ),
    ({"comment": 3}, "comment: must be a string in double quotes, but got 3."),
    (
        {"run_name": "a/b"},
        "run_name: 'a/b' is not a valid folder name on all operating systems. Use "
        "letters, digits, - and _. Spaces are allowed inside the name.",
    ),
    (
        {"schema_version": 99},
        "schema_version: version 99 is newer than 3, the latest version that is "
        "supported. Update stiefel-lora with pip install -U stiefel-lora.",
    ),
    (
        {"schema_version": "1"},
        "schema_version: must be an integer from 1 to 3, but got '1'. Remove it "
        "from new files.",
    ),
    (
        {"steps": 0, "lora_rnk": 3, "seed": -1},
        "seed: must be at least 0, but got -1.\nsteps: must be at least 1, but got "
        "0.\nlora_rnk: unknown key. Did you mean lora_rank?",
    ),
    (
        {"run_name": "con", "lora_alpha": 2.5},
        "run_name: 'con' is not a valid folder name on all operating systems. Use "
        "letters, digits, - and _. Spaces are allowed inside the name.\nlora_alpha: "
        "must be equal to lora_rank=16 because stiefel_lora controls the scale of "
        "the LoRA, but got 2.5. Set lora_alpha to 16 or remove it.",
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
    assert str(error.value) == f"{foreign}: unknown key. Did you mean {ours}?"


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
        f"base_model_name: the file or folder {tmp_path / 'sdxl'} does not exist.",
        f"concepts.1.path: the folder {tmp_path / 'dogs'} does not exist.",
        f"validation_concepts.0.path: the folder {tmp_path / 'file'} does not exist.",
        f"output_dir: {tmp_path / 'file'} is a file. Use a folder.",
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
            "validate_every: has no effect because neither validation_concepts nor "
            "validation_split is set.",
        ),
        ({"sample_every": 5}, "sample_every: has no effect because samples is empty."),
        (
            {"learning_rate_min_factor": 0.1},
            "learning_rate_min_factor: has no effect because learning_rate_scheduler "
            "is constant.",
        ),
        (
            {"learning_rate_cycles": 3, "learning_rate_scheduler": "cosine"},
            "learning_rate_cycles: has no effect because learning_rate_scheduler is "
            "cosine.",
        ),
        (
            {"learning_rate_power": 2.0, "learning_rate_scheduler": "rex"},
            "learning_rate_power: has no effect because learning_rate_scheduler is "
            "rex.",
        ),
        (
            {"ema_decay": 0.9},
            "ema_decay: has no effect because ema is off.",
        ),
        (
            {"bucket_step": 32, "aspect_ratio_bucketing": False},
            "bucket_step: has no effect because aspect_ratio_bucketing is off.",
        ),
        (
            {"validation_seed": 3},
            "validation_seed: has no effect because validation_split is 0.0.",
        ),
        (
            {"samples": [{"prompt": "a"}]},
            "samples: no images are generated during training because sample_every "
            "is 0.",
        ),
        (
            {"alpha_mask": True},
            "alpha_mask: has no effect because masked_training is off.",
        ),
        (
            {"concepts": ["a", "b"], "validation_concepts": ["c", "b"]},
            "validation_concepts.1: is also one of the training concepts. Its "
            "validation loss does not show overfitting.",
        ),
        (
            {"optimizer": {"name": "adamw"}, "learning_rate": 2e-2},
            "learning_rate: 0.02 is 200 times above 0.0001, which is the usual "
            "learning rate of adamw. Learning rates of optimizers have different "
            "units.",
        ),
        (
            {"optimizer": {"name": "stiefel_lora"}, "learning_rate": 1e-4},
            "learning_rate: 0.0001 is 200 times below 0.02, which is the usual "
            "learning rate of stiefel_lora. Learning rates of optimizers have "
            "different units.",
        ),
    ],
)
def test_remarks(data, remark):
    assert remark in [str(found) for found in remarks_of(parse_config(data))]
