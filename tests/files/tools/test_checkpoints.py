"""LoRAs into checkpoints and out of them, in the names of every layout.

The names of the original layouts come from tests/helpers/single_file.py, which puts
them together from the published structure.
"""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection
from typer.testing import CliRunner

from helpers.lora_files import dense, dense_of, stack, write
from helpers.single_file import bfl, clip_names, ldm_unet, open_clip
from helpers.tiny_sd15 import _unet as tiny_sd15_unet
from helpers.tiny_sdxl import text_config, tiny_unet
from stiefel_lora import _commands
from stiefel_lora._exceptions import ModelError, OutputError
from stiefel_lora.files import (
    Checkpoint,
    LoraFactors,
    Rank,
    add_into_checkpoint,
    extract_lora,
    open_lora,
    save_kohya,
    save_peft,
)


def flux() -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )


def encoders(family: str) -> dict[str, tuple[torch.nn.Module, str, object]]:
    """Component -> model, prefix in the single file, names there."""
    if family == "flux":
        return {}
    prefix = "conditioner.embedders.0.transformer."
    if family == "sd15":
        prefix = "cond_stage_model.transformer."
    found = {"text_encoder": (CLIPTextModel(text_config(16, 20)), prefix, clip_names)}
    if family == "sdxl":
        second = CLIPTextModelWithProjection(text_config(24, 20))
        place = "conditioner.embedders.1.model."
        found["text_encoder_2"] = (second, place, open_clip)
    return found


MODELS = {"sdxl": tiny_unet, "sd15": tiny_sd15_unet, "flux": flux}


def parts_of(family: str) -> dict:
    torch.manual_seed(0)
    model = MODELS[family]()
    own = ("transformer", "", bfl) if family == "flux" else ("unet", LDM, ldm_unet)
    component, prefix, names = own
    return {component: (model, prefix, names), **encoders(family)}


LDM = "model.diffusion_model."


def single_file(weights: dict, parts: dict, extra: bool = True) -> dict:
    """All parts under the names of the original checkpoint."""
    found = {
        prefix + key: tensor.clone()
        for component, (_, prefix, names) in parts.items()
        for key, tensor in names(weights[component]).items()
    }
    return found | ({"first_stage_model.x": torch.ones(3)} if extra else {})


def lora_for(parts: dict, rank: int = 2) -> dict[str, LoraFactors]:
    generator = torch.Generator().manual_seed(1)
    found = {}
    for component, (model, *_) in parts.items():
        for path, module in model.named_modules():
            kinds = (torch.nn.Linear, torch.nn.Conv2d)
            if not isinstance(module, kinds) or path == "text_projection":
                continue
            out, inside, *kernel = module.weight.shape
            up = torch.randn(out, rank, *[1] * len(kernel), generator=generator)
            down = torch.randn(rank, inside, *kernel, generator=generator)
            if component.startswith("text") and not path.startswith("text_model"):
                path = f"text_model.{path}"
            found[f"{component}.{path}"] = LoraFactors(0.1 * up, 0.2 * down, 1.0)
    return found


def with_lora(parts: dict, lora: dict[str, LoraFactors]) -> tuple[dict, dict]:
    """Weights of all parts before and after."""
    before, after = {}, {}
    for component, (model, *_) in parts.items():
        before[component] = {k: v.clone() for k, v in model.state_dict().items()}
        after[component] = {k: v.clone() for k, v in before[component].items()}
    for name, factors in lora.items():
        component, _, path = name.partition(".")
        own = after[component]
        key = f"{path}.weight"
        if key not in own:
            key = key.removeprefix("text_model.")
        own[key] += dense_of(factors).reshape(own[key].shape).float()
    return before, after


