"""The exact parts of an estimate against real models, factors and optimizers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
)

from helpers.tiny_sdxl import tiny_unet
from stiefel_lora.adapters import add_lora, select_text_layers
from stiefel_lora.config import TrainConfig, parse_config
from stiefel_lora.memory import MemoryEstimate, estimate_disk, estimate_memory
from stiefel_lora.memory.estimate import CONTEXT, walk
from stiefel_lora.memory.selection import trained_layers
from stiefel_lora.memory.steps import Layer, Unit
from stiefel_lora.memory.weight_bytes import QUANTIZED, ROW, denoiser_bytes
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.optim.factory import create_optimizer

VAE = {
    "block_out_channels": (8, 16, 16),
    "layers_per_block": 1,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "norm_num_groups": 4,
    "mid_block_add_attention": False,
}
TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
SETTINGS: dict[str, Any] = {
    "unet": dict(tiny_unet().config),
    "vae": VAE,
    "text_encoder": TEXT,
    "text_encoder_2": TEXT,
}


MANY_RANKS: dict[str, Any] = {
    "layer_filter": ["down_blocks.1.attentions.0", "down_blocks.1.resnets.0"],
    "conv_rank": 2,
    "rank_pattern": {"attn2": 3},
}


def run_of(**changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "resolution": 64,
        "lora_rank": 4,
        "layer_filter": ["down_blocks.1.attentions.0"],
        **changes,
    }
    return parse_config(settings)


def estimate(**changes: Any) -> MemoryEstimate:
    return estimate_memory(run_of(**changes), SETTINGS)


def bytes_of(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))


@pytest.mark.parametrize("method", CATALOGUE)
@pytest.mark.parametrize("ranks", [{}, MANY_RANKS], ids=["same rank", "many"])
def test_factors_and_state_are_those_of_a_real_run(
    method: str, ranks: dict[str, Any]
) -> None:
    if CATALOGUE[method].extra == "quant":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    model: Any = tiny_unet()
    config = run_of(optimizer={"name": method}, **ranks)
    targets = trained_layers(config, walk(config, SETTINGS))
    assert len(set(targets.values())) == (3 if ranks else 1)
    add_lora(
        model,
        rank=4,
        alpha=4,
        targets=[layer.name for layer in targets],
        method=CATALOGUE[method],
        seed=0,
        ranks={layer.name: rank for layer, rank in targets.items()},
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = create_optimizer(method, model)
    for _ in range(2):
        for parameter in trained:
            parameter.grad = torch.randn(parameter.shape)
        optimizer.step()
    found = estimate(optimizer={"name": method}, **ranks)
    assert found.factors == bytes_of(trained)
    assert found.state == sum(
        bytes_of(state.values()) for state in optimizer.state.values()
    )


@pytest.mark.parametrize("method", ["adamw", "stiefel_lora"])
def test_text_encoders_that_are_trained_are_those_of_a_real_run(method: str) -> None:
    both = {"train_text_encoder": True, "train_text_encoder_2": True}
    config = run_of(optimizer={"name": method}, weight_dtype="bfloat16", **both)
    encoders = {
        "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT)),
        "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**TEXT)),
    }
    weights = [p.bfloat16() for e in encoders.values() for p in e.parameters()]
    model = nn.ModuleDict({"unet": tiny_unet(), **encoders})
    targets = {
        part: select_text_layers(encoder, family="sdxl", part=part)
        for part, encoder in encoders.items()
    }
    steps = walk(config, SETTINGS)
    targets["unet"] = [layer.name for layer in trained_layers(config, steps)]
    for part, layers in targets.items():
        entry = CATALOGUE[method]
        settings: dict[str, Any] = {"rank": 4, "alpha": 4, "seed": 0}
        add_lora(model[part], targets=layers, method=entry, **settings)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = create_optimizer(method, model)
    for _ in range(2):
        for parameter in trained:
            parameter.grad = torch.randn(parameter.shape)
        optimizer.step()
    found = estimate_memory(config, SETTINGS)
    assert found.factors == bytes_of(trained)
    assert found.state == sum(
        bytes_of(state.values()) for state in optimizer.state.values()
    )
    stays = found.parts[1]
    assert stays.exact
    assert stays.name == "trained text encoders, bfloat16"
    assert stays.bytes == bytes_of(weights)


def test_what_text_encoders_cost() -> None:
    plain = estimate()
    first = estimate(train_text_encoder=True)
    both = estimate(train_text_encoder=True, train_text_encoder_2=True)
    assert plain.training < first.training < both.training
    # Captions are cached for the one that is not trained: both are there before.
    assert first.encoding == plain.encoding > both.encoding
    deep = {**SETTINGS, "text_encoder": {**TEXT, "num_hidden_layers": 9}}
    cost = [
        estimate_memory(run_of(train_text_encoder=True, **again), deep).training
        - estimate_memory(run_of(**again), deep).training
        for again in ({}, {"gradient_checkpointing": True})
    ]
    assert 0 < cost[1] < cost[0]
    factors, images = {"factors": 0, "state": 0}, 10
    config = run_of(train_text_encoder=True, train_text_encoder_2=True)
    kept = estimate_disk(run_of(), SETTINGS, images, **factors).cache
    assert estimate_disk(config, SETTINGS, images, **factors).cache < kept


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_those_of_the_model(dtype: str) -> None:
    model = tiny_unet().to(getattr(torch, dtype))
    base = estimate(weight_dtype=dtype).parts[0]
    assert base.exact
    assert base.bytes == bytes_of(model.parameters())


@pytest.mark.parametrize("kind", QUANTIZED)
def test_quantized_weights_are_those_of_bitsandbytes(kind: str) -> None:
    """The bytes of a number, by the tensors that bitsandbytes makes of a layer."""
    functional = pytest.importorskip(
        "bitsandbytes.functional", reason="bitsandbytes is not installed"
    )
    weight = torch.randn(512, 512, dtype=torch.float16)
    if kind == "int8":
        packed, rows, _ = functional.int8_vectorwise_quant(weight)
        assert bytes_of([packed]) == QUANTIZED[kind] * weight.numel()
        assert bytes_of([rows]) == ROW * weight.shape[0]
        return
    packed, state = functional.quantize_4bit(
        weight, quant_type="nf4", compress_statistics=True
    )
    kept = bytes_of([packed, state.absmax, state.state2.absmax])
    assert kept == QUANTIZED[kind] * weight.numel()


def test_what_is_quantized_is_in_the_repeated_blocks() -> None:
    steps = walk(run_of(), SETTINGS)
    blocks = [
        step
        for unit in steps
        if isinstance(unit, Unit) and unit.repeated
        for step in unit.steps
        if isinstance(step, Layer)
    ]
    assert all("transformer_blocks" in layer.name for layer in blocks)
    weights = sum(layer.outputs * layer.inputs for layer in blocks)
    saved = denoiser_bytes(steps, "bfloat16", "bfloat16") - denoiser_bytes(
        steps, "nfloat4", "bfloat16"
    )
    # Rounded to whole bytes.
    assert saved == pytest.approx(weights * (2 - QUANTIZED["nfloat4"]), abs=1)


def test_parts_and_moments_add_up() -> None:
    found = estimate(optimizer={"name": "stella"}, device="cuda")
    assert found.training == sum(part.bytes for part in found.parts)
    assert found.total == max(found.training, found.encoding)
    assert found.parts[-1].bytes == CONTEXT
    assert not found.sampling


def test_a_cpu_has_no_cuda_context() -> None:
    assert estimate(device="cpu").parts[-1].bytes == 0


def test_what_costs_memory() -> None:
    plain = estimate().training
    assert estimate(batch_size=2).training > plain
    assert estimate(lora_rank=8).training > plain
    assert estimate(resolution=128).training > plain
    assert estimate(gradient_checkpointing=True).training < plain
    assert estimate(train_dtype="float32").training > plain
    assert estimate(weight_dtype="float32").training > plain
    assert estimate(ema="gpu").training > plain
    assert estimate(ema="cpu").training == plain
    assert estimate(use_dora=True, output_formats=["peft"]).training > plain


def test_samples_need_the_decoder_beside_the_run() -> None:
    samples = [{"prompt": "x", "width": 256, "height": 256}]
    with_samples = estimate(samples=samples, sample_every=2, resolution=32)
    assert with_samples.sampling > estimate(resolution=32).training
    assert with_samples.total == with_samples.sampling


@pytest.mark.parametrize("side", [64, 128])
def test_the_vae_needs_what_it_holds_at_its_widest(side: int) -> None:
    """Counted in real passes; within a quarter."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from stiefel_lora.memory.vae import decoding_bytes, encoding_bytes

    class Largest(TorchDispatchMode):
        """The largest tensor that is made."""

        bytes = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                size = result.untyped_storage().nbytes()
                self.bytes = max(self.bytes, size)
            return result

    vae: Any = AutoencoderKL(**VAE)
    with torch.no_grad(), Largest() as encoding:
        latents = vae.encode(torch.zeros(1, 3, side, side)).latent_dist.mode()
    with torch.no_grad(), Largest() as decoding:
        vae.decode(latents)
    # Three tensors of that size are alive at a time: input, normalized, activated.
    assert 3 * encoding.bytes == pytest.approx(encoding_bytes(VAE, side), rel=0.25)
    assert 3 * decoding.bytes == pytest.approx(decoding_bytes(VAE, side), rel=0.25)


