"""Import of configurations of sd-scripts and kohya_ss."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from stiefel_lora import ConfigError
from stiefel_lora.config import parse_config
from stiefel_lora.config.importing import Imported, import_file, import_words
from stiefel_lora.config.importing.key_walk import UNKNOWN
from stiefel_lora.config.importing.prompt_flags import read_prompt
from stiefel_lora.config.importing.sample_files import prompts_of, samples_in
from stiefel_lora.config.importing.sampler_names import sampler_called

PAGE = Path(__file__).parents[2] / "docs" / "questions" / "coming-from.md"
KINDS = ("text", "json")
SDXL = "C:\\models\\base.safetensors"


def _words(text: str) -> Imported:
    return import_words(["sdxl_train_network.py", *text.split()])


def _data(text: str) -> dict[str, Any]:
    return _words(text).data


def _outcome(found: Imported, key: str) -> str:
    return next(e.outcome for e in found.report.entries if e.key == key)


def _toml(folder: Path, text: str, name: str = "config.toml") -> Imported:
    pytest.importorskip("tomllib", reason="tomllib is new in 3.11")
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return import_file(path)


def test_defaults_of_the_source_are_used_for_keys_that_are_missing() -> None:
    data = _data("--pretrained_model_name_or_path base.safetensors")
    # Here, rank and alpha are 16, weight decay is 0 and only the UNet is trained.
    assert (data["lora_rank"], data["lora_alpha"]) == (4, 1)
    assert data["optimizer"] == {"name": "adamw", "weight_decay": 0.01}
    assert (data["learning_rate"], data["steps"]) == (2e-6, 1600)
    assert data["train_text_encoder"] is data["train_text_encoder_2"] is True
    assert data["train_dtype"] == data["weight_dtype"] == "float32"
    assert data["latent_caching"] is False


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("--network_dim 8 --network_alpha 0", {"lora_rank": 8, "lora_alpha": 8}),
        ("--network_dim=32 --network_alpha=16", {"lora_rank": 32, "lora_alpha": 16}),
        ("--learning_rate 1e-4 --unet_lr 5e-5", {"learning_rate": 5e-5}),
        ("--max_train_epochs 4 --max_train_steps 9", {"epochs": 4}),
        ("--min_snr_gamma 3", {"loss_weight_fn": "min_snr_gamma"}),
        ("--min_timestep 200", {"min_noising_strength": 0.2}),
        ("--max_timestep 900", {"max_noising_strength": 0.9}),
        ("--resolution 832,1216 --enable_bucket", {"resolution": 1008}),
        ("--resolution 512", {"resolution": 512, "aspect_ratio_bucketing": False}),
        ("--enable_bucket --resolution 1024", {"max_aspect_ratio": None}),
        (
            "--enable_bucket --resolution 1024 --max_bucket_reso 2048",
            {"max_aspect_ratio": 8},
        ),
        ("--loss_type l1", {"mse_strength": 0, "mae_strength": 1}),
        ("--network_args conv_dim=8 conv_alpha=2", {"conv_rank": 8}),
        ("--network_weights a.safetensors", {"lora_model_name": ["a.safetensors"]}),
        ("--weighted_captions", {"weighted_captions": True}),
        ("--save_every_n_epochs 2", {"save_every": "2 epochs"}),
        (
            "--save_every_n_epochs 1 --save_state --save_last_n_epochs 3",
            {"save_every": "1 epoch", "checkpoint_every": "1 epoch", "keep_saved": 3},
        ),
        (
            "--save_every_n_steps 100 --save_last_n_steps 350",
            {"save_every": 100, "keep_saved": 4, "checkpoint_every": None},
        ),
        (
            "--save_every_n_steps 100 --save_state --save_last_n_steps_state 100",
            {"save_every": 100, "keep_saved": None, "keep_checkpoints": 2},
        ),
        ("--sample_every_n_steps 50", {"sample_every": 50}),
        ("--lr_scheduler cosine --lr_warmup_steps 0.1", {"lr_warmup": 160}),
        (
            "--lr_scheduler cosine --lr_warmup_steps 0.025 --max_train_epochs 2",
            {"lr_warmup": "2.5 %"},
        ),
        ("--lr_scheduler cosine --lr_warmup_steps 20", {"lr_warmup": 20}),
        ("--masked_loss", {"masked_training": True, "unmasked_weight": 0}),
        ("--validation_split 0.1", {"validation_split": 0.1}),
        (
            "--network_dropout 0.1 --network_args rank_dropout=0.2 module_dropout=0.3",
            {"lora_dropout": 0.1, "rank_dropout": 0.2, "module_dropout": 0.3},
        ),
        (
            "--network_dropout 0.1 --torch_compile",
            {"lora_dropout": 0.1, "compile": None},
        ),
        ("--v_parameterization --zero_terminal_snr", {"zero_terminal_snr": True}),
        ("--zero_terminal_snr", {"zero_terminal_snr": None}),
        (
            "--lr_scheduler cosine_with_restarts --lr_scheduler_num_cycles 3",
            {
                "learning_rate_scheduler": "cosine_with_restarts",
                "learning_rate_cycles": 3,
            },
        ),
        (
            "--lr_scheduler polynomial --lr_scheduler_power 2",
            {"learning_rate_scheduler": "polynomial", "learning_rate_power": 2},
        ),
        ("--scale_weight_norms 1", {"scale_weight_norms": 1}),
        (
            "--multires_noise_iterations 8 --multires_noise_discount 0.1",
            {"multires_noise_iterations": 8, "multires_noise_discount": 0.1},
        ),
        ("--multires_noise_discount 0.1", {"multires_noise_discount": None}),
        (
            "--noise_offset 0.1 --adaptive_noise_scale 0.01",
            {"offset_noise_weight": 0.1, "adaptive_noise_scale": 0.01},
        ),
        (
            "--noise_offset 0.1 --noise_offset_random_strength",
            {"offset_noise_random_strength": True},
        ),
        (
            "--ip_noise_gamma 0.1 --ip_noise_gamma_random_strength",
            {"ip_noise_gamma": 0.1, "ip_noise_gamma_random_strength": True},
        ),
    ],
)
def test_values_keep_their_meaning(text: str, wanted: dict[str, Any]) -> None:
    data = _data(text)
    data["lr_warmup"] = data.get("learning_rate_warmup_steps")
    assert {key: data.get(key) for key in wanted} == wanted


def test_what_only_changes_speed_gives_way_to_what_is_trained() -> None:
    found = _words("--network_dropout 0.1 --torch_compile")
    assert not found.report.differences
    (entry,) = (e for e in found.report.entries if e.key == "torch_compile")
    assert (entry.outcome, entry.sets) == ("ignored", ())
    assert entry.note.startswith("compile does not change results, and lora_dropout")
    # Alone, it is kept.
    assert _data("--torch_compile")["compile"] is True


def test_the_text_encoders_of_sdxl_have_the_first_rate() -> None:
    found = _words("--unet_lr 1e-4 --text_encoder_lr 1e-5 0")
    assert found.data["text_encoder_learning_rate"] == 1e-5
    assert found.data["text_encoder_2_learning_rate"] == 1e-5
    (entry,) = (e for e in found.report.entries if e.key == "text_encoder_lr")
    assert "the first one for both" in entry.note
    assert "train_text_encoder" not in _data("--unet_lr 1e-4 --text_encoder_lr 0 1e-5")
    assert "train_text_encoder" not in _data("--network_train_unet_only")


FLUX_PARTS = [
    ("--cache_text_encoder_outputs --text_encoder_lr 1e-5 1e-6", (1e-5, None)),
    ("--cache_text_encoder_outputs_to_disk", (1e-4, None)),
    ("--network_args train_t5xxl=True --text_encoder_lr 1e-5 1e-6", (1e-5, 1e-6)),
    ("--network_args train_t5xxl=True --network_train_unet_only", (None, None)),
    ("--network_train_unet_only --cache_text_encoder_outputs", (None, None)),
    ("--text_encoder_lr 0 --cache_text_encoder_outputs", (None, None)),
]


@pytest.mark.parametrize(("text", "rates"), FLUX_PARTS)
def test_clip_of_flux_is_trained_beside_a_cached_t5(
    text: str, rates: tuple[float | None, float | None]
) -> None:
    words = f"flux_train_network.py --learning_rate 1e-4 {text}".split()
    found = parse_config(import_words(words).data)
    own = (found.text_encoder_learning_rate, found.text_encoder_2_learning_rate)
    trained = (found.train_text_encoder, found.train_text_encoder_2)
    pairs = zip(trained, own, strict=True)
    assert rates == tuple((rate or 1e-4) if on else None for on, rate in pairs)
    # The other family whose outputs are cached has no trained text encoder.
    assert "train_text_encoder" not in _data("--cache_text_encoder_outputs")


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("--learning_rate 1e-5 --unet_lr 1e-4", 1e-5),
        ("--unet_lr 1e-4", 2e-6),
        ("--learning_rate 1e-5", None),
        ("--learning_rate 1e-5 --unet_lr 1e-4 --text_encoder_lr 3e-5", 3e-5),
    ],
)
def test_text_encoders_without_a_rate_have_that_of_the_run(
    text: str, rate: float | None
) -> None:
    data = _data(text)
    assert data["train_text_encoder_2"] is True
    assert data.get("text_encoder_learning_rate") == rate
    assert data.get("text_encoder_2_learning_rate") == rate


@pytest.mark.parametrize("rates", ["0.5 0.1", "0.5"])
def test_rates_that_are_not_possible_are_reported_once(rates: str) -> None:
    found = _words(
        f"--optimizer_type Prodigy --learning_rate 1 --text_encoder_lr {rates}"
    )
    assert [entry.key for entry in found.report.differences] == ["text_encoder_lr"]
    assert found.data["train_text_encoder"] is True
    (entry,) = (e for e in found.report.entries if e.key == "network_train_unet_only")
    assert dict(entry.sets) == {
        "train_text_encoder": True,
        "train_text_encoder_2": True,
    }


def test_the_noise_of_flux_is_that_of_its_script() -> None:
    def flux(text: str) -> dict[str, Any]:
        return import_words(["flux_train_network.py", *text.split()]).data

    shifted = flux("--timestep_sampling shift --discrete_flow_shift 3.1582")
    assert shifted["timestep_distribution"] == "logit_normal"
    assert shifted["timestep_shift"] == 3.1582
    # Without timestep_sampling, it is uniform, with a shift of 3, and guidance is 3.5.
    default = flux("--network_dim 4")
    assert default["timestep_distribution"] == "uniform"
    assert (default["timestep_shift"], default["guidance_scale"]) == (3, 3.5)
    normal = flux("--weighting_scheme logit_normal --logit_mean 0.5 --logit_std 1.5")
    assert (normal["noising_bias"], normal["noising_weight"]) == (-0.5, 0.5)
    assert "timestep_shift" not in flux("--timestep_sampling sigmoid")
    assert flux("--timestep_sampling flux_shift")["dynamic_timestep_shifting"] is True
    noise = flux("--noise_offset 0.1 --multires_noise_iterations 6 --ip_noise_gamma 1")
    # Of these, its script uses one.
    assert noise["ip_noise_gamma"] == 1
    assert not noise.keys() & {"offset_noise_weight", "multires_noise_iterations"}
    # Not used for SDXL, where the settings would be rejected.
    assert "timestep_shift" not in _data("--timestep_sampling shift")


def test_optimizers_keep_their_unit_or_say_that_it_changes() -> None:
    eight = _data("--optimizer_type AdamW8bit --optimizer_args weight_decay=0.1")
    assert eight["optimizer"] == {"name": "adamw_8bit", "weight_decay": 0.1}
    betas = _data("--optimizer_args betas=0.9,0.95 eps=1e-6")
    assert betas["optimizer"]["beta2"] == 0.95
    prodigy = _data("--optimizer_type Prodigy --learning_rate 1")
    assert prodigy["optimizer"] == {"name": "prodigy"}
    assert parse_config(prodigy).learning_rate == 1
    free = _words(
        "--optimizer_type AdamWScheduleFree --learning_rate 3e-3 --lr_scheduler cosine "
        "--lr_warmup_steps 10"
    )
    assert free.data["optimizer"]["name"] == "schedule_free_adamw"
    assert free.data["learning_rate"] == 3e-3
    assert not free.data.keys() & {
        "learning_rate_scheduler",
        "learning_rate_warmup_steps",
    }
    assert not free.report.differences
    other = _words("--optimizer_type LARS --learning_rate 3e-3")
    assert other.data["optimizer"]["name"] == "adamw"
    assert "learning_rate" not in other.data or other.data["learning_rate"] == 1e-4
    assert {"optimizer_type", "learning_rate"} <= {
        entry.key for entry in other.report.differences
    }
    plus = _data("--network_args loraplus_lr_ratio=8")
    assert plus["optimizer"]["name"] == "lora_plus"
    assert plus["optimizer"]["lr_ratio"] == 8


ARGUMENTS = [
    (
        "Prodigy --optimizer_args betas=0.9,0.99 decouple=True fsdp_in_use=False",
        {"name": "prodigy", "beta2": 0.99, "options": {"fsdp_in_use": False}},
    ),
    (
        "prodigyplus.ProdigyPlusScheduleFree --optimizer_args d_coef=2 use_focus=True",
        {
            "name": "prodigy_plus_schedule_free",
            "d_coef": 2,
            "options": {"use_focus": True},
        },
    ),
    (
        "Adafactor --optimizer_args relative_step=False scale_parameter=False",
        {"name": "adafactor"},
    ),
    (
        "adafactor --optimizer_args relative_step=False eps=1e-20,0.01",
        {"name": "adafactor", "scale_parameter": True, "eps": 1e-20, "eps2": 0.01},
    ),
    ("Lion --optimizer_args weight_decay=0.1", {"name": "lion", "weight_decay": 0.1}),
    ("came_pytorch.CAME", {"name": "came"}),
    ("RAdamScheduleFree", {"name": "schedule_free_radam"}),
    ("adv_optm.Prodigy_adv", {"name": "prodigy_adv"}),
    (
        "DAdaptation",
        {
            "name": "custom",
            "class": "dadaptation.experimental.DAdaptAdamPreprint",
        },
    ),
    ("pytorch_optimizer.CAME", {"name": "custom", "class": "pytorch_optimizer.CAME"}),
]


@pytest.mark.parametrize(("words", "expected"), ARGUMENTS)
def test_optimizers_of_packages_have_short_names(
    words: str, expected: dict[str, Any]
) -> None:
    found = _words(f"--optimizer_type {words}")
    assert found.data["optimizer"] == expected
    assert not found.report.differences


def test_alpha_is_the_rank_where_the_method_controls_the_scale() -> None:
    found = _words(
        "--optimizer_type stiefel_lora.StiefelLoRA --network_dim 16 --network_alpha 1"
    )
    assert found.data["optimizer"]["name"] == "stiefel_lora"
    assert parse_config(found.data).resolved_alpha == 16
    assert _outcome(found, "network_alpha") == "translated"


def test_datasets_become_concepts(tmp_path: Path) -> None:
    found = _toml(
        tmp_path,
        """
        [general]
        shuffle_caption = true
        caption_extension = ".txt"
        enable_bucket = true
        [[datasets]]
        resolution = 768
        batch_size = 2
        keep_tokens = 2
          [[datasets.subsets]]
          image_dir = "D:\\\\cats"
          num_repeats = 10
          caption_prefix = "ohwx, "
          [[datasets.subsets]]
          image_dir = "./reg//dogs"
          is_reg = true
          shuffle_caption = false
        [[datasets]]
        resolution = 512
        batch_size = 3
        keep_tokens = 1
          [[datasets.subsets]]
          image_dir = "D:\\\\cats"
          caption_prefix = "ohwx, "
        """,
    )
    cats, dogs, small = found.data["concepts"]
    assert cats == {
        "path": "D:\\cats",
        "repeats": 10,
        "enable_tag_shuffling": True,
        "keep_tags_count": 1,
    }
    assert dogs["path"] == "./reg//dogs"
    assert dogs["is_reg"] is True
    assert "enable_tag_shuffling" not in dogs
    assert (found.data["resolution"], found.data["batch_size"]) == (768, 2)
    assert found.data["trigger_word"] == "ohwx"
    assert small["resolutions"] == [512]
    assert "resolutions" not in cats
    assert _outcome(found, "datasets.1.resolution") == "translated"
    assert "datasets.1.batch_size" in [e.key for e in found.report.differences]


def test_a_configuration_reads_its_dataset_file_and_prompts(tmp_path: Path) -> None:
    (tmp_path / "data.toml").write_text(
        '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "cats"\n'
        'caption_extension = ".txt"\n',
        encoding="utf-8",
    )
    (tmp_path / "prompts.txt").write_text(
        "# comment\na cat --w 512 --h 768 --d 1 --s 20 --l 6.5 --n blurry, low\n"
        "a dog --ss k_euler_a\n",
        encoding="utf-8",
    )
    found = _toml(
        tmp_path,
        '[x]\npretrained_model_name_or_path = "a/sdxl.safetensors"\n'
        'dataset_config = "data.toml"\nsample_prompts = "prompts.txt"\n'
        'sample_sampler = "dpmsolver++"\n',
    )
    assert found.data["concepts"] == [{"path": "cats"}]
    assert found.data["samples"] == [
        {
            "prompt": "a cat",
            "negative_prompt": "blurry, low",
            "seed": 1,
            "steps": 20,
            "guidance": 6.5,
            "width": 512,
            "height": 768,
            "sampler": "dpmpp_2m",
        },
        {"prompt": "a dog", **USUAL, "sampler": "euler_a"},
    ]
    gone = _toml(tmp_path, 'network_dim = 4\ndataset_config = "gone.toml"\n', "b.toml")
    assert "dataset_config" in [entry.key for entry in gone.report.differences]


# sd-scripts uses them where a prompt has no flag.
USUAL = {"guidance": 7.5, "width": 512, "height": 512}
OBJECTS = [
    (["a cat --w 640 --ss k_euler_a"], [{"width": 640, "sampler": "euler_a"}], ""),
    ([{"prompt": "a", "sample_sampler": "dpmsolver++"}], [{"sampler": "dpmpp_2m"}], ""),
    ([{"prompt": "a", "sample_sampler": "lms"}], [{}], "sample_sampler"),
    ([{"prompt": "a", "scale": 3, "enum": 0}], [{"guidance": 3}], ""),
    ([{"prompt": "a", "guidance_scale": 3}, "b"], [{}, {}], "guidance_scale"),
    (["a --cn x", 7, {"width": 64}], [{}], "--cn, 7, entries that have no prompt"),
]


@pytest.mark.parametrize(("content", "wanted", "lost"), OBJECTS)
def test_files_of_prompts_as_sd_scripts_reads_them(
    tmp_path: Path, content: list[Any], wanted: list[dict[str, Any]], lost: str
) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    entry, found = samples_in(str(path), tmp_path, "sdxl")
    samples = [{k: v for k, v in s.items() if k != "prompt"} for s in found["samples"]]
    assert samples == [{"steps": 30, **USUAL, **each} for each in wanted]
    count = f"{len(wanted)} sample{'s' * (len(wanted) > 1)}"
    count += ", with the defaults of sd-scripts"
    assert entry.note.startswith(f"{count}, without {lost}" if lost else count)
    if not lost:
        given = prompts_of([], path, "sdxl")[0]
        assert [{"steps": 30, **USUAL, **each} for each in given] == found["samples"]


@pytest.mark.parametrize(
    ("keys", "guidance", "lost"),
    [
        ({"scale": 2, "guidance_scale": 3}, 3, "scale"),
        ({"guidance_scale": 3, "scale": 1.0}, 3, ""),
        ({"scale": 4, "sample_sampler": "euler"}, 3.5, "scale, sample_sampler"),
    ],
)
def test_guidance_of_flux_in_files_of_prompts(
    tmp_path: Path, keys: dict[str, Any], guidance: int | None, lost: str
) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps([{"prompt": "a", **keys}]), encoding="utf-8")
    entry, found = samples_in(str(path), tmp_path, "flux")
    assert found["samples"][0].get("guidance") == guidance
    assert entry.note == "1 sample, with the defaults of sd-scripts" + (
        f", without {lost}, which is not supported" if lost else ""
    )


@pytest.mark.parametrize(
    ("script", "flag", "ours"),
    [
        ("train_network.py", "dpm++_2m_karras", "dpmpp_2m_karras"),
        ("sdxl_train_network.py", "dpmsolver++", "dpmpp_2m"),
        ("sdxl_train_network.py", "", "ddim"),
        ("flux_train_network.py", "euler", None),
    ],
)
def test_samples_are_those_of_sd_scripts(
    tmp_path: Path, script: str, flag: str, ours: str | None
) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\n", encoding="utf-8")
    words = ["--sample_prompts", str(path)]
    words += ["--sample_sampler", flag] if flag else []
    (sample,) = parse_config(import_words([script, *words]).data).samples
    flux = script.startswith("flux")
    wanted = (512, 512, 20, 3.5) if flux else (512, 512, 30, 7.5)
    assert (sample.width, sample.height, sample.steps, sample.guidance) == wanted
    assert sample.sampler == ours


SAMPLERS = [
    ("DPM++ 2M Karras", "dpmpp_2m_karras"),
    ("dpm++_2m_sde_karras", "dpmpp_2m_sde_karras"),
    ("Euler a", "euler_a"),
    ("DPMPP_SDE", "dpmpp_2m_sde"),
    # Another sampler of A1111, and one that does not exist here.
    ("DPM++ SDE", None),
    ("lms", None),
]


@pytest.mark.parametrize(("name", "ours"), SAMPLERS)
def test_samplers_by_the_names_of_other_programs(name: str, ours: str | None) -> None:
    if ours:
        assert sampler_called(name) == ours
        return
    with pytest.raises(ValueError, match="not a known sampler"):
        sampler_called(name)


def test_subsets_of_toml_prompts_share_keys(tmp_path: Path) -> None:
    pytest.importorskip("tomllib", reason="tomllib is new in 3.11")
    path = tmp_path / "prompts.toml"
    path.write_text(
        "[prompt]\nwidth = 64\nsample_sampler = 'k_euler'\n"
        "[[prompt.subset]]\nprompt = 'a'\n"
        "[[prompt.subset]]\nprompt = 'b'\nwidth = 32\n",
        encoding="utf-8",
    )
    assert prompts_of([], path, "sd15")[0] == [
        {"prompt": "a", "width": 64, "sampler": "euler"},
        {"prompt": "b", "width": 32, "sampler": "euler"},
    ]


@pytest.mark.parametrize(
    ("prompt", "on"),
    [
        ("a (cat:1.2)", True),
        (r"a \(cat\)", True),
        ("a cat --n [dog]", True),
        ("a cat: 10:30) --n dog]", False),
    ],
)
def test_prompts_with_weights_switch_them_on(
    tmp_path: Path, prompt: str, on: bool
) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(f"a dog\n{prompt}\n", encoding="utf-8")
    for script in ("sdxl_train_network.py", "flux_train_network.py"):
        found = import_words([script, "--sample_prompts", str(path)])
        # sd-scripts uses no weights for FLUX.
        expected = True if on and script.startswith("sdxl") else None
        assert found.data.get("sample_prompt_weights") is expected
        assert found.data["samples"][1]["prompt"] == prompt.partition(" --n")[0]


def test_a_command_line_keeps_windows_paths(tmp_path: Path) -> None:
    path = tmp_path / "train.sh"
    path.write_text(
        "accelerate launch --num_cpu_threads_per_process 1 sdxl_train_network.py ^\n"
        '  --pretrained_model_name_or_path="D:\\my models\\a.safetensors" \\\n'
        "  --train_data_dir=D:\\cats --network_dim=8 --network_args conv_dim=4 "
        "conv_alpha=1 --caption_extension .txt\n",
        encoding="utf-8",
    )
    found = import_file(path)
    assert found.data["base_model_name"] == "D:\\my models\\a.safetensors"
    assert found.data["concepts"][0]["path"] == "D:\\cats"
    assert found.data["conv_rank"] == 4
    assert _outcome(found, "launcher.num_cpu_threads_per_process") == "ignored"


def test_variables_of_a_script_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "train.sh"
    path.write_text(
        "#!/bin/bash\n"
        'BASE="/my models"\nexport MODEL=$BASE/a.safetensors\nRANK=8\n\n'
        "accelerate launch sdxl_train_network.py --network_dim=${RANK} \\\n"
        '  --pretrained_model_name_or_path "$MODEL" --train_data_dir "$DATA/cats"\n',
        encoding="utf-8",
    )
    found = import_file(path)
    assert found.data["base_model_name"] == "/my models/a.safetensors"
    assert found.data["lora_rank"] == 8
    assert found.data["concepts"][0]["path"] == "$DATA/cats"
    (note,) = found.report.notes
    assert note == (
        "The variable $DATA has no value here. Replace it in the settings of "
        "train_data_dir."
    )
    bat = tmp_path / "train.bat"
    bat.write_text(
        "set MODEL=D:\\a.safetensors\n"
        "python sdxl_train_network.py --pretrained_model_name_or_path %MODEL%\n",
        encoding="utf-8",
    )
    assert import_file(bat).data["base_model_name"] == "D:\\a.safetensors"


BLOCKS = [
    ("mid_lr_weight=1", {}, None),
    ("mid_lr_weight=1,0.5", {"mid_block.attentions.0.": 0.5}, None),
    (
        "down_lr_weight=0,0,0,0,0.2,0.4,0,0,0",
        {"down_blocks.1.attentions.0.": 0.2, "down_blocks.1.attentions.1.": 0.4},
        9,
    ),
    (
        "up_lr_weight=zeros+0.5",
        {f"up_blocks.{i}.attentions.{j}.": 0.5 for i in (0, 1) for j in range(3)},
        None,
    ),
]


@pytest.mark.parametrize(("text", "rates", "layers"), BLOCKS)
def test_rates_of_blocks_are_those_of_layers(
    text: str, rates: dict[str, float], layers: int | None
) -> None:
    found = _words(f"--network_args {text}")
    assert len(found.data.get("layer_filter", [])) == (layers or 0)
    assert found.data.get("learning_rate_pattern", {}) == rates
    assert not found.report.differences


def test_ranks_of_blocks_are_those_of_layers() -> None:
    dims = [4] * 23
    dims[1 + 4], dims[10 + 1] = 8, 0
    text = ",".join(map(str, dims))
    found = _words(
        f"--network_dim 4 --network_alpha 2 --network_args block_dims={text}"
    )
    assert found.data["rank_pattern"] == {"down_blocks.1.attentions.0.": 8}
    assert "mid_block.attentions.0." not in found.data["layer_filter"]
    assert len(found.data["layer_filter"]) == 10
    assert [e.key for e in found.report.differences] == ["network_args.block_dims"]
    alphas = ",".join(str(dim / 2) for dim in dims)
    same = _words(
        f"--network_dim 4 --network_alpha 2 --network_args block_dims={text} "
        f"block_alphas={alphas}"
    )
    assert not same.report.differences


def test_convolutions_of_one_pixel_of_sd15_have_a_lora() -> None:
    def layers(text: str) -> list[str]:
        return import_words(["train_network.py", *text.split()]).data["layer_filter"]

    assert layers("--network_dim 4") == ["attentions"]
    conv = layers("--network_dim 4 --network_args conv_dim=4")
    assert conv == ["attentions", "resnets", "samplers"]


def test_an_unknown_key_close_to_a_known_one_has_a_hint() -> None:
    found = _words("--text_encoder_lr1 1e-5 --surprise 1")
    notes = {e.key: e.note for e in found.report.differences}
    assert notes["text_encoder_lr1"] == f"{UNKNOWN}. A known one is text_encoder_lr"
    assert notes["surprise"] == UNKNOWN


OTHER_SCRIPTS = [
    ("sdxl_train.py", "sdxl"),
    ("D:\\sd-scripts\\flux_train.py", "flux"),
    ("train_db.py", "sd15"),
    ("./fine_tune.py", "sd15"),
    ("sdxl_train_textual_inversion.py", "sdxl"),
    ("train_textual_inversion_XTI.py", "sd15"),
    ("flux_train_control_net.py", "flux"),
    ("sdxl_train_control_net_lllite.py", "sdxl"),
    ("train_controlnet.py", "sd15"),
]


@pytest.mark.parametrize(("script", "family"), OTHER_SCRIPTS)
def test_scripts_without_lora_are_reported(script: str, family: str) -> None:
    words = ["accelerate", "launch", script, "--pretrained_model_name_or_path", "x"]
    found = import_words(words)
    assert parse_config(found.data).model_type == family
    (entry,) = (e for e in found.report.differences if e.key == "script")
    assert "a LoRA is trained instead" in entry.note
    assert not found.report.notes
    chosen = import_words(words, "sdxl")
    assert parse_config(chosen.data).model_type == "sdxl"
    assert "script" in [e.key for e in chosen.report.differences]


@pytest.mark.parametrize(
    "text",
    [
        "train_text_encoder = true",
        "learning_rate_te1 = 1e-6",
        'block_lr = "1e-5,1e-5"',
        "blockwise_fused_optimizers = true",
        'token_string = "mycat"',
        "stop_text_encoder_training = 100",
    ],
)
def test_options_of_scripts_without_lora_are_reported(
    text: str, tmp_path: Path
) -> None:
    """The name of the script is on the command line, not in the file."""
    path = tmp_path / "a.toml"
    path.write_text(f"learning_rate = 1e-6\n{text}\n", encoding="utf-8")
    found = import_file(path)
    key = text.partition(" ")[0]
    entry = next(e for e in found.report.differences if e.key == "network_module")
    assert f"{key} is only used by scripts that train no LoRA" in entry.note
    path.write_text(f'{text}\nnetwork_module = "networks.lora"\n', encoding="utf-8")
    kept = import_file(path).report
    assert "network_module" not in [e.key for e in kept.differences]


def test_a_file_without_script_and_network_module_is_read_as_a_lora(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.toml"
    for text, assumed in (
        ("learning_rate = 1e-4\ntrain_text_encoder = false\n", True),
        ('learning_rate = 1e-4\nnetwork_module = "networks.lora"\n', False),
        ('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "a"\n', False),
    ):
        path.write_text(text, encoding="utf-8")
        notes = import_file(path, "sdxl").report.notes
        found = any("network_module is not set: the op" in line for line in notes)
        assert found == assumed, text


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ("", "the alpha of the file is not used there"),
        ("--dim_from_weights", "rank and alpha of the file are used there"),
        ("--dim_from_weights --optimizer_type stiefel_lora", "a list of files"),
    ],
)
def test_the_alpha_of_a_file_to_start_from_is_explained(
    options: str, note: str
) -> None:
    found = _words(f"--network_weights a.safetensors {options}")
    (entry,) = (e for e in found.report.entries if e.key == "network_weights")
    assert entry.note.startswith(note)


def test_scripts_of_lora_have_no_entry() -> None:
    for script in ("train_network.py", "sdxl_train_network.py", "my.py"):
        found = import_words([script, "--network_dim", "4"])
        assert "script" not in [e.key for e in found.report.entries]
    with pytest.raises(ConfigError, match="Stable Diffusion 3"):
        import_words(["sd3_train_control_net.py", "--learning_rate", "1e-5"])


def test_folders_with_repeats_in_their_names_stay_folders() -> None:
    text = "--train_data_dir img --reg_data_dir reg --flip_aug --caption_extension .txt"
    found = _words(text)
    shared = {"subfolder_repeats": True, "enable_random_flip": True}
    assert found.data["concepts"] == [
        {"path": "img", **shared},
        {"path": "reg", "is_reg": True, **shared},
    ]
    for key in ("train_data_dir", "reg_data_dir"):
        assert _outcome(found, key) == "translated"
        assert key not in [entry.key for entry in found.report.differences]
    # With a metadata file, sd-scripts uses the folder itself.
    listed = _data("--train_data_dir img --in_json a.json --caption_extension txt")
    assert listed["concepts"] == [{"path": "img", "include_subdirectories": True}]


def test_layers_of_clip_are_counted_from_one() -> None:
    def one(text: str) -> Imported:
        return import_words(["train_network.py", *text.split()])

    for given, ours in (("1", None), ("2", 1), ("12", 11)):
        found = one(f"--clip_skip {given}")
        assert found.data.get("text_encoder_layer_skip") == ours
        assert _outcome(found, "clip_skip") == "translated"
    # Where it has no effect in sd-scripts, it has none here.
    unused = _words("--clip_skip 2")
    assert "text_encoder_layer_skip" not in unused.data
    assert "clip_skip" not in [entry.key for entry in unused.report.differences]
    assert one("--max_token_length 225").data["max_token_length"] == 225
    flux = import_words(["flux_train_network.py", "--max_token_length", "150"])
    assert "max_token_length" not in flux.data


def test_captions_keep_their_markup_and_extension() -> None:
    text = (
        "--train_data_dir img --keep_tokens 2 --keep_tokens_separator ||| "
        "--secondary_separator ;;; --enable_wildcard --shuffle_caption"
    )
    found = _words(text)
    assert found.data["concepts"] == [
        {
            "path": "img",
            "subfolder_repeats": True,
            "enable_tag_shuffling": True,
            "keep_tags_count": 2,
            "keep_tags_separator": "|||",
            "secondary_separator": ";;;",
            "enable_wildcard": True,
            # The default of sd-scripts.
            "caption_extension": ".caption",
        }
    ]
    assert not {"enable_wildcard", "keep_tokens_separator", "secondary_separator"} & {
        entry.key for entry in found.report.differences
    }
    (concept,) = _data("--train_data_dir img --caption_extension txt")["concepts"]
    assert "caption_extension" not in concept


def test_class_tokens_are_the_caption_of_images_without_one(tmp_path: Path) -> None:
    text = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'\n"
    found = _toml(tmp_path, f"{text}class_tokens = 'sks dog'\n")
    assert found.data["concepts"][0]["default_caption"] == "sks dog"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("base_weights", "a.safetensors", "stiefel-lora lora merge FILE --into MODEL"),
        ("conditioning_data_dir", "masks", "cat-masklabel.png"),
        ("lr_scheduler", "piecewise_constant", "constant is used"),
    ],
)
def test_a_reason_names_what_to_use_instead(key: str, value: str, text: str) -> None:
    found = _words(f"--masked_loss --{key} {value}")
    (entry,) = (e for e in found.report.differences if e.key == key)
    assert text in entry.note


def test_rex_is_taken() -> None:
    found = _words("--lr_scheduler rex")
    assert found.data["learning_rate_scheduler"] == "rex"
    assert not found.report.differences


def test_a_dataset_alone_is_reported(tmp_path: Path) -> None:
    text = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'\n"
    alone = _toml(tmp_path, text).report.notes
    assert any("Only a dataset was given" in line for line in alone)
    whole = _toml(tmp_path, f"network_module = 'networks.lora'\n{text}").report.notes
    assert not any("Only a dataset was given" in line for line in whole)


def test_the_window_of_kohya_has_its_own_names(tmp_path: Path) -> None:
    path = tmp_path / "gui.json"
    options = {
        "LoRA_type": "Standard",
        "sdxl": True,
        "pretrained_model_name_or_path": SDXL,
        "train_data_dir": "img",
        "max_resolution": "1024,1024",
        "learning_rate": 1e-4,
        "unet_lr": 1e-4,
        "text_encoder_lr": 0,
        "optimizer": "AdamW",
        "optimizer_args": "weight_decay=0.05",
        "network_dim": 16,
        "network_alpha": 8,
        "conv_dim": 4,
        "epoch": 3,
        "max_train_steps": 0,
        "lr_scheduler": "cosine",
        "lr_warmup": 10,
        "noise_offset": 0,
        "xformers": "sdpa",
        "additional_parameters": "--min_snr_gamma 5",
    }
    path.write_text(json.dumps(options), encoding="utf-8")
    found = import_file(path)
    assert "model_type" not in found.data  # SDXL is the default.
    assert found.data["epochs"] == 3
    assert found.data["optimizer"] == {"name": "adamw", "weight_decay": 0.05}
    assert "train_text_encoder" not in found.data
    assert "conv_rank" not in found.data
    assert found.data["loss_weight_fn"] == "min_snr_gamma"
    assert set(options) <= {e.key.partition(".")[0] for e in found.report.entries}
    # A fraction of an unknown number of steps.
    assert found.data["learning_rate_warmup_steps"] == "10 %"
    options |= {"epoch": 1, "max_train_steps": 200}
    path.write_text(json.dumps(options), encoding="utf-8")
    assert import_file(path).data["learning_rate_warmup_steps"] == 20


@pytest.mark.parametrize("kind", ["LyCORIS/LoCon", "Standard"])
def test_options_of_lycoris_are_those_of_its_lora(tmp_path: Path, kind: str) -> None:
    keys = {"use_tucker": True, "train_norm": True, "LyCORIS_preset": "attn-only"}
    options = {"LoRA_type": kind, "learning_rate": 1e-4, **keys, "use_scalar": False}
    path = tmp_path / "gui.json"
    path.write_text(json.dumps(options), encoding="utf-8")
    lost = {entry.key for entry in import_file(path).report.differences}
    assert lost == (set(keys) if kind.startswith("LyCORIS") else set())


@pytest.mark.parametrize(
    ("kind", "off"),
    [("Original", "multires_noise_iterations"), ("Multires", "noise_offset")],
)
def test_the_noise_that_is_not_selected_has_one_entry(
    tmp_path: Path, kind: str, off: str
) -> None:
    options: dict[str, Any] = {"LoRA_type": "Standard", "learning_rate": 1e-4}
    options |= {"multires_noise_iterations": 6, "noise_offset": 0.1}
    path = tmp_path / "gui.json"
    for value in (options[off], 0):
        path.write_text(
            json.dumps({**options, off: value, "noise_offset_type": kind}),
            encoding="utf-8",
        )
        entries = import_file(path).report.entries
        (entry,) = (e for e in entries if e.key == off)
        assert (entry.outcome, entry.matters) == ("ignored", False)


def test_a_line_of_flags_without_a_prompt_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\n\n--n ugly --w 32\n", encoding="utf-8")
    found = import_words(["sdxl_train_network.py", "--sample_prompts", str(path)])
    (sample,) = found.data["samples"]
    assert sample == {"prompt": "a cat", **USUAL, "sampler": "ddim"}
    (entry,) = (e for e in found.report.entries if e.key == "sample_prompts")
    assert "without line 3 (flags without a prompt)" in entry.note


def test_flags_of_prompts_differ_for_flux() -> None:
    line = "a cat --w 768 --g 3.5 --l 1 --ss euler --d x"
    assert read_prompt(line, "flux") == (
        {"prompt": "a cat", "width": 768, "guidance": 3.5},
        ["--l", "--ss", "--d"],
    )


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["sd3_train_network.py", "--network_dim", "4"], "Stable Diffusion 3"),
        (["wan_train_network.py", "--network_dim", "4"], "Wan"),
        (["train_network.py", "--v2"], "Stable Diffusion 2"),
        (["x.py", "--network_module", "networks.lora_lumina"], "Lumina"),
        (["sdxl_train_network.py"], "contains no options"),
        (["a.py", "--config_file", "gone.toml"], "gone.toml does not exist"),
    ],
)
def test_what_cannot_be_imported_is_one_line(words: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        import_words(words)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.toml", "a = 1\nb =\t[1,\n", "end of document"),
        ("a.toml", "a = 1\n\tb = = 2\n", "line 2"),
        ("a.toml", "foo = 1\n", "is no configuration of sd-scripts"),
        ("a.toml", "", "is empty"),
        ("a.json", "{}", "is no configuration of OneTrainer or kohya_ss"),
        ("a.json", '{"a": 1,}', "line 1"),
        ("a.json", "[]", "is an empty list, but a config file of OneTrainer or kohya"),
        ("a.json", "[1]", "is a list without keys, but a config file of OneTrainer"),
        ("a.json", '[{"path": "a"}]', "contains concepts or samples only"),
        ("a.json", "3", "must contain a JSON object"),
        ("a.txt", "hello", "contains no options"),
        ("a.txt", "x.py --a 'b", "a quotation mark is not closed"),
    ],
)
def test_bad_files_are_one_line(
    tmp_path: Path, name: str, text: str, problem: str
) -> None:
    if name.endswith("toml"):
        pytest.importorskip("tomllib", reason="tomllib is new in 3.11")
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        import_file(tmp_path / name)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_presets_of_a_checkout() -> None:
    root = os.environ.get("KOHYA_SS_ROOT")
    if not root:
        pytest.skip("KOHYA_SS_ROOT names no checkout")
    presets = sorted(Path(root, "presets", "lora").glob("*.json"))
    assert presets
    for path in presets:
        for entry in import_file(path).report.entries:
            assert not entry.note.startswith(UNKNOWN), f"{path.name}: {entry.key}"


def test_the_example_of_the_docs_is_the_output(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    source = page.split("```toml\n")[1].split("```")[0]
    report, config = (page.split(f"```{kind}\n")[1].split("```")[0] for kind in KINDS)
    found = _toml(tmp_path, source, "my.toml")
    assert "\n".join(found.report.lines()) + "\n" == report
    assert found.data == json.loads(config)