@pytest.fixture(params=["sdxl", "sd15", "flux"], scope="module")
def made(request, tmp_path_factory):
    family = request.param
    tmp_path = tmp_path_factory.mktemp(family)
    parts = parts_of(family)
    lora = lora_for(parts)
    before, after = with_lora(parts, lora)
    base, tuned = tmp_path / "base.safetensors", tmp_path / "tuned.safetensors"
    save_file(single_file(before, parts), base, {"note": "x"})
    save_file(single_file(after, parts), tuned)
    path = tmp_path / "lora.safetensors"
    save_kohya(path, lora, family=family)
    return family, path, base, tuned


def test_into_a_checkpoint(made, tmp_path):
    family, path, base, tuned = made
    checkpoint = Checkpoint(base)
    assert checkpoint.family == family
    out = tmp_path / "out.safetensors"
    report = add_into_checkpoint(open_lora(path), checkpoint, out)
    found, wanted, old = load_file(out), load_file(tuned), load_file(base)
    assert found.keys() == old.keys()
    for key, tensor in wanted.items():
        assert torch.allclose(found[key], tensor, rtol=0, atol=1e-6), key
    assert report.layers > 30 or family == "flux"
    assert report.error < 1e-6
    notes = json.loads(open_notes(out)["stiefel_lora_lineage"])
    assert [p["name"] for p in notes["parents"]] == [path.name, base.name]


def open_notes(path) -> dict[str, str]:
    return Checkpoint(path).metadata


def test_extract_gives_the_lora_back(made, tmp_path):
    family, path, base, tuned = made
    out = tmp_path / "out.safetensors"
    checkpoints = Checkpoint(base), Checkpoint(tuned)
    goal = Rank(8, exact=True) if family == "flux" else Rank(2, exact=True)
    report = extract_lora(*checkpoints, out, goal, dtype=torch.float32)
    found, wanted = dense(report.saved.file), dense(open_lora(path))
    assert found.keys() == wanted.keys()
    for key, matrix in wanted.items():
        # Weights in float32 hold the difference to 1e-7 of the weight.
        assert torch.allclose(found[key], matrix, rtol=0, atol=2e-6), key
    assert report.error < 1e-4
    assert (report.others, report.equal) == ((), 0)
    assert report.saved.file.family == family


def test_a_checkpoint_in_eight_and_sixteen_bits_keeps_its_dtypes(made, tmp_path):
    family, path, base, _ = made
    tensors = load_file(base)
    short = {
        key: t.to(torch.float8_e4m3fn)
        if t.ndim == 2 and place % 2
        else t.to(torch.bfloat16)
        for place, (key, t) in enumerate(tensors.items())
    }
    scaled = next(k for k, t in short.items() if t.dtype == torch.float8_e4m3fn)
    layer = scaled.removesuffix(".weight")
    short[f"{layer}.scale_weight"] = torch.tensor(0.25)
    source, out = tmp_path / "short.safetensors", tmp_path / "out.safetensors"
    save_file(short, source)
    report = add_into_checkpoint(open_lora(path), Checkpoint(source), out)
    found = load_file(out)
    assert {k: t.dtype for k, t in found.items()} == {
        k: t.dtype for k, t in short.items()
    }
    assert torch.equal(found[f"{layer}.scale_weight"], torch.tensor(0.25))
    # Rounding as exact as the dtype: a unit of float8_e4m3fn is 1/16 of a number.
    assert 0 < report.error < 1
    assert family in ("sdxl", "sd15", "flux")


