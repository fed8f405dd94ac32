"""Files that cannot be the base model: one message each, from the header alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from families.single_file_cases import Twins, refusal, twins

__all__ = ["twins"]

UNET = "model.diffusion_model."


@pytest.mark.parametrize("name", ["model.ckpt", "model.PT", "model.bin"])
def test_pickles_are_not_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n")
    assert refusal(tmp_path / name) == (
        f"{tmp_path / name} is a pickle file, which can execute arbitrary code when "
        "it is loaded, and is not opened. Convert it to .safetensors."
    )


def test_other_kinds_of_file(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert "is not a .safetensors file" in refusal(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 4) + b"abcd",
        struct.pack("<Q", 2) + b"[]",
    ],
)
def test_damaged_beginnings(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert "is damaged: it does not start with a safetensors" in refusal(path)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        [],
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 8]},
    ],
)
def test_damaged_tables(tmp_path: Path, entry: object) -> None:
    path = tmp_path / "model.safetensors"
    table = json.dumps({"weight": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(table)) + table + b"\0" * 8)
    assert "its header cannot be read" in refusal(path)


def test_cut_off(twins: Twins, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    whole = twins.file.read_bytes()
    path.write_bytes(whole[:-1])
    assert refusal(path) == (
        f"{path} is incomplete: it has {len(whole) - 1:,} of {len(whole):,} bytes. "
        "Download it again."
    )


def test_a_lora(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_file({"lora_unet_mid_block.lora_down.weight": torch.zeros(2, 2)}, path)
    assert (
        "is a LoRA and not a base model, because it contains "
        "lora_unet_mid_block.lora_down.weight" in refusal(path)
    )


def test_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"embeddings.weight": torch.zeros(2, 2)}, path)
    assert refusal(path).startswith(
        f"{path} is not a SDXL model. Use a SDXL checkpoint"
    )


class TestParts:
    def changed(self, twins: Twins, root: Path, **tensors: torch.Tensor | None) -> Path:
        path = root / "model.safetensors"
        every = {**load_file(twins.file), **tensors}
        save_file({n: t for n, t in every.items() if t is not None}, path)
        return path

    def test_missing_parts(self, twins: Twins, tmp_path: Path) -> None:
        every = load_file(twins.file)
        alone = {n: t for n, t in every.items() if n.startswith(UNET)}
        save_file(alone, tmp_path / "unet.safetensors")
        assert refusal(tmp_path / "unet.safetensors") == (
            f"{tmp_path / 'unet.safetensors'} contains no vae, text_encoder, "
            "text_encoder_2. Set vae_model_name and text_encoder_model_name and "
            "text_encoder_2_model_name to a file, folder or model on the Hugging "
            "Face Hub that contains them."
        )

    def test_missing_tensors(self, twins: Twins, tmp_path: Path) -> None:
        name = f"{UNET}middle_block.1.proj_in.bias"
        path = self.changed(twins, tmp_path, **{name: None})
        assert refusal(path) == (
            f"{path} does not contain a complete unet: 1 of 498 tensors are missing, "
            "for example mid_block.attentions.0.proj_in.bias. Use a checkpoint that "
            "contains all parts of the model."
        )

    def test_an_inpainting_model(self, twins: Twins, tmp_path: Path) -> None:
        name = f"{UNET}input_blocks.0.0.weight"
        path = self.changed(twins, tmp_path, **{name: torch.zeros(16, 9, 3, 3)})
        assert refusal(path) == (
            f"{path} is an inpainting model (9 input channels, 4 output channels), "
            "but model_type is 'sdxl'. Training a LoRA for it is not supported. Use "
            "a text-to-image SDXL model."
        )

    @pytest.mark.parametrize(
        "tensors",
        [
            {"middle_block.1.proj_in.weight": torch.zeros(32, 32, dtype=torch.int8)},
            {"middle_block.1.proj_in.weight_scale": torch.zeros(4, 4)},
            {"middle_block.1.proj_in.weight_scale_2": torch.tensor(1.0)},
        ],
    )
    def test_other_quantization(self, twins, tmp_path, tensors) -> None:
        changes = {UNET + name: tensor for name, tensor in tensors.items()}
        path = self.changed(twins, tmp_path, **changes)
        assert "uses a quantization that is not supported" in refusal(path)

    def test_a_part_that_the_family_does_not_have(self, twins: Twins) -> None:
        assert refusal(twins.file, transformer_model_name=twins.file) == (
            "transformer_model_name is set, but SDXL models have no transformer. "
            "Remove it."
        )

    def test_a_file_without_the_part(self, twins: Twins, tmp_path: Path) -> None:
        path = tmp_path / "vae.safetensors"
        save_file({"decoder.weight": torch.zeros(1)}, path)
        assert refusal(twins.file, vae_model_name=path) == (
            f"vae_model_name: {path} contains no vae for SDXL. Use a file that "
            "contains one."
        )

    def test_a_folder_without_the_part(self, twins: Twins, tmp_path: Path) -> None:
        assert refusal(twins.file, vae_model_name=tmp_path) == (
            f"vae_model_name: the folder {tmp_path} contains no vae. Use the folder "
            "of the vae, or a complete model in the diffusers format."
        )

    def test_a_tokenizer_in_a_file(self, twins: Twins) -> None:
        assert "is a file, but the tokenizer_2 must be a folder" in refusal(
            twins.folder, tokenizer_2_model_name=twins.file
        )

    def test_no_path_and_no_name(self, twins: Twins) -> None:
        assert refusal(twins.file, vae_model_name="/no/such/file") == (
            "vae_model_name: the file or folder /no/such/file does not exist. Correct "
            "the path."
        )
