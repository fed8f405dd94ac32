"""Words of other trainers, and typing errors: the right key, a reason, or neither."""

from __future__ import annotations

import re

import pytest

from stiefel_lora._exceptions import ConfigError
from stiefel_lora.config import Concept, Sample, TrainConfig, parse_config
from stiefel_lora.config.foreign import FOREIGN_NAMES, WITHOUT_COUNTERPART
from stiefel_lora.config.optimizer import OPTIMIZER_MODELS
from stiefel_lora.config.suggestions import suggest_key

OPTIONS = {
    field.alias or name
    for model in OPTIMIZER_MODELS.values()
    for name, field in model.model_fields.items()
}
SECTIONS = {
    "": list(TrainConfig.model_fields),
    "optimizer": sorted(OPTIONS),
    "concepts": list(Concept.model_fields),
    "samples": list(Sample.model_fields),
}


def message_of(data: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as error:
        parse_config(data)
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "trainer"),
    [
        ("base_weights", "sd-scripts"),
        ("token_warmup_step", "sd-scripts"),
        ("blocks_to_swap", "sd-scripts"),
        ("lora_weight_dtype", "OneTrainer"),
        ("tensorboard_port", "OneTrainer"),
        ("resume_from_checkpoint", "diffusers"),
        ("center_crop", "diffusers"),
        ("random_triggers", "ai-toolkit"),
        ("low_vram", "ai-toolkit"),
    ],
)
def test_what_has_no_counterpart_gets_its_reason(key: str, trainer: str) -> None:
    found = message_of({key: 1})
    assert found == (
        f"{key}: unknown key. This setting is not supported: "
        f"{WITHOUT_COUNTERPART[key]}."
    )


@pytest.mark.parametrize(
    ("data", "path", "ours"),
    [
        ({"shuffle_caption": 1}, "shuffle_caption", "concepts.0.enable_tag_shuffling"),
        ({"adam_beta1": 1}, "adam_beta1", "optimizer.beta1"),
        ({"--network-dim": 8}, "--network-dim", "lora_rank"),
        ({"Learning_Rate": 1}, "Learning_Rate", "learning_rate"),
        ({"folder_path": "x"}, "folder_path", "concepts.0.path"),
        ({"repeats": 2}, "repeats", "concepts.0.repeats"),
        ({"prompt": "x"}, "prompt", "samples.0.prompt"),
        ({"clip_norm": 1}, "clip_norm", "optimizer.clip_norm"),
        (
            {"concepts": [{"path": "a", "num_repeats": 2}]},
            "concepts.0.num_repeats",
            "concepts.0.repeats",
        ),
        (
            {"concepts": [{"path": "a", "enable_bucket": True}]},
            "concepts.0.enable_bucket",
            "aspect_ratio_bucketing at the top level",
        ),
        (
            {"validation_concepts": [{"path": "a", "resolution": 64}]},
            "validation_concepts.0.resolution",
            "validation_concepts.0.resolutions",
        ),
        (
            {"validation_concepts": [{"path": "a", "bucket_step": 64}]},
            "validation_concepts.0.bucket_step",
            "bucket_step at the top level",
        ),
        (
            {"samples": [{"prompt": "a", "diffusion_steps": 2}]},
            "samples.0.diffusion_steps",
            "samples.0.steps",
        ),
        (
            {"optimizer": {"name": "adamw", "lr": 1}},
            "optimizer.lr",
            "learning_rate at the top level",
        ),
        ({"early_stop": 3, "patience": 3}, "early_stop", None),
        ({"warmup_steps": 3}, "warmup_steps", "learning_rate_warmup_steps"),
        ({"min_factor": 0.1}, "min_factor", "learning_rate_min_factor"),
    ],
)
def test_the_key_is_named_where_it_stands(
    data: dict[str, object], path: str, ours: str | None
) -> None:
    hint = (
        f"Did you mean {ours}?"
        if ours
        else "All keys are listed by stiefel-lora schema."
    )
    assert message_of(data).splitlines()[0] == f"{path}: unknown key. {hint}"


def test_epochs_have_a_key_or_are_the_unit_of_an_interval() -> None:
    assert message_of({"save_every_n_epochs": 1}) == (
        "save_every_n_epochs: unknown key. Did you mean save_every? Write the "
        'unit as well: "2 epochs".'
    )
    for key in ("max_train_epochs", "num_train_epochs", "num_epochs"):
        assert message_of({key: 1}) == f"{key}: unknown key. Did you mean epochs?"
    assert 'part of an interval, such as "2 epochs"' in message_of(
        {"sample_after_unit": "EPOCH"}
    )


def test_the_tables_lead_to_keys_and_do_not_contradict_one_another() -> None:
    for name, ours in FOREIGN_NAMES.items():
        section, _, key = ours.rpartition(".")
        assert key in SECTIONS[section], name
    own = {*SECTIONS[""], *SECTIONS["concepts"], *SECTIONS["samples"]}
    assert not own & WITHOUT_COUNTERPART.keys()
    assert not FOREIGN_NAMES.keys() & WITHOUT_COUNTERPART.keys()
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in WITHOUT_COUNTERPART)
    for reason in WITHOUT_COUNTERPART.values():
        assert reason[0] + reason[-1] == (reason[0] + reason[-1]).strip(" .")


# Options of other trainers, and words of other programs, that stand in no table: keys
# that are like them by letters have nothing to do with them.
UNRELATED = """
    adapter_assist_type anchors attn_masking auto_frame_count batch_full_slide
    block_compile class_names conv_pooling diffusion_feature_extractor_weight
    do_batch_noise_correction fast_image_size free_u guidance_loss_target
    has_inpainting_input head_dim image_path latent_space_version match_noise_norm
    max_cfg_scale max_negative_prompts merge_scaler neg_weight pos_weight num_heads
    param_multiplier positive_prompt prompt_file safe_tokens scaler_lr size
    standardize_latents sub_network target_norm target_class test_img_path tokens
    train_refiner unet_sample_size weight weight_jitter xyzzy host port username
    password timeout retries verbosity color theme language locale font log_level
    max_connections pool_size queue_name region bucket_name kernel_size stride
    padding hidden_size num_layers vocab_size temperature top_p top_k beam_width
"""


@pytest.mark.parametrize("word", UNRELATED.split())
def test_unrelated_words_get_no_guess(word: str) -> None:
    assert suggest_key(word, "", SECTIONS) is None


def typing_errors(word: str) -> set[str]:
    places = range(len(word))
    return {
        *(word[:i] + word[i + 1 :] for i in places),
        *(word[:i] + word[i] + word[i:] for i in places),
        *(word[:i] + "x" + word[i + 1 :] for i in places),
        *(word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :] for i in places),
    } - {word}


@pytest.mark.parametrize("section", ["", "concepts", "samples"])
def test_one_wrong_letter_is_seen_through(section: str) -> None:
    """In all words of five letters and more."""
    known = SECTIONS[section]
    wrong = {
        (typed, key, found)
        for key in known
        if len(key) > 4
        for typed in sorted(typing_errors(key))[:: 1 + len(key) // 8]
        if typed not in known
        and typed not in FOREIGN_NAMES
        and (found := suggest_key(typed, section, SECTIONS)) != key
        # A letter less may be one of two keys: text_encoder_2, mae_strength.
        and typed not in typing_errors(str(found))
    }
    assert not wrong