@pytest.mark.parametrize("scale", [None, 0.25])
def test_clamped_values_are_counted(tmp_path, scale):
    """A float8 weight has no infinity: values beyond 448 become 448."""
    weight = torch.full((8, 8), 384.0)
    base, out = tmp_path / "base.safetensors", tmp_path / "out.safetensors"
    names = ("double_blocks.0.img_attn.proj", "single_blocks.0.linear2")
    tensors = {f"{name}.weight": weight.to(torch.float8_e4m3fn) for name in names}
    if scale is not None:
        tensors |= {f"{name}.scale_weight": torch.tensor(scale) for name in names}
    save_file(tensors, base)
    # 448 and 464 (halfway to the next number, which would be 480) are rounded to 448.
    wanted = torch.tensor([384.0, 448.0, 463.0, 465.0, 500.0, 1e6, -1e6, -463.0])
    stem = f"lora_unet_{names[0].replace('.', '_')}"
    up = (wanted - 384) * (scale or 1.0)
    lora = tmp_path / "lora.safetensors"
    save_file(
        {
            f"{stem}.lora_up.weight": up[:, None].contiguous(),
            f"{stem}.lora_down.weight": torch.ones(1, 8),
        },
        lora,
    )
    report = add_into_checkpoint(open_lora(lora), Checkpoint(base), out)
    (remark,) = report.remarks
    assert remark.startswith(
        "32 values of 1 weight exceed the range of float8_e4m3fn and were clamped, "
        f"most of them in {names[0]}.weight (32)."
    )
    found = load_file(out)[f"{names[0]}.weight"].float()
    assert found[:, 0].tolist() == [384, 448, 448, 448, 448, 448, -448, -448]
    command = ["lora", "merge", str(lora), "--into", str(base), "--output", str(out)]
    result = CliRunner().invoke(_commands.app, [*command, "--overwrite"])
    assert "32 values of 1 weight exceed" in result.stderr


def test_a_lora_without_effect_is_reported(tmp_path):
    base, out = tmp_path / "base.safetensors", tmp_path / "out.safetensors"
    name = "double_blocks.0.img_attn.proj"
    save_file({f"{name}.weight": torch.ones(8, 8)}, base)
    stem = f"lora_unet_{name.replace('.', '_')}"
    lora = tmp_path / "lora.safetensors"
    save_file(
        {
            f"{stem}.lora_up.weight": torch.zeros(8, 2),
            f"{stem}.lora_down.weight": torch.ones(2, 8),
        },
        lora,
    )
    report = add_into_checkpoint(open_lora(lora), Checkpoint(base), out)
    assert report.remarks == (
        "All updates are 0, so the LoRA has no effect. The weights did not change.",
    )


def run_model(model: torch.nn.Module) -> torch.Tensor:
    """Output of a denoiser for fixed inputs."""
    random = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    if isinstance(model, FluxTransformer2DModel):
        return model(
            hidden_states=draw(1, 16, 16),
            encoder_hidden_states=draw(1, 5, 32),
            pooled_projections=draw(1, 32),
            timestep=torch.tensor([0.3]),
            img_ids=torch.zeros(16, 3),
            txt_ids=torch.zeros(5, 3),
            guidance=torch.tensor([3.5]),
        ).sample
    states = draw(1, 5, model.config.cross_attention_dim)
    extra = {}
    if model.config.addition_embed_type is not None:
        size = model.config.projection_class_embeddings_input_dim - 48
        times = torch.tensor([[8.0, 8, 0, 0, 8, 8]])
        extra = {"added_cond_kwargs": {"text_embeds": draw(1, size), "time_ids": times}}
    return model(draw(1, 4, 16, 16), 300, states, **extra).sample


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("family", sorted(MODELS))
def test_a_merged_model_runs_as_with_the_lora_active(tmp_path, family, shards):
    (component, part), *_ = parts_of(family).items()
    model, base = part[0], tmp_path / "base"
    lora = lora_for({component: part})
    size = sum(t.nbytes for t in model.state_dict().values())
    model.save_pretrained(base, max_shard_size=size // shards + size // 10)
    save_peft(tmp_path / "lora.safetensors", lora)
    file, out = open_lora(tmp_path / "lora.safetensors"), tmp_path / "new" / "out"
    checkpoint = Checkpoint(base)
    assert (checkpoint.family, checkpoint.fused) == (family, False)
    assert len(checkpoint.files) >= shards
    report = add_into_checkpoint(file, checkpoint, out)
    assert report.layers == len(lora)
    assert sorted(p.name for p in out.iterdir()) == sorted(
        p.name for p in base.iterdir()
    )
    with torch.no_grad():
        plain = run_model(model)
        found = run_model(type(model).from_pretrained(out))
        model.load_lora_adapter(load_file(file.path), prefix=component)
        wanted = run_model(model)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5)
    assert float((wanted - plain).abs().max()) > 1e-2
    again = tmp_path / "again.safetensors"
    goal = Rank(2, exact=True)
    given = checkpoint, Checkpoint(out)
    extracted = extract_lora(*given, again, goal, spelling="PEFT", dtype=torch.float32)
    exact = stack(dense(file))
    assert float((stack(dense(extracted.saved.file)) - exact).norm()) < 1e-4 * float(
        exact.norm()
    )


