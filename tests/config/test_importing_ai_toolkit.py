"""Import of jobs of ai-toolkit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from stiefel_lora import ConfigError
from stiefel_lora.config import parse_config
from stiefel_lora.config.importing import Imported, import_file
from stiefel_lora.config.importing.key_walk import UNKNOWN

yaml = pytest.importorskip("yaml")


def _read(folder: Path, **sections: Any) -> Imported:
    process = {
        "type": "sd_trainer",
        "model": {"name_or_path": "black-forest-labs/FLUX.1-dev", "is_flux": True},
        **sections,
    }
    job = {"job": "extension", "config": {"name": "my_lora", "process": [process]}}
    path = folder / "job.yaml"
    # JSON is YAML.
    path.write_text(json.dumps(job), encoding="utf-8")
    return import_file(path)


def _lost(found: Imported) -> list[str]:
    place = "config.process.0."
    return [entry.key.removeprefix(place) for entry in found.report.differences]


def test_saved_files_have_the_state_beside_them(tmp_path: Path) -> None:
    save = {"save_every": 250, "max_step_saves_to_keep": 4}
    found = _read(tmp_path, save=save, train={"gradient_accumulation_steps": 2}).data
    assert (found["save_every"], found["checkpoint_every"]) == (125, 125)
    assert found["keep_saved"] == 4
    usual = _read(tmp_path).data
    assert (usual["save_every"], usual["keep_saved"]) == (1000, 5)


def test_a_usual_job_for_flux(tmp_path: Path) -> None:
    found = _read(
        tmp_path,
        training_folder="output",
        trigger_word="ohwx",
        network={"type": "lora", "linear": 16, "linear_alpha": 16},
        save={"dtype": "float16", "save_every": 250, "max_step_saves_to_keep": 4},
        datasets=[
            {
                "folder_path": "D:\\cats",
                "caption_ext": "caption",
                "default_caption": "a thing",
                "caption_dropout_rate": 0.05,
                "shuffle_tokens": True,
                "cache_latents_to_disk": True,
                "resolution": [512, 768],
                "num_repeats": 3,
            }
        ],
        train={
            "batch_size": 1,
            "steps": 2000,
            "gradient_accumulation_steps": 4,
            "optimizer": "adamw8bit",
            "optimizer_params": {"weight_decay": 0.1},
            "lr": 1e-4,
            "ema_config": {"use_ema": True, "ema_decay": 0.99},
            "dtype": "bf16",
        },
        sample={
            "sample_every": 500,
            "width": 768,
            "height": 1024,
            "prompts": ["a cat", "a dog of [name]"],
            "neg": "bad",
            "seed": 42,
            "walk_seed": True,
            "guidance_scale": 4,
            "sample_steps": 20,
        },
    )
    data = found.data
    assert data["run_name"] == "my_lora"
    # 2000 batches are 500 steps of 4 batches.
    assert (data["steps"], data["sample_every"]) == (500, 125)
    assert data["gradient_accumulation_steps"] == 4
    assert data["concepts"] == [
        {
            "path": "D:\\cats",
            # Once for each resolution, as in ai-toolkit.
            "repeats": 6,
            "resolutions": [512, 768],
            "enable_tag_shuffling": True,
            "caption_dropout_rate": 0.05,
            "caption_extension": ".caption",
            "default_caption": "a thing",
        }
    ]
    assert data["resolution"] == 768
    assert data["optimizer"] == {
        "name": "adamw_8bit",
        "weight_decay": 0.1,
        "eps": 1e-6,
    }
    assert (data["ema"], data["ema_update_step_interval"]) == ("gpu", 1)
    assert data["timestep_distribution"] == "logit_normal"
    assert data["layer_filter"] == ["transformer_blocks"]
    first, second = data["samples"]
    assert first == {
        "prompt": "a cat",
        "seed": 42,
        "steps": 20,
        "guidance": 4,
        "width": 768,
        "height": 1024,
    }
    assert (second["prompt"], second["seed"]) == ("a dog of my_lora", 43)
    assert _lost(found) == []


INLINE = [
    ("a cat --w 640 --h 512 --d 7 --s 9", {"width": 640, "seed": 7, "steps": 9}, ""),
    ("a cat--steps 8 --cfg 2.5 --seed 3", {"steps": 8, "guidance": 2.5}, ""),
    ("a cat --m 0.5 --l 4", {"guidance": 4, "steps": 20}, "--m"),
    ("a cat --w wide --ev 1,2", {"width": 512}, "--w, --ev"),
]


@pytest.mark.parametrize(("prompt", "wanted", "lost"), INLINE)
@pytest.mark.parametrize("form", ["prompts", "samples"])
def test_flags_in_prompts(
    tmp_path: Path, form: str, prompt: str, wanted: dict[str, Any], lost: str
) -> None:
    given: Any = [prompt] if form == "prompts" else [{"prompt": prompt, "width": 512}]
    found = _read(tmp_path, sample={form: given})
    (sample,) = found.data["samples"]
    assert sample["prompt"] == "a cat"
    assert {key: sample[key] for key in wanted} == wanted
    (note,) = [e.note for e in found.report.entries if e.key.endswith(f"sample.{form}")]
    assert note == "with the settings of this section" + (
        f", without {lost}, which is not supported" if lost else ""
    )


def test_negative_prompts_in_prompts(tmp_path: Path) -> None:
    sample = {"neg": "ugly", "prompts": ["a cat --n bad", "a dog", "a cow --n "]}
    model = {"name_or_path": "base", "is_xl": True}
    samples = _read(tmp_path, sample=sample, model=model).data["samples"]
    negatives = [item.get("negative_prompt", "") for item in samples]
    assert negatives == ["bad", "ugly", ""]
    # FLUX has none.
    (one, *_) = _read(tmp_path, sample=sample).data["samples"]
    assert "negative_prompt" not in one


def test_samples_keep_zeros_and_report_what_is_no_sample(tmp_path: Path) -> None:
    items = [7, {"prompt": "a cat", "seed": 0, "fps": 2}, {"prompt": "--w 64"}]
    found = _read(tmp_path, sample={"seed": 5, "samples": items})
    (sample,) = parse_config(found.data).samples
    assert sample.seed == 0
    (entry,) = (e for e in found.report.entries if e.key.endswith("sample.samples"))
    assert "without 7, fps, samples that have no prompt" in entry.note
    # Not a sample for each letter.
    found = _read(tmp_path, sample={"prompts": "a cat"})
    assert "samples" not in found.data
    assert "sample.prompts" in _lost(found)


@pytest.mark.parametrize(
    ("sections", "wanted"),
    [
        ({"network": {"type": "lora", "rank": 8, "alpha": 4}}, (8, 4)),
        ({"network": {"type": "lora", "linear": 8}}, (8, 1)),
        ({}, (4, 1)),
    ],
)
def test_rank_and_alpha(
    tmp_path: Path, sections: dict[str, Any], wanted: tuple[int, int]
) -> None:
    data = _read(tmp_path, **sections).data
    assert (data["lora_rank"], data["lora_alpha"]) == wanted


@pytest.mark.parametrize(
    ("train", "wanted"),
    [
        ({"timestep_type": "linear"}, {"timestep_distribution": "uniform"}),
        ({"timestep_type": "flux_shift"}, {"dynamic_timestep_shifting": True}),
        ({"min_denoising_steps": 100}, {"min_noising_strength": 0.1}),
        ({"max_denoising_steps": 499}, {"max_noising_strength": 0.5}),
        ({"loss_type": "mae"}, {"mse_strength": 0, "mae_strength": 1}),
        ({"unet_lr": 2e-4, "lr": 1e-4}, {"learning_rate": 2e-4}),
        ({"disable_sampling": True}, {"sample_every": None}),
        ({"gradient_checkpointing": False}, {"gradient_checkpointing": None}),
        ({"gradient_accumulation": 2}, {"gradient_accumulation_steps": 2}),
    ],
)
def test_values_keep_their_meaning(
    tmp_path: Path, train: dict[str, Any], wanted: dict[str, Any]
) -> None:
    data = _read(tmp_path, train=train).data
    assert {key: data.get(key) for key in wanted} == wanted


@pytest.mark.parametrize(("rate", "expected"), [(1e-4, 1.0), (0.5, 0.5)])
def test_prodigy_has_a_rate_of_at_least_a_tenth(
    tmp_path: Path, rate: float, expected: float
) -> None:
    options = {"weight_decay": 0.01, "use_bias_correction": True}
    train = {"optimizer": "prodigy", "lr": rate, "optimizer_params": options}
    found = _read(tmp_path, train=train)
    assert found.data["optimizer"] == {"name": "prodigy", "eps": 1e-6, **options}
    assert parse_config(found.data).learning_rate == expected


def test_what_has_no_counterpart_is_reported(tmp_path: Path) -> None:
    found = _read(
        tmp_path,
        network={"type": "lokr", "linear": 4},
        train={"optimizer": "automagic", "lr": 1e-4, "timestep_type": "weighted"},
        novelty=1,
    )
    assert set(_lost(found)) == {
        "network.type",
        "train.optimizer",
        "train.lr",
        "train.timestep_type",
        "novelty",
    }


@pytest.mark.parametrize(
    ("sections", "lost"),
    [
        ({}, ["network"]),
        ({"network": {"type": "lora"}}, []),
        ({"network": {"type": "lora"}, "type": "concept_slider"}, ["type"]),
    ],
)
def test_a_job_that_trains_no_lora_is_reported(
    tmp_path: Path, sections: dict[str, Any], lost: list[str]
) -> None:
    assert _lost(_read(tmp_path, **sections)) == lost


@pytest.mark.parametrize(
    ("datasets", "lost"),
    [([{}], True), ([{"cache_text_embeddings": True}], False)],
)
def test_an_unloaded_text_encoder_leaves_out_captions(
    tmp_path: Path, datasets: list[dict[str, Any]], lost: bool
) -> None:
    found = _read(tmp_path, train={"unload_text_encoder": True}, datasets=datasets)
    assert ("train.unload_text_encoder" in _lost(found)) is lost


@pytest.mark.parametrize(
    ("datasets", "word", "lost"),
    [
        ([{"trigger_word": "a"}, {"trigger_word": "a"}], "a", []),
        ([{"trigger_word": "a"}, {"is_reg": True}], "a", []),
        ([{"trigger_word": "a"}, {}], "a", ["0.trigger_word"]),
        (
            [{"trigger_word": "a"}, {"trigger_word": "b"}],
            "a",
            ["0.trigger_word", "1.trigger_word"],
        ),
        ([{}, {}], "own", []),
        ([{"trigger_word": "own"}, {}], "own", []),
        ([{"buckets": False}, {}], "own", ["0.buckets"]),
        ([{"cache_latents": True}, {}], "own", []),
    ],
)
def test_settings_of_one_dataset_that_reach_all_are_marked(
    tmp_path: Path, datasets: list[dict[str, Any]], word: str, lost: list[str]
) -> None:
    own = {"trigger_word": "own"} if word == "own" else {}
    network = {"type": "lora"}
    found = _read(tmp_path, network=network, datasets=datasets, **own)
    assert found.data["trigger_word"] == word
    assert _lost(found) == [f"datasets.{key}" for key in lost]


def test_layers_that_are_named_become_the_filter(tmp_path: Path) -> None:
    names = ["transformer.single_transformer_blocks.7.proj_out"]
    kwargs = {"only_if_contains": names}
    found = _read(tmp_path, network={"type": "lora", "network_kwargs": kwargs})
    assert found.data["layer_filter"] == ["single_transformer_blocks.7.proj_out"]
    assert _lost(found) == []


@pytest.mark.parametrize(("alpha", "lost"), [(2, []), (4, ["network.conv_alpha"])])
def test_alpha_of_convolutions(tmp_path: Path, alpha: int, lost: list[str]) -> None:
    network = {"type": "lora", "linear": 16, "linear_alpha": 8}
    found = _read(
        tmp_path,
        model={"name_or_path": "base", "is_xl": True},
        network={**network, "conv": 4, "conv_alpha": alpha},
    )
    assert found.data["conv_rank"] == 4
    assert _lost(found) == lost


def test_layers_outside_the_blocks_are_trained_if_asked_for(tmp_path: Path) -> None:
    for only, layers in ((True, ["transformer_blocks"]), (False, None)):
        network = {"type": "lora", "transformer_only": only}
        found = _read(tmp_path, network=network)
        assert found.data.get("layer_filter") == layers
        assert _lost(found) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\n", "is no configuration of ai-toolkit"),
        ("- 1\n", "it has no keys"),
        ("a: [1\nb: 2\n", "is not valid YAML at line 2"),
        ("job: generate\nconfig: {process: [{type: x}]}\n", "is no training job"),
        ("job: train\nconfig: {process: []}\n", "is no training job"),
        (
            "job: train\nconfig: {process: [{model: {arch: wan21}}]}\n",
            "is for Wan 2.1, but only LoRAs for",
        ),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        import_file(tmp_path / "a.yaml")
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_the_host_is_one_that_trains_the_family(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"inside musubi-tuner.*musubi-tuner\.md"):
        _read(tmp_path, model={"name_or_path": "x", "arch": "wan22_14b"})


def test_examples_of_a_checkout() -> None:
    root = os.environ.get("AI_TOOLKIT_ROOT")
    if not root:
        pytest.skip("AI_TOOLKIT_ROOT names no checkout")
    examples = sorted(Path(root, "config", "examples").glob("train_lora*.yaml"))
    assert examples
    for path in examples:
        found, problem = None, ""
        try:
            found = import_file(path)
        except ConfigError as error:
            problem = str(error)
        # One of them is not valid YAML.
        assert found or "but only LoRAs for" in problem or "valid YAML" in problem
        for entry in found.report.entries if found else ():
            assert not entry.note.startswith(UNKNOWN), f"{path.name}: {entry.key}"
