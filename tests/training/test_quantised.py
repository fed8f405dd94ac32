"""Training over a base model that is held in 4 or 8 bits, on the CPU."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.runs import (
    assert_same_factors,
    factors_of,
    tiny_config,
    tiny_flux_config,
)
from stiefel_lora import ConfigError
from stiefel_lora._install import install_command
from stiefel_lora.config import TrainConfig, parse_config
from stiefel_lora.families import open_family
from stiefel_lora.files import load_lora
from stiefel_lora.training.backend import check_quantization
from stiefel_lora.training.state import TrainingState
from stiefel_lora.training.trainer import Run, train

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="bitsandbytes is not installed",
)
MAKE = {"sdxl": tiny_config, "sd15": tiny_config, "flux": tiny_flux_config}
KINDS = {"nfloat4": (torch.uint8, "Params4bit"), "int8": (torch.int8, "Int8Params")}


def quantized(model: Path, root: Path, kind: str, **changes: Any) -> TrainConfig:
    return tiny_config(model, root, weight_dtype=kind, steps=2, **changes)


def base_of(machine: TrainingState) -> dict[str, torch.Tensor]:
    """Everything of the model that is not the LoRA, statistics included."""
    found = {}
    for name, module in machine.model.named_modules():
        if "lora_" in name:
            continue
        for kind, tensor in module.named_parameters(recurse=False):
            found[f"{name}.{kind}"] = tensor.detach().clone()
            state = getattr(tensor, "quant_state", None)
            if state is not None:
                found[f"{name}.{kind}.absmax"] = state.absmax.clone()
    return found


@pytest.mark.parametrize(
    ("family", "kind", "use_dora"),
    [
        *((family, kind, False) for family in MAKE for kind in KINDS),
        ("sdxl", "nfloat4", True),
    ],
)
def test_base_stays_and_factors_move(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    kind: str,
    use_dora: bool,
) -> None:
    model = request.getfixturevalue(f"tiny_{family}")
    machines, starts = [], []
    prepare = Run.prepare

    def look(run: Run) -> TrainingState:
        machine = prepare(run)
        machines.append(machine)
        starts.append(
            (base_of(machine), [p.down.detach().clone() for p in machine.pairs])
        )
        return machine

    monkeypatch.setattr(Run, "prepare", look)
    formats = ["peft"] if use_dora else ["kohya", "peft"]
    changes = {"model_type": family, "use_dora": use_dora, "output_formats": formats}
    config = MAKE[family](model, tmp_path, weight_dtype=kind, steps=2, **changes)
    result = train(config)

    machine, (base, downs) = machines[0], starts[0]
    dtype, parameter = KINDS[kind]
    for pair, down in zip(machine.pairs, downs, strict=True):
        layer: Any = machine.model.get_submodule(pair.name)
        weight = layer.get_base_layer().weight
        # Projections around the blocks stay as they are.
        if "transformer_blocks." in pair.name:
            assert (weight.dtype, type(weight).__name__) == (dtype, parameter)
        assert not weight.requires_grad
        assert pair.up.dtype == pair.down.dtype == torch.float32
        assert not torch.equal(pair.down, down)
    after = base_of(machine)
    assert base.keys() == after.keys()
    assert all(torch.equal(base[name], after[name]) for name in base)
    assert len(load_lora(result.lora_files[0])) == len(machine.pairs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_near_the_model_and_resumes_to_the_bit(
    tiny_sdxl: Path, tmp_path: Path, kind: str
) -> None:
    plain = train(tiny_config(tiny_sdxl, tmp_path, steps=2, validate_every=2))
    config = quantized(
        tiny_sdxl, tmp_path, kind, run_name=kind, validate_every=2, checkpoint_every=1
    )
    whole = train(config)
    assert whole.validation_before is not None
    # A random model; quantized it predicts something else, but not something wild.
    assert whole.validation_before == pytest.approx(plain.validation_before, rel=0.05)
    assert whole.validation_before != plain.validation_before
    before = factors_of(whole)
    resumed = train(config, resume=whole.run_dir / "checkpoints" / "step-1")
    assert_same_factors(whole, resumed)
    assert before.keys() == factors_of(resumed).keys()


def test_layers_hold_a_quarter_of_the_bytes(tiny_sdxl: Path, tmp_path: Path) -> None:
    def bytes_of_blocks(weight_dtype: str) -> int:
        config = tiny_config(
            tiny_sdxl, tmp_path, weight_dtype=weight_dtype, train_dtype="bfloat16"
        )
        model = open_family(config, torch.device("cpu")).denoiser
        return sum(
            parameter.numel() * parameter.element_size()
            for name, parameter in model.named_parameters()
            if ".transformer_blocks." in name
            and "norm" not in name
            and name.endswith("weight")
        )

    plain = bytes_of_blocks("bfloat16")
    assert bytes_of_blocks("nfloat4") == plain / 4
    assert bytes_of_blocks("int8") == plain / 2


def test_dora_over_int8_is_refused() -> None:
    settings = {"use_dora": True, "output_formats": ["peft"], "weight_dtype": "int8"}
    with pytest.raises(ConfigError, match="use_dora: is not supported with"):
        parse_config(settings)


def test_without_the_package_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "bitsandbytes" else find(name, *rest),
    )
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    with pytest.raises(ConfigError) as error:
        check_quantization(parse_config({"weight_dtype": "int8"}))
    assert "weight_dtype='int8' requires the package bitsandbytes" in str(error.value)
    assert install_command("quant") in str(error.value)
