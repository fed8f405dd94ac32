"""Wrong, incomplete and damaged base models, seen before weights are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stiefel_lora import ModelError
from stiefel_lora.families.model_folder import fingerprint, resolve_model


@pytest.fixture
def copy(tiny_sdxl: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_sdxl, tmp_path / "model"))


def refusal(name: str | Path | None) -> str:
    with pytest.raises(ModelError) as error:
        resolve_model(None if name is None else str(name), "sdxl", download=False)
    return str(error.value)


def test_good_folder_is_found(tiny_sdxl: Path) -> None:
    assert resolve_model(str(tiny_sdxl), "sdxl", download=False) == tiny_sdxl


def test_unset_name() -> None:
    assert refusal(None).startswith("base_model_name is not set; give a folder")


def test_missing_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone") == (
        f"There is no base model folder {tmp_path / 'gone'}; correct base_model_name."
    )


def test_hub_name_that_is_not_here_is_left_for_later() -> None:
    assert resolve_model("nobody/no-such-model", "sdxl", download=False) is None


def test_hub_name_without_a_network() -> None:
    with pytest.raises(ModelError, match="neither a folder here nor to be had from"):
        resolve_model("nobody/no-such-model", "sdxl", download=True)


def test_single_file(tmp_path: Path) -> None:
    (tmp_path / "sdxl.safetensors").write_bytes(b"")
    assert "is a single file; give a folder in diffusers layout" in refusal(
        tmp_path / "sdxl.safetensors"
    )


def test_folder_of_something_else(tmp_path: Path) -> None:
    assert "has no model_index.json" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("FluxPipeline", "is a FLUX model (FluxPipeline), but model_type is 'sdxl'"),
        ("StableDiffusionPipeline", "is another kind of model (StableDiffusionPipe"),
    ],
)
def test_other_families(tmp_path: Path, kind: str, words: str) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    assert words in refusal(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_damaged_index(tmp_path: Path, text: str) -> None:
    (tmp_path / "model_index.json").write_text(text)
    assert "damaged" in refusal(tmp_path)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder_2", "tokenizer"])
def test_missing_part_is_named(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    assert refusal(copy).endswith(f"is incomplete: its part {part} is missing.")


def test_missing_weights_are_named(copy: Path) -> None:
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert refusal(copy).endswith("is incomplete: vae has no weights.")


def test_fingerprint_is_of_the_content_not_of_the_place(
    tiny_sdxl: Path, copy: Path
) -> None:
    assert fingerprint(tiny_sdxl, ("unet",)) == fingerprint(copy, ("unet",))
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert fingerprint(tiny_sdxl, ("unet",)) != fingerprint(copy, ("unet",))
    assert fingerprint(tiny_sdxl, ("vae",)) == fingerprint(copy, ("vae",))