@pytest.mark.parametrize("family", ["sdxl", "sd15"])
def test_the_folder_of_a_pipeline(tmp_path, family):
    parts = parts_of(family)
    lora, base = lora_for(parts), tmp_path / "base"
    before, after = with_lora(parts, lora)
    for component, (model, *_) in parts.items():
        model.save_pretrained(base / component)
    (base / "vae").mkdir()
    save_file({"x": torch.ones(3)}, base / "vae" / "x.safetensors")
    (base / "model_index.json").write_text("{}")
    path, out = tmp_path / "lora.safetensors", tmp_path / "out"
    save_kohya(path, lora, family=family)
    report = add_into_checkpoint(open_lora(path), Checkpoint(base), out)
    assert report.layers == len(lora)
    for component, (model, *_) in parts.items():
        found = type(model).from_pretrained(out / component).state_dict()
        for key, tensor in after[component].items():
            assert torch.allclose(found[key], tensor, rtol=0, atol=1e-6), key
    assert torch.equal(load_file(out / "vae" / "x.safetensors")["x"], torch.ones(3))
    given = tmp_path / "tuned.safetensors"
    save_file(single_file(after, parts), given)
    saved, goal = tmp_path / "back", Rank(2, exact=True)
    back = extract_lora(
        Checkpoint(base), Checkpoint(given), saved, goal, spelling="PEFT (own)"
    )
    assert sorted(p.name for p in saved.iterdir()) == sorted(parts)
    assert back.saved.file.by_key.keys() == open_lora(path).by_key.keys()
    assert before.keys() == after.keys()


def test_folders_that_are_no_checkpoint_or_no_output(tmp_path):
    part = parts_of("sd15")["unet"]
    base = tmp_path / "base"
    part[0].save_pretrained(base)
    save_peft(tmp_path / "lora.safetensors", lora_for({"unet": part}))
    file, checkpoint = open_lora(tmp_path / "lora.safetensors"), Checkpoint(base)
    for out, message in (
        (base, "exists. Use a new folder"),
        (base / "new", "is in the input folder"),
        (tmp_path / "x.safetensors", "is a file"),
    ):
        with pytest.raises(OutputError, match=message):
            add_into_checkpoint(file, checkpoint, out, overwrite=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"contains no \.safetensors files"):
        Checkpoint(tmp_path / "empty")
    (weights,) = base.glob("*.safetensors")
    weights.with_name("model.fp16.safetensors").write_bytes(weights.read_bytes())
    with pytest.raises(ModelError, match="contains several sets of weights"):
        Checkpoint(base)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "cannot be read as a checkpoint"),
        ("[]", "contains no weight_map"),
        ('{"weight_map": []}', "contains no weight_map"),
        ('{"weight_map": {"a": "../b.safetensors"}}', "does not exist"),
        ('{"weight_map": {"a": 3}}', "does not exist"),
        ('{"weight_map": {"a": "missing.safetensors"}}', "No such file"),
    ],
)
def test_an_index_that_is_none(tmp_path, index, message):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors.index.json").write_text(index)
    save_file({"x": torch.ones(1)}, tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match=message):
        Checkpoint(tmp_path / "base")


