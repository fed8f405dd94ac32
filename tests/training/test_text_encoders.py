"""LoRAs on text encoders beside the one on the denoiser, SDXL and FLUX.1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    FluxPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)

from helpers.fixtures import StopAfter
from helpers.runs import (
    assert_same_factors,
    factors_of,
    make_images,
    tiny_config,
    tiny_flux_config,
)
from stiefel_lora import ConfigError
from stiefel_lora.checkpoints import ModelSource
from stiefel_lora.config import TrainConfig, parse_config
from stiefel_lora.data.order import Visit
from stiefel_lora.families import open_family
from stiefel_lora.files import load_lora
from stiefel_lora.training import TrainResult, read_events
from stiefel_lora.training.state import TrainingState
from stiefel_lora.training.trainer import Run, train

DENOISERS = {"sdxl": "unet", "sd15": "unet", "flux": "transformer"}
PIPELINES: dict[str, Any] = {
    "sdxl": StableDiffusionXLPipeline,
    "sd15": StableDiffusionPipeline,
    "flux": FluxPipeline,
}
TEXT: dict[str, Any] = {
    "train_text_encoder": True,
    "text_encoder_learning_rate": 0.1,
    "learning_rate": 0.2,
    "validate_every": 4,
    "sample_every": 4,
    "samples": [{"prompt": "thing 1", "steps": 2}],
}


def config_of(
    request: pytest.FixtureRequest, family: str, root: Path, **changes: Any
) -> TrainConfig:
    make = tiny_flux_config if family == "flux" else tiny_config
    both = {"train_text_encoder_2": True} if family == "sdxl" else {}
    settings = {"model_type": family, **TEXT, **both, **changes}
    return make(request.getfixturevalue(f"tiny_{family}"), root, **settings)


@pytest.fixture(scope="module", params=["sdxl", "flux", "sd15"])
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, TrainResult]:
    root = tmp_path_factory.mktemp(request.param)
    config = config_of(request, request.param, root)
    return request.param, Path(str(config.base_model_name)), train(config)


def test_files_hold_the_encoders_under_the_names_of_all_tools(
    trained: tuple[str, Path, TrainResult],
) -> None:
    family, _, result = trained
    kohya, peft = (load_lora(path) for path in result.lora_files)
    assert kohya.keys() == peft.keys()
    parts = {name.split(".")[0] for name in peft}
    # SDXL skips the last of two layers of its first encoder, and LoRA there too.
    skipped = "text_encoder.text_model.encoder.layers.1."
    if family == "sdxl":
        assert not any(name.startswith(skipped) for name in peft)
    denoiser = DENOISERS[family]
    second = {"text_encoder_2"} if family == "sdxl" else set()
    assert parts == {denoiser, "text_encoder", *second}
    assert all(".text_model.encoder.layers." in n for n in peft if "text" in n[:4])
    assert all(factors.up.any() and factors.down.any() for factors in peft.values())


def test_the_stock_pipeline_gives_the_encoders_of_the_run(
    trained: tuple[str, Path, TrainResult],
) -> None:
    family, model, result = trained
    weights = load_lora(result.lora_files[1])
    name = "text_encoder.text_model.encoder.layers.0.mlp.fc1"
    # diffusers reads FLUX.1 in kohya's format at its own width alone.
    for path in result.lora_files[family == "flux" :]:
        pipeline = PIPELINES[family].from_pretrained(model)
        plain = dict(pipeline.text_encoder.named_modules())
        key = next(k for k in plain if k.endswith("encoder.layers.0.mlp.fc1"))
        before = plain[key].weight.detach().clone()
        pipeline.load_lora_weights(path.parent, weight_name=path.name)
        pipeline.fuse_lora(components=["text_encoder"])
        layer = dict(pipeline.text_encoder.named_modules())[key]
        moved = layer.get_base_layer().weight - before
        wanted = weights[name].scale * weights[name].up @ weights[name].down
        assert torch.allclose(moved, wanted, atol=1e-5), path.name


def test_groups_have_rates_and_names_of_their_own(
    trained: tuple[str, Path, TrainResult],
) -> None:
    family, _, result = trained
    events = list(read_events(result.run_dir / "events.jsonl"))
    last = [event["values"] for event in events if event["type"] == "train"][-1]
    denoiser = DENOISERS[family]
    assert last[f"lr/{denoiser}"] == pytest.approx(0.2)
    assert last["lr/text_encoder"] == pytest.approx(0.1)
    if family == "sdxl":
        assert last["lr/text_encoder_2"] == pytest.approx(0.2)
    ranks = [event["values"] for event in events if event["type"] == "ranks"][-1]
    sections = {tag.split("/")[0] for tag in ranks}
    assert {f"effective_rank.{denoiser}", "effective_rank.text_encoder"} <= sections
    assert result.validation_after is not None


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_a_resumed_run_ends_with_the_same_bits(
    request: pytest.FixtureRequest, tmp_path: Path, stop_after: StopAfter, family: str
) -> None:
    """Gradient checkpointing, in the resumed run alone, changes none of them."""
    quiet = {"samples": [], "sample_every": 0, "validate_every": 0}
    quiet |= {"train_text_encoder_2": True}
    whole = train(config_of(request, family, tmp_path, run_name="whole", **quiet))
    quiet |= {"gradient_checkpointing": True}
    config = config_of(request, family, tmp_path, run_name="stopped", **quiet)
    with stop_after(2, "stop"):
        assert train(config).interrupted
    again = train(config, resume="last")
    assert_same_factors(whole, again)
    parts = {name.split(".")[0] for name in factors_of(again)}
    assert parts == {DENOISERS[family], "text_encoder", "text_encoder_2"}
    assert (
        load_lora(again.lora_files[0]).keys() == load_lora(again.lora_files[1]).keys()
    )


@pytest.mark.parametrize(
    ("family", "part"), [("flux", "text_encoder"), ("sdxl", "text_encoder_2")]
)
def test_an_encoder_that_is_not_trained_is_not_there(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    part: str,
) -> None:
    """Neither while the run trains and measures nor for its samples."""
    machines: list[TrainingState] = []
    loaded: list[str] = []
    prepare, load = Run.prepare, ModelSource.load

    def watched_load(source: ModelSource, name: str, *given: Any) -> Any:
        loaded.append(name)
        return load(source, name, *given)

    def watched_prepare(run: Run) -> TrainingState:
        machines.append(prepare(run))
        loaded.clear()
        return machines[0]

    monkeypatch.setattr(ModelSource, "load", watched_load)
    monkeypatch.setattr(Run, "prepare", watched_prepare)
    shuffled = {"enable_tag_shuffling": True, "tag_delimiter": " "}
    concepts = [{"path": str(make_images(tmp_path / "train")), **shuffled}]
    which = {"train_text_encoder": False, "train_text_encoder_2": False}
    which |= {f"train_{part}": True}
    rate = {"text_encoder_learning_rate": None}
    config = config_of(request, family, tmp_path, concepts=concepts, **which, **rate)
    result = train(config)
    assert set(loaded) == {"vae", "scheduler"}
    assert [*machines[0].family._encoders] == [part]  # type: ignore[attr-defined]
    assert any(name.startswith(part) for name in factors_of(result))
    # Outputs of the others belong to the caption given to the trained one.
    images, opened = machines[0].images, open_family(config, torch.device("cpu"))
    for number in range(10):
        visits = [Visit(1, number)]
        (caption,) = images.captions(visits)
        held = images.batch(visits)
        for name, tensor in opened.encode_caption(caption).items():
            assert torch.equal(held[name][0], tensor)


def test_an_encoder_that_the_model_does_not_have(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    config = config_of(request, "sd15", tmp_path, train_text_encoder_2=True)
    with pytest.raises(
        ConfigError, match=r"Stable Diffusion 1\.5 models have no text_encoder_2"
    ):
        train(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"text_encoder_learning_rate": 0.1},
            "has no effect if train_text_encoder is not true",
        ),
        (
            {"text_encoder_2_learning_rate": 0.1, "train_text_encoder": True},
            "text_encoder_2_learning_rate: 0.1 has no effect if train_text_encoder_2 "
            "is not true",
        ),
        (
            {"train_text_encoder": True, "lora_init": "loi"},
            "^train_text_encoder: is not supported with lora_init=loi. Remove one "
            "of them",
        ),
        (
            {"train_text_encoder_2": True, "lora_init": "loi"},
            "^train_text_encoder_2: is not supported with lora_init=loi. Remove one "
            "of them",
        ),
        (
            {"train_text_encoder_2": True, "use_dora": True},
            "^train_text_encoder_2: is not supported with use_dora=true. Remove one "
            "of them",
        ),
    ],
)
def test_what_does_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(settings)
