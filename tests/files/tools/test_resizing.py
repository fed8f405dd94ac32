"""Resize: the best LoRA of its rank, and a printed error that is the true one."""

from __future__ import annotations

import hashlib
import json

import pytest
import safetensors
import torch
from diffusers.utils.peft_utils import get_peft_kwargs
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from helpers.lora_files import SPELLINGS, dense, dense_of, make, stack, write
from stiefel_lora import _commands
from stiefel_lora._exceptions import ModelError, OptionError, OutputError
from stiefel_lora.files import (
    LoraFactors,
    Part,
    Target,
    merge_lora,
    open_lora,
    resize_lora,
    streamed,
)
from stiefel_lora.files.tools.differences import difference, update_norm
from stiefel_lora.files.tools.resizing import resized

SEEDS = st.integers(0, 2**31)


def run(*args: object):
    return CliRunner().invoke(_commands.app, ["lora", "resize", *map(str, args)])


def best(matrix: torch.Tensor, rank: int) -> torch.Tensor:
    u, sigma, vh = torch.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * sigma[:rank]) @ vh[:rank]


@given(st.sampled_from(sorted(SPELLINGS)), st.integers(1, 5), SEEDS)
def test_a_rank_is_the_dense_truncated_svd(tmp_path_factory, spelling, rank, seed):
    folder = tmp_path_factory.mktemp("lora")
    file = write(folder / "in.safetensors", make(spelling, seed=seed))
    report = resize_lora(file, folder / "out.safetensors", Target(rank=rank))
    found, old = open_lora(folder / "out.safetensors"), dense(file)
    assert found.spelling == file.spelling == spelling
    assert {layer.stem for layer in found.layers} == {x.stem for x in file.layers}
    for layer, row in zip(found.layers, report.layers, strict=True):
        whole = old[layer.key]
        truncated = best(whole, rank)
        size = float(whole.norm())
        assert layer.factors.rank == min(rank, row.old_rank)
        assert float((dense_of(layer.factors) - truncated).norm()) < 1e-6 * size
        true = float((dense_of(layer.factors) - whole).norm()) / size
        assert row.error == pytest.approx(true, rel=1e-6, abs=1e-9)
    new = dense(found)
    true = float((stack(new) - stack(old)).norm() / stack(old).norm())
    assert report.total_error == pytest.approx(true, rel=1e-6, abs=1e-9)
    assert report.saved.deviation < 1e-6


@given(st.floats(0, 0.99), SEEDS)
def test_an_error_for_each_layer(tmp_path_factory, error, seed):
    folder = tmp_path_factory.mktemp("lora")
    file = write(folder / "in.safetensors", make(seed=seed))
    found = resized(file, Target(error=error))
    old = dense(file)
    for layer in found.layers:
        sigma = torch.linalg.svdvals(old[layer.key])
        rank = layer.factors.rank
        lost = float(sigma[rank:].norm() / sigma.norm())
        assert lost <= error + 1e-7
        more = float(sigma[rank - 1 :].norm() / sigma.norm())
        assert rank == 1 or more > error - 1e-7


@given(st.floats(0, 0.99), SEEDS)
def test_an_error_over_all_layers_keeps_the_largest_singular_values(
    tmp_path_factory, error, seed
):
    folder = tmp_path_factory.mktemp("lora")
    file = write(folder / "in.safetensors", make(seed=seed))
    found, old = resized(file, Target(total_error=error)), dense(file)
    sigma = {key: torch.linalg.svdvals(matrix) for key, matrix in old.items()}
    kept = {layer.key: layer.factors.rank for layer in found.layers}
    size = float(stack(old).norm())
    lost = [x for key, values in sigma.items() for x in values[kept[key] :].tolist()]
    more = [x for key, values in sigma.items() for x in values[1 : kept[key]].tolist()]
    assert float(torch.tensor(lost).norm()) <= (error + 1e-6) * size
    if more:
        assert min(more) >= max(lost, default=0)
        next_one = torch.tensor([*lost, min(more)]).norm()
        assert float(next_one) > (error - 1e-6) * size


