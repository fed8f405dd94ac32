"""SD 1.5 on a tiny random base: what the stock pipeline does, we do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from helpers.single_file import SD15, known_from, write_single_file
from stiefel_lora import ModelError
from stiefel_lora.config import parse_config
from stiefel_lora.families import SampleRequest, check_model, open_family, record
from stiefel_lora.families.sd15 import Sd15

CPU = torch.device("cpu")


def opened(model: Path, **changes: str) -> Sd15:
    settings = {"base_model_name": str(model), "model_type": "sd15", **changes}
    family = open_family(parse_config({"weight_dtype": "float32", **settings}), CPU)
    assert isinstance(family, Sd15)
    return family


def refusal(model: Path, model_type: str = "sd15") -> str:
    config = parse_config({"base_model_name": str(model), "model_type": model_type})
    with pytest.raises(ModelError) as error:
        check_model(config)
    return str(error.value)


@pytest.fixture(scope="module")
def file(tiny_sd15: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("single")
    known = known_from(tiny_sd15, root / "known", "sd15")
    # A file that is refused as SD 1.5 is looked at as SDXL too, and the other way.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "KNOWN", known)
        yield write_single_file(tiny_sd15, root / "model.safetensors", SD15)


@pytest.fixture(scope="module")
def pipeline(tiny_sd15: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(tiny_sd15)


@pytest.mark.parametrize(
    ("negative", "guidance"), [(None, 5.0), ("dull", 3.0), (None, 1.0)]
)
def test_samples_are_those_of_the_stock_pipeline(
    tiny_sd15: Path,
    pipeline: StableDiffusionPipeline,
    negative: str | None,
    guidance: float,
) -> None:
    family = opened(tiny_sd15)
    request = SampleRequest(
        positive=family.encode_caption("a thing"),
        negative=family.encode_caption(negative) if negative else None,
        seed=3,
        steps=2,
        guidance=guidance,
        width=32,
        height=32,
    )
    family.release_encoders()
    ours = family.sample(request)
    theirs = pipeline(
        "a thing",
        negative_prompt=negative,
        num_inference_steps=2,
        guidance_scale=guidance,
        width=32,
        height=32,
        generator=torch.Generator("cpu").manual_seed(3),
    ).images[0]
    # Sums may round differently at other addresses, so a value on the edge of two gray
    # levels may fall to either side.
    gap = np.abs(np.asarray(ours, int) - np.asarray(theirs, int))
    assert gap.max() <= 1
    assert (gap > 0).mean() < 0.01


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_costs_nothing(tiny_sd15: Path, kind: str) -> None:
    family = opened(tiny_sd15, prediction_type=kind)
    latents, noise = torch.randn(2, 2, 4, 8, 8)
    steps = torch.tensor([100, 900])
    share = family._schedule.alphas_cumprod[steps].view(-1, 1, 1, 1)
    velocity = share.sqrt() * noise - (1 - share).sqrt() * latents
    target = noise if kind == "epsilon" else velocity

    def perfect(noisy, timesteps, encoder_hidden_states):
        expected = share.sqrt() * latents + (1 - share).sqrt() * noise
        torch.testing.assert_close(noisy, expected)
        return SimpleNamespace(sample=target)

    batch = {"latents": latents, "embeds": torch.zeros(2, 77, 16)}
    found = family.predict(perfect, batch, noise, steps)
    torch.testing.assert_close(found.predicted, found.target)


def test_a_single_file_is_the_model_of_its_folder(tiny_sd15: Path, file: Path) -> None:
    one, other = opened(tiny_sd15), opened(file)
    for (name, tensor), (same, twin) in zip(
        one.denoiser.named_parameters(), other.denoiser.named_parameters(), strict=True
    ):
        assert name == same
        assert torch.equal(tensor, twin)
    caption = "a photo of a cat"
    expected = one.encode_caption(caption)["embeds"]
    torch.testing.assert_close(other.encode_caption(caption)["embeds"], expected)


class TestWrongModels:
    def test_a_file_of_sd15_as_sdxl(self, file: Path) -> None:
        assert refusal(file, "sdxl") == (
            f"{file} is a Stable Diffusion 1.5 model, but model_type is 'sdxl'. Use "
            "a SDXL model, or set model_type to 'sd15'."
        )

    def test_a_file_of_sdxl_as_sd15(self, tmp_path: Path) -> None:
        path = tmp_path / "sdxl.safetensors"
        names = ("input_blocks.0.0.weight", "label_emb.0.0.weight")
        tensors = {f"model.diffusion_model.{n}": torch.zeros(1) for n in names}
        save_file(tensors, path)
        assert f"{path} is a SDXL model, but model_type is 'sd15'" in refusal(path)

    def test_a_folder_of_sdxl_as_sd15(self, tmp_path: Path) -> None:
        index = {"_class_name": "StableDiffusionXLPipeline"}
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        assert "is a SDXL model" in refusal(tmp_path)

    def test_version_2(self, tiny_sd15: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(tiny_sd15, tmp_path / "model"))
        config = json.loads((folder / "unet" / "config.json").read_text())
        config["cross_attention_dim"] = 1024
        (folder / "unet" / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match="is Stable Diffusion 2, but model_type"):
            opened(folder)

    def test_a_file_without_its_text_encoder(self, file: Path, tmp_path: Path) -> None:
        path = tmp_path / "cut.safetensors"
        tensors = load_file(file)
        save_file({n: t for n, t in tensors.items() if "cond_stage" not in n}, path)
        assert "contains no text_encoder. Set text_encoder_model_name" in refusal(path)
