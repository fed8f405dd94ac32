"""Training that starts from LoRA files: step 0 is the base model with their sum."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.fixtures import StopAfter
from helpers.runs import (
    assert_same_factors,
    tiny_config,
    tiny_flux_config,
)
from stiefel_lora import ConfigError, ModelError
from stiefel_lora.config import TrainConfig, parse_config
from stiefel_lora.config.checks import check_paths
from stiefel_lora.files import (
    LoraFactors,
    LoraWeights,
    apply_lora,
    load_lora,
    read_tensors,
    save_kohya,
)
from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.training.trainer import train

KOHYA, PEFT = 0, 1
# So short a step moves no digit that is compared.
STILL = {"steps": 1, "learning_rate": 1e-12}


def product(weights: LoraWeights, name: str) -> torch.Tensor:
    factors = weights[name]
    up, down = (f.flatten(1).double() for f in (factors.up, factors.down))
    return factors.scale * up @ down


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("start")


@pytest.fixture(scope="module")
def donors(tiny_sdxl: Path, root: Path) -> list[Path]:
    """Kohya files of ranks 4 and 2, by AdamW with an alpha that is not the rank."""
    files = []
    for rank, alpha in ((4, 1.0), (2, 2.0)):
        config = tiny_config(
            tiny_sdxl,
            root,
            run_name=f"donor{rank}",
            optimizer={"name": "adamw"},
            learning_rate=3e-2,
            lora_rank=rank,
            lora_alpha=alpha,
            seed=rank,
        )
        files.append(train(config).lora_files[KOHYA])
    return files


def started(tiny_sdxl: Path, root: Path, name: str, **changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {"run_name": name, **STILL, **changes}
    return tiny_config(tiny_sdxl, root, **settings)


@pytest.mark.parametrize("rank", [4, 6, 9])
@pytest.mark.parametrize(
    "optimizer", ["adamw", "stiefel_lora", "riemannion", "lora_rite", "stella"]
)
def test_step_0_is_the_weighted_sum_of_the_files(
    tiny_sdxl: Path, root: Path, donors: list[Path], optimizer: str, rank: int
) -> None:
    """Rank 6 is that of the sum, 9 is more; 4 is one file alone."""
    first, second = donors
    given = [str(first)] if rank == 4 else [str(first), f"{second}:-0.5"]
    config = started(
        tiny_sdxl,
        root,
        f"{optimizer}{rank}",
        optimizer={"name": optimizer},
        lora_rank=rank,
        lora_model_name=given,
    )
    found = load_lora(train(config).lora_files[PEFT])
    one, two = map(load_lora, donors)
    assert found.keys() == one.keys()
    for name in found:
        expected = product(one, name)
        if rank != 4:
            expected = expected - 0.5 * product(two, name)
        gap = torch.linalg.norm(product(found, name) - expected)
        assert gap <= 1e-5 * torch.linalg.norm(expected), name
        if optimizer in ("stiefel_lora", "riemannion"):
            assert orthogonality_error(found[name].up.flatten(1)) <= 1e-5


def test_adamw_keeps_the_factors_of_one_file(
    tiny_sdxl: Path, root: Path, donors: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """With a larger rank too: the other columns of B start from zero."""
    for rank, alpha in ((4, 1), (7, 1.75)):
        config = started(
            tiny_sdxl,
            root,
            f"kept{rank}",
            optimizer={"name": "adamw"},
            lora_rank=rank,
            lora_model_name=[str(donors[0])],
        )
        found, given = (load_lora(f) for f in (train(config).lora_files[1], donors[0]))
        for name, factors in given.items():
            assert torch.allclose(found[name].up[:, :4], factors.up, atol=1e-7)
            assert float(found[name].up[:, 4:].abs().sum()) <= 1e-6
        # alpha is the rank by default, but 1 at rank 4 in the file.
        printed = " ".join(capsys.readouterr().err.split())
        assert "rank of the file is 0.25 times lora_alpha / lora_rank" in printed
        assert f"Set lora_alpha to {alpha} to train them with the scale" in printed


def test_a_higher_rank_is_cut_off_by_the_best_approximation_and_reported(
    tiny_sdxl: Path, root: Path, donors: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    config = started(
        tiny_sdxl, root, "cut", lora_rank=2, lora_model_name=[str(donors[0])]
    )
    found, given = load_lora(train(config).lora_files[PEFT]), load_lora(donors[0])
    lost, whole = [], []
    for name in given:
        u, s, vh = torch.linalg.svd(product(given, name), full_matrices=False)
        best = (u[:, :2] * s[:2]) @ vh[:2]
        assert torch.allclose(product(found, name), best, atol=1e-5 * float(s[0]))
        lost.append(float(s[2:].norm()))
        whole.append(float(s.norm()))
    share = math.hypot(*lost) / math.hypot(*whole)
    printed = " ".join(capsys.readouterr().err.split())
    assert f"The relative error of the truncation is {share:.2%}." in printed
    assert "The state of the optimizer is not loaded." in printed


def test_a_dora_starts_from_the_same_weights(tiny_sdxl: Path, root: Path) -> None:
    settings = {"use_dora": True, "layer_filter": ["mid_block"]}
    donor = train(
        tiny_config(
            tiny_sdxl,
            root,
            run_name="dora",
            optimizer={"name": "stiefel_lora"},
            learning_rate=0.3,
            **settings,
        )
    )
    for number, file in enumerate(donor.lora_files):
        config = started(
            tiny_sdxl,
            root,
            f"dora_on{number}",
            lora_rank=6,
            lora_model_name=[str(file)],
            **settings,
        )
        found, given = (
            load_lora(f) for f in (train(config).lora_files[PEFT], donor.lora_files[1])
        )
        base = read_tensors(tiny_sdxl / "unet" / "diffusion_pytorch_model.safetensors")[
            0
        ]
        for name, factors in given.items():
            weight = base[f"{name.removeprefix('unet.')}.weight"].float()
            expected, own = (apply_lora(weight, f) for f in (factors, found[name]))
            assert (own - expected).abs().max() <= 1e-5 * weight.abs().max()


def test_a_plain_lora_becomes_a_dora_of_the_same_weights(
    tiny_sdxl: Path, root: Path, donors: list[Path]
) -> None:
    config = started(
        tiny_sdxl, root, "to_dora", use_dora=True, lora_model_name=[str(donors[0])]
    )
    found, given = load_lora(train(config).lora_files[PEFT]), load_lora(donors[0])
    base = read_tensors(tiny_sdxl / "unet" / "diffusion_pytorch_model.safetensors")[0]
    for name, factors in given.items():
        weight = base[f"{name.removeprefix('unet.')}.weight"].float()
        expected, own = (apply_lora(weight, f) for f in (factors, found[name]))
        assert (own - expected).abs().max() <= 1e-5 * weight.abs().max()


def test_text_encoders_and_fused_layers_of_flux(tiny_flux: Path, root: Path) -> None:
    """The kohya file of FLUX.1 has q, k and v in one layer."""
    settings = {"train_text_encoder": True, "optimizer": {"name": "adamw"}}
    donor = train(
        tiny_flux_config(
            tiny_flux, root, run_name="flux", learning_rate=3e-2, **settings
        )
    )
    config = tiny_flux_config(
        tiny_flux,
        root,
        run_name="flux_on",
        **{**settings, "optimizer": {"name": "stiefel_lora"}},
        **STILL,
        lora_model_name=[str(donor.lora_files[KOHYA])],
    )
    found, given = (
        load_lora(f) for f in (train(config).lora_files[PEFT], donor.lora_files[PEFT])
    )
    assert any(name.startswith("text_encoder.") for name in given)
    for name in given:
        expected = product(given, name)
        gap = torch.linalg.norm(product(found, name) - expected)
        assert gap <= 1e-5 * torch.linalg.norm(expected), name


def test_a_resume_needs_no_file_and_is_exact(
    tiny_sdxl: Path, root: Path, donors: list[Path], stop_after: StopAfter
) -> None:
    copy = root / "copy.safetensors"
    copy.write_bytes(donors[0].read_bytes())
    settings: dict[str, Any] = {
        "lora_model_name": [str(copy)],
        "optimizer": {"name": "stiefel_lora"},
        "steps": 4,
        "learning_rate": 1e-2,
        "checkpoint_every": 2,
    }
    whole = train(started(tiny_sdxl, root, "whole", **settings))
    config = started(tiny_sdxl, root, "parts", **settings)
    with stop_after(2, "stop"):
        part = train(config)
    assert part.interrupted
    copy.unlink()
    assert_same_factors(whole, train(config, resume=part.run_dir))


def test_a_bad_start_is_refused_before_a_folder_is_made(
    tiny_sdxl: Path, root: Path, donors: list[Path], tmp_path: Path
) -> None:
    def refused(error: type[Exception], match: str, **changes: Any) -> None:
        config = started(tiny_sdxl, root, "refused", **changes)
        with pytest.raises(error, match=match):
            train(config)
        assert not config.run_dir.exists()

    given = {"lora_model_name": [str(donors[0])]}
    refused(
        ConfigError,
        r"lora_model_name: \d+ of \d+ layers in the files are not trained",
        layer_filter=["mid_block"],
        **given,
    )
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(donors[0].read_bytes()[:500])
    refused(ModelError, "damaged", lora_model_name=[str(damaged)])


def test_layers_without_effect_in_a_file_are_left_out(
    tiny_sdxl: Path, root: Path, tmp_path: Path
) -> None:
    """Other programs save a new LoRA of layers that SDXL does not use."""
    last = "text_encoder.text_model.encoder.layers.1.mlp.fc1"
    first = last.replace("1.mlp", "0.mlp")
    used = LoraFactors(torch.ones(32, 4), torch.ones(4, 16), 4.0)
    unused = LoraFactors(torch.zeros(32, 4), torch.ones(4, 16), 4.0)
    path = tmp_path / "other.safetensors"
    save_kohya(path, {first: used, last: unused})
    settings = {"lora_model_name": [str(path)], "train_text_encoder": True, **STILL}
    file = train(started(tiny_sdxl, root, "unused", **settings)).lora_files[KOHYA]
    weights = load_lora(file)
    assert last not in weights
    assert torch.allclose(product(weights, first), torch.full((32, 16), 4.0).double())
    # With an effect, it would be lost, and the encoder is trained already.
    save_kohya(path, {first: used, last: used})
    with pytest.raises(ConfigError, match=r"would be lost: .*fc1\. Remove them with"):
        train(started(tiny_sdxl, root, "lost", **settings))


def test_settings_that_contradict_it(tmp_path: Path) -> None:
    data = {"lora_model_name": str(tmp_path / "a.safetensors"), "lora_init": "stella"}
    with pytest.raises(ConfigError, match="is not supported with lora_init='stella'"):
        parse_config({**data, "optimizer": {"name": "stella"}})
    config = parse_config({"lora_model_name": [f"{tmp_path}/none.safetensors:0.5"]})
    with pytest.raises(ConfigError, match=r"lora_model_name: the file .*none.safetens"):
        check_paths(config)
