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
        f"{tmp_path / name} is a pickle, which can run any program when loaded, so "
        f"it is not opened; convert it to .safetensors and give that file."
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
    assert "is damaged: it does not begin as a .safetensors" in refusal(path)


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
    assert "its table of tensors cannot be read" in refusal(path)


def test_cut_off(twins: Twins, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    whole = twins.file.read_bytes()
    path.write_bytes(whole[:-1])
    assert refusal(path) == (
        f"{path} is cut off: it has {len(whole) - 1:,} bytes of {len(whole):,}; fetch "
        f"it again."
    )


def test_a_lora(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_file({"lora_unet_mid_block.lora_down.weight": torch.zeros(2, 2)}, path)
    assert "is a LoRA (it contains lora_unet_mid_block.lora_down.weight)" in refusal(
        path
    )


def test_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"embeddings.weight": torch.zeros(2, 2)}, path)
    assert refusal(path).startswith(f"{path} is not a SDXL model; give a checkpoint of")


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
            f"{tmp_path / 'unet.safetensors'} holds no vae, text_encoder, "
            f"text_encoder_2; set vae_model_name and text_encoder_model_name and "
            f"text_encoder_2_model_name to a file, folder or hub name that has them."
        )

    def test_missing_tensors(self, twins: Twins, tmp_path: Path) -> None:
        name = f"{UNET}middle_block.1.proj_in.bias"
        path = self.changed(twins, tmp_path, **{name: None})
        assert refusal(path) == (
            f"{path} does not hold a whole unet: 1 of 498 tensors are missing, the "
            f"first is mid_block.attentions.0.proj_in.bias; give the checkpoint of a "
            f"whole model."
        )

    def test_an_inpainting_model(self, twins: Twins, tmp_path: Path) -> None:
        name = f"{UNET}input_blocks.0.0.weight"
        path = self.changed(twins, tmp_path, **{name: torch.zeros(16, 9, 3, 3)})
        assert refusal(path) == (
            f"{path} is an inpainting model (it reads 9 channels and predicts 4), but "
            f"model_type is 'sdxl'. LoRAs for it cannot be trained; give a "
            f"text-to-image model of SDXL."
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
        assert "is quantized in a way that is not supported" in refusal(path)

    def test_a_part_that_the_family_does_not_have(self, twins: Twins) -> None:
        assert refusal(twins.file, transformer_model_name=twins.file) == (
            "transformer_model_name is set, but a model of SDXL has no transformer; "
            "leave it out."
        )

    def test_a_file_without_the_part(self, twins: Twins, tmp_path: Path) -> None:
        path = tmp_path / "vae.safetensors"
        save_file({"decoder.weight": torch.zeros(1)}, path)
        assert refusal(twins.file, vae_model_name=path) == (
            f"vae_model_name: {path} has no vae of SDXL; give a file that does."
        )

    def test_a_folder_without_the_part(self, twins: Twins, tmp_path: Path) -> None:
        assert refusal(twins.file, vae_model_name=tmp_path) == (
            f"vae_model_name: the folder {tmp_path} has no vae; give a folder with "
            f"its files, or a whole model in diffusers layout."
        )

    def test_a_tokenizer_in_a_file(self, twins: Twins) -> None:
        assert "is a file, but a tokenizer_2 is a folder" in refusal(
            twins.folder, tokenizer_2_model_name=twins.file
        )

    def test_no_path_and_no_name(self, twins: Twins) -> None:
        assert refusal(twins.file, vae_model_name="/no/such/file") == (
            "vae_model_name: there is no file or folder /no/such/file; correct it."
        )
