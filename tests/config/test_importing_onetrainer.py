"""Import of configurations and presets of OneTrainer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from stiefel_lora import ConfigError
from stiefel_lora.config import parse_config
from stiefel_lora.config.importing import Imported, import_file
from stiefel_lora.config.importing.from_onetrainer import from_onetrainer
from stiefel_lora.config.importing.key_walk import UNKNOWN

SDXL = {"model_type": "STABLE_DIFFUSION_XL_10_BASE", "training_method": "LORA"}
NO_TEXT = {"text_encoder": {"train": False}, "text_encoder_2": {"train": False}}


def _read(folder: Path, **keys: Any) -> Imported:
    path = folder / "config.json"
    path.write_text(json.dumps({**SDXL, **NO_TEXT, **keys}), encoding="utf-8")
    return import_file(path)


def _lost(found: Imported) -> list[str]:
    return [entry.key for entry in found.report.differences]


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("NONE", 1),
        ("BATCH", 2),
        ("GRADIENT_ACCUMULATION", 3),
        ("BOTH", 6),
        ("GLOBAL_BOTH", 6),
    ],
)
def test_learning_rates_are_scaled_by_the_root_of_the_images(
    tmp_path: Path, name: str, factor: int
) -> None:
    source = {
        "training_method": "LORA",
        "learning_rate": 1e-4,
        "learning_rate_scaler": name,
        "batch_size": 4,
        "gradient_accumulation_steps": 9,
        "text_encoder": {"train": True, "learning_rate": 1e-5},
        "text_encoder_2": {"train": False},
    }
    found = from_onetrainer(source, folder=tmp_path, family="sdxl")
    assert found.data["learning_rate"] == pytest.approx(1e-4 * factor)
    assert found.data["text_encoder_learning_rate"] == pytest.approx(1e-5 * factor)
    assert not {"learning_rate", "learning_rate_scaler"} & {
        entry.key for entry in found.report.differences
    }
    (entry,) = (e for e in found.report.entries if e.key == "learning_rate")
    assert (f"times {factor}, the square root" in entry.note) == (factor != 1)


@pytest.mark.parametrize(
    ("name", "cycles", "ours", "lost"),
    [
        ("COSINE_WITH_HARD_RESTARTS", 3.0, ("cosine_with_restarts", 3), ""),
        ("COSINE_WITH_HARD_RESTARTS", 2.5, ("cosine_with_restarts", 2), "whole here"),
        ("COSINE_WITH_RESTARTS", 0.5, ("cosine", 1), ""),
        ("COSINE_WITH_RESTARTS", 2.0, ("constant", 1), "constant is used"),
    ],
)
def test_cycles_of_the_scheduler(
    tmp_path: Path, name: str, cycles: float, ours: tuple[str, int], lost: str
) -> None:
    source = {"learning_rate_scheduler": name, "learning_rate_cycles": cycles}
    found = from_onetrainer(source, folder=tmp_path, family="sdxl")
    config = parse_config(found.data)
    assert (config.learning_rate_scheduler, config.learning_rate_cycles) == ours
    keys = [e for e in found.report.differences if e.key == "learning_rate_scheduler"]
    assert [lost in entry.note for entry in keys] == ([True] if lost else [])


@pytest.mark.parametrize(("family", "side"), [("sdxl", 1024), ("sd15", 512)])
def test_samples_have_the_defaults_of_their_family(
    tmp_path: Path, family: str, side: int
) -> None:
    source = {"samples": [{"prompt": "a"}]}
    found = from_onetrainer(source, folder=tmp_path, family=family)
    (sample,) = parse_config(found.data).samples
    assert (sample.width, sample.height, sample.guidance) == (side, side, 7.5)


def test_targets_are_positions_in_the_result(tmp_path: Path) -> None:
    source = {
        "layer_offload_fraction": 0.0,
        "samples": [{"prompt": "a", "enabled": False}, {"prompt": "b"}],
        "concepts": [
            {"path": "a", "type": "VALIDATION"},
            {"path": "b"},
            {"path": "c", "type": "VALIDATION"},
        ],
    }
    found = from_onetrainer(source, folder=tmp_path, family="sdxl")
    assert [sample["prompt"] for sample in found.data["samples"]] == ["b"]
    paths = {e.key: e.sets for e in found.report.entries if e.key.endswith("path")}
    assert [paths[f"concepts.{n}.path"][0][0] for n in range(3)] == [
        "validation_concepts.0.path",
        "concepts.0.path",
        "validation_concepts.1.path",
    ]
    entries = {e.key: e for e in found.report.entries}
    assert entries["samples.1.prompt"].sets == (("samples.0.prompt", "b"),)
    assert entries["samples.0"].outcome == "ignored"
    assert "layer_offload_fraction" not in [e.key for e in found.report.differences]


def test_masked_prior_preservation_is_kept_instead_of_compiling(
    tmp_path: Path,
) -> None:
    keys = {"masked_training": True, "masked_prior_preservation_weight": 0.5}
    source = {"training_method": "LORA", "compile": True, **keys}
    found = from_onetrainer(source, folder=tmp_path, family="sdxl")
    assert found.data["masked_prior_preservation_weight"] == 0.5
    assert "compile" not in found.data
    assert not {"compile", *keys} & {e.key for e in found.report.differences}


def test_defaults_of_the_source_are_used_for_keys_that_are_missing(
    tmp_path: Path,
) -> None:
    data = _read(tmp_path).data
    assert (data["lora_alpha"], data["epochs"]) == (1, 100)
    assert (data["learning_rate"], data["resolution"]) == (3e-6, 512)
    assert data["learning_rate_warmup_steps"] == 200
    assert data["optimizer"] == {"name": "adamw", "weight_decay": 0.01}
    assert (data["train_dtype"], data["weight_dtype"]) == ("float16", "float32")
    # All layers, with convolutions; rank 16 is the default here too.
    assert data["layer_filter_preset"] == "full"
    assert data["conv_rank"] == 16
    assert data["gradient_checkpointing"] is True
    assert data["timestep_distribution"] == "uniform"
    assert (data["checkpoint_every"], data["sample_every"]) == (
        "30 minutes",
        "10 minutes",
    )


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        (
            {"sample_after": 10, "sample_after_unit": "STEP"},
            {"sample_every": 10},
        ),
        (
            {
                "sample_after": 10,
                "sample_after_unit": "STEP",
                "gradient_accumulation_steps": 4,
            },
            {"sample_every": 3},
        ),
        ({"backup_after": 2, "backup_after_unit": "HOUR"}, {"ck": "120 minutes"}),
        ({"backup_after": 90, "backup_after_unit": "SECOND"}, {"ck": "1.5 minutes"}),
        ({"backup_after": 1, "backup_after_unit": "EPOCH"}, {"ck": "1 epoch"}),
        ({"backup_after_unit": "NEVER"}, {"ck": None}),
        ({"save_every": 2, "save_every_unit": "EPOCH"}, {"save_every": "2 epochs"}),
        ({"save_every": 30, "save_every_unit": "MINUTE"}, {"save_every": "30 minutes"}),
        ({"save_every": 30}, {"save_every": None}),
        (
            {"learning_rate_warmup_steps": 100, "gradient_accumulation_steps": 4},
            {"learning_rate_warmup_steps": 25},
        ),
        ({"unet": {"learning_rate": 2e-4}}, {"learning_rate": 2e-4}),
        (
            {"text_encoder": {"train": True, "learning_rate": 1e-5}},
            {"train_text_encoder": True, "text_encoder_learning_rate": 1e-5},
        ),
        ({"clip_grad_norm": None}, {"clip_grad_norm": 0}),
        ({"clip_grad_norm": 1.0}, {"clip_grad_norm": None}),
        (
            {"loss_weight_fn": "MIN_SNR_GAMMA", "loss_weight_strength": 3},
            {"loss_weight_fn": "min_snr_gamma", "loss_weight_strength": 3},
        ),
        ({"layer_filter_preset": "attn-only"}, {"layer_filter_preset": "attn-only"}),
        (
            {"layer_filter_preset": "custom", "layer_filter": "attn1, to_k"},
            {"layer_filter": ["attn1", "to_k"]},
        ),
        ({"output_model_format": "DIFFUSERS_LORA"}, {"output_formats": ["peft"]}),
        (
            {"lora_model_name": "D:\\a.safetensors"},
            {"lora_model_name": ["D:\\a.safetensors"]},
        ),
        ({"ema": "CPU", "ema_decay": 0.99}, {"ema": "cpu", "ema_decay": 0.99}),
        ({"learning_rate_scheduler": "COSINE"}, {"learning_rate_scheduler": "cosine"}),
        ({"unet": {"weight_dtype": "NFLOAT_4"}}, {"weight_dtype": "nfloat4"}),
        ({"validation": True}, {"validate_every": "1 epoch"}),
        (
            {"text_encoder": {"train": True, "stop_training_after": 30}},
            {"text_encoder_stop_training_after": "30 epochs"},
        ),
        (
            {
                "text_encoder": {
                    "train": True,
                    "stop_training_after": 30,
                    "stop_training_after_unit": "STEP",
                },
                "gradient_accumulation_steps": 4,
            },
            {"text_encoder_stop_training_after": 8},
        ),
        ({"dropout_probability": 0.1}, {"lora_dropout": 0.1}),
        (
            {"dropout_probability": 0.1, "lora_decompose": True},
            {"lora_dropout": None},
        ),
        (
            {"rescale_noise_scheduler_to_zero_terminal_snr": True},
            {"zero_terminal_snr": True, "prediction_type": "v_prediction"},
        ),
        (
            {
                "learning_rate_scheduler": "COSINE_WITH_HARD_RESTARTS",
                "learning_rate_cycles": 3.0,
            },
            {
                "learning_rate_scheduler": "cosine_with_restarts",
                "learning_rate_cycles": 3,
            },
        ),
        (
            {"learning_rate_warmup_steps": 0.1},
            {"learning_rate_warmup_steps": "10 %"},
        ),
        ({"learning_rate_scheduler": "REX"}, {"learning_rate_scheduler": "rex"}),
        ({"perturbation_noise_weight": 0.1}, {"perturbation_noise_weight": 0.1}),
    ],
)
def test_values_keep_their_meaning(
    tmp_path: Path, keys: dict[str, Any], wanted: dict[str, Any]
) -> None:
    data = _read(tmp_path, **keys).data
    data["ck"] = data.get("checkpoint_every")
    assert {key: data.get(key) for key in wanted} == wanted


def test_what_has_no_counterpart_is_reported_only_where_it_has_an_effect(
    tmp_path: Path,
) -> None:
    silent = _read(tmp_path, generalized_offset_noise=False, tensorboard=True)
    assert _lost(silent) == []
    loud = _read(
        tmp_path,
        generalized_offset_noise=True,
        text_encoder={
            "train": True,
            "stop_training_after": 1,
            "stop_training_after_unit": "HOUR",
        },
        peft_type="LOKR",
        brand_new=1,
    )
    assert set(_lost(loud)) == {
        "generalized_offset_noise",
        "text_encoder.stop_training_after",
        "peft_type",
        "brand_new",
    }
    # It stops after the end of a shorter run.
    short = _read(tmp_path, text_encoder={"train": True}, epochs=20)
    assert _lost(short) == []


def test_optimizers_and_their_options(tmp_path: Path) -> None:
    adamw = _read(
        tmp_path,
        optimizer={
            "optimizer": "ADAMW",
            "weight_decay": 0.05,
            "beta2": 0.99,
            "eps": 1e-7,
        },
    )
    assert adamw.data["optimizer"] == {
        "name": "adamw",
        "weight_decay": 0.05,
        "beta2": 0.99,
        "eps": 1e-7,
    }
    prodigy = _read(
        tmp_path,
        learning_rate=1.0,
        optimizer={"optimizer": "PRODIGY", "d_coef": 2.0, "beta1": 0.9, "beta2": 0.99},
    )
    assert prodigy.data["optimizer"] == {
        "name": "prodigy",
        "d_coef": 2.0,
        "beta2": 0.99,
    }
    # The default of prodigy, so it is not written.
    assert parse_config(prodigy.data).learning_rate == 1.0
    other = _read(tmp_path, optimizer={"optimizer": "LARS"}, learning_rate=3e-4)
    assert other.data["optimizer"]["name"] == "adamw"
    assert "learning_rate" in _lost(other)


PACKAGED_OPTIMIZERS = [
    (
        {"optimizer": "ADAMW_ADV", "beta1": 0.9, "use_AdEMAMix": True, "alpha": 5},
        {
            "name": "adamw_adv",
            "beta2": 0.99,
            "options": {"use_AdEMAMix": True, "alpha": 5},
        },
        [],
    ),
    ({"optimizer": "LION_ADV", "alpha": 5}, {"name": "lion_adv"}, ["optimizer.alpha"]),
    (
        {
            "optimizer": "PRODIGY_PLUS_SCHEDULE_FREE",
            "d_coef": 0.5,
            "use_cautious": True,
            "growth_rate": None,
        },
        {
            "name": "prodigy_plus_schedule_free",
            "d_coef": 0.5,
            "options": {"use_cautious": True},
        },
        [],
    ),
    (
        {"optimizer": "SCHEDULE_FREE_ADAMW"},
        {"name": "schedule_free_adamw", "weight_decay": 0.01},
        [],
    ),
    (
        {"optimizer": "PRODIGY", "slice_p": 11, "growth_rate": float("inf")},
        {"name": "prodigy", "slice_p": 11},
        [],
    ),
    (
        {"optimizer": "CAME", "beta3": 0.99, "eps2": 1e-14, "use_cautious": True},
        {"name": "came", "beta3": 0.99, "eps2": 1e-14},
        ["optimizer.use_cautious"],
    ),
    (
        {"optimizer": "ADAFACTOR", "relative_step": False, "scale_parameter": True},
        {"name": "adafactor", "scale_parameter": True},
        [],
    ),
    (
        {"optimizer": "LION", "weight_decay": 0.1},
        {"name": "lion", "weight_decay": 0.1},
        [],
    ),
]


@pytest.mark.parametrize(("given", "expected", "lost"), PACKAGED_OPTIMIZERS)
def test_optimizers_of_packages_have_short_names(
    tmp_path: Path, given: dict[str, Any], expected: dict[str, Any], lost: list[str]
) -> None:
    found = _read(tmp_path, optimizer=given, learning_rate=1e-3)
    assert found.data["optimizer"] == expected
    assert found.data["learning_rate"] == 1e-3
    assert _lost(found) == lost


def test_schedule_free_optimizers_have_no_schedule(tmp_path: Path) -> None:
    schedule = {
        "learning_rate_scheduler": "COSINE",
        "learning_rate_warmup_steps": 100,
    }
    adamw = {"optimizer": "SCHEDULE_FREE_ADAMW"}
    found = _read(tmp_path, optimizer=adamw, **schedule)
    assert found.data.get("learning_rate_scheduler", "constant") == "constant"
    assert found.data["learning_rate_warmup_steps"] == 100
    plus = {"optimizer": "PRODIGY_PLUS_SCHEDULE_FREE"}
    found = _read(tmp_path, optimizer=plus, **schedule)
    assert "learning_rate_warmup_steps" not in found.data


@pytest.mark.parametrize(
    "keys",
    [
        {"use_stiefel": True},
        {"optimizer": {"optimizer": "Stiefel_LoRA", "momentum": 0.95}},
    ],
)
def test_stiefel_lora_of_onetrainer(tmp_path: Path, keys: dict[str, Any]) -> None:
    found = _read(tmp_path, lora_alpha=1.0, lora_rank=8, learning_rate=1e-3, **keys)
    assert found.data["optimizer"]["name"] == "stiefel_lora"
    assert found.data.get("lora_alpha") in (None, 8)
    assert found.data.get("learning_rate", 0.02) == 0.02
    assert "learning_rate" in _lost(found)


def test_several_resolutions_are_lists(tmp_path: Path) -> None:
    image = {"enable_resolution_override": True, "resolution_override": "768, 1024"}
    concepts = [
        {"path": "a", "image": image, "text": {}},
        {"path": "b", "image": {**image, "enable_resolution_override": False}},
    ]
    found = _read(tmp_path, resolution="512,1024,512", concepts=concepts)
    assert (found.data["resolution"], found.data["extra_resolutions"]) == (512, [1024])
    first, second = found.data["concepts"]
    assert first["resolutions"] == [768, 1024]
    assert "resolutions" not in second
    assert not any("resolution" in key for key in _lost(found))


def test_clip_skip_is_counted_as_here(tmp_path: Path) -> None:
    skips = {"text_encoder_layer_skip": 1, "text_encoder_2_layer_skip": 2}
    found = _read(tmp_path, **skips)
    assert skips.items() <= found.data.items()
    sd15 = _read(tmp_path, model_type="STABLE_DIFFUSION_15", **skips)
    assert sd15.data["text_encoder_layer_skip"] == 1
    assert "text_encoder_2_layer_skip" not in sd15.data
    assert "text_encoder_2_layer_skip" not in _lost(sd15)


def test_the_alpha_of_a_file_to_start_from_is_explained(tmp_path: Path) -> None:
    for name, note in (
        ("ADAMW", "the alpha of the file replaces lora_alpha there"),
        ("STIEFEL_LORA", "a list of files"),
    ):
        optimizer = {"optimizer": name}
        found = _read(tmp_path, lora_model_name="a.safetensors", optimizer=optimizer)
        entries = found.report.entries
        (entry,) = (e for e in entries if e.key == "lora_model_name")
        assert entry.note.startswith(note)
        assert not entry.matters


def test_concepts_and_samples_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "training_concepts").mkdir()
    (tmp_path / "training_presets").mkdir()
    cats = {
        "path": "C:\\cats",
        "name": "cats",
        "balancing": 2.0,
        "image": {"enable_crop_jitter": False, "enable_random_flip": True},
        "text": {"enable_tag_shuffling": True, "keep_tags_count": 3},
        "image_variations": 1,
    }
    reserved = {"path": "val", "type": "VALIDATION", "image": {}, "text": {}}
    (tmp_path / "training_concepts/concepts.json").write_text(
        json.dumps([cats, reserved]), encoding="utf-8"
    )
    samples = [
        {
            "prompt": "a cat",
            "diffusion_steps": 20,
            "cfg_scale": 7,
            "width": 512,
            "noise_scheduler": "DPMPP_KARRAS",
        },
        {"prompt": "off", "enabled": False},
    ]
    path = tmp_path / "training_presets" / "#my.json"
    path.write_text(
        json.dumps(
            {
                **SDXL,
                "concept_file_name": "training_concepts/concepts.json",
                "samples": samples,
            }
        ),
        encoding="utf-8",
    )
    found = import_file(path)
    assert found.data["concepts"] == [
        {
            "path": "C:\\cats",
            "balancing": 2.0,
            "enable_random_flip": True,
            "enable_tag_shuffling": True,
            "keep_tags_count": 3,
            "image_variations": 1,
            "text_variations": 1,
        }
    ]
    assert found.data["validation_concepts"][0]["path"] == "val"
    assert found.data["samples"] == [
        {
            "prompt": "a cat",
            "seed": 42,
            "steps": 20,
            "guidance": 7,
            "width": 512,
            "height": 1024,
            "sampler": "dpmpp_2m_karras",
        }
    ]
    assert "concepts.0.name" in [entry.key for entry in found.report.entries]


def test_a_family_that_is_not_supported_is_one_line(tmp_path: Path) -> None:
    for name, label in (
        ("STABLE_DIFFUSION_3", "Stable Diffusion 3"),
        ("QWEN", "Qwen-Image"),
        ("SOMETHING_NEW", "SOMETHING_NEW"),
    ):
        with pytest.raises(ConfigError) as error:
            _read(tmp_path, model_type=name)
        text = str(error.value)
        assert f"is for {label}, but only" in text
        assert "docs/integrations/onetrainer.md" in text
        assert "\n" not in text


def test_presets_of_a_checkout() -> None:
    root = os.environ.get("ONETRAINER_ROOT")
    if not root:
        pytest.skip("ONETRAINER_ROOT names no checkout")
    presets = sorted(Path(root, "training_presets").rglob("#*.json"))
    assert presets
    for path in presets:
        found, problem = None, ""
        try:
            found = import_file(path)
        except ConfigError as error:
            problem = str(error)
        assert found or "but only LoRAs for" in problem
        for entry in found.report.entries if found else ():
            assert not entry.note.startswith(UNKNOWN), f"{path.name}: {entry.key}"


def test_prior_preservation_is_taken_over(tmp_path: Path) -> None:
    concepts = [
        {"path": "a"},
        {"path": "b", "type": "PRIOR_PREDICTION"},
        {"path": "c", "type": "PRIOR_PREDICTION", "enabled": False},
    ]
    found = _read(
        tmp_path,
        concepts=concepts,
        masked_training=True,
        masked_prior_preservation_weight=0.5,
    )
    kept = [
        (concept.get("prior_prediction", False), concept.get("enabled", True))
        for concept in found.data["concepts"]
    ]
    assert kept == [(False, True), (True, True), (True, False)]
    assert found.data["masked_prior_preservation_weight"] == 0.5
    assert not [key for key in _lost(found) if "prior" in key or "type" in key]


def test_tags_capitals_and_fixed_augmentation_are_those_of_the_concept(
    tmp_path: Path,
) -> None:
    text = {
        "tag_dropout_enable": True,
        "tag_dropout_probability": 0.2,
        "tag_dropout_mode": "RANDOM WEIGHTED",
        "tag_dropout_special_tags_mode": "BLACKLIST",
        "tag_dropout_special_tags": "a.*, b",
        "tag_dropout_special_tags_regex": True,
        "caps_randomize_enable": True,
        "caps_randomize_probability": 0.1,
        "caps_randomize_mode": "title, first, other",
        "caps_randomize_lowercase": True,
    }
    image = {
        "enable_fixed_flip": True,
        "enable_fixed_hue": True,
        "random_hue_max_strength": 0.25,
        "enable_random_contrast": True,
        "enable_fixed_contrast": True,
        "random_contrast_max_strength": 0.5,
        "enable_crop_jitter": False,
    }
    (found,) = _read(
        tmp_path, concepts=[{"path": "a", "text": text, "image": image}]
    ).data["concepts"]
    assert found == {
        "path": "a",
        "tag_dropout_probability": 0.2,
        "tag_dropout_mode": "RANDOM WEIGHTED",
        "tag_dropout_special_tags_mode": "BLACKLIST",
        "tag_dropout_special_tags": "a.*, b",
        "tag_dropout_special_tags_regex": True,
        "caps_randomize_probability": 0.1,
        "caps_randomize_mode": ["title", "first"],
        "caps_randomize_lowercase": True,
        "keep_tags_count": 1,
        "text_variations": 1,
        "enable_fixed_flip": True,
        "enable_fixed_hue": True,
        "random_hue_max_strength": 0.25,
        "random_contrast_max_strength": 0.5,
        "image_variations": 1,
    }


def test_a_file_of_special_tags_is_named(tmp_path: Path) -> None:
    text = {
        "tag_dropout_enable": True,
        "tag_dropout_probability": 0.2,
        "tag_dropout_mode": "RANDOM",
        "tag_dropout_special_tags_mode": "WHITELIST",
        "tag_dropout_special_tags": "tags.csv",
    }
    found = _read(tmp_path, concepts=[{"path": "a", "text": text}])
    key = "concepts.0.text.tag_dropout_special_tags"
    assert key in _lost(found)
    assert "tag_dropout_special_tags_mode" not in found.data["concepts"][0]


@pytest.mark.parametrize("key", ["force_v_prediction", "force_epsilon_prediction"])
def test_the_prediction_type_is_forced_where_onetrainer_does(
    tmp_path: Path, key: str
) -> None:
    kind = key.removeprefix("force_").replace("epsilon_prediction", "epsilon")
    assert _read(tmp_path, **{key: True}).data["prediction_type"] == kind
    flux = _read(tmp_path, **{key: True, "model_type": "FLUX_DEV_1"})
    assert "prediction_type" not in flux.data
    assert key not in _lost(flux)