def test_energy(tmp_path):
    file = write(tmp_path / "in.safetensors", make())
    old = dense(file)
    for layer in resized(file, Target(energy=0.95)).layers:
        squares = torch.linalg.svdvals(old[layer.key]).square()
        shares = squares.cumsum(0) / squares.sum()
        assert layer.factors.rank == int((shares < 0.95).sum()) + 1


def test_a_size_is_kept_and_used(tmp_path):
    tensors = {}
    for block in range(30):
        stem = f"lora_unet_input_blocks_4_1_transformer_blocks_{block}_attn1_to_q"
        scale = 1.0 + block
        tensors[f"{stem}.lora_up.weight"] = torch.randn(300, 16) * scale
        tensors[f"{stem}.lora_down.weight"] = torch.randn(16, 200)
        tensors[f"{stem}.alpha"] = torch.tensor(16.0)
    file = write(tmp_path / "in.safetensors", tensors)
    for size in (0.2, 0.5):
        report = resize_lora(
            file, tmp_path / "out.safetensors", Target(size=size), overwrite=True
        )
        assert size * 1e6 - 8000 < report.saved.file.size <= size * 1e6
        uniform = int((size * 1e6 - 12000) / (30 * 500 * 4))
        even = resized(file, Target(rank=max(1, uniform)))
        old = stack(dense(file))
        rest = float((stack(dense(even)) - old).norm() / old.norm())
        assert report.total_error < rest
    with pytest.raises(
        OptionError, match=r"--size: rank 1 in all 30 layers already requires"
    ):
        resize_lora(file, tmp_path / "no.safetensors", Target(size=0.05))


@pytest.mark.parametrize("peft", [False, True])
def test_no_layer_that_fits_is_left_out_of_a_size(tmp_path, peft):
    """A large layer whose next rank does not fit does not stop the smaller ones."""
    tensors = {}
    for block, width in enumerate((20_000, 40, 40, 40)):
        up, down = torch.randn(width, 8), torch.randn(8, width)
        place = f"blocks_{block}_attn1_to_q"
        stem = f"unet.{place.replace('_', '.')}" if peft else f"lora_unet_{place}"
        tensors[stem + (".lora_B.weight" if peft else ".lora_up.weight")] = up
        tensors[stem + (".lora_A.weight" if peft else ".lora_down.weight")] = down
    file = write(tmp_path / "in.safetensors", tensors)
    out = tmp_path / "out.safetensors"
    report = resize_lora(file, out, Target(size=0.2))
    assert [row.rank for row in report.layers] == [1, 8, 8, 8]
    # 30 kB more are too few for another rank of the large layer.
    assert report.saved.file.size <= 0.2e6
    # All ranks that fit into a small file are used, too.
    small = write(
        tmp_path / "small.safetensors",
        {key: t for key, t in tensors.items() if "blocks" in key and t.numel() < 1000},
    )
    for size in (0.004, 0.006, 0.008):
        report = resize_lora(small, out, Target(size=size), overwrite=True)
        assert report.saved.file.size <= size * 1e6
        # One rank has 320 bytes.
        unused = size * 1e6 - report.saved.file.size
        full = all(row.rank == 8 for row in report.layers)
        assert full or unused < 320 + (800 if peft else 300)


