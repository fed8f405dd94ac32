"""DoRA in other key formats, by the formulas and shapes of the loaders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from helpers.lora_files import write
from helpers.readers import weight_in_comfyui
from stiefel_lora._exceptions import ModelError
from stiefel_lora.files import (
    Checkpoint,
    Rank,
    add_into_checkpoint,
    convert_lora,
    open_lora,
    verify_lora,
)

WIDTH = 8
ATTN, SINGLE = "transformer_blocks.0.attn", "single_transformer_blocks.0"
# Layers of the original model -> their parts in diffusers.
PARTS = {
    "double_blocks.0.img_attn.qkv": [f"{ATTN}.to_{x}" for x in "qkv"],
    "double_blocks.0.img_attn.proj": [f"{ATTN}.to_out.0"],
    "single_blocks.0.linear1": [
        *(f"{SINGLE}.attn.to_{x}" for x in "qkv"),
        f"{SINGLE}.proj_mlp",
    ],
    "final_layer.adaLN_modulation.1": ["norm_out.linear"],
}
SWAPPED = "final_layer.adaLN_modulation.1"


def rand(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rows(path: str) -> int:
    return {"proj_mlp": 4, "linear": 2}.get(path.rpartition(".")[2], 1) * WIDTH


BASE = {
    path: rand(rows(path), WIDTH, seed=seed)
    for seed, path in enumerate(p for parts in PARTS.values() for p in parts)
}


def whole(original: str, weights: dict[str, Tensor]) -> Tensor:
    """The weight of the original model, from those of diffusers."""
    joined = torch.cat([weights[path] for path in PARTS[original]])
    return torch.cat(joined.chunk(2)[::-1]) if original == SWAPPED else joined


@pytest.fixture
def bases(tmp_path: Path) -> dict[str, Checkpoint]:
    """The same model with the names of diffusers and with the original ones."""
    apart = {f"{path}.weight": weight.clone() for path, weight in BASE.items()}
    joined = {f"{name}.weight": whole(name, BASE) for name in PARTS}
    found = {}
    for name, tensors in (("diffusers", apart), ("original", joined)):
        path = tmp_path / f"{name}.safetensors"
        safetensors.torch.save_file(tensors, path)
        found[name] = Checkpoint(path)
    return found


def pair(path: str, seed: int) -> tuple[Tensor, Tensor]:
    return 0.3 * rand(rows(path), 2, seed=seed), 0.3 * rand(2, WIDTH, seed=seed + 1)


def trained(path: str, kind: str, factors: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The weight by the formula of peft (magnitude) or ComfyUI (dora_scale)."""
    up, down, lengths = (x.double() for x in factors)
    weight = BASE[path].double()
    merged = weight + up @ down
    norms = (merged if kind == "magnitude" else weight).norm(dim=1)
    return (lengths / norms)[:, None] * merged


