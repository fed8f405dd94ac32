"""Numbers of ``lora inspect`` on files whose spectra are known."""

from __future__ import annotations

import json
import math

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from stiefel_lora import _commands
from stiefel_lora.files import LoraReport, inspect_lora, open_lora
from stiefel_lora.files.tools.inspection_facts import facts_of
from stiefel_lora.files.tools.notes import frequent_tags, trigger_words
from stiefel_lora.files.tools.sections import layer_kind, section_of

BLOCK = "lora_unet_input_blocks_4_1_transformer_blocks_{}_attn1_to_q"


def layer(stem: str, sigma: list[float], alpha: float | None = None) -> dict:
    """A layer of 8 outputs and 6 inputs with these singular values at scale 1."""
    rank = len(sigma)
    up, _ = torch.linalg.qr(torch.randn(8, rank, dtype=torch.float64))
    down, _ = torch.linalg.qr(torch.randn(6, rank, dtype=torch.float64))
    found = {
        f"{stem}.lora_up.weight": (up * torch.tensor(sigma)).float().contiguous(),
        f"{stem}.lora_down.weight": down.mT.float().contiguous(),
    }
    return found | ({} if alpha is None else {f"{stem}.alpha": torch.tensor(alpha)})


@pytest.fixture
def write(tmp_path):
    def write(tensors: dict, name: str = "one", **metadata: str):
        path = tmp_path / f"{name}.safetensors"
        safetensors.torch.save_file(tensors, path, metadata or None)
        return path

    return write


def report(path) -> LoraReport:
    return inspect_lora(open_lora(path))


def run(*args: object):
    return CliRunner().invoke(_commands.app, ["lora", "inspect", *map(str, args)])


def test_numbers_of_a_known_spectrum(write):
    (found,) = report(write(layer(BLOCK.format(0), [4, 3, 0], 1.5))).layers
    # alpha / r = 1/2.
    assert found.spectrum == pytest.approx([2, 1.5, 0], abs=1e-6)
    assert found.sigma_1 == pytest.approx(2)
    assert found.norm == pytest.approx(2.5)
    shares = [4 / 7, 3 / 7]
    entropy = -sum(share * math.log(share) for share in shares)
    assert found.effective_rank == pytest.approx(math.exp(entropy))
    assert found.stable_rank == pytest.approx(25 / 16)
    assert (found.k95, found.rank, found.alpha) == (2, 3, 1.5)
    assert (found.shape, found.section) == ((8, 6), "down_blocks.1")


@given(st.integers(1, 6), st.integers(0, 2**31), st.sampled_from([1e-6, 1.0, 1e6]))
def test_spectrum_and_norm_are_those_of_the_dense_update(
    tmp_path_factory, rank, seed, size
):
    generator = torch.Generator().manual_seed(seed)
    up = torch.randn(7, rank, 1, 1, generator=generator) * size
    down = torch.randn(rank, 2, 3, 3, generator=generator)
    path = tmp_path_factory.mktemp("lora") / "lora.safetensors"
    stem = "lora_unet_input_blocks_1_0_in_layers_2"
    stored = {
        f"{stem}.lora_up.weight": up,
        f"{stem}.lora_down.weight": down,
        f"{stem}.alpha": torch.tensor(0.5),
    }
    safetensors.torch.save_file(stored, path)
    (found,) = report(path).layers
    dense = 0.5 / rank * up.double().flatten(1) @ down.double().flatten(1)
    values = torch.linalg.svdvals(dense)[:rank].tolist()
    assert found.spectrum == pytest.approx(values, rel=1e-6, abs=1e-6 * values[0])
    assert found.norm == pytest.approx(float(dense.norm()), rel=1e-9)


def test_spikes_dead_layers_and_nan(write):
    tensors = {}
    for block in range(5):
        tensors |= layer(BLOCK.format(block), [1.0, 0.5])
    tensors |= layer(BLOCK.format(5), [6.0, 0.5])
    tensors |= layer(BLOCK.format(6), [0.0, 0.0])
    tensors |= layer(BLOCK.format(7), [1.0, 0.5])
    tensors[f"{BLOCK.format(7)}.lora_up.weight"][0, 0] = torch.nan
    found = report(write(tensors))
    total = found.total
    assert (total.layers, total.spikes, total.dead, total.not_finite) == (8, 1, 1, 1)
    spike, dead, broken = found.layers[5:]
    assert spike.is_spike
    assert spike.spike == pytest.approx(6)
    assert dead.is_dead
    assert dead.effective_rank == 0
    assert not broken.is_finite
    assert total.norm == pytest.approx(math.sqrt(5 * 1.25 + 36.25))
    assert total.sigma_1 == pytest.approx(6)


def test_few_layers_of_a_kind_have_no_median(write):
    tensors = layer(BLOCK.format(0), [1.0]) | layer(BLOCK.format(1), [60.0])
    assert {found.spike for found in report(write(tensors)).layers} == {None}


def test_metadata(write):
    tags = {"10_sks dog": {"dog": 9, "grass": 4}, "reg": {"cat": 20}}
    path = write(
        layer(BLOCK.format(0), [1.0]),
        ss_network_module="networks.lora",
        ss_tag_frequency=json.dumps(tags),
        ss_learning_rate="None",
    )
    found = report(path)
    assert found.trigger_words == ()
    assert found.frequent_tags == ("sks dog", "cat", "dog", "grass")
    facts = facts_of(found)
    assert facts["folders and frequent tags"] == "sks dog, cat, dog, grass"
    assert "trigger words" not in facts
    assert found.to_json()["frequent_tags"] == ["sks dog", "cat", "dog", "grass"]
    assert found.notes == {"network module": "networks.lora"}
    assert trigger_words({"modelspec.trigger_phrase": "sks"}) == ["sks"]
    assert trigger_words({"ss_tag_frequency": json.dumps(tags)}) == []
    assert frequent_tags({"ss_tag_frequency": "{"}) == []
    assert frequent_tags({"ss_tag_frequency": '{"a": 1}'}) == []


