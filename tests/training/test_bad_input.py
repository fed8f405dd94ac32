"""Bad input: one message, before anything expensive."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from helpers.runs import make_images, tiny_config
from stiefel_lora import (
    CheckpointError,
    ConfigError,
    DataError,
    InputError,
    ModelError,
    NonFiniteError,
    OptionError,
    OutputError,
)
from stiefel_lora._install import install_command
from stiefel_lora.families.sdxl import Sdxl
from stiefel_lora.training import read_events
from stiefel_lora.training.trainer import train


@pytest.fixture
def nothing_expensive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("weights were read before the input was checked")

    monkeypatch.setattr(Sdxl, "encode_caption", refuse)
    monkeypatch.setattr(Sdxl, "encode_image", refuse)
    monkeypatch.setattr(Sdxl, "denoiser", property(refuse))


def message_of(kind: type[InputError], model: Path, root: Path, **changes: Any) -> str:
    config = tiny_config(model, root, **changes)
    with pytest.raises(kind) as error:
        train(config)
    assert not list(root.glob("runs/*/events.jsonl"))
    return str(error.value)


@pytest.mark.usefixtures("nothing_expensive")
class TestBeforeAnythingExpensive:
    def test_empty_image_folder(self, tiny_sdxl: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        concepts = [{"path": str(tmp_path / "empty")}]
        assert "contains no images. Put images" in message_of(
            DataError, tiny_sdxl, tmp_path, concepts=concepts
        )

    def test_optimizer_whose_package_is_missing(
        self, tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("bitsandbytes", "bitsandbytes.optim"):
            monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(sys.modules, "stiefel_lora.optim.adamw_8bit", raising=False)
        optimizer = {"name": "adamw_8bit"}
        assert message_of(OptionError, tiny_sdxl, tmp_path, optimizer=optimizer) == (
            "AdamW 8-bit requires the package bitsandbytes, which is not installed. "
            f"Install it with: {install_command('quant')}"
        )

    def test_no_concepts(self, tiny_sdxl: Path, tmp_path: Path) -> None:
        assert message_of(ConfigError, tiny_sdxl, tmp_path, concepts=[]) == (
            "concepts is not set. Add a folder of images with captions."
        )

    def test_caption_that_is_not_utf8(self, tiny_sdxl: Path, tmp_path: Path) -> None:
        folder = make_images(tmp_path / "latin")
        (folder / "01.txt").write_bytes(b"\xff")
        assert "01.txt is not UTF-8 (byte 0)" in message_of(
            DataError, tiny_sdxl, tmp_path, concepts=[{"path": str(folder)}]
        )

    def test_flux_model(self, tmp_path: Path) -> None:
        model = tmp_path / "flux"
        model.mkdir()
        index = {"_class_name": "FluxPipeline", "_diffusers_version": "0.42.1"}
        (model / "model_index.json").write_text(json.dumps(index))
        assert message_of(ModelError, model, tmp_path).endswith(
            "(FluxPipeline), but model_type is 'sdxl'. Use a SDXL model."
        )

    def test_rank_larger_than_a_layer(self, tiny_sdxl: Path, tmp_path: Path) -> None:
        assert message_of(ConfigError, tiny_sdxl, tmp_path, lora_rank=64) == (
            "lora_rank=64 exceeds the size of the layer "
            "down_blocks.1.attentions.0.proj_in (32 x 32). Use a rank of at most "
            "32, or exclude the layer with layer_filter."
        )

    def test_unused_pattern(self, tiny_sdxl: Path, tmp_path: Path) -> None:
        assert "layer_filter: 'attn3' matches no layer" in message_of(
            ConfigError, tiny_sdxl, tmp_path, layer_filter=["attentions", "attn3"]
        )

    def test_output_folder_that_is_a_file(
        self, tiny_sdxl: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("")
        output = tmp_path / "file" / "runs"
        assert message_of(OutputError, tiny_sdxl, tmp_path, output_dir=str(output)) == (
            f"output_dir: the run folder {output / 'tiny'} is not writable (Not a "
            "directory). Set output_dir to a writable folder."
        )

    def test_float16_without_a_gpu(self, tiny_sdxl: Path, tmp_path: Path) -> None:
        assert message_of(
            ConfigError, tiny_sdxl, tmp_path, train_dtype="float16"
        ).startswith('train_dtype="float16" requires an NVIDIA GPU')

    def test_device_that_is_not_there(self, tiny_sdxl: Path, tmp_path: Path) -> None:
        assert "xpu is not available" in message_of(
            ConfigError, tiny_sdxl, tmp_path, device="xpu"
        )

    def test_custom_class_that_is_not_there(
        self, tiny_sdxl: Path, tmp_path: Path
    ) -> None:
        optimizer = {"name": "custom", "class": "no_such_module.Lion"}
        assert "no_such_module.Lion" in message_of(
            ConfigError, tiny_sdxl, tmp_path, optimizer=optimizer
        )

    def test_nothing_to_resume_from(self, tiny_sdxl: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError) as error:
            train(tiny_config(tiny_sdxl, tmp_path), resume="last")
        assert str(error.value) == (
            f"There is no checkpoint of 'tiny' in {tmp_path / 'runs'} to resume "
            "from. Start without --resume."
        )


def test_no_image_can_be_read(tiny_sdxl: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no picture")
    message = message_of(
        DataError, tiny_sdxl, tmp_path, concepts=[{"path": str(folder)}]
    )
    assert message.startswith("The only image cannot be read. The first error is:")
    assert "a.png" in message


def test_broken_images_are_named_skipped_and_counted(
    tiny_sdxl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_images(tmp_path / "mixed", count=3)
    (folder / "00.png").write_bytes((folder / "00.png").read_bytes()[:200])
    (folder / "09.webp").write_text("a web page")
    config = tiny_config(tiny_sdxl, tmp_path, concepts=[{"path": str(folder)}], steps=1)
    result = train(config)
    assert result.pictures == 2
    assert [Path(text.split(" (")[0]).name for text in result.unreadable] == [
        "00.png",
        "09.webp",
    ]
    shown = capsys.readouterr().err
    assert "2 of 4 images cannot be read and are skipped" in shown
    assert "1 of 4 images have no caption" in shown


def test_nan_stops_the_run_and_the_last_good_checkpoint_stays(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    optimizer = {
        "name": "custom",
        "class": "helpers.poison.PoisonedSGD",
        "options": {"at": 2, "index": 2},
    }
    config = tiny_config(tiny_sdxl, tmp_path, optimizer=optimizer, checkpoint_every=1)
    with pytest.raises(NonFiniteError) as error:
        train(config)
    run = tmp_path / "runs" / "tiny"
    block = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    assert str(error.value).startswith(
        "Step 2: the weights contain NaN or infinity. The first block with NaN or "
        f"infinity is {block} (weight of A). The last valid checkpoint is "
        f"{run / 'checkpoints' / 'step-1'}."
    )
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-1"]
    assert list(read_events(run / "events.jsonl"))[-1]["type"] == "error"
    assert not list((run / "lora").iterdir())


def test_nan_loss_names_step_and_block(tiny_sdxl: Path, tmp_path: Path) -> None:
    optimizer = {
        "name": "custom",
        "class": "helpers.poison.PoisonedSGD",
        "options": {"at": 1, "index": 1},
    }
    with pytest.raises(NonFiniteError) as error:
        train(tiny_config(tiny_sdxl, tmp_path, optimizer=optimizer))
    assert str(error.value).startswith(
        "Step 2: the loss is nan. The first block with NaN or infinity is "
        "down_blocks.1.attentions.0.proj_in (weight of B). No checkpoint has been "
        "saved."
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_base_model_that_is_not_finite_is_named_not_the_settings(
    tiny_sdxl: Path, tmp_path: Path, value: float
) -> None:
    model = Path(shutil.copytree(tiny_sdxl, tmp_path / "model"))
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    _poison(model, "unet", name, value)
    with pytest.raises(NonFiniteError) as error:
        train(tiny_config(model, tmp_path))
    assert str(error.value).startswith(
        "Step 1: the loss is nan because the base model contains NaN or infinity, "
        f"first in {name}. Changing settings does not"
    )
    assert "learning_rate" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "name", "words"),
    [
        ("vae", "encoder.conv_in.bias", "The VAE of the base model returns NaN or inf"),
        (
            "text_encoder",
            "layers.0.layer_norm1.bias",
            "The text encoder of the base model",
        ),
    ],
)
def test_encoders_that_are_not_finite_fill_no_cache(
    tiny_sdxl: Path, tmp_path: Path, part: str, name: str, words: str
) -> None:
    model = Path(shutil.copytree(tiny_sdxl, tmp_path / "model"))
    _poison(model, part, name, math.nan)
    with pytest.raises(ModelError, match=words):
        train(tiny_config(model, tmp_path))


def _poison(model: Path, part: str, name: str, value: float) -> None:
    (path,) = (model / part).glob("*.safetensors")
    tensors = load_file(path)
    (found,) = [key for key in tensors if key.endswith(name)]
    tensors[found].view(-1)[0] = value
    save_file(tensors, path, {"format": "pt"})
