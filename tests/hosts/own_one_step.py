"""One step of this package with a given batch and given noise, from an imported
configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from counted_draws import UNIFORM, CountedDraws
from taken_step import TakenStep
from torch import Tensor

from helpers.families import open_sdxl
from stiefel_lora.config import parse_config
from stiefel_lora.config.importing import Imported
from stiefel_lora.families.unet import UNetFamily
from stiefel_lora.files.kohya import save_kohya
from stiefel_lora.files.weights import LoraFactors
from stiefel_lora.training import state as states
from stiefel_lora.training import trainer
from stiefel_lora.training.loss.noise import NoiseSource

__all__ = [
    "assert_same_step",
    "make_batch",
    "own_step",
    "relative_error",
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
) -> dict[str, Tensor]:
    """Train one step with the batch. See :class:`TakenStep` for the result."""
    built: list[states.TrainingState] = []
    draws = CountedDraws()

    def build(*given: Any) -> states.TrainingState:
        built.append(build_state(*given))
        return built[-1]

    def loss_of(state: states.TrainingState, *given: Any) -> Tensor:
        loss = plain_loss(state, *given)
        step.add("loss", loss)
        return loss

    build_state, plain_loss = trainer.build_state, states.TrainingState.loss
    changes = {"output_dir": str(folder / "runs"), "device": "cpu"}
    config = parse_config({**imported.data, **changes})
    own = {**batch, "embeds": torch.cat([batch["embeds_1"], batch["embeds_2"]], -1)}
    if not config.masked_training:
        del own["mask"]
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "build_state", build)
        patch.setattr(states.TrainingState, "loss", loss_of)
        patch.setattr(states, "batch_with_text", lambda *_: own)
        patch.setattr(NoiseSource, "_normal", lambda _, shape: draws.normal(shape))
        patch.setattr(NoiseSource, "_uniform", lambda _: torch.tensor(UNIFORM))
        patch.setattr(UNetFamily, "timesteps_at", lambda *_: batch["timesteps"])
        step = TakenStep(lambda: _named(built[0]))
        with step.recorded():
            trainer.train(config)
    for number, value in enumerate(draws.drawn):
        step.add(f"drawn {number}", value)
    return step.tensors


def _named(state: states.TrainingState) -> dict[str, Tensor]:
    found = {}
    for pair in state.pairs:
        found[f"{state.family.component}.{pair.name}.lora_up.weight"] = pair.up
        found[f"{state.family.component}.{pair.name}.lora_down.weight"] = pair.down
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