def separate(kind: str, odd: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A DoRA without scale in some parts, and the weights of the trained model.

    Args:
        kind: ``magnitude`` or ``dora_scale``.
        odd: whether the parts k and proj_mlp are ``absent`` or ``plain``.
    """
    tensors, wanted = {}, {}
    for place, path in enumerate(BASE):
        up, down = pair(path, 100 + 5 * place)
        names = {"magnitude": (".lora_A.weight", ".lora_B.weight")}
        below, above = names.get(kind, (".lora_down.weight", ".lora_up.weight"))
        stem = f"transformer.{path}"
        if path.endswith((".to_k", "proj_mlp")):
            wanted[path] = BASE[path].double()
            if odd == "plain":
                wanted[path] = wanted[path] + up.double() @ down.double()
                tensors |= {stem + below: down, stem + above: up}
            continue
        lengths = BASE[path].norm(dim=1) * (1 + rand(rows(path), seed=place).abs())
        wanted[path] = trained(path, kind, (up, down, lengths))
        end = ".lora_magnitude_vector" if kind == "magnitude" else ".dora_scale"
        own = lengths if kind == "magnitude" else lengths[:, None]
        tensors |= {stem + below: down, stem + above: up, stem + end: own}
    return tensors, wanted


def check_folded(path: Path, wanted: dict[str, Tensor], fused: bool) -> None:
    """Compare the weights of a merged checkpoint with the trained ones."""
    found = safetensors.torch.load_file(path)
    names = {n: whole(n, wanted) for n in PARTS} if fused else wanted
    assert len(found) == len(names)
    for name, weight in names.items():
        gap = (found[f"{name}.weight"].double() - weight).abs().max()
        assert gap <= 1e-5, name


@pytest.mark.parametrize("kind", ["magnitude", "dora_scale"])
@pytest.mark.parametrize("odd", ["absent", "plain"])
@pytest.mark.parametrize("base", ["diffusers", "original"])
def test_dora_of_some_of_q_k_v_is_fused_with_a_base(tmp_path, bases, kind, odd, base):
    tensors, wanted = separate(kind, odd)
    file = write(tmp_path / "in.safetensors", tensors)
    out = tmp_path / "out.safetensors"
    saved = convert_lora(file, out, "kohya", base=bases[base])
    assert len(saved.file.layers) == len(PARTS)
    stored = safetensors.torch.load_file(out)
    for name in PARTS:
        stem = f"lora_unet_{name.replace('.', '_')}"
        found = weight_in_comfyui(whole(name, BASE), stored, stem, 1.0)
        assert (found - whole(name, wanted)).abs().max() <= 1e-5, name
    into = tmp_path / "into.safetensors"
    add_into_checkpoint(file, bases[base], into)
    check_folded(into, wanted, base == "original")
    with pytest.raises(ModelError, match=r"is not a DoRA layer.*Add --base|requires"):
        convert_lora(file, tmp_path / "no.safetensors", "kohya")


@pytest.mark.parametrize("base", ["diffusers", "original"])
@pytest.mark.parametrize("to", ["PEFT", "OneTrainer", "plain"])
@pytest.mark.parametrize("zeros", [False, True])
def test_a_fused_dora_is_separated_with_a_base(tmp_path, bases, base, to, zeros):
    """Rows with B = 0 and a trained scale have an update, too."""
    tensors, wanted = {}, {}
    for place, (name, paths) in enumerate(PARTS.items()):
        outputs = sum(map(rows, paths))
        up = 0.3 * rand(outputs, 2, seed=200 + place)
        down = 0.3 * rand(2, WIDTH, seed=300 + place)
        if zeros and len(paths) > 1:
            up[WIDTH : 2 * WIDTH] = 0
        weight = whole(name, BASE)
        lengths = weight.norm(dim=1) * (1 + rand(outputs, seed=place).abs())
        stem = f"lora_unet_{name.replace('.', '_')}"
        tensors[f"{stem}.lora_up.weight"] = up
        tensors[f"{stem}.lora_down.weight"] = down
        tensors[f"{stem}.dora_scale"] = lengths[:, None]
        merged = weight.double() + up.double() @ down.double()
        full = merged * (lengths.double() / weight.double().norm(dim=1))[:, None]
        if name == SWAPPED:
            full = torch.cat(full.chunk(2)[::-1])
        wanted |= dict(zip(paths, full.split(list(map(rows, paths))), strict=True))
    file = write(tmp_path / "in.safetensors", tensors)
    out = tmp_path / "out.safetensors"
    if to == "plain":
        saved = convert_lora(file, out, "PEFT", base=bases[base], goal=Rank(WIDTH))
    else:
        saved = convert_lora(file, out, to, base=bases[base])
    assert len(saved.file.layers) == len(BASE)
    for end in ("diffusers", "original"):
        into = tmp_path / f"{end}_into.safetensors"
        add_into_checkpoint(open_lora(out), bases[end], into)
        check_folded(into, wanted, end == "original")


@pytest.mark.parametrize("kernel", [(), (3, 3)])
def test_scales_have_the_shapes_of_the_loaders(tmp_path, kernel):
    """Loaders broadcast them: other shapes are an error, or wrong if square."""
    own = "input_blocks.1.0.in_layers.2" if kernel else "input_blocks.4.1.proj_in"
    weight = rand(WIDTH, WIDTH, *kernel, seed=1)
    base = tmp_path / "base.safetensors"
    key = f"model.diffusion_model.{own}.weight"
    safetensors.torch.save_file({key: weight}, base)
    stem, ones = f"lora_unet_{own.replace('.', '_')}", [1] * len(kernel)
    lengths = weight.flatten(1).norm(dim=1) * (1 + rand(WIDTH, seed=2).abs())
    tensors = {
        f"{stem}.lora_up.weight": rand(WIDTH, 2, *ones, seed=3),
        f"{stem}.lora_down.weight": rand(2, WIDTH, *kernel, seed=4),
        f"{stem}.dora_scale": lengths.reshape(-1, 1, *ones),
        f"{stem}.alpha": torch.tensor(1.0),
    }
    wanted = weight_in_comfyui(weight, tensors, stem)
    file = write(tmp_path / "in.safetensors", tensors)
    apart = tmp_path / "peft.safetensors"
    convert_lora(file, apart, "PEFT", base=Checkpoint(base))
    stored = safetensors.torch.load_file(apart)
    (magnitude,) = (t for key, t in stored.items() if key.endswith("vector"))
    assert magnitude.shape == ((1, WIDTH, 1, 1) if kernel else (WIDTH,))
    # The rows of the trained weight have these norms.
    assert torch.allclose(magnitude.flatten(), wanted.flatten(1).norm(dim=1))
    back = tmp_path / "back.safetensors"
    convert_lora(open_lora(apart), back, "kohya", base=Checkpoint(base))
    again = safetensors.torch.load_file(back)
    assert again[f"{stem}.dora_scale"].shape == (WIDTH, 1, *ones)
    found = weight_in_comfyui(weight, again, stem)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5)


def test_verify_rejects_a_scale_without_columns(tmp_path):
    stem = "lora_unet_input_blocks_4_1_proj_in"
    tensors = {
        f"{stem}.lora_up.weight": rand(WIDTH, 2, seed=3),
        f"{stem}.lora_down.weight": rand(2, WIDTH, seed=4),
        f"{stem}.dora_scale": torch.ones(WIDTH),
    }
    file = write(tmp_path / "in.safetensors", tensors)
    checks = {check.program.split()[0]: check for check in verify_lora(file)}
    for program in ("ComfyUI", "Forge"):
        assert "must have 2 dimensions" in checks[program].problem
        assert not checks[program].is_right
    saved = convert_lora(file, tmp_path / "out.safetensors", "kohya").file
    checks = {check.program.split()[0]: check for check in verify_lora(saved)}
    assert checks["ComfyUI"].is_right


NAMES = {
    "down_blocks.1.attentions.0.proj_in": "input_blocks.4.1.proj_in",
    "down_blocks.1.attentions.0.proj_out": "input_blocks.4.1.proj_out",
}
CLIP = "text_model.encoder.layers.0.self_attn.q_proj"


@pytest.mark.parametrize("to", ["PEFT", "PEFT (own)"])
def test_peft_applies_dora_to_all_layers_of_a_model_or_to_none(tmp_path, to):
    """Plain layers beside a DoRA get the row norms of their weights as scale."""
    base, tensors, wanted = {}, {}, {}
    for place, (path, own) in enumerate(NAMES.items()):
        weight = rand(WIDTH, WIDTH, seed=place)
        base[f"model.diffusion_model.{own}.weight"] = weight
        up, down = 0.3 * rand(WIDTH, 2, seed=10), 0.3 * rand(2, WIDTH, seed=20)
        stem = f"lora_unet_{own.replace('.', '_')}"
        tensors[f"{stem}.lora_up.weight"], tensors[f"{stem}.lora_down.weight"] = (
            up,
            down,
        )
        tensors[f"{stem}.alpha"] = torch.tensor(2.0)
        if place == 0:
            scale = weight.norm(dim=1, keepdim=True) * 1.3
            tensors[f"{stem}.dora_scale"] = scale
        wanted[path] = weight_in_comfyui(weight, tensors, stem)
    stem = f"lora_te1_{CLIP.replace('.', '_')}"
    tensors[f"{stem}.lora_up.weight"] = rand(WIDTH, 2, seed=5)
    tensors[f"{stem}.lora_down.weight"] = rand(2, WIDTH, seed=6)
    checkpoint = tmp_path / "base.safetensors"
    safetensors.torch.save_file(base, checkpoint)
    file = write(tmp_path / "in.safetensors", tensors)
    out = tmp_path / ("out.safetensors" if to == "PEFT" else "out")
    convert_lora(file, out, to, base=Checkpoint(checkpoint))
    found = {layer.name: layer for layer in open_lora(out).layers}
    for place, path in enumerate(NAMES):
        layer = found[f"unet.{path}"]
        weight = base[f"model.diffusion_model.{NAMES[path]}.weight"]
        assert layer.factors.magnitude is not None
        merged = weight + layer.factors.scale * layer.factors.up @ layer.factors.down
        scaled = layer.factors.magnitude[:, None] * torch.nn.functional.normalize(
            merged
        )
        assert torch.allclose(scaled, wanted[path], rtol=0, atol=1e-5), place
    assert not found[f"text_encoder.{CLIP}"].factors.is_dora
    if to == "PEFT":
        notes = json.loads(open_lora(out).metadata["lora_adapter_metadata"])
        assert (notes["unet.use_dora"], notes["text_encoder.use_dora"]) == (True, False)
        # Without the base model, a file with such layers is refused.
        mixed = {
            key: tensor
            for key, tensor in safetensors.torch.load_file(out).items()
            if not key.endswith("proj_out.lora_magnitude_vector")
        }
        file = write(tmp_path / "mixed.safetensors", mixed)
        with pytest.raises(ModelError, match=r"proj_out is a plain LoRA.*Add --base"):
            convert_lora(file, tmp_path / "no.safetensors", "PEFT")
    else:
        for name, used in (("unet", True), ("text_encoder", False)):
            text = (out / name / "adapter_config.json").read_text("utf-8")
            assert json.loads(text)["use_dora"] is used
