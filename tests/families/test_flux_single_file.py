"""FLUX.1 from files: the transformer alone, all parts in one, dev and schnell."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.single_file_utils import (
    convert_flux_transformer_checkpoint_to_diffusers,
)
from safetensors.torch import save_file

from helpers.single_file import bfl, clip_names, ldm_vae, part_of
from stiefel_lora import ModelError
from stiefel_lora.checkpoints import ModelSource
from stiefel_lora.checkpoints.base_model import known_settings
from stiefel_lora.checkpoints.header import read_header
from stiefel_lora.config import parse_config
from stiefel_lora.families import check_model
from stiefel_lora.families.flux import Flux
from stiefel_lora.families.flux_files import BFL, flux_scheduler

PREFIX = "model.diffusion_model."


def found(model: Path, **changes: object) -> ModelSource:
    texts = {key: str(value) for key, value in changes.items()}
    settings = {"model_type": "flux", "base_model_name": str(model), **texts}
    source = check_model(parse_config(settings))
    assert source is not None
    return source


def weights(source: ModelSource, part: str) -> dict[str, torch.Tensor]:
    model = source.load(part, Flux.facts.files[part].loader, torch.float32)
    return dict(model.named_parameters())


def assert_same(source: ModelSource, folder: Path, part: str) -> None:
    loaded, expected = weights(source, part), weights(found(folder), part)
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize("original", [True, False])
def test_transformer_from_a_file(tiny_flux, tmp_path, prefix, original) -> None:
    tensors = part_of(tiny_flux, "transformer")
    tensors = bfl(tensors) if original else tensors
    path = tmp_path / "flux.safetensors"
    save_file({prefix + name: t.contiguous() for name, t in tensors.items()}, path)
    source = found(tiny_flux, transformer_model_name=path)
    assert_same(source, tiny_flux, "transformer")
    assert source.config("transformer")["num_single_layers"] == 1


def test_a_file_without_guidance_is_schnell(tiny_flux: Path, tmp_path: Path) -> None:
    tensors = bfl(part_of(tiny_flux, "transformer"))
    path = tmp_path / "schnell.safetensors"
    save_file({n: t for n, t in tensors.items() if "guidance" not in n}, path)
    source = found(tiny_flux, transformer_model_name=path)
    assert source.config("transformer")["guidance_embeds"] is False
    assert not any("guidance" in name for name in weights(source, "transformer"))
    known = known_settings(Flux.facts, "scheduler")
    assert flux_scheduler(known, read_header(path))["shift"] == 1.0
    assert known["shift"] == 3.0


def test_text_encoders_and_vae_from_files(tiny_flux: Path, tmp_path: Path) -> None:
    t5 = part_of(tiny_flux, "text_encoder_2")
    t5.pop("encoder.embed_tokens.weight", None)
    files = {
        "vae": ldm_vae(part_of(tiny_flux, "vae")),
        "text_encoder": clip_names(part_of(tiny_flux, "text_encoder")),
        "text_encoder_2": t5,
    }
    for part, tensors in files.items():
        path = tmp_path / f"{part}.safetensors"
        save_file({name: t.contiguous() for name, t in tensors.items()}, path)
        source = found(tiny_flux, **{f"{part}_model_name": path})
        assert_same(source, tiny_flux, part)


def test_the_full_size_transformer_alone_needs_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "flux1-dev-fp8.safetensors"
    write_empty(path, full_size())
    with pytest.raises(ModelError) as error:
        found(path)
    assert str(error.value) == (
        f"{path} contains no vae, text_encoder, text_encoder_2, tokenizer_2. Set "
        "vae_model_name and text_encoder_model_name and text_encoder_2_model_name "
        "and tokenizer_2_model_name to a file, folder or model on the Hugging Face "
        "Hub that contains them. Single-file checkpoints do not contain the T5 "
        "tokenizer. It is in the folder tokenizer_2 of any FLUX.1 model, and in "
        "google/t5-v1_1-xxl on the Hugging Face Hub."
    )


def test_a_full_size_file_of_flux_as_sdxl(tmp_path: Path) -> None:
    path = tmp_path / "flux1-dev.safetensors"
    write_empty(path, full_size())
    config = parse_config({"base_model_name": str(path)})
    with pytest.raises(ModelError, match=r"is a FLUX\.1 model, but model_type is"):
        check_model(config)


def full_size() -> dict[str, torch.Tensor]:
    """Names and shapes of dev in the original layout."""
    with torch.device("meta"):
        model = FluxTransformer2DModel.from_config(
            known_settings(Flux.facts, "transformer")
        )
    return bfl(dict(model.named_parameters()))


def write_empty(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A file of 8-bit numbers whose bytes take no place on disk."""
    table, end = {}, 0
    for name, tensor in tensors.items():
        places = [end, end + tensor.numel()]
        shape = list(tensor.shape)
        table[name] = {"dtype": "F8_E4M3", "shape": shape, "data_offsets": places}
        end = places[1]
    head = json.dumps(table).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        file.truncate(8 + len(head) + end)


def test_full_size_names_are_those_of_diffusers_own_converter() -> None:
    """The same names and shapes as the published way, without numbers."""
    with torch.device("meta"):
        model = FluxTransformer2DModel.from_config(
            known_settings(Flux.facts, "transformer")
        )
    original = full_size()
    ours = BFL[0].convert(dict(original), model)
    theirs = convert_flux_transformer_checkpoint_to_diffusers(dict(original))
    wanted = {name: tensor.shape for name, tensor in model.named_parameters()}
    assert {name: tensor.shape for name, tensor in ours.items()} == wanted
    assert {name: tensor.shape for name, tensor in theirs.items()} == wanted
