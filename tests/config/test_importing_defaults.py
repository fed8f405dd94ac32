"""Options without a counterpart are only silent at the default of their program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stiefel_lora.config.importing.ai_toolkit_data import DATASET
from stiefel_lora.config.importing.ai_toolkit_rules import PROCESS
from stiefel_lora.config.importing.from_sd_scripts import ROOT_RULES
from stiefel_lora.config.importing.key_rules import Result, Rules, Scope
from stiefel_lora.config.importing.key_walk import apply
from stiefel_lora.config.importing.onetrainer_data import CONCEPT, SAMPLE
from stiefel_lora.config.importing.onetrainer_rules import ROOT
from stiefel_lora.config.importing.sd_data import SUBSET

TABLE = Path(__file__).parent / "importing_keys" / "defaults.json"
DEFAULTS = json.loads(TABLE.read_text(encoding="utf-8"))
RULES: dict[str, Rules] = {
    "ai_toolkit": {**PROCESS, **{f"datasets.{k}": r for k, r in DATASET.items()}},
    "onetrainer": {
        **ROOT,
        **{f"concepts.{key}": rule for key, rule in CONCEPT.items()},
        **{f"samples.{key}": rule for key, rule in SAMPLE.items()},
    },
    "sd_scripts": {**ROOT_RULES, **SUBSET},
}
SILENT = "has no effect with this value"
# These rules translate, and their result for the default alone is not that of a file.
TRANSLATED = {
    "learning_rate",
    "lora_alpha",
    "network_alpha",
    "train.lr",
}
# 0 switches these off, or is replaced by the default there.
OFF_AT_ZERO = {
    "concepts.balancing",
    "learning_rate_cycles",
    "learning_rate_warmup_steps",
    "network.alpha",
}


def result(program: str, key: str, value: Any) -> Result:
    return apply(RULES[program], Scope({}, {}, "sdxl"), key, value)


@pytest.mark.parametrize("program", sorted(RULES))
def test_a_default_changes_nothing(program: str) -> None:
    wrong = [
        key
        for key, default in DEFAULTS[program].items()
        if key not in TRANSLATED and result(program, key, default).matters
    ]
    assert not wrong


@pytest.mark.parametrize("program", sorted(RULES))
def test_another_value_is_not_called_one_without_effect(program: str) -> None:
    wrong = []
    for key, default in DEFAULTS[program].items():
        others = [not default] if isinstance(default, bool) else [0, 1, default + 2]
        for value in others:
            found = result(program, key, value)
            # An option that never matters may be off or on.
            always = not result(program, key, True).matters
            same = value == default or (value == 0 and key in OFF_AT_ZERO)
            if found.note == SILENT and not same and not always:
                wrong.append((key, value))
    assert not wrong


@pytest.mark.parametrize(
    ("program", "keys"),
    [
        (
            "ai_toolkit",
            """train.diff_output_preservation train.blank_prompt_preservation
            train.inverted_mask_prior train.do_prior_divergence train.do_cfg
            train.linear_timesteps train.standardize_latents train.match_noise_norm
            train.correct_pred_norm train.learnable_snr_gos train.free_u
            train.force_consistent_noise train.adaptive_scaling_factor
            train.unload_text_encoder datasets.flip_y datasets.random_scale
            datasets.square_crop datasets.prior_reg datasets.standardize_images
            model.use_flux_cfg""",
        ),
        ("onetrainer", "force_circular_padding generalized_offset_noise"),
        ("sd_scripts", "color_aug apply_t5_attn_mask v_pred_like_loss"),
    ],
)
def test_a_switch_that_is_on_is_marked(program: str, keys: str) -> None:
    silent = [key for key in keys.split() if not result(program, key, True).matters]
    assert not silent
    off = [key for key in keys.split() if result(program, key, False).matters]
    assert not off


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.latent_multiplier", 0),
        # Not 1, at which a factor has no effect.
        ("train.latent_multiplier", True),
        ("train.reg_weight", 0),
        ("train.train_unet", False),
        ("datasets.scale", 0.5),
    ],
)
def test_a_factor_of_zero_or_a_part_that_is_left_out_is_marked(
    key: str, value: Any
) -> None:
    assert result("ai_toolkit", key, value).matters


def test_an_option_of_another_one_is_only_used_with_it() -> None:
    key, value = "train.differential_guidance_scale", 5
    assert not result("ai_toolkit", key, value).matters
    on = Scope({"train": {"do_differential_guidance": True}}, {}, "sdxl")
    assert apply(PROCESS, on, key, value).matters
