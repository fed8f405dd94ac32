"""LoHa, LoKr, full differences and DoRAs as plain LoRAs, with the right error."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from helpers.lora_files import dense, dense_of, write
from stiefel_lora import _commands
from stiefel_lora._exceptions import ModelError, OptionError
from stiefel_lora.files import Checkpoint, Rank, apply_lora, convert_lora, open_lora
from stiefel_lora.files.tools.nearest_lora import nearest_lora
from stiefel_lora.files.tools.to_lora import as_plain_lora

STEM = "lora_unet_input_blocks_4_1_proj_in"
KEY = "model:down_blocks_1_attentions_0_proj_in"
LDM = "model.diffusion_model.input_blocks.4.1.proj_in.weight"


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def loha() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    a, b, c, d = rand(6, 2), rand(2, 8, seed=1), rand(6, 2, seed=2), rand(2, 8, seed=3)
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha")
    parts = dict(zip(names, (a, b, c, d, torch.tensor(1.0)), strict=True))
    return parts, 0.5 * (a @ b) * (c @ d)


def lokr() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    w1, a, b = rand(2, 2), rand(3, 2, seed=1), rand(2, 4, seed=2)
    parts = {"lokr_w1": w1, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(4.0)}
    return parts, 2 * torch.kron(w1, a @ b)


def lokr_of_whole_matrices() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    w1, w2 = rand(2, 2), rand(3, 4, seed=1)
    # Without a rank, loaders do not look at alpha.
    parts = {"lokr_w1": w1, "lokr_w2": w2, "alpha": torch.tensor(9.0)}
    return parts, torch.kron(w1, w2)


def lokr_of_a_convolution() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    w1, core = rand(2, 2), rand(2, 3, 3, 3, seed=1)
    a, b = rand(2, 5, seed=2), rand(3, 4, seed=3)
    parts = {"lokr_w1": w1, "lokr_t2": core, "lokr_w2_a": a, "lokr_w2_b": b}
    whole = torch.einsum("ijkl,jr,ip->prkl", core, b, a).contiguous()
    return parts, torch.kron(w1[..., None, None], whole)


def difference() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    update = rand(6, 8)
    return {"diff": update}, update


@pytest.mark.parametrize(
    "made", [loha, lokr, lokr_of_whole_matrices, lokr_of_a_convolution, difference]
)
def test_a_full_rank_loses_nothing(tmp_path, made):
    parts, update = made()
    tensors = {f"{STEM}.{part}": tensor for part, tensor in parts.items()}
    file = write(tmp_path / "in.safetensors", tensors)
    assert (file.family, file.layers) == ("sdxl", ())
    out = tmp_path / "out.safetensors"
    saved = convert_lora(file, out, "PEFT", goal=Rank(99))
    matrix = update.flatten(1).double()
    assert torch.allclose(dense(saved.file)[KEY], matrix, rtol=0, atol=1e-5)
    assert saved.file.spelling == "PEFT"
    assert (
        "1 layer was converted to a plain LoRA, with a relative error of"
        in saved.remarks[0]
    )


@given(st.integers(1, 6), st.integers(0, 999))
def test_a_rank_is_the_truncated_svd_and_its_error_the_true_one(
    tmp_path_factory, rank, seed
):
    path = tmp_path_factory.mktemp("diff") / "in.safetensors"
    update = rand(6, 8, seed=seed)
    made = as_plain_lora(write(path, {f"{STEM}.diff": update}), Rank(rank))
    sigma = torch.linalg.svdvals(update.double())
    true = float(sigma[rank:].norm() / sigma.norm())
    assert made.error == pytest.approx(true, abs=1e-7)
    (layer,) = made.file.layers
    lost = dense_of(layer.factors) - update.double()
    assert float(lost.norm()) == pytest.approx(float(sigma[rank:].norm()), abs=1e-6)


@given(st.floats(0, 0.99), st.integers(0, 999))
def test_an_error_is_kept_with_the_smallest_rank(error, seed):
    update = rand(6, 8, seed=seed)
    found = nearest_lora(update, Rank(error=error))
    sigma = torch.linalg.svdvals(update.double())
    rank = found.factors.rank
    assert found.lost <= (error + 1e-5) * found.norm
    assert rank == 1 or float(sigma[rank - 1 :].norm() / sigma.norm()) > error - 1e-5


def test_a_randomized_svd_is_near_the_exact_one():
    left, right = rand(200, 12), rand(12, 150, seed=1)
    update = left @ right + 1e-2 * rand(200, 150, seed=2)
    quick = nearest_lora(update, Rank(12))
    exact = nearest_lora(update, Rank(12, exact=True))
    assert quick.lost == pytest.approx(exact.lost, rel=1e-3)
    true = float((dense_of(quick.factors) - update.double()).norm())
    assert quick.lost == pytest.approx(true, rel=1e-3)


def test_what_no_lora_can_hold_is_named(tmp_path):
    tensors = {
        f"{STEM}.diff": rand(6, 8),
        f"{STEM}.diff_b": rand(6),
        "lora_unet_out_0.w_norm": rand(4),
        "bundle_emb.word.clip_l": rand(2, 4),
    }
    file = write(tmp_path / "in.safetensors", tensors)
    saved = convert_lora(file, tmp_path / "out.safetensors", "kohya", goal=Rank(2))
    assert "bundle_emb.word.clip_l" in saved.file.tensors
    assert any("w_norm" in remark for remark in saved.remarks)
    oft = write(tmp_path / "oft.safetensors", {f"{STEM}.oft_blocks": rand(2, 2, 2)})
    with pytest.raises(ModelError, match="is OFT, which cannot be converted to a LoRA"):
        as_plain_lora(oft, Rank(2))
    bad = {f"{STEM}.hada_w1_a": rand(6, 2), f"{STEM}.hada_w1_b": rand(2, 8)}
    file = write(tmp_path / "bad.safetensors", bad)
    with pytest.raises(ModelError, match="LoHa is incomplete or has mismatched shapes"):
        as_plain_lora(file, Rank(2))
    for wrong in ({}, {"rank": 0}, {"error": 1.0}):
        with pytest.raises(OptionError):
            Rank(**wrong)


def dora(tmp_path):
    """A DoRA in kohya's spelling, its base model, and the weight with it."""
    weight = rand(6, 8, seed=7)
    base = tmp_path / "base.safetensors"
    safetensors.torch.save_file({LDM: weight, "first_stage_model.x": rand(3)}, base)
    up, down = rand(6, 2, seed=1), rand(2, 8, seed=2)
    tensors = {
        f"{STEM}.lora_up.weight": up,
        f"{STEM}.lora_down.weight": down,
        f"{STEM}.alpha": torch.tensor(1.0),
        f"{STEM}.dora_scale": weight.norm(dim=1, keepdim=True) * 1.5,
    }
    file = write(tmp_path / "dora.safetensors", tensors)
    merged = weight + 0.5 * up @ down
    return file, Checkpoint(base), weight, 1.5 * merged


