"""Wrong, incomplete and damaged base models, seen before weights are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from stiefel_lora import ModelError
from stiefel_lora.checkpoints import folder_source
from stiefel_lora.config import TrainConfig, parse_config
from stiefel_lora.families import check_model, open_family


@pytest.fixture
def copy(tiny_sdxl: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_sdxl, tmp_path / "model"))


def config(name: str | Path | None) -> TrainConfig:
    return parse_config({} if name is None else {"base_model_name": str(name)})


def refusal(name: str | Path | None) -> str:
    with pytest.raises(ModelError) as error:
        check_model(config(name))
    return str(error.value)


def test_good_folder_is_found(tiny_sdxl: Path) -> None:
    source = check_model(config(tiny_sdxl))
    assert source is not None
    assert source.name == str(tiny_sdxl)


def test_unset_name() -> None:
    assert refusal(None).startswith(
        "base_model_name is not set. Use a .safetensors checkpoint"
    )


def test_missing_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone") == (
        f"The base model {tmp_path / 'gone'} does not exist. Correct base_model_name."
    )


def test_hub_name_that_is_not_here_is_left_for_later() -> None:
    assert check_model(config("nobody/no-such-model")) is None


def test_hub_name_without_a_network() -> None:
    with pytest.raises(
        ModelError, match="is not a local folder and cannot be loaded from"
    ):
        open_family(config("nobody/no-such-model"), torch.device("cpu"))


@pytest.mark.parametrize("name", ["org/name.safetensors", "org/NAME.CKPT", "~/name"])
def test_a_path_is_not_asked_of_the_hub(name: str) -> None:
    # parse_config would have made it absolute; a TrainConfig can be made without.
    unresolved = config(None).model_copy(update={"base_model_name": name})
    with pytest.raises(ModelError, match="does not exist"):
        check_model(unresolved)


def test_folder_of_something_else(tmp_path: Path) -> None:
    assert "has no model_index.json" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            "FluxPipeline",
            "(FluxPipeline), but model_type is 'sdxl'. Use a SDXL model",
        ),
        (
            "StableDiffusionPipeline",
            "(StableDiffusionPipeline), but model_type is 'sdxl'. Use a SDXL model",
        ),
        (
            "StableCascadeCombinedPipeline",
            "is a model of another architecture (StableCascade",
        ),
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
    assert refusal(copy).endswith(f"is incomplete: the folder {part} is missing.")


def test_missing_weights_are_named(copy: Path) -> None:
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert refusal(copy).endswith("is incomplete: the folder vae contains no weights.")


def fingerprint(folder: Path, part: str) -> str:
    return folder_source(folder, [part]).fingerprint([part])


def test_fingerprint_is_of_the_content_not_of_the_place(
    tiny_sdxl: Path, copy: Path
) -> None:
    assert fingerprint(tiny_sdxl, "unet") == fingerprint(copy, "unet")
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert fingerprint(tiny_sdxl, "unet") != fingerprint(copy, "unet")
    assert fingerprint(tiny_sdxl, "vae") == fingerprint(copy, "vae")
