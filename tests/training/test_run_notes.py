"""Metadata about images and settings in the files of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from helpers.runs import make_images, tiny_config
from stiefel_lora.families.sd15 import Sd15
from stiefel_lora.families.sdxl import Sdxl
from stiefel_lora.files import inspect_lora, open_lora
from stiefel_lora.files.tools.inspection_facts import facts_of
from stiefel_lora.training.trainer import train


def notes_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_files_tell_of_folders_buckets_tags_and_settings(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    few = make_images(tmp_path / "few", count=2)
    Image.fromarray(np.zeros((24, 48, 3), dtype=np.uint8)).save(few / "wide.png")
    many = make_images(tmp_path / "many", count=5, seed=1)
    config = tiny_config(
        tiny_sdxl,
        tmp_path,
        concepts=[
            {"path": str(few), "repeats": 3},
            {"path": str(many), "balancing": 2, "balancing_strategy": "SAMPLES"},
            {"path": str(make_images(tmp_path / "reg", count=4)), "is_reg": True},
        ],
        bucket_step=8,
        steps=2,
        gradient_accumulation_steps=2,
        loss_weight_fn="min_snr_gamma",
        offset_noise_weight=0.05,
        rank_pattern={"attn2": 2},
    )
    result = train(config)
    for path in result.lora_files:
        notes = notes_of(path)
        assert json.loads(notes["ss_dataset_dirs"]) == {
            "few": {"n_repeats": 3, "img_count": 3},
            "many": {"n_repeats": 0.4, "img_count": 5},
        }
        # As many as the others together: 9 + 2 visits of 4 images.
        reg = {"reg": {"n_repeats": 2.75, "img_count": 4}}
        assert json.loads(notes["ss_reg_dataset_dirs"]) == reg
        assert (notes["ss_num_train_images"], notes["ss_num_reg_images"]) == (
            "11",
            "11",
        )
        tags = json.loads(notes["ss_tag_frequency"])
        assert tags["few"] == {"thing 0": 1, "thing 1": 1}
        assert json.loads(notes["ss_bucket_info"])["buckets"] == {
            "0": {"resolution": [32, 32], "count": 6 + 2 + 11},
            "1": {"resolution": [40, 24], "count": 3},
        }
        message = {
            "ss_network_dim": "4",
            "ss_seed": "42",
            "ss_total_batch_size": "4",
            "ss_mixed_precision": "no",
            "ss_min_snr_gamma": "5.0",
            "ss_noise_offset": "0.05",
            "ss_enable_bucket": "True",
        }
        assert message.items() <= notes.items()
        assert "ss_text_encoder_lr" not in notes
        assert str(tmp_path) not in str(notes)


def test_files_hold_the_trigger_word_and_inspect_shows_it(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []
    real = Sdxl.encode_caption

    def noted(family: Sdxl, text: str, *more: Any) -> Any:
        prompts.append(text)
        return real(family, text, *more)

    monkeypatch.setattr(Sdxl, "encode_caption", noted)
    config = tiny_config(
        tiny_sdxl,
        tmp_path,
        steps=1,
        trigger_word="ohwx",
        validate_every=1,
        sample_every=1,
        samples=[{"prompt": "[trigger], a hill", "steps": 1}],
    )
    result = train(config)
    seen = {f"ohwx, thing {number}" for number in range(4)}
    assert set(prompts) - {""} == {*seen, "ohwx, a hill"}
    for path in result.lora_files:
        notes = notes_of(path)
        assert notes["modelspec.trigger_phrase"] == "ohwx"
        assert json.loads(notes["ss_tag_frequency"])["train"]["ohwx"] == 4
        assert facts_of(inspect_lora(open_lora(path)))["trigger words"] == "ohwx"


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
def test_training_and_samples_use_the_same_layer_and_length(
    tiny_sd15: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: bool
) -> None:
    used: list[tuple[int, ...]] = []
    predict, sample = Sd15.predict, Sd15.sample

    def noted(family: Sd15, denoiser: Any, batch: Any, *more: Any) -> Any:
        used.append(tuple(batch["embeds"].shape[1:]))
        return predict(family, denoiser, batch, *more)

    def drawn(family: Sd15, request: Any) -> Any:
        used.append(tuple(request.positive["embeds"].shape))
        expected = family.encode_caption("a hill")["embeds"]
        assert bool((request.positive["embeds"] == expected).all())
        return sample(family, request)

    monkeypatch.setattr(Sd15, "predict", noted)
    monkeypatch.setattr(Sd15, "sample", drawn)
    config = tiny_config(
        tiny_sd15,
        tmp_path,
        model_type="sd15",
        layer_filter=["attentions"],
        steps=1,
        sample_every=1,
        samples=[{"prompt": "a hill", "steps": 1}],
        text_encoder_layer_skip=1,
        max_token_length=150,
        train_text_encoder=trained,
    )
    result = train(config)
    assert set(used) == {(152, 16)}
    assert len(used) >= 3
    for path in result.lora_files:
        notes = notes_of(path)
        # The second to last layer, as sd-scripts counts.
        assert notes["ss_clip_skip"] == notes["modelspec.encoder_layer"] == "2"
        assert notes["ss_max_token_length"] == "150"