def test_a_full_disk_leaves_no_folder(tmp_path, monkeypatch):
    part = parts_of("sd15")["unet"]
    part[0].save_pretrained(tmp_path / "base")
    save_peft(tmp_path / "lora.safetensors", lora_for({"unet": part}))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stiefel_lora.files.atomic._flush", full)
    file, out = open_lora(tmp_path / "lora.safetensors"), tmp_path / "out"
    with pytest.raises(OutputError, match=rf"^{out}/.* No space left on device"):
        add_into_checkpoint(file, Checkpoint(tmp_path / "base"), out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "lora.safetensors"]


def test_what_does_not_fit_together(made, tmp_path):
    family, path, base, tuned = made
    out = tmp_path / "out.safetensors"
    file, checkpoint = open_lora(path), Checkpoint(base)
    with pytest.raises(OutputError, match="is an input"):
        add_into_checkpoint(file, checkpoint, base, overwrite=True)
    tensors = load_file(base)
    name = {
        "sdxl": f"{LDM}input_blocks.4.1.proj_in.weight",
        "sd15": f"{LDM}input_blocks.4.1.proj_in.weight",
        "flux": "double_blocks.0.img_attn.qkv.weight",
    }[family]
    fewer = {key: t for key, t in tensors.items() if key != name}
    save_file(fewer, tmp_path / "fewer.safetensors")
    with pytest.raises(ModelError, match="has no weight for"):
        add_into_checkpoint(file, Checkpoint(tmp_path / "fewer.safetensors"), out)
    save_file(tensors | {name: torch.ones(9, 9)}, tmp_path / "wrong.safetensors")
    with pytest.raises(ModelError, match="which does not match"):
        add_into_checkpoint(file, Checkpoint(tmp_path / "wrong.safetensors"), out)
    with pytest.raises(ModelError, match="has the same weights as"):
        extract_lora(checkpoint, checkpoint, out, Rank(2))
    plain = {"a.lora_A.weight": torch.ones(1, 2), "a.lora_B.weight": torch.ones(2, 1)}
    write(tmp_path / "x.safetensors", plain)
    with pytest.raises(ModelError, match=r"not a checkpoint of SDXL, SD 1\.5 or FLUX"):
        Checkpoint(tmp_path / "x.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(base.read_bytes()[:-5])
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        Checkpoint(tmp_path / "cut.safetensors")
    assert not out.exists()
    assert tuned.exists()


def test_the_commands(made, tmp_path):
    _, path, base, tuned = made
    out, into = tmp_path / "out.safetensors", tmp_path / "into.safetensors"

    def run(*args: object):
        return CliRunner().invoke(_commands.app, ["lora", *map(str, args)])

    weighted = (f"{path}:0.25", f"{path}:0.25")
    half = run("merge", *weighted, "--into", base, "--output", into)
    assert half.exit_code == 0, half.stderr
    notes = json.loads(open_notes(into)["stiefel_lora_lineage"])
    names = [parent["name"] for parent in notes["parents"]]
    assert names == [path.name, path.name, base.name]
    again = run("merge", path, "--into", base, "--output", into)
    assert "exists. Add --overwrite" in again.stderr
    assert "weights of" in half.stdout
    old, new, whole = load_file(base), load_file(into), load_file(tuned)
    changed = torch.cat([(new[k] - old[k]).flatten() for k in old])
    wanted = torch.cat([(whole[k] - old[k]).flatten() for k in old]) / 2
    assert torch.allclose(changed, wanted, rtol=0, atol=1e-6)
    done = run("extract", base, tuned, "--rank", 8, "--output", out, "--no-verify")
    assert done.exit_code == 0, done.stderr
    assert "Relative error: " in done.stdout
    found, given = stack(dense(open_lora(out))), stack(dense(open_lora(path)))
    assert float((found - given).norm()) < 1e-2 * float(given.norm())
    assert run("extract", base, tuned, "--output", out).exit_code == 2