def test_disk() -> None:
    config = run_of(weight_dtype="float32", train_dtype="float32")
    found = estimate_disk(config, SETTINGS, images=10, factors=1000, state=3000)
    tokens, width = 77, SETTINGS["unet"]["cross_attention_dim"]
    content = 10 * 4 * (4 * 16 * 16 + tokens * width)
    assert content < found.cache < 1.5 * content
    assert found.checkpoints == (config.keep_checkpoints + 1) * 4000
    assert found.files == 2 * 500


def test_a_process_has_its_part_of_the_batch_and_the_buffer_of_the_gradients() -> None:
    def parts(count: int, **changes: Any) -> dict[str, int]:
        config = run_of(optimizer={"name": "adamw"}, **changes)
        found = estimate_memory(config, SETTINGS, count)
        return {part.name: part.bytes for part in found.parts}

    assert parts(2, batch_size=8) == parts(1, batch_size=4)
    # With little to keep for the backward pass, the buffer is larger.
    small = {"batch_size": 2, "resolution": 32, "lora_rank": 32}
    small |= {"layer_filter": ["attentions"], "gradient_checkpointing": True}
    one, two = parts(1, **{**small, "batch_size": 1}), parts(2, **small)
    step = "activations or optimizer step"
    assert one[step] < two[step] == two["gradients"]


def test_a_divided_base_model_is_a_share_and_the_gathered_blocks() -> None:
    model = tiny_unet()
    # The units that training.sharding gathers.
    units = [
        part
        for part in model.modules()
        if type(part).__name__ in (*model._repeated_blocks, "ResnetBlock2D")
    ]
    sizes = [bytes_of(unit.parameters()) for unit in units]
    whole = bytes_of(model.parameters())
    settings = {"weight_dtype": "float32", "shard_base_model": True, "batch_size": 4}
    alone = estimate_memory(run_of(**settings), SETTINGS)
    shared = estimate_memory(run_of(**settings), SETTINGS, 4)
    assert alone.parts[0].bytes == whole
    own, gathered = shared.parts[:2]
    assert own.bytes == -(-whole // 4)
    assert gathered.bytes == whole - sum(sizes) + 3 * max(sizes)
    # Scales of quantized weights are not divided.
    settings["weight_dtype"] = "nfloat4"
    one, four = (
        estimate_memory(run_of(**settings), SETTINGS, count).parts[0].bytes
        for count in (1, 4)
    )
    assert one / 4 < four < one / 3