def test_a_maximum_rank_leaves_the_size_and_the_error_to_other_layers(tmp_path):
    tensors = {}
    for block, scale in enumerate((10.0, 1.0)):
        stem = f"lora_unet_blocks_{block}_attn1_to_q"
        up = torch.linalg.qr(torch.randn(60, 8)).Q * scale
        tensors[f"{stem}.lora_up.weight"] = up.contiguous()
        tensors[f"{stem}.lora_down.weight"] = torch.linalg.qr(
            torch.randn(60, 8)
        ).Q.T.contiguous()
    file = write(tmp_path / "in.safetensors", tensors)
    out = tmp_path / "out.safetensors"
    # 12 ranks fit. The first layer alone has the 8 largest values.
    size = 0.0075
    free = resize_lora(file, out, Target(size=size))
    assert free.layers[0].rank == 8
    ranks = sum(row.rank for row in free.layers)
    held = resize_lora(file, out, Target(size=size, rank=6), overwrite=True)
    assert [row.rank for row in held.layers] == [6, min(ranks - 6, 6)]
    # Rank 6 already has a relative error of 0.5, and a rank less one of 0.5012.
    held = resize_lora(file, out, Target(total_error=0.4, rank=6), overwrite=True)
    assert [row.rank for row in held.layers] == [6, 6]
    held = resize_lora(file, out, Target(total_error=0.502, rank=6), overwrite=True)
    assert [row.rank for row in held.layers] == [6, 5]
    assert held.total_error <= 0.502


def test_an_error_that_a_rank_prevents_is_reported(tmp_path):
    file, out = write(tmp_path / "in.safetensors", make()), tmp_path / "o.safetensors"
    for goal in ({"total_error": 0.01}, {"error": 0.01}):
        report = resize_lora(file, out, Target(rank=1, **goal), overwrite=True)
        (remark,) = report.saved.remarks
        name = next(iter(goal)).replace("_", "-")
        assert remark.startswith(f"--{name}: 0.01 is not reached at --rank 1")
        merged = merge_lora([Part(file)], out, Target(rank=1, **goal), overwrite=True)
        assert merged.saved.remarks[0] == remark
        enough = resize_lora(file, out, Target(rank=9, **goal), overwrite=True)
        assert enough.saved.remarks == ()
    report = resize_lora(
        file, out, Target(total_error=0.0), dtype=torch.bfloat16, overwrite=True
    )
    assert report.saved.remarks == ()


def test_caps_of_sigma_and_norm(tmp_path):
    file = write(tmp_path / "in.safetensors", make())
    old = dense(file)
    for key, matrix in dense(resized(file, Target(max_sigma=1.5))).items():
        wanted = torch.linalg.svdvals(old[key]).clamp_max(1.5)
        assert torch.allclose(torch.linalg.svdvals(matrix), wanted, atol=1e-6)
    new = dense(resized(file, Target(max_norm=2.0, rank=2)))
    assert float(stack(new).norm()) == pytest.approx(2)
    small = dense(resized(file, Target(max_norm=1e9)))
    assert torch.equal(stack(small), stack(old))


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
def test_loaders_that_read_alpha_or_not_see_one_scale(tmp_path, spelling):
    file = write(tmp_path / "in.safetensors", make(spelling))
    report = resize_lora(file, tmp_path / "out.safetensors", Target(rank=2))
    with safetensors.safe_open(tmp_path / "out.safetensors", "pt") as stored:
        alphas = [
            stored.get_tensor(k) for k in sorted(stored.keys()) if k.endswith("alpha")
        ]
    # All ranks are 2 here: alpha / r is 1, with and without alpha.
    assert all(float(alpha) == 2 and alpha.ndim == 0 for alpha in alphas)
    assert bool(alphas) == (SPELLINGS[spelling][1][2] is not None)
    assert report.saved.deviation < 1e-6


def test_unequal_ranks_of_a_kohya_file_have_one_alpha(tmp_path):
    file = write(tmp_path / "in.safetensors", make())
    resize_lora(file, tmp_path / "out.safetensors", Target(error=0.3))
    found = open_lora(tmp_path / "out.safetensors")
    assert len({layer.factors.rank for layer in found.layers}) > 1
    assert len({layer.factors.alpha for layer in found.layers}) == 1


