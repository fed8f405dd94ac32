"""One step of this package with a given batch and given noise, from an imported
configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from counted_draws import UNIFORM, CountedDraws, counted_randn
from taken_step import TakenStep
from torch import Tensor

from helpers.families import open_sdxl
from stiefel_lora.checkpoints.tokens import Caption
from stiefel_lora.config import parse_config
from stiefel_lora.config.importing import Imported
from stiefel_lora.data.encoded import EncodedSet
from stiefel_lora.files.kohya import save_kohya
from stiefel_lora.files.kohya_names import key_table
from stiefel_lora.files.weights import LoraFactors
from stiefel_lora.training import state as states
from stiefel_lora.training import trainer
from stiefel_lora.training.lora_reading import name_of
from stiefel_lora.training.loss.noise import NoiseSource
from stiefel_lora.training.loss.timesteps import PlaceDraw

__all__ = [
    "assert_same_step",
    "make_batch",
    "own_step",
    "relative_error",
    "renamed",
    "write_loras",
]

RANK = 4
TIMESTEPS = (0, 500, 999)


def make_batch(model: Path) -> dict[str, Tensor]:
    """Random latents and embeddings for the model in a folder."""
    config = open_sdxl(model).skeleton().config  # type: ignore[attr-defined]
    count = len(TIMESTEPS)
    torch.manual_seed(7)
    first = 768 if config.cross_attention_dim == 2048 else 16
    second = config.cross_attention_dim - first
    pooled = config.projection_class_embeddings_input_dim
    pooled -= 6 * config.addition_time_embed_dim
    return {
        "latents": torch.randn(count, 4, 8, 8),
        "embeds_1": torch.randn(count, 77, first),
        "embeds_2": torch.randn(count, 77, second),
        "pooled": torch.randn(count, pooled),
        "time_ids": torch.tensor([[70 + i, 90, i, 2, 64, 64] for i in range(count)]),
        "timesteps": torch.tensor(TIMESTEPS),
        "loss_weight": torch.tensor([1.0, 0.5, 2.0]),
        "mask": torch.rand(count, 1, 8, 8),
    }


def write_loras(
    folder: Path, model: Path, alphas: tuple[float, ...], takes: Callable[..., bool]
) -> None:
    """Write a random LoRA ``alpha-A.safetensors`` for each alpha.

    Args:
        folder: where to write.
        model: folder of the base model.
        alphas: alphas of the files, with the same factors.
        takes: whether a layer, given with its name, has a LoRA.
    """
    generator = torch.Generator().manual_seed(3)
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    for name, layer in open_sdxl(model).skeleton().named_modules():
        if takes(name, layer):
            rows, *columns = layer.weight.shape
            up = torch.randn(rows, RANK, *[1] * (len(columns) - 1), generator=generator)
            down = torch.randn(RANK, *columns, generator=generator)
            factors[f"unet.{name}"] = 0.05 * up, 0.1 * down
    for alpha in alphas:
        given = {name: LoraFactors(*pair, alpha) for name, pair in factors.items()}
        save_kohya(folder / f"alpha-{alpha:g}.safetensors", given)


def own_step(
    imported: Imported,
    folder: Path,
    batch: Mapping[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    captions: Sequence[str] = (),
    **changes: Any,
) -> dict[str, Tensor]:
    """Train one step with a batch. See :class:`TakenStep` for the result.

    Args:
        imported: the configuration.
        folder: where to write the run.
        batch: latents, encoded captions and other inputs. Without ``timesteps``, they
            are drawn.
        monkeypatch: for what is replaced during the step.
        captions: captions for trained text encoders.
        changes: settings that differ from the configuration.
    """
    built: list[states.TrainingState] = []
    draws = CountedDraws()
    plain_draw, plain_loss = NoiseSource.draw, states.TrainingState.loss
    build_state, places = trainer.build_state, PlaceDraw.draw
    step = TakenStep(lambda: _named(built[0]))

    def build(*given: Any) -> states.TrainingState:
        built.append(build_state(*given))
        return built[-1]

    def loss_of(state: states.TrainingState, *given: Any) -> Tensor:
        loss = plain_loss(state, *given)
        step.add("loss", loss)
        return loss

    def draw(source: NoiseSource, latents: Tensor) -> tuple[Tensor, Tensor]:
        noise, timesteps = plain_draw(source, latents)
        timesteps = batch.get("timesteps", timesteps)
        step.add("timesteps", timesteps)
        return noise, timesteps

    def drawn_places(*given: Any) -> Tensor:
        with counted_randn(draws if "timesteps" not in batch else None):
            return places(*given)

    config = parse_config(
        {**imported.data, "output_dir": str(folder / "runs"), "device": "cpu"} | changes
    )
    own = dict(batch)
    if "embeds_1" in batch:
        own["embeds"] = torch.cat([batch["embeds_1"], batch["embeds_2"]], -1)
    if not config.masked_training:
        del own["mask"]
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "build_state", build)
        patch.setattr(states.TrainingState, "loss", loss_of)
        patch.setattr(EncodedSet, "batch", lambda *_: dict(own))
        patch.setattr(EncodedSet, "captions", _captions(captions))
        patch.setattr(NoiseSource, "draw", draw)
        patch.setattr(NoiseSource, "_normal", lambda _, shape: draws.normal(shape))
        patch.setattr(NoiseSource, "_uniform", lambda _: torch.tensor(UNIFORM))
        patch.setattr(PlaceDraw, "draw", drawn_places)
        with step.recorded():
            trainer.train(config)
    for number, value in enumerate(draws.drawn):
        step.add(f"drawn {number}", value)
    return step.tensors


def _captions(texts: Sequence[str]) -> Callable[..., list[Caption]]:
    return lambda images, _: [images._plan.encoded_as(text) for text in texts]


def _named(state: states.TrainingState) -> dict[str, Tensor]:
    found = {}
    for pair in state.pairs:
        name = name_of(pair, state.family.component, state.component is None)
        found[f"{name}.lora_up.weight"] = pair.up
        found[f"{name}.lora_down.weight"] = pair.down
    return found


def assert_same_step(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], rtol: float = 1e-5
) -> None:
    """Both steps have the same factors, noise, loss and gradient.

    The gradient of all factors together is compared to ``rtol``. That of a single one,
    whose norm may be 1e5 times smaller than their sum, to ten times that.
    """
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        if name.startswith(("drawn ", "before ")):
            assert torch.equal(value, found[name]), name
    assert relative_error(expected, found, "timesteps") <= rtol
    assert relative_error(expected, found, "loss") <= rtol
    assert relative_error(expected, found, "grad ") <= rtol
    for name in expected:
        if name.startswith("grad "):
            assert relative_error(expected, found, name) <= 10 * rtol, name
    # AdamW divides by the gradients, also by those that are hardly more than rounding.
    assert relative_error(expected, found, "after ") <= 10 * rtol


def relative_error(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], start: str
) -> float:
    """Norm of the difference of all tensors with such names, divided by their norm."""
    names = [name for name in expected if name.startswith(start)]
    lost = torch.stack([(found[name] - expected[name]).norm() for name in names])
    norm = torch.stack([expected[name].norm() for name in names])
    return float(lost.norm() / norm.norm())


def renamed(tensors: Mapping[str, Tensor], family: str) -> dict[str, Tensor]:
    """Replace kohya's names of layers by the canonical ones."""
    table, found = key_table(family), {}
    for name, value in tensors.items():
        kind, _, key = name.partition(" ")
        if ".lora_" in key:
            stem, _, factor = key.partition(".")
            key = f"{table.from_kohya(stem)}.{factor}"
        found[f"{kind} {key}" if key else kind] = value
    return found
