"""Adapters saved by peft, with patterns of ranks and alphas, as it applies them."""

from __future__ import annotations

import json

import peft
import pytest
import torch

from helpers.lora_files import dense_of
from stiefel_lora._exceptions import ModelError
from stiefel_lora.files import Rank, convert_lora, open_lora, verify_lora

_FACTORS = ("lora_A", "lora_B", "hada_", "lokr_")


class Model(torch.nn.Module):
    """Its first names are also prefixes of files for diffusers."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = torch.nn.ModuleDict(
            {f"h{n}": torch.nn.ModuleDict({"q": torch.nn.Linear(6, 8)}) for n in "012"}
        )
        self.unet = torch.nn.Linear(5, 7)
        self.conv = torch.nn.Conv2d(4, 8, 3)


def saved(config, folder) -> dict[str, torch.Tensor]:
    """Save an adapter with random factors; path of each layer -> its update."""
    model = peft.get_peft_model(Model(), config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if any(part in name for part in _FACTORS):
            parameter.data = torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default")
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


def deviation(update: torch.Tensor, wanted: torch.Tensor) -> float:
    meant = wanted.detach().flatten(1).double()
    return float((update - meant).norm() / meant.norm())


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"use_rslora": True},
        {
            "rank_pattern": {"transformer.h1.q": 2, "conv": 5},
            "alpha_pattern": {"^transformer.h0.q": 16, "h2.q": 1.5, "conv": 7},
        },
        {"alpha_pattern": {"transformer.h1.q": 3, "unet": 1}, "use_rslora": True},
        {"rank_pattern": {r"h\d.q": 2}, "alpha_pattern": {r".*h[01].q": 5}},
    ],
)
@pytest.mark.parametrize("whole_folder", [True, False])
def test_alphas_are_those_of_peft(tmp_path, more, whole_folder):
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q", "unet", "conv"]}
    wanted = saved(peft.LoraConfig(**settings, **more), tmp_path / "a")
    path = tmp_path / "a"
    file = open_lora(path if whole_folder else path / "adapter_model.safetensors")
    assert len(file.layers) == len(wanted) == 5
    for layer in file.layers:
        update = wanted[layer.stem.removeprefix("base_model.model.")]
        assert deviation(dense_of(layer.factors), update) < 1e-6, layer.name
    (check,) = verify_lora(file)
    assert check.is_right
    there = convert_lora(file, tmp_path / "k.safetensors", "kohya").file
    for layer in there.layers:
        name = layer.stem.removeprefix("lora_unet_")
        ends = [x for x in wanted if x.replace(".", "_").endswith(name)]
        update = wanted[ends[0] if name else "unet"]
        assert deviation(dense_of(layer.factors), update) < 1e-6, layer.name


@pytest.mark.parametrize(
    "config",
    [
        peft.LoHaConfig(r=3, alpha=6, target_modules=["q"]),
        peft.LoHaConfig(
            r=3, alpha=6, target_modules=["q", "conv"], use_effective_conv2d=True
        ),
        peft.LoHaConfig(
            r=3,
            alpha=6,
            target_modules=["q"],
            rank_pattern={"h0.q": 2},
            alpha_pattern={"transformer.h1.q": 9},
        ),
        # Without factors of a low rank, LyCORIS ignores alpha, but peft does not.
        peft.LoKrConfig(r=8, alpha=6, target_modules=["q", "conv"]),
        peft.LoKrConfig(r=1, alpha=6, target_modules=["q"], decompose_both=True),
    ],
)
def test_loha_and_lokr_are_scaled_by_the_settings(tmp_path, config):
    wanted = saved(config, tmp_path / "a")
    out = tmp_path / "out.safetensors"
    found = convert_lora(open_lora(tmp_path / "a"), out, "kohya", goal=Rank(99)).file
    assert len(found.layers) == len(wanted)
    for layer in found.layers:
        name = layer.stem.removeprefix("lora_unet_")
        (path,) = [x for x in wanted if x.replace(".", "_").endswith(name)]
        assert deviation(dense_of(layer.factors), wanted[path]) < 1e-6, path


@pytest.mark.parametrize(
    "change", [{"r": 0}, {"alpha": "much"}, {"alpha_pattern": {"[": 2}}]
)
def test_settings_that_are_not_valid_are_one_message(tmp_path, change):
    folder = tmp_path / "a"
    saved(peft.LoHaConfig(r=3, alpha=6, target_modules=["q"]), folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(ModelError, match="the adapter settings are not valid"):
        open_lora(folder)
