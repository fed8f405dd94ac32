"""A checkpoint in one file is the model that its folder is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from families.single_file_cases import Twins, found, settings, twins
from helpers.runs import assert_same_factors, tiny_config
from helpers.single_file import ldm_vae, part_of
from stiefel_lora.checkpoints import folder_source
from stiefel_lora.checkpoints.supplied_parts import ClipTokenizer
from stiefel_lora.families import open_family
from stiefel_lora.families.sdxl import Sdxl
from stiefel_lora.training.trainer import train

__all__ = ["twins"]

MODELS = sorted(Sdxl.facts.files)
CPU = torch.device("cpu")


def weights(source, part, dtype=torch.float32):
    model = source.load(part, Sdxl.facts.files[part].loader, dtype)
    return dict(model.named_parameters())


def assert_same(first, second) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("part", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_part_is_that_of_the_folder(twins: Twins, part: str, dtype) -> None:
    expected = weights(folder_source(twins.folder, [part]), part, dtype)
    assert {tensor.dtype for tensor in expected.values()} == {dtype}
    assert_same(expected, weights(found(twins.file), part, dtype))


def test_captions_and_images_are_encoded_alike(twins: Twins) -> None:
    pixels = torch.rand(3, 32, 32) * 2 - 1
    one, other = (
        open_family(settings(model, weight_dtype="float32"), CPU)
        for model in (twins.folder, twins.file)
    )
    for name, tensor in one.encode_caption("a photo of a cat").items():
        torch.testing.assert_close(
            other.encode_caption("a photo of a cat")[name], tensor
        )
    frames = [family._vae_on_device().encode(pixels[None]) for family in (one, other)]
    torch.testing.assert_close(*(frame.latent_dist.mean for frame in frames))


def test_a_run_ends_with_the_same_factors(twins: Twins, tmp_path: Path) -> None:
    runs = [
        train(tiny_config(model, tmp_path / name))
        for name, model in (("folder", twins.folder), ("file", twins.file))
    ]
    assert_same_factors(*runs)


@pytest.mark.parametrize(
    ("padding", "last"), [("<|endoftext|>", 49_407), ("!", 0)], ids=["CLIP-L", "bigG"]
)
def test_the_bundled_tokenizer_is_clips(padding: str, last: int) -> None:
    tokenizer = ClipTokenizer(padding).load(CLIPTokenizer, None)
    assert len(tokenizer) == 49_408
    ids = tokenizer("a photo of a Cat", padding="max_length").input_ids
    assert ids == [49_406, 320, 1125, 539, 320, 2368, 49_407, *[last] * 70]


def test_fingerprints_are_of_the_part_not_of_the_place(
    twins: Twins, tmp_path: Path
) -> None:
    before = found(twins.file)
    tensors = load_file(twins.file)
    tensors["first_stage_model.quant_conv.bias"] += 1
    save_file(tensors, tmp_path / "changed.safetensors")
    after = found(tmp_path / "changed.safetensors")
    moved = found(Path(shutil.copy(twins.file, tmp_path / "moved.safetensors")))
    for part in (*MODELS, "tokenizer", "scheduler"):
        assert moved.fingerprint([part]) == before.fingerprint([part])
        same = after.fingerprint([part]) == before.fingerprint([part])
        assert same == (part != "vae"), part


def test_a_file_marks_velocity_prediction(twins: Twins, tmp_path: Path) -> None:
    marked = tmp_path / "v.safetensors"
    empty = torch.tensor([])
    save_file({**load_file(twins.file), "v_pred": empty, "ztsnr": empty}, marked)
    family = open_family(settings(marked), CPU)
    assert family.prediction_type == "v_prediction"
    assert found(marked).config("scheduler")["rescale_betas_zero_snr"] is True
    message = open_family(settings(twins.file, prediction_type="v_prediction"), CPU)
    assert message.prediction_type == "v_prediction"
    assert open_family(settings(twins.file), CPU).prediction_type == "epsilon"
    assert message.base_fingerprint != family.base_fingerprint


class TestEightBits:
    def test_plain(self, twins: Twins, tmp_path: Path) -> None:
        tensors = load_file(twins.file)
        small = {n: t.to(torch.float8_e4m3fn) for n, t in tensors.items()}
        save_file(small, tmp_path / "small.safetensors")
        for part in MODELS:
            loaded = weights(
                found(tmp_path / "small.safetensors"), part, torch.bfloat16
            )
            expected = weights(found(twins.file), part)
            for name, tensor in loaded.items():
                eight = expected[name].to(torch.float8_e4m3fn)
                assert torch.equal(tensor, eight.to(torch.bfloat16)), name

    @pytest.mark.parametrize("key", ["scale_weight", "weight_scale"])
    def test_scaled(self, twins: Twins, tmp_path: Path, key: str) -> None:
        tensors = load_file(twins.file)
        linear = "model.diffusion_model.middle_block.1.proj_in"
        weight = tensors.pop(f"{linear}.weight")
        scale = weight.abs().max() / 448
        tensors[f"{linear}.weight"] = (weight / scale).to(torch.float8_e4m3fn)
        tensors[f"{linear}.{key}"] = scale
        tensors[f"{linear}.scale_input"] = torch.tensor(1.0)
        tensors["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
        save_file(tensors, tmp_path / "scaled.safetensors")
        unet = weights(found(tmp_path / "scaled.safetensors"), "unet")
        loaded = unet["mid_block.attentions.0.proj_in.weight"]
        expected = (weight / scale).to(torch.float8_e4m3fn).float() * scale
        assert torch.equal(loaded, expected)
        # Four bits of mantissa, the first of which is not stored.
        assert (loaded - weight).abs().max() <= weight.abs().max() / 16


class TestSeparateParts:
    def vae(self, twins: Twins, path: Path, *, own_names: bool) -> Path:
        tensors = part_of(twins.folder, "vae")
        tensors = {name: tensor + 1 for name, tensor in tensors.items()}
        save_file(tensors if own_names else ldm_vae(tensors), path)
        return path

    @pytest.mark.parametrize("own_names", [True, False])
    @pytest.mark.parametrize("base", ["folder", "file"])
    def test_vae_from_a_file(self, twins, tmp_path, own_names, base) -> None:
        path = self.vae(twins, tmp_path / "vae.safetensors", own_names=own_names)
        source = found(getattr(twins, base), vae_model_name=path)
        expected = {
            name: tensor + 1
            for name, tensor in weights(found(twins.file), "vae").items()
        }
        assert_same(expected, weights(source, "vae"))
        assert_same(weights(found(twins.file), "unet"), weights(source, "unet"))

    @pytest.mark.parametrize("inside", ["", "text_encoder_2"])
    def test_encoder_from_a_folder(self, twins, inside: str) -> None:
        place = twins.folder / inside
        source = found(twins.file, text_encoder_2_model_name=place)
        assert_same(
            weights(found(twins.file), "text_encoder_2"),
            weights(source, "text_encoder_2"),
        )

    def test_a_folder_need_not_have_what_is_named(self, twins, tmp_path) -> None:
        folder = Path(shutil.copytree(twins.folder, tmp_path / "model"))
        shutil.rmtree(folder / "vae")
        source = found(folder, vae_model_name=twins.file)
        assert_same(weights(found(twins.file), "vae"), weights(source, "vae"))

    def test_from_the_hubs_cache(self, twins, tmp_path, monkeypatch) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        commit = "0" * 40
        place = tmp_path / "models--somebody--vae"
        shutil.copytree(twins.folder / "vae", place / "snapshots" / commit)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(commit)
        source = found(twins.file, vae_model_name="somebody/vae")
        assert_same(weights(found(twins.file), "vae"), weights(source, "vae"))