@pytest.mark.parametrize(
    ("key", "section", "kind"),
    [
        ("model:mid_block_attentions_0_proj_in", "mid_block", "attentions_#_proj_in"),
        (
            "model:up_blocks_0_attentions_1_proj_in",
            "up_blocks.0",
            "attentions_#_proj_in",
        ),
        (
            "model:single_transformer_blocks_12_attn_to_q",
            "single_transformer_blocks.12",
            "single_transformer_blocks_#_attn_to_q",
        ),
        ("model:layers_3_attention_qkv", "layers.3", "layers_#_attention_qkv"),
        ("model:proj_out", "other", "proj_out"),
        (
            "model:double_blocks_3_img_mlp_0",
            "double_blocks.3",
            "double_blocks_#_img_mlp_#",
        ),
    ],
)
def test_sections_and_kinds(key, section, kind):
    assert section_of(key) == section
    assert layer_kind(key) == f"model:{kind}"


def test_sections_of_text_encoders_are_whole():
    assert section_of("text_encoder_2:text_model_encoder_layers_3_mlp_fc1") == (
        "text_encoder_2"
    )


def test_the_command(write):
    one = write(layer(BLOCK.format(0), [4.0, 3.0], 2.0))
    result = run(one)
    assert result.exit_code == 0
    for text in ("sdxl", "kohya", "down_blocks.1", "float32"):
        assert text in result.stdout
    rows = run(one, "--layers").stdout
    assert "attentions.0.transformer_blocks.0.attn1.to_q" in rows
    assert "8x6" in rows


def test_json_has_every_number_and_no_nan(write):
    tensors = layer(BLOCK.format(0), [4.0, 3.0]) | layer(BLOCK.format(1), [1.0])
    tensors[f"{BLOCK.format(1)}.lora_up.weight"][0, 0] = torch.inf
    path = write(tensors)
    result = run(path, "--json")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads(result.stdout, parse_constant=refuse)
    assert found["family"] == "sdxl"
    assert found["key_format"] == "kohya"
    assert "spelling" not in result.stdout
    assert found["layers"][0]["spectrum"] == pytest.approx([4, 3])
    assert found["layers"][1]["norm"] is None
    assert found["total"]["not_finite"] == 1
    assert result.exit_code == 2
    assert "NaN or infinity in unet.down_blocks.1" in result.stderr


def test_several_files_side_by_side(write):
    one = write(layer(BLOCK.format(0), [4.0, 3.0]), "one")
    peft = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    two = write(
        {f"{peft}.lora_A.weight": torch.eye(6), f"{peft}.lora_B.weight": torch.eye(6)}
        | layer("lora_te1_text_model_encoder_layers_0_mlp_fc1", [2.0]),
        "two",
    )
    result = run(one, two, "--layers")
    row = next(line for line in result.stdout.splitlines() if "attn1_to_q" in line)
    assert [cell.strip() for cell in row.split("│")[2:4]] == ["5 (1.98)", "2.449 (6)"]
    assert len(json.loads(run(one, two, "--json").stdout)) == 2


def test_one_bad_file_does_not_hide_the_others(write, tmp_path):
    good = write(layer(BLOCK.format(0), [4.0, 3.0]), "good")
    nan = layer(BLOCK.format(0), [1.0])
    nan[f"{BLOCK.format(0)}.lora_up.weight"][0, 0] = torch.nan
    bad = write(nan, "bad")
    odd = write(layer(BLOCK.format(0), [1.0]) | {"emphasis": torch.ones(2)}, "odd")
    result = run(tmp_path / "no.safetensors", bad, good, odd)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("no.safetensors does not exist. Check the path.")
    assert "NaN or infinity" in lines[1]
    assert "emphasis" in lines[2]
    assert "5 (1.98)" in result.stdout
    # JSON is complete or absent.
    result = run(tmp_path / "no.safetensors", good, "--json")
    assert (result.exit_code, result.stdout) == (2, "")


def test_unknown_keys_end_in_exit_code_2(write):
    path = write(layer(BLOCK.format(0), [1.0]) | {"emphasis": torch.ones(2)})
    result = run(path)
    assert result.exit_code == 2
    assert "1 key is not part of an adapter: emphasis." in result.stderr
    assert "down_blocks.1" in result.stdout
    assert run(path, "--allow-unknown").exit_code == 0


def test_other_adapters_are_counted(write):
    other = "lora_unet_middle_block_1_proj_in"
    loha = {f"{other}.hada_w{n}_{x}": torch.ones(2, 2) for n in (1, 2) for x in "ab"}
    result = run(write(layer(BLOCK.format(0), [1.0]) | loha))
    assert result.exit_code == 0
    assert "LoRA (1), LoHa (1)" in result.stdout


@pytest.mark.parametrize("name", ["no.safetensors", "cut.safetensors"])
def test_bad_files_are_one_message(tmp_path, name):
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    result = run(tmp_path / name)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert name in result.stderr