def test_a_dora_folded_at_its_base_model(tmp_path):
    file, base, weight, merged = dora(tmp_path)
    out = tmp_path / "out.safetensors"
    saved = convert_lora(file, out, "kohya", goal=Rank(6), base=base)
    update = (merged - weight).double()
    assert torch.allclose(dense(saved.file)[KEY], update, rtol=0, atol=1e-5)
    made = as_plain_lora(file, Rank(2), base)
    sigma = torch.linalg.svdvals(update)
    assert made.error == pytest.approx(float(sigma[2:].norm() / sigma.norm()), abs=1e-6)
    with pytest.raises(ModelError, match="Add --base"):
        as_plain_lora(file, Rank(2))


def test_a_dora_in_the_other_spelling(tmp_path):
    file, base, weight, merged = dora(tmp_path)
    there = convert_lora(file, tmp_path / "peft.safetensors", "PEFT", base=base).file
    (layer,) = there.layers
    assert layer.factors.dora_scale is None
    assert torch.allclose(apply_lora(weight, layer.factors), merged, atol=1e-5)
    back = convert_lora(there, tmp_path / "kohya.safetensors", "kohya", base=base).file
    (layer,) = back.layers
    assert layer.factors.magnitude is None
    lengths = file.layers[0].factors.dora_scale
    assert lengths is not None
    assert torch.allclose(layer.factors.dora_scale.flatten(), lengths.flatten())


def test_the_command(tmp_path):
    file, base, *_ = dora(tmp_path)
    out = tmp_path / "out.safetensors"

    def run(*options: object):
        given = ["lora", "convert", file.path, "--to", "peft", "--output", out]
        return CliRunner().invoke(_commands.app, [*map(str, [*given, *options])])

    assert "Add --base" in run().stderr
    done = run("--base", base.path, "--rank", 3)
    assert done.exit_code == 0, done.stderr
    assert "with a relative error of" in done.stderr
    assert not open_lora(out).layers[0].factors.is_dora
    no_base = run("--base", file.path, "--overwrite")
    assert "is not a checkpoint of SDXL, SD 1.5 or FLUX.1" in no_base.stderr


@pytest.mark.parametrize("made", [loha, lokr, difference])
def test_other_kinds_with_a_dora_scale_are_folded_at_the_base_model(tmp_path, made):
    parts, update = made()
    weight = rand(6, 8, seed=7)
    base = tmp_path / "base.safetensors"
    safetensors.torch.save_file({LDM: weight}, base)
    scale = rand(6, 1, seed=8).abs() + 0.5
    tensors = {f"{STEM}.{part}": tensor for part, tensor in parts.items()}
    tensors[f"{STEM}.dora_scale"] = scale
    file = write(tmp_path / "in.safetensors", tensors)
    with pytest.raises(ModelError, match=r"with a DoRA scale.* Add --base"):
        as_plain_lora(file, Rank(6))
    (layer,) = as_plain_lora(file, Rank(6), Checkpoint(base)).file.layers
    lengths = weight.norm(dim=1, keepdim=True)
    meant = scale / lengths * (weight + update) - weight
    assert torch.allclose(dense_of(layer.factors).float(), meant, atol=1e-5)
    for wrong in (rand(1, 8), rand(8, 1), rand(1)):
        tensors[f"{STEM}.dora_scale"] = wrong
        file = write(tmp_path / "in.safetensors", tensors)
        with pytest.raises(ModelError, match="is not one number per row"):
            as_plain_lora(file, Rank(6), Checkpoint(base))


def test_two_adapters_of_one_layer_are_refused(tmp_path):
    """One of them would be lost in the output."""
    names = ("lora_up.weight", "lora_down.weight")
    lora = {
        f"{STEM}.{n}": t for n, t in zip(names, (rand(6, 2), rand(2, 8)), strict=True)
    }
    full = {f"{STEM}.diff": rand(6, 8)}
    parts, _ = loha()
    hadamard = {f"{STEM}.{part}": tensor for part, tensor in parts.items()}
    other = "unet.down_blocks.1.attentions.0.proj_in.diff"
    for tensors in (lora | full, hadamard | {other: rand(6, 8)}):
        file = write(tmp_path / "in.safetensors", tensors)
        out = tmp_path / "out.safetensors"
        with pytest.raises(ModelError, match=r"stored as .* and as another adapter"):
            convert_lora(file, out, "kohya", goal=Rank(6))
        assert not out.exists()
