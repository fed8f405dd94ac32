"""Model folders, and parts of their own, examined by names and shapes as files are."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from families.single_file_cases import Twins, found, twins
from helpers.sparse_model import write_sparse
from stiefel_lora import ModelError
from stiefel_lora.checkpoints import ModelSource, folder_part, folder_source
from stiefel_lora.config import parse_config
from stiefel_lora.families import check_model
from stiefel_lora.families.flux import Flux
from stiefel_lora.families.sd15 import Sd15
from stiefel_lora.families.sdxl import Sdxl

__all__ = ["twins"]

FAMILIES = {"sdxl": Sdxl, "sd15": Sd15, "flux": Flux}
WEIGHTS = [(name, part) for name, kind in FAMILIES.items() for part in kind.facts.files]
UNETS = ("sdxl", "sd15")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def folders(tiny_sdxl: Path, tiny_sd15: Path, tiny_flux: Path) -> dict[str, Path]:
    return {"sdxl": tiny_sdxl, "sd15": tiny_sd15, "flux": tiny_flux}


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def make(family: str) -> Path:
        return Path(shutil.copytree(folders[family], tmp_path / family))

    return make


def refusal(model: Path, family: str = "sdxl", **changes: Any) -> str:
    """Return the error message; no weights may have been loaded for it."""

    def load(folder: Path, loader: Any, *args: Any, **options: Any) -> Any:
        assert not issubclass(loader, torch.nn.Module), "weights were loaded"
        return loaded(folder, loader, *args, **options)

    loaded = folder_part.load_part
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_part, "load_part", load)
        with pytest.raises(ModelError) as error:
            opened(model, family, **changes)
    return str(error.value)


def opened(model: Path, family: str = "sdxl", **changes: Any) -> ModelSource:
    data = {"base_model_name": str(model), "model_type": family, **changes}
    source = check_model(parse_config(data))
    assert source is not None
    return source


def weights_of(folder: Path, part: str) -> Path:
    (path,) = (folder / part).glob("*.safetensors")
    return path


def state(source: ModelSource, family: str, part: str) -> dict[str, torch.Tensor]:
    loader = FAMILIES[family].facts.files[part].loader
    return source.load(part, loader, torch.float32).state_dict()


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def settings(folder: Path, part: str, **changes: Any) -> None:
    path = folder / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class TestTables:
    @pytest.mark.parametrize(("family", "part"), WEIGHTS)
    def test_a_missing_tensor(self, copy, family: str, part: str) -> None:
        folder = copy(family)
        path = weights_of(folder, part)
        tensors = load_file(path)
        gone = sorted(tensors)[len(tensors) // 2]
        del tensors[gone]
        save_file(tensors, path)
        shown = refusal(folder, family)
        assert shown.startswith(
            f"{folder / part} does not contain a complete {part}: 1 of "
        )
        assert gone.removeprefix("text_model.") in shown
        assert shown.endswith(". Download the weights again.")

    @pytest.mark.parametrize(
        ("family", "part"),
        [("sdxl", "unet"), ("sd15", "text_encoder"), ("flux", "transformer")],
    )
    def test_another_shape_than_the_settings(self, copy, family, part) -> None:
        folder = copy(family)
        path = weights_of(folder, part)
        tensors = load_file(path)
        name = max(tensors, key=lambda name: tensors[name].numel())
        tensors[name] = tensors[name][:-1].contiguous()
        save_file(tensors, path)
        shown = refusal(folder, family)
        assert f"{folder / part} contains a {part} of another architecture: " in shown
        assert ", but its config.json has " in shown

    @pytest.mark.parametrize("family", UNETS)
    @pytest.mark.parametrize(
        ("channels", "name"), [(9, "an inpainting"), (8, "an InstructPix2Pix")]
    )
    def test_relatives_with_more_channels(
        self, copy, family: str, channels: int, name: str
    ) -> None:
        folder = copy(family)
        path = weights_of(folder, "unet")
        tensors = load_file(path)
        first = tensors["conv_in.weight"]
        tensors["conv_in.weight"] = first.new_zeros(len(first), channels, 3, 3)
        save_file(tensors, path)
        by_table = refusal(folder, family)
        settings(folder, "unet", in_channels=channels)
        by_settings = refusal(folder, family)
        words = (
            f" is {name} model ({channels} input channels, 4 output channels), but "
            f"model_type is {family!r}. Training a LoRA for it is not supported. Use a "
        )
        assert words in by_table
        assert words in by_settings

    def test_fill_of_flux(self, copy) -> None:
        folder = copy("flux")
        settings(folder, "transformer", in_channels=384, out_channels=64)
        assert "is FLUX.1 Fill (384" in refusal(folder, "flux")

    @pytest.mark.parametrize("family", UNETS)
    def test_version_2_and_the_refiner(self, copy, family: str) -> None:
        folder = copy(family)
        settings(folder, "unet", cross_attention_dim=1024)
        assert "is Stable Diffusion 2, but model_type is" in refusal(folder, family)
        change = {"cross_attention_dim": 1280, "addition_embed_type": "text_time"}
        settings(folder, "unet", **change)
        # The refiner has none.
        shutil.rmtree(folder / "text_encoder")
        assert "is the SDXL refiner, but model_type is" in refusal(folder, family)

    def test_a_unet_of_the_other_family(self, copy) -> None:
        folder, other = copy("sdxl"), copy("sd15")
        shown = refusal(folder, unet_model_name=str(other / "unet"))
        assert shown == (
            f"{other / 'unet'} is not a unet of SDXL. Use a folder that contains one."
        )
        file = weights_of(other, "unet")
        shown = refusal(folder, unet_model_name=str(file))
        assert f"unet_model_name: {file} contains no unet for SDXL" in shown

    def test_settings_that_make_no_model(self, copy) -> None:
        folder = copy("sd15")
        settings(folder, "vae", layers_per_block=10**9)
        assert "has layers_per_block=1e+09, but there are" in refusal(folder, "sd15")
        settings(folder, "vae", layers_per_block=2, block_out_channels="x")
        shown = refusal(folder, "sd15")
        assert "AutoencoderKL cannot be created from the config of the vae (" in shown

    def test_old_names_of_attention(self, twins: Twins, tmp_path: Path) -> None:
        names = {
            "to_q": "query",
            "to_k": "key",
            "to_v": "value",
            "to_out.0": "proj_attn",
        }
        folder = Path(shutil.copytree(twins.folder, tmp_path / "model"))
        path = weights_of(folder, "vae")
        tensors = {}
        for name, tensor in load_file(path).items():
            for new, old in names.items():
                if "attentions" in name:
                    name = name.replace(f".{new}.", f".{old}.")
            tensors[name] = tensor
        assert any(".proj_attn." in name for name in tensors)
        save_file(tensors, path)
        expected = state(folder_source(twins.folder, ["vae"]), "sdxl", "vae")
        assert_same(expected, state(opened(folder), "sdxl", "vae"))
        alone = opened(twins.folder, vae_model_name=str(path))
        assert_same(expected, state(alone, "sdxl", "vae"))


class TestSettingsThatLeaveLayersOut:
    @pytest.mark.parametrize(
        ("family", "part", "changes", "left"),
        [
            ("sdxl", "unet", {"addition_embed_type": None}, "add_embedding."),
            ("sdxl", "unet", {"mid_block_type": None}, "mid_block."),
            ("sdxl", "text_encoder", {"num_hidden_layers": 1}, "layers.1."),
            ("flux", "transformer", {"num_single_layers": 0}, "single_"),
            ("flux", "text_encoder_2", {"num_layers": 0}, "encoder.block.0."),
            ("sd15", "vae", {"layers_per_block": 0}, "resnets.1."),
        ],
    )
    def test_are_refused(self, copy, family, part, changes, left) -> None:
        folder = copy(family)
        settings(folder, part, **changes)
        shown = refusal(folder, family)
        assert shown.startswith(f"{folder / part}: the {part} that is described by")
        assert left in shown
        assert shown.endswith("Download config.json again.")

    def test_what_other_classes_keep_in_the_file_is_none(self, copy) -> None:
        folder = copy("sd15")
        path = weights_of(folder, "text_encoder")
        others = ("text_projection", "visual_projection", "vision_model.layers.0.fc1")
        extra = {f"{name}.weight": torch.zeros(2, 2) for name in others}
        save_file({**load_file(path), **extra}, path, {"format": "pt"})
        opened(folder, "sd15")


class TestParts:
    def test_that_do_not_fit(self, copy) -> None:
        folder, flux = copy("sdxl"), copy("flux")
        settings(folder, "unet")
        vae = load_file(weights_of(flux, "vae"))["encoder.conv_out.weight"]
        latents = len(vae) // 2
        assert latents != 4
        assert refusal(folder, vae_model_name=str(flux / "vae")) == (
            "vae_model_name: the vae does not match the unet. The unet expects 4 "
            f"channels of latents, but the vae has {latents}. Use the vae of this "
            "model."
        )

    def test_text_encoders_that_do_not_fit(self, copy) -> None:
        folder = copy("sdxl")
        second = str(folder / "text_encoder_2")
        shown = refusal(folder, text_encoder_model_name=second)
        assert shown.startswith(
            "text_encoder_model_name: the text_encoder does not match the unet. The "
            "unet expects 40 numbers a token, but the text_encoder has 48."
        )

    def test_a_whole_clip(self, copy, tmp_path: Path) -> None:
        folder = copy("sdxl")
        text = json.loads((folder / "text_encoder" / "config.json").read_text())
        vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
        vision |= {"num_attention_heads": 1, "image_size": 32, "patch_size": 32}
        torch.manual_seed(0)
        clip = transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text, vision_config=vision)
        )
        clip.save_pretrained(tmp_path / "clip")
        source = opened(folder, text_encoder_model_name=str(tmp_path / "clip"))
        got = state(source, "sdxl", "text_encoder")
        expected = clip.text_model.state_dict()
        assert {n.removeprefix("text_model.") for n in got} >= set(expected)
        assert all(
            torch.equal(t, expected[n.removeprefix("text_model.")])
            for n, t in got.items()
        )


class TestFiles:
    @pytest.mark.parametrize(
        ("family", "part"),
        [("sdxl", "text_encoder_2"), ("sd15", "unet"), ("flux", "vae")],
    )
    def test_a_variant_that_is_alone_is_loaded(
        self, copy, folders, caplog, family: str, part: str
    ) -> None:
        folder = copy(family)
        path = weights_of(folder, part)
        path.rename(path.with_suffix(".fp16.safetensors"))
        with caplog.at_level(logging.WARNING, "stiefel_lora"):
            source = opened(folder, family)
        assert caplog.messages == [
            f"{folder / part}: only the variant fp16 was found, and it is used."
        ]
        expected = state(folder_source(folders[family], [part]), family, part)
        assert_same(expected, state(source, family, part))

    def test_a_variant_beside_the_weights_is_left_alone(self, copy, caplog) -> None:
        folder = copy("sd15")
        path = weights_of(folder, "unet")
        path.with_suffix(".fp16.safetensors").write_bytes(POINTER)
        opened(folder, "sd15")
        assert not caplog.messages

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("content", [POINTER, b"\n<!DOCTYPE html><html>"])
    def test_what_lies_in_the_place_of_a_file(self, copy, family, content) -> None:
        folder = copy(family)
        facts = FAMILIES[family].facts
        words = "a Git LFS pointer" if content == POINTER else "a web page"
        for part in facts.files:
            path = weights_of(folder, part)
            kept = path.read_bytes()
            path.write_bytes(content)
            assert f"{path} is {words}" in refusal(folder, family)
            path.write_bytes(kept)
        for part in facts.tokenizers:
            path = folder / part / "tokenizer_config.json"
            kept = path.read_bytes()
            path.write_bytes(content)
            assert f"{path} is {words}" in refusal(folder, family)
            path.write_bytes(kept)

    @pytest.mark.parametrize("variant", ["", ".fp16"])
    @pytest.mark.parametrize(
        ("family", "part"), [("sd15", "unet"), ("flux", "text_encoder_2")]
    )
    def test_shards(self, copy, folders, family, part, variant) -> None:
        folder = copy(family)
        shards, index = shard(weights_of(folder, part), variant)
        source = opened(folder, family)
        expected = state(folder_source(folders[family], [part]), family, part)
        assert_same(expected, state(source, family, part))
        shards[1].unlink()
        assert refusal(folder, family) == (
            f"{folder / part} is incomplete: 1 of 2 files of the {part} are missing, "
            f"for example {shards[1].name}. Download them again."
        )
        index.write_text(json.dumps({"weight_map": {"a": "../../other.safetensors"}}))
        assert "does not exist" in refusal(folder, family)
        index.write_text("{}")
        assert "it contains no weight_map" in refusal(folder, family)

    def test_a_shard_that_is_cut_off(self, copy) -> None:
        folder = copy("sd15")
        shards, _ = shard(weights_of(folder, "unet"))
        shards[1].write_bytes(shards[1].read_bytes()[:-5])
        assert f"{shards[1]} is incomplete" in refusal(folder, "sd15")

    @pytest.mark.parametrize(
        ("family", "part"), [("sd15", "vae"), ("flux", "text_encoder")]
    )
    def test_pickles(self, copy, folders, family: str, part: str) -> None:
        folder = copy(family)
        path = weights_of(folder, part)
        stem = "pytorch_model" if part.startswith("text") else path.stem
        pickle = path.with_name(f"{stem}.bin")
        torch.save(load_file(path), pickle)
        path.unlink()
        shown = refusal(folder, family)
        assert shown.startswith(
            f"{pickle} is a pickle file, which can execute arbitrary code"
        )
        assert shown.endswith("or set allow_pickled_weights to true if you trust it.")
        source = opened(folder, family, allow_pickled_weights=True)
        expected = state(folder_source(folders[family], [part]), family, part)
        assert_same(expected, state(source, family, part))
        # The table of a pickle is examined as any other.
        tensors = torch.load(pickle)
        tensors.pop(min(tensors))
        torch.save(tensors, pickle)
        assert "does not contain a complete" in refusal(
            folder, family, allow_pickled_weights=True
        )
        pickle.write_bytes(b"cos\nsystem\n(S'exit'\ntR.")
        assert "cannot be read (" in refusal(folder, family, allow_pickled_weights=True)

    @pytest.mark.parametrize("part", ["text_encoder", "unet"])
    def test_pickles_from_before_torch_wrote_archives(
        self, copy, folders, part
    ) -> None:
        folder = copy("sd15")
        path = weights_of(folder, part)
        stem = "pytorch_model" if part.startswith("text") else path.stem
        pickle = path.with_name(f"{stem}.bin")
        old = {"_use_new_zipfile_serialization": False}
        torch.save(load_file(path), pickle, **old)
        path.unlink()
        source = opened(folder, "sd15", allow_pickled_weights=True)
        expected = state(folder_source(folders["sd15"], [part]), "sd15", part)
        assert_same(expected, state(source, "sd15", part))

    @pytest.mark.parametrize(
        ("part", "stem"),
        [("unet", "pytorch_model"), ("text_encoder", "diffusion_pytorch_model")],
    )
    def test_a_pickle_named_as_the_other_library_does(self, copy, part, stem) -> None:
        folder = copy("sd15")
        path = weights_of(folder, part)
        torch.save(load_file(path), path.with_name(f"{stem}.bin"))
        path.unlink()
        shown = refusal(folder, "sd15", allow_pickled_weights=True)
        assert f"the folder has config.json, {stem}.bin." in shown

    @pytest.mark.parametrize(
        ("family", "part"), [("sd15", "unet"), ("flux", "text_encoder_2")]
    )
    def test_a_tensor_that_the_index_does_not_name(self, copy, family, part) -> None:
        folder = copy(family)
        _, index = shard(weights_of(folder, part))
        table = json.loads(index.read_text())
        gone = max(table["weight_map"])
        del table["weight_map"][gone]
        index.write_text(json.dumps(table))
        shown = refusal(folder, family)
        assert shown.startswith(f"{folder / part} does not contain a complete {part}: ")

    def test_a_pickle_beside_the_weights_is_not_opened(self, copy) -> None:
        folder = copy("sd15")
        (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n")
        opened(folder, "sd15")

    def test_weights_of_another_name(self, copy) -> None:
        folder = copy("sd15")
        path = weights_of(folder, "vae")
        path.rename(path.with_name("sd15_vae.safetensors"))
        assert (
            "diffusion_pytorch_model.safetensors is missing, and the folder has "
            "config.json, "
            "sd15_vae.safetensors."
        ) in refusal(folder, "sd15")

    def test_a_tokenizer_without_a_vocabulary(self, copy) -> None:
        folder = copy("sd15")
        for path in (folder / "tokenizer").iterdir():
            if path.name != "tokenizer_config.json":
                path.unlink()
        assert f"{folder / 'tokenizer'} contains no vocabulary" in refusal(
            folder, "sd15"
        )

    def test_a_tokenizer_that_makes_what_the_encoder_does_not_read(self, copy) -> None:
        folder = copy("sd15")
        path = folder / "tokenizer" / "tokenizer_config.json"
        kept = json.loads(path.read_text())
        for length in (10**9, 78, 0):
            path.write_text(json.dumps({**kept, "model_max_length": length}))
            shown = refusal(folder, "sd15")
            assert shown.startswith(f"The tokenizer has model_max_length={length:.3g}")
        path.write_text(json.dumps({**kept, "model_max_length": 7}))
        opened(folder, "sd15")

    def test_tokenizers_of_unequal_lengths(self, copy) -> None:
        folder = copy("sdxl")
        path = folder / "tokenizer" / "tokenizer_config.json"
        kept = json.loads(path.read_text())
        path.write_text(json.dumps({**kept, "model_max_length": 5}))
        shown = refusal(folder)
        assert "uses the same sequence length for all text encoders" in shown
        assert "tokenizer makes 5, tokenizer_2 makes 77." in shown
        other = folder / "tokenizer_2" / "tokenizer_config.json"
        changed = {**json.loads(other.read_text()), "model_max_length": 5}
        other.write_text(json.dumps(changed))
        opened(folder)
        flux = copy("flux")
        path = flux / "tokenizer" / "tokenizer_config.json"
        kept = json.loads(path.read_text())
        path.write_text(json.dumps({**kept, "model_max_length": 5}))
        opened(flux, "flux")

    @pytest.mark.parametrize(
        ("part", "key", "value"),
        [
            *(("vae", "scaling_factor", v) for v in (None, "0.18", 0, -1.0, True, [1])),
            ("vae", "shift_factor", "0.1"),
            ("vae", "latents_std", [1.0, 0.0, 1.0, 1.0]),
            ("vae", "latents_mean", 0.5),
            *(("text_encoder", "eos_token_id", v) for v in (None, "2", [2], -1)),
        ],
    )
    @pytest.mark.parametrize("family", ["sdxl", "flux"])
    def test_values_that_no_loader_checks(
        self, copy, family: str, part: str, key: str, value: Any
    ) -> None:
        folder = copy(family)
        settings(folder, part, **{key: value})
        shown = refusal(folder, family)
        assert shown.startswith(f"{folder / part}: {key} must be ")
        assert shown.endswith("Download config.json again.")

    @pytest.mark.parametrize(
        "value", [{}, "nf4", {"quant_method": "nobody"}, {"quant_method": ["x"]}, [1]]
    )
    @pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
    def test_a_quantization_that_is_none(self, copy, part: str, value: Any) -> None:
        folder = copy("sdxl")
        settings(folder, part, quantization_config=value)
        shown = refusal(folder)
        assert shown.startswith(
            f"{folder / part}: the quantization_config is not supported"
        )

    def test_values_that_are_left_out(self, copy) -> None:
        folder = copy("sdxl")
        settings(folder, "vae", shift_factor=None, quantization_config=None)
        opened(folder)

    @pytest.mark.parametrize("length", ["77", 77.5, [77]])
    def test_a_tokenizer_whose_length_is_no_number(self, copy, length: Any) -> None:
        folder = copy("sd15")
        path = folder / "tokenizer" / "tokenizer_config.json"
        kept = json.loads(path.read_text())
        path.write_text(json.dumps({**kept, "model_max_length": length}))
        assert "which is not an integer" in refusal(folder, "sd15")

    @pytest.mark.parametrize(
        "changes",
        [
            {"_class_name": "FlowMatchEulerDiscreteScheduler"},
            {"_class_name": "EDMEulerScheduler"},
            {"_class_name": "EulerDiscreteScheduler", "trained_betas": [0.1]},
        ],
    )
    @pytest.mark.parametrize("family", UNETS)
    def test_a_scheduler_without_betas(self, copy, family: str, changes) -> None:
        folder = copy(family)
        path = folder / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps(changes))
        assert "has no 1000 betas" in refusal(folder, family)

    @pytest.mark.parametrize(
        "text", ["{}", '{"_class_name": "UNet2DModel"}', "[" * 100_000, '{"a": NaN']
    )
    def test_a_scheduler_that_is_none(self, copy, text: str) -> None:
        folder = copy("sd15")
        (folder / "scheduler" / "scheduler_config.json").write_text(text)
        assert str(folder / "scheduler") in refusal(folder, "sd15")


def shard(path: Path, variant: str = "") -> tuple[list[Path], Path]:
    """Write a file as two shards with their index; the file is gone after it."""
    tensors = load_file(path)
    names, where, shards = sorted(tensors), {}, []
    for number in (1, 2):
        name = f"{path.stem}{variant}-0000{number}-of-00002.safetensors"
        own = names[number - 1 :: 2]
        save_file({n: tensors[n] for n in own}, path.with_name(name))
        where |= dict.fromkeys(own, name)
        shards.append(path.with_name(name))
    path.unlink()
    index = path.with_name(f"{path.stem}.safetensors.index{variant}.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return shards, index


class TestSingleFiles:
    @pytest.fixture
    def changed(self, twins: Twins, tmp_path: Path) -> Callable[..., Path]:
        def make(*gone: str) -> Path:
            path = tmp_path / "model.safetensors"
            every = load_file(twins.file)
            save_file({n: t for n, t in every.items() if n not in gone}, path)
            return path

        return make

    @pytest.mark.parametrize("leaf", ["0.weight", "0.bias", "2.weight", "2.bias"])
    def test_a_tensor_that_the_converter_asks_for(self, changed, leaf: str) -> None:
        path = changed(f"{UNET}label_emb.0.{leaf}")
        shown = refusal(path)
        assert shown.startswith(f"{path} does not contain a complete unet: ")
        assert shown.endswith("Use a checkpoint that contains all parts of the model.")

    @pytest.mark.parametrize(
        ("name", "part"),
        [
            (f"{UNET}input_blocks.0.0.weight", "unet"),
            ("first_stage_model.encoder.down.0.block.0.conv1.weight", "vae"),
            (
                "conditioner.embedders.0.transformer.text_model.embeddings."
                "token_embedding.weight",
                "text_encoder",
            ),
            (
                "conditioner.embedders.1.model.transformer.resblocks.0.attn."
                "in_proj_weight",
                "text_encoder_2",
            ),
            ("conditioner.embedders.1.model.text_projection", "text_encoder_2"),
        ],
    )
    def test_tensors_that_identify_layouts(self, changed, name, part) -> None:
        path = changed(name)
        assert f"{path} does not contain a complete {part}: " in refusal(path)

    def test_bytes_behind_the_end(self, twins: Twins, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        size = twins.file.stat().st_size
        path.write_bytes(twins.file.read_bytes() + b"\0" * 7)
        assert refusal(path) == (
            f"{path} is damaged: it has {size + 7:,} bytes, but should have "
            f"{size:,}. Download it again."
        )

    def test_the_whole_file_still_opens(self, twins: Twins) -> None:
        assert found(twins.file).has("unet")

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize(
        ("context", "sizes", "name"),
        [
            (1024, (), "Stable Diffusion 2"),
            (1280, ("label_emb.0.0.weight",), "the SDXL refiner"),
        ],
    )
    def test_relatives(self, tmp_path: Path, family, context, sizes, name) -> None:
        shapes = {
            "input_blocks.0.0.weight": (320, 4, 3, 3),
            "out.2.weight": (4, 320, 3, 3),
            "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (640, context),
            **dict.fromkeys(sizes, (1536, 2560)),
        }
        path = write_sparse(
            tmp_path / "model.safetensors", {UNET + n: s for n, s in shapes.items()}
        )
        assert refusal(path, family).startswith(
            f"{path} is {name}, but model_type is {family!r}. Training a LoRA for it "
            "is not supported. Use a text-to-image "
        )

    @pytest.mark.parametrize(
        ("start", "name"),
        [
            ("joint_blocks.0.x_block.attn.qkv", "Stable Diffusion 3"),
            ("distilled_guidance_layer.in_proj", "Chroma"),
            ("double_stream_modulation_img.lin", "FLUX.2"),
        ],
    )
    def test_strangers(self, tmp_path: Path, start: str, name: str) -> None:
        path = write_sparse(
            tmp_path / "model.safetensors", {f"{UNET}{start}.weight": (2, 2)}
        )
        assert f"{path} is {name}, but model_type is 'flux'." in refusal(path, "flux")
