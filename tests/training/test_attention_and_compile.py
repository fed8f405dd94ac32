"""Other ways to compute attention, and compiled blocks."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from helpers.runs import factors_of, tiny_config
from helpers.tiny_sdxl import tiny_unet
from stiefel_lora import ConfigError
from stiefel_lora._install import install_command
from stiefel_lora.config import parse_config
from stiefel_lora.training.backend import check_attention, check_compiler, set_attention
from stiefel_lora.training.trainer import train

CPU = torch.device("cpu")


@pytest.mark.skipif(
    importlib.util.find_spec("xformers") is not None, reason="xformers is installed"
)
def test_missing_xformers_are_reported_before_anything_is_loaded(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        train(tiny_config(tiny_sdxl, tmp_path, attention_mechanism="xformers"))
    assert str(error.value) == (
        "attention_mechanism='xformers' requires the package xformers, which is not "
        'installed. Use "sdp", or install it with: ' + install_command("xformers")
    )
    assert not (tmp_path / "runs").exists()


def test_a_gpu_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: object())
    config: Any = SimpleNamespace(attention_mechanism="flash")
    with pytest.raises(ConfigError, match="requires an NVIDIA GPU"):
        check_attention(config, CPU)
    check_attention(config, torch.device("cuda"))


def test_what_diffusers_refuses_becomes_a_message() -> None:
    """A U-Net asks for xformers itself; FLUX's processors ask the dispatcher."""
    from diffusers import FluxTransformer2DModel

    flux = FluxTransformer2DModel(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8),
        in_channels=4,
    )
    for model, mechanism in ((tiny_unet(), "xformers"), (flux, "flash")):
        set_attention(model, "sdp")
        with pytest.raises(
            ConfigError, match=r"is not supported on this machine \(.+\)\. Use"
        ):
            set_attention(model, mechanism)
    set_attention(flux, "native")
    processor: Any = next(iter(flux.attn_processors.values()))
    assert processor._attention_backend == "native"


def test_flash_is_for_flux() -> None:
    with pytest.raises(
        ConfigError, match="attention_mechanism: 'flash' is only supported for FLUX"
    ):
        parse_config({"attention_mechanism": "flash"})


def test_a_missing_compiler_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stiefel_lora.training.backend._has_cpp", lambda: False)
    with pytest.raises(ConfigError, match=r"compile=true requires a C\+\+ compiler"):
        check_compiler(CPU)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_blocks_train_the_same_lora(tiny_sdxl: Path, tmp_path: Path) -> None:
    check_compiler(CPU)
    plain = factors_of(train(tiny_config(tiny_sdxl, tmp_path, steps=2)))
    compiled = factors_of(
        train(tiny_config(tiny_sdxl, tmp_path, steps=2, run_name="c", compile=True))
    )
    assert plain.keys() == compiled.keys()
    for name in plain:
        # Fused kernels round in another order; AdamW's first steps amplify it.
        assert torch.allclose(plain[name], compiled[name], atol=1e-3)
