"""Rules answer with the key that the user set, the problem and the fix."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from stiefel_lora.config import (
    SettingsError,
    TrainConfig,
    Violation,
    check_complete,
    check_paths,
    parse_config,
    remarks,
)
from stiefel_lora.config.rules import RULES


def violations(data: dict[str, Any], *overrides: str) -> list[Violation]:
    with pytest.raises(SettingsError) as error:
        parse_config(data, overrides=overrides)
    assert str(error.value) == "\n".join(map(str, error.value.violations))
    return list(error.value.violations)


FLUX = {"model_type": "flux"}
LOI = {"lora_init": "loi"}

# Settings that break one rule each, and the key that was set.
BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"run_name": "con"}, "run_name"),
    ({"run_name": "\U0001f600" * 70}, "run_name"),
    ({"steps": 5, "learning_rate_warmup_steps": 6}, "learning_rate_warmup_steps"),
    ({"epochs": 2, "steps": 1000}, "epochs"),
    (
        {
            "early_stop_patience": 3,
            "validation_split": 0.1,
            "validate_every": "5 minutes",
        },
        "validate_every",
    ),
    ({"lora_alpha": 3.0}, "lora_alpha"),
    (
        {"optimizer": {"name": "stiefel_lora", "step": "product", "a_rule": "sign"}},
        "optimizer.a_rule",
    ),
    (
        {
            "optimizer": {"name": "prodigy"},
            "train_text_encoder": True,
            "text_encoder_learning_rate": 0.5,
        },
        "text_encoder_learning_rate",
    ),
    (
        {"optimizer": {"name": "prodigy"}, "learning_rate_pattern": {"mid": 0.5}},
        "learning_rate_pattern",
    ),
    ({"optimizer": {"name": "came", "options": {"betas": []}}}, "optimizer.options"),
    (
        {"optimizer": {"name": "schedule_free_adamw"}, "scale_weight_norms": 1.0},
        "scale_weight_norms",
    ),
    ({"optimizer": {"name": "lion", "options": {"lr": 1}}}, "optimizer.options"),
    (
        {"optimizer": {"name": "adafactor", "options": {"relative_step": True}}},
        "optimizer.options",
    ),
    (
        {"optimizer": {"name": "adamw", "weight_decay": 2e4}},
        "optimizer.weight_decay",
    ),
    (
        {"compile": True, "concepts": [{"path": "a", "prior_prediction": True}]},
        "concepts.0.prior_prediction",
    ),
    ({"output_formats": ["peft", "peft"]}, "output_formats"),
    ({"extra_output_dtypes": ["float16"]}, "extra_output_dtypes"),
    ({"extra_output_dtypes": ["float32", "float32"]}, "extra_output_dtypes"),
    ({"extra_resolutions": [512, 512]}, "extra_resolutions"),
    ({"extra_resolutions": [1024]}, "extra_resolutions"),
    ({**FLUX, "extra_resolutions": [520]}, "extra_resolutions"),
    (
        {**FLUX, "concepts": ["a", {"path": "b", "resolutions": [520]}]},
        "concepts.1.resolutions",
    ),
    ({"lora_init": "stella"}, "lora_init"),
    ({**LOI, "lora_model_name": ["a.safetensors"]}, "lora_model_name"),
    ({"loi_file_rank": 8}, "loi_file_rank"),
    ({**LOI, "loi_file_rank": 64}, "loi_file_rank"),
    ({**LOI, "conv_rank": 4}, "conv_rank"),
    ({**LOI, "rank_pattern": {"mid": 4}}, "rank_pattern"),
    ({**LOI, "use_dora": True}, "use_dora"),
    ({**LOI, "scale_weight_norms": 1}, "scale_weight_norms"),
    ({"use_dora": True, "lora_dropout": 0.1}, "lora_dropout"),
    ({**LOI, "rank_dropout": 0.1}, "rank_dropout"),
    ({"compile": True, "module_dropout": 0.1}, "module_dropout"),
    ({"use_dora": True, "weight_dtype": "int8"}, "use_dora"),
    ({"shard_base_model": True, "weight_dtype": "int8"}, "shard_base_model"),
    ({"shard_base_model": True, "use_dora": True}, "shard_base_model"),
    ({"shard_base_model": True, "compile": True}, "shard_base_model"),
    ({"early_stop_patience": 3}, "early_stop_patience"),
    ({"validation_split": 0.1}, "validation_split"),
    ({"attention_mechanism": "flash"}, "attention_mechanism"),
    ({**FLUX, "resolution": 1032}, "resolution"),
    (
        {**FLUX, "samples": [{"prompt": "a"}, {"prompt": "b", "width": 40}]},
        "samples.1.width",
    ),
    (
        {**FLUX, "samples": [{"prompt": "a", "negative_prompt": "b"}]},
        "samples.0.negative_prompt",
    ),
    (
        {**FLUX, "samples": [{"prompt": "a", "sampler": "ddim"}]},
        "samples.0.sampler",
    ),
    ({"text_encoder_2_sequence_length": 77}, "text_encoder_2_sequence_length"),
    ({**FLUX, "text_encoder_layer_skip": 1}, "text_encoder_layer_skip"),
    (
        {"model_type": "sd15", "text_encoder_2_layer_skip": 1},
        "text_encoder_2_layer_skip",
    ),
    ({**FLUX, "max_token_length": 150}, "max_token_length"),
    ({**FLUX, "sample_prompt_weights": True}, "sample_prompt_weights"),
    ({**FLUX, "weighted_captions": True}, "weighted_captions"),
    ({**FLUX, "prediction_type": "epsilon"}, "prediction_type"),
    ({**FLUX, "zero_terminal_snr": True}, "zero_terminal_snr"),
    ({"prediction_type": "epsilon", "zero_terminal_snr": True}, "zero_terminal_snr"),
    ({"loss_weight_fn": "sigma"}, "loss_weight_fn"),
    ({"guidance_scale": 3.5}, "guidance_scale"),
    ({"dynamic_timestep_shifting": True}, "dynamic_timestep_shifting"),
    (
        {**FLUX, "dynamic_timestep_shifting": True, "timestep_shift": 3},
        "timestep_shift",
    ),
    ({"min_noising_strength": 1.0}, "min_noising_strength"),
    ({"max_noising_strength": 0.0}, "max_noising_strength"),
    ({"mse_strength": 0.0}, "mse_strength"),
    ({"validation_split": 0.1}, "validation_split"),
    ({"text_encoder_learning_rate": 1e-4}, "text_encoder_learning_rate"),
    ({"text_encoder_2_learning_rate": 1e-4}, "text_encoder_2_learning_rate"),
    ({"text_encoder_stop_training_after": 9}, "text_encoder_stop_training_after"),
    (
        {
            "train_text_encoder_2": True,
            "text_encoder_2_stop_training_after": "5 minutes",
        },
        "text_encoder_2_stop_training_after",
    ),
    ({**LOI, "train_text_encoder": True}, "train_text_encoder"),
    ({**LOI, "train_text_encoder_2": True}, "train_text_encoder_2"),
    ({"use_dora": True, "train_text_encoder_2": True}, "train_text_encoder_2"),
    (
        {"compile": True, "masked_prior_preservation_weight": 0.5},
        "masked_prior_preservation_weight",
    ),
    (
        {"compile": True, "concepts": [{"path": "a", "prior_prediction": True}]},
        "concepts.0.prior_prediction",
    ),
    (
        {"concepts": [{"path": "a", "tag_dropout_special_tags_mode": "WHITELIST"}]},
        "concepts.0.tag_dropout_special_tags",
    ),
    ({"alpha_background": "white"}, "alpha_background"),
    # Of one field, or of one entry of a list.
    ({"lora_rank": 0}, "lora_rank"),
    ({"lora_rnk": 4}, "lora_rnk"),
    ({"samples": [{}]}, "samples.0.prompt"),
    ({"optimizer": {"name": "adamw", "beta1": 2.0}}, "optimizer.beta1"),
    ({"optimizer": {"name": "adamv"}}, "optimizer.name"),
    ({"optimizer": {}}, "optimizer.name"),
    ({"optimizer": 3}, "optimizer"),
    ({"optimizer": {"name": "custom", "class": "RAdam"}}, "optimizer.class"),
    ({"concepts": ["a", {"path": "b", "repeats": 2, "balancing": 3}]}, "concepts"),
    (
        {"concepts": [{"path": "a", "subfolder_repeats": True, "repeats": 2}]},
        "concepts.0.repeats",
    ),
    (
        {"concepts": [{"path": "a", "subfolder_repeats": True, "balancing": 0.5}]},
        "concepts.0.balancing",
    ),
    (
        {
            "concepts": [
                {"path": "a", "prompt_source": "filename", "default_caption": "b"}
            ]
        },
        "concepts.0.default_caption",
    ),
    (
        {
            "concepts": [
                {
                    "path": "a",
                    "prompt_source": "filename",
                    "caption_extension": ".caption",
                }
            ]
        },
        "concepts.0.caption_extension",
    ),
    (
        {"concepts": [{"path": "a", "keep_tags_separator": ","}]},
        "concepts.0.keep_tags_separator",
    ),
    (
        {
            "concepts": [
                {
                    "path": "a",
                    "keep_tags_separator": "||",
                    "secondary_separator": "||",
                }
            ]
        },
        "concepts.0.secondary_separator",
    ),
    (
        {"concepts": [{"path": "a", "resolutions": [512, 512]}]},
        "concepts.0.resolutions",
    ),
    # Of the file as a whole.
    ({"schema_version": 99}, "schema_version"),
    ({"extends": "no_such_preset"}, "extends"),
    ({"plugins": ["no_such_module"]}, "plugins"),
    ({"comment": 10**400}, "comment"),
]


@pytest.mark.parametrize(("data", "key"), BROKEN, ids=lambda part: str(part)[:50])
def test_a_violation_has_the_key_that_was_set(data: dict[str, Any], key: str) -> None:
    (found,) = violations(data)
    if key == "concepts":
        key = "concepts.1.balancing"
    assert found.key == key
    assert str(found).startswith(f"{key}: {found.message}")
    assert str(found).endswith((".", "?"))
    assert not found.message.startswith(key)


def test_every_rule_is_broken_by_a_case_above() -> None:
    broken = set()
    for data, _ in BROKEN:
        fields = {key: data[key] for key in data if key in TrainConfig.model_fields}
        try:
            config = TrainConfig.model_construct(
                **{**parse_config({}).__dict__, **fields}
            )
            broken |= {rule.__name__ for rule in RULES if rule(config)}
        except AttributeError:  # Parts of it are dictionaries still.
            continue
    with_objects = {
        "_base_passes_are_not_compiled",
        "_decay_keeps_the_sign",
        "_estimate_has_one_rate",
        "_norms_are_limited_in_all_weights",
        "_optimizer_options_have_an_effect",
        "_negative_prompts_are_read",
        "_a_flow_has_one_sampler",
    }
    assert broken | with_objects == {rule.__name__ for rule in RULES}


def test_the_second_text_encoder_is_named() -> None:
    (found,) = violations({}, "train_text_encoder_2=true", "lora_init=loi")
    assert str(found) == (
        "train_text_encoder_2: is not supported with lora_init=loi. Remove one of them."
    )


def test_an_override_that_leads_nowhere_has_its_key() -> None:
    (found,) = violations({"steps": 3}, "steps.more=1")
    assert found.key == "steps.more"


def test_checks_of_the_disk_and_remarks_have_keys(tmp_path) -> None:
    config = parse_config(
        {"base_model_name": "./none", "concepts": ["a"], "sample_every": 3},
        folder=tmp_path,
    )
    with pytest.raises(SettingsError) as error:
        check_paths(config)
    found = [violation.key for violation in error.value.violations]
    assert found == ["base_model_name", "concepts.0.path"]
    assert [remark.key for remark in remarks(config)] == ["sample_every"]
    with pytest.raises(SettingsError) as error:
        check_complete(parse_config({}))
    model, concepts = error.value.violations
    assert (model.key, concepts.key) == ("base_model_name", "concepts")
    assert str(concepts).endswith(", for example --set concepts=./my_images.")
    assert "--set" not in concepts.text


@pytest.mark.parametrize(
    ("violation", "line", "text"),
    [
        (Violation("steps", "is 0"), "steps: is 0.", "Is 0."),
        (
            Violation("a", "is wrong", "Did you mean b?"),
            "a: is wrong. Did you mean b?",
            "Is wrong. Did you mean b?",
        ),
        (Violation("", "is wrong", "Write b"), "Is wrong. Write b.", None),
        (
            Violation("a", "is not set", "Write b", "--set a=b"),
            "a: is not set. Write b, for example --set a=b.",
            "Is not set. Write b.",
        ),
    ],
)
def test_texts(violation: Violation, line: str, text: str | None) -> None:
    assert str(violation) == line
    assert violation.text == (text or line)


def test_an_error_reaches_another_process_whole() -> None:
    error = SettingsError([Violation("steps", "is 0", "Write 1")]).under("a.json")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "a.json: steps: is 0. Write 1."
    assert again.violations == error.violations