def test_unequal_ranks_of_a_peft_file_are_in_its_metadata(tmp_path):
    file = write(tmp_path / "in.safetensors", make("PEFT"))
    resize_lora(file, tmp_path / "out.safetensors", Target(error=0.3))
    found = open_lora(tmp_path / "out.safetensors")
    adapter = json.loads(found.metadata["lora_adapter_metadata"])
    ranks = [layer.factors.rank for layer in found.layers]
    assert len(set(ranks)) > 1
    assert adapter["unet.rank_pattern"] == adapter["unet.alpha_pattern"] != {}
    assert all(layer.factors.scale == 1 for layer in found.layers)


def test_diffusers_takes_alpha_as_the_rank_of_each_layer_without_metadata():
    ranks = {"a.lora_B.weight": 2, "b.lora_B.weight": 3}
    kwargs = get_peft_kwargs(ranks, None, {}, is_unet=True)
    assert kwargs["lora_alpha"] == kwargs["r"]
    assert kwargs["alpha_pattern"] == kwargs["rank_pattern"]


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float16),
        (torch.float32, torch.float32),
        (torch.float64, torch.float32),
        (torch.float8_e4m3fn, torch.float16),
    ],
)
def test_the_dtype_is_the_widest_given(tmp_path, dtype, wanted):
    file = write(tmp_path / "in.safetensors", make(dtype=dtype))
    report = resize_lora(file, tmp_path / "out.safetensors", Target(rank=1))
    assert {layer.dtype for layer in report.saved.file.layers} == {wanted}
    old, new = dense(file), dense(report.saved.file)
    true = float((stack(new) - stack(old)).norm() / stack(old).norm())
    assert report.total_error == pytest.approx(true, rel=1e-6)


def test_metadata_hashes_and_lineage(tmp_path):
    path = tmp_path / "in.safetensors"
    file = write(
        path,
        make(),
        ss_network_dim="4",
        ss_network_alpha="2",
        sshs_model_hash="0",
        sshs_legacy_hash="0",
        ss_tag_frequency="{}",
    )
    resize_lora(file, tmp_path / "o.safetensors", Target(rank=2), command="resize")
    data = (tmp_path / "o.safetensors").read_bytes()
    found = open_lora(tmp_path / "o.safetensors").metadata
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("2", "2.0")
    body = data[8 + int.from_bytes(data[:8], "little") :]
    assert found["sshs_model_hash"] == hashlib.sha256(body).hexdigest()
    assert found["sshs_legacy_hash"] != "0"
    assert found["ss_tag_frequency"] == "{}"
    lineage = json.loads(found["stiefel_lora_lineage"])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert lineage["parents"] == [{"name": "in.safetensors", "sha256": digest}]
    assert lineage["command"] == "resize"


def test_a_dead_layer_stays_dead_at_rank_1(tmp_path):
    tensors = make()
    stem = SPELLINGS["kohya"][0][0]
    tensors[f"{stem}.lora_up.weight"].zero_()
    file = write(tmp_path / "in.safetensors", tensors)
    report = resize_lora(file, tmp_path / "out.safetensors", Target(total_error=0.5))
    (row,) = [row for row in report.layers if row.norm == 0]
    assert (row.rank, row.error) == (1, 0)


def test_other_adapters_are_written_as_they_are(tmp_path):
    other = {"lora_unet_middle_block_1_proj_in.lokr_w1": torch.randn(2, 2)}
    file = write(tmp_path / "in.safetensors", make() | other)
    report = resize_lora(file, tmp_path / "out.safetensors", Target(rank=1))
    (kept,) = report.saved.file.others
    for key, tensor in other.items():
        assert torch.equal(kept.tensors[key], tensor)


