"""Overlap: cosine and shared directions, against dense matrices and chance."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from helpers.lora_files import SPELLINGS, dense, make, stack, write
from stiefel_lora import _commands
from stiefel_lora._exceptions import ModelError
from stiefel_lora.files import Part, merge_lora, open_lora, overlap

SEEDS = st.integers(0, 2**31)


@given(st.sampled_from(sorted(SPELLINGS)), SEEDS)
def test_numbers_are_those_of_the_dense_updates(tmp_path_factory, spelling, seed):
    folder = tmp_path_factory.mktemp("lora")
    one = write(folder / "a.safetensors", make(seed=seed))
    two = write(folder / "b.safetensors", make(spelling, seed=seed + 1))
    report, (a, b) = overlap(one, two), (dense(one), dense(two))
    for layer, row in zip(one.layers, report.layers, strict=True):
        m, n = a[layer.key], b[layer.key]
        assert row.norms == pytest.approx((float(m.norm()), float(n.norm())))
        cosine = float((m * n).sum() / m.norm() / n.norm())
        assert row.cosine == pytest.approx(cosine, abs=1e-6)
        assert row.sum_norm == pytest.approx(float((m + n).norm()), rel=1e-6)
        bases = [torch.linalg.svd(x, full_matrices=False) for x in (m, n)]
        rank = layer.factors.rank
        left = bases[0].U[:, :rank].mT @ bases[1].U[:, :rank]
        assert row.outputs == pytest.approx(float(left.square().sum()) / rank, rel=1e-5)
        right = bases[0].Vh[:rank] @ bases[1].Vh[:rank].mT
        assert row.inputs == pytest.approx(float(right.square().sum()) / rank, rel=1e-5)
        assert row.outputs_by_chance == rank / m.shape[0]
    total = float((stack(a) + stack(b)).norm())
    assert report.total.sum_norm == pytest.approx(total, rel=1e-6)


def test_a_file_and_itself_and_random_subspaces(tmp_path):
    stem = SPELLINGS["kohya"][0][0]

    def file(name: str, seed: int):
        generator = torch.Generator().manual_seed(seed)
        tensors = {
            f"{stem}.lora_up.weight": torch.randn(600, 6, generator=generator),
            f"{stem}.lora_down.weight": torch.randn(6, 500, generator=generator),
        }
        return write(tmp_path / name, tensors)

    one, two = file("a.safetensors", 0), file("b.safetensors", 1)
    same = overlap(one, one).total
    assert (same.cosine, same.outputs, same.inputs) == pytest.approx((1, 1, 1))
    assert "The LoRAs share directions" in overlap(one, one).advice()
    apart = overlap(one, two).total
    assert abs(apart.cosine) < 0.01
    assert apart.outputs == pytest.approx(apart.outputs_by_chance, abs=0.02)
    assert apart.inputs_by_chance == 6 / 500
    assert "1.4" in overlap(one, two).advice()
    assert "lora merge --method norm" in overlap(one, two).advice()


@given(st.floats(0.1, 3), st.floats(-0.9, 0.9), SEEDS)
def test_strengths_are_the_projections_of_the_sum(tmp_path_factory, scale, mixed, seed):
    """A prediction that can be checked: what the sum does along each update."""
    folder = tmp_path_factory.mktemp("lora")
    one = write(folder / "a.safetensors", make("PEFT", seed=seed))
    other = write(folder / "c.safetensors", make("PEFT", seed=seed + 1))
    parts = [Part(one, scale * mixed), Part(other, scale * (1 - abs(mixed)))]
    merge_lora(parts, folder / "b.safetensors")
    two = open_lora(folder / "b.safetensors")
    report, a, b = overlap(one, two), stack(dense(one)), stack(dense(two))
    wanted = float((a + b) @ a / (a @ a)), float((a + b) @ b / (b @ b))
    assert report.total.strengths == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    text = report.advice()
    assert f"A has {report.total.strengths[0]:.2f} times its strength" in text
    apart = max(abs(strength - 1) for strength in wanted)
    if abs(apart - 0.1) > 1e-3:
        assert ("share directions" in text) == (apart > 0.1)
    assert "will" not in text


def test_a_cosine_by_chance_is_the_spread_of_random_updates(tmp_path):
    def file(name: str, seed: int):
        tensors = {}
        generator = torch.Generator().manual_seed(seed)
        for place, (out, into) in enumerate(((30, 20), (10, 40))):
            stem = f"lora_unet_blocks_{place}_attn_to_q"
            up = torch.randn(out, 3, generator=generator) * (1 + place)
            down = torch.randn(3, into, generator=generator)
            tensors[f"{stem}.lora_up.weight"] = up
            tensors[f"{stem}.lora_down.weight"] = down
        return write(tmp_path / name, tensors)

    one = file("a.safetensors", 0)
    rows = [overlap(one, file("b.safetensors", seed)) for seed in range(1, 400)]
    cosines = torch.tensor([row.total.cosine for row in rows])
    chance = sum(row.total.cosine_by_chance for row in rows) / len(rows)
    assert float(cosines.square().mean().sqrt()) == pytest.approx(chance, rel=0.15)
    assert rows[0].layers[0].cosine_by_chance == pytest.approx(600**-0.5)


def test_an_update_of_zeros(tmp_path):
    zeros = {k: torch.zeros_like(t) if "up" in k else t for k, t in make().items()}
    one = write(tmp_path / "a.safetensors", zeros)
    two = write(tmp_path / "b.safetensors", make())
    assert overlap(one, two).advice() == "All common updates of A are 0."
    assert overlap(one, one).advice() == "All common updates of A and B are 0."


def test_what_cannot_be_compared(tmp_path):
    one = write(tmp_path / "a.safetensors", make())
    flux = "lora_unet_double_blocks_0_img_attn_qkv"
    other = write(
        tmp_path / "b.safetensors",
        {
            f"{flux}.lora_up.weight": torch.ones(6, 1),
            f"{flux}.lora_down.weight": torch.ones(1, 2),
        },
    )
    with pytest.raises(ModelError, match="is a LoRA of sdxl, but"):
        overlap(one, other)
    stem = SPELLINGS["kohya"][0][0]
    wrong = make() | {f"{stem}.lora_down.weight": torch.full((4, 6), torch.nan)}
    with pytest.raises(ModelError, match=r"c\.safetensors: NaN or infinity in unet"):
        overlap(one, write(tmp_path / "c.safetensors", wrong))
    wide = make() | {f"{stem}.lora_down.weight": torch.ones(4, 8)}
    with pytest.raises(
        ModelError, match=r"different shapes in the two files\. Use two"
    ):
        overlap(one, write(tmp_path / "e.safetensors", wide))
    few = {key: t for key, t in make().items() if key.startswith(stem)}
    alone = {key.replace("4_1", "5_1"): t for key, t in few.items()}
    with pytest.raises(ModelError, match="have no layers in common"):
        overlap(one, write(tmp_path / "d.safetensors", alone))


def test_the_command(tmp_path):
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for seed, path in enumerate(paths):
        write(path, make(seed=seed))

    def run(*options: str):
        given = ["lora", "overlap", *map(str, paths), *options]
        return CliRunner().invoke(_commands.app, given)

    result = run()
    assert result.exit_code == 0, result.stderr
    assert "down_blocks.1" in result.stdout
    found = json.loads(run("--json").stdout)
    report = overlap(*map(open_lora, paths))
    assert found["total"]["cosine"] == pytest.approx(report.total.cosine)
    assert len(found["layers"]) == 3
    assert "proj_in" in run("--layers").stdout
    assert "Not compared" not in run().stdout
    stem = SPELLINGS["kohya"][0][0]
    rest = {k: t for k, t in make(seed=1).items() if not k.startswith(stem)}
    write(paths[1], rest)
    line = "Not compared: 1 layer only in A, 0 only in B."
    assert line in run().stdout.splitlines()