def test_what_cannot_be_resized(tmp_path):
    stem = SPELLINGS["kohya"][0][0]
    dora = write(
        tmp_path / "dora.safetensors", make() | {f"{stem}.dora_scale": torch.ones(7, 1)}
    )
    with pytest.raises(ModelError, match="proj_in is a DoRA"):
        resize_lora(dora, tmp_path / "out.safetensors", Target(rank=1))
    tensors = make()
    tensors[f"{stem}.lora_up.weight"][0, 0] = torch.nan
    broken = write(tmp_path / "nan.safetensors", tensors)
    with pytest.raises(ModelError, match=r"NaN or infinity in unet\.down_blocks\.1"):
        resize_lora(broken, tmp_path / "out.safetensors", Target(rank=1))
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ({}, "is required"),
        ({"rank": 0}, "--rank: must be at least 1, but got 0"),
        ({"error": 1.5}, "--error: must be between 0 and 1, but got 1.5"),
        ({"total_error": -1}, "--total-error: must be between 0 and 1, but got -1"),
        ({"energy": 2}, "--energy: must be between 0 and 1, but got 2"),
        ({"size": 0}, "--size: must be greater than 0"),
        ({"max_sigma": float("nan")}, "--max-sigma: must be greater than 0"),
        ({"error": 0.1, "size": 3}, "--error, --size: .* mutually exclusive"),
    ],
)
def test_goals_out_of_range(goal, message):
    with pytest.raises(OptionError, match=message):
        Target(**goal)


def test_the_command(tmp_path):
    path, output = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    file = write(path, make())
    before = path.read_bytes()
    result = run(path, "--rank", 2, "--output", output, "--layers")
    assert result.exit_code == 0, result.stderr
    old, new = stack(dense(file)), stack(dense(open_lora(output)))
    true = float((new - old).norm() / old.norm())
    assert f"Relative error: {true:.6g} in total" in result.stdout
    assert "Ranks: 9 -> 6 over 3 layers." in result.stdout
    assert "4 -> 2  unet.down_blocks.1.attentions.0.proj_in" in result.stdout
    for again, message in (
        ((), f"--output: {output} already exists. Add --overwrite"),
        (("--output", path, "--overwrite"), f"{path} is an input"),
        (("--rank", 0, "--overwrite"), "--rank: must be at least 1, but got 0"),
    ):
        result = run(path, "--rank", 2, "--output", output, *again)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
    assert path.read_bytes() == before
    assert run(path, "--rank", 1, "--output", output, "--overwrite").exit_code == 0


def test_unknown_keys_need_a_word(tmp_path):
    path, output = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    write(path, make() | {"emphasis": torch.ones(2)})
    assert run(path, "--rank", 2, "--output", output).exit_code == 2
    assert not output.exists()
    done = run(path, "--rank", 2, "--output", output, "--allow-unknown")
    assert done.exit_code == 0
    assert not open_lora(output).unknown


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    file = write(tmp_path / "in.safetensors", make())

    def full(tensor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(streamed, "_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
        resize_lora(file, tmp_path / "out.safetensors", Target(rank=1))
    assert [path.name for path in tmp_path.iterdir()] == ["in.safetensors"]


@given(st.floats(-12, 0), SEEDS)
def test_small_differences_keep_their_digits(exponent, seed):
    generator = torch.Generator().manual_seed(seed)
    up = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    down = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    change = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    moved = LoraFactors(up, down + 10**exponent * change, 3.0)
    true = float((up @ (moved.down - down)).norm())
    found = difference(LoraFactors(up, down, 3.0), moved)
    assert found == pytest.approx(true, rel=1e-6, abs=1e-14 * float((up @ down).norm()))
    assert update_norm(moved) == pytest.approx(float((up @ moved.down).norm()))


def test_a_file_stored_twice_needs_half_of_its_size(tmp_path):
    up, down = torch.randn(64, 16), torch.randn(16, 64)
    tensors = {}
    for stem, names in (
        ("lora_unet_input_blocks_4_1_proj_in", ("lora_up", "lora_down")),
        ("unet.down_blocks.1.attentions.0.proj_in", ("lora_B", "lora_A")),
    ):
        for name, factor in zip(names, (up, down), strict=True):
            tensors[f"{stem}.{name}.weight"] = factor.clone()
    file = write(tmp_path / "in.safetensors", tensors)
    out = tmp_path / "out.safetensors"
    report = resize_lora(file, out, Target(size=0.012))
    assert report.layers[0].rank >= 10
    assert report.saved.file.size <= 12000
