"""The prediction of the base model as the target: outside of masks, and of concepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers.fixtures import StopAfter
from helpers.runs import (
    assert_same_factors,
    make_images,
    tiny_config,
    tiny_flux_config,
)
from stiefel_lora import ConfigError
from stiefel_lora.adapters import without_lora
from stiefel_lora.config import TrainConfig, parse_config, remarks
from stiefel_lora.families import Prediction, open_family
from stiefel_lora.training.loss.denoising_loss import Objective
from stiefel_lora.training.state import TrainingState
from stiefel_lora.training.trainer import train

CPU = torch.device("cpu")


def prediction(seed: int, count: int = 2) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, count, 4, 8, 8, generator=generator)
    return Prediction(first, second)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("kind", ["mse", "mae"])
def test_the_loss_outside_is_that_of_onetrainer(kind: str, normalize: bool) -> None:
    found, base = prediction(0), prediction(1).target
    mask = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    strengths = {"mse_strength": 0.0, "mae_strength": 0.0, f"{kind}_strength": 0.5}
    objective = Objective(
        **strengths,
        unmasked_weight=0.2,
        normalize_masked_area=normalize,
        prior_weight=0.7,
    )
    batch = {"mask": mask, "loss_weight": torch.tensor([1.0, 3.0])}
    assert objective.needs_base(batch)

    def mean(target: Tensor, weights: Tensor) -> Tensor:
        error = (found.predicted - target).double()
        loss = error.abs() if kind == "mae" else error**2
        whole = (loss * weights.double()).mean((1, 2, 3))
        return whole / weights.double().mean((1, 2, 3)) if normalize else whole

    inside = mask.clamp(0.2, 1)
    expected = mean(found.target, inside) + 0.7 * mean(base, 1 - inside)
    losses = objective.losses(found, batch, None, base)
    wanted = 0.5 * expected * batch["loss_weight"]
    torch.testing.assert_close(losses.double(), wanted, rtol=1e-5, atol=1e-7)


def test_the_base_is_only_computed_if_it_is_used() -> None:
    white, gray = torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5)
    assert Objective(prior_weight=1).needs_base({"mask": gray})
    assert not Objective(prior_weight=1).needs_base({"mask": white})
    assert not Objective(prior_weight=1).needs_base({})
    assert not Objective(prior_weight=1, unmasked_weight=1).needs_base({"mask": gray})
    assert not Objective().needs_base({"mask": gray})
    for chosen in (True, False):
        batch = {"prior_prediction": torch.tensor([False, chosen])}
        assert Objective().needs_base(batch) is chosen
    # A mask that is white everywhere must not divide by zero.
    objective = Objective(prior_weight=1, normalize_masked_area=True)
    mask = torch.cat([torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)])
    found = prediction(0)
    losses = objective.losses(found, {"mask": mask}, None, found.target)
    assert losses.isfinite().all()


def test_images_with_a_prior_have_another_target() -> None:
    found, base = prediction(0), prediction(1).target
    batch = {"prior_prediction": torch.tensor([False, True])}
    losses = Objective().losses(found, batch, None, base)
    error = found.predicted - torch.stack([found.target[0], base[1]])
    torch.testing.assert_close(losses, error.square().mean((1, 2, 3)))


def test_skipped_layers_stay_skipped(tiny_sdxl: Path, tmp_path: Path) -> None:
    states: list[TrainingState] = []
    config = tiny_config(tiny_sdxl, tmp_path, steps=1, module_dropout=0.5)
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, states)
        train(config)
    model, dropout = states[0].model, states[0].dropout
    assert dropout is not None
    dropout.begin(3)
    layers: list[Any] = [m for m in model.modules() if hasattr(m, "lora_A")]
    before = [layer.disable_adapters for layer in layers]
    assert {True, False} == set(before)
    with without_lora(model):
        assert all(layer.disable_adapters for layer in layers)
    assert [layer.disable_adapters for layer in layers] == before
    assert all(p.requires_grad for p in states[0].parameters)


# Runs ---------------------------------------------------------------------------------


class Fixed:
    """Noise that is the same at every call."""

    def __init__(self, drawn: Tensor, timesteps: Tensor) -> None:
        self._drawn, self._timesteps = drawn, timesteps

    def draw(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        return self._drawn, self._timesteps

    def perturbed(self, noise: Tensor) -> Tensor | None:
        return None


def watch(patch: pytest.MonkeyPatch, states: list[TrainingState]) -> None:
    loss = TrainingState.loss

    def record(self: TrainingState, visits: Any, noise: Any) -> Tensor:
        states.append(self)
        return loss(self, visits, noise)

    patch.setattr(TrainingState, "loss", record)


def masked_images(root: Path) -> Path:
    """Images whose masks are white on one side, gray in the middle."""
    folder = make_images(root / "train")
    for number in (0, 1, 2):
        mask = np.zeros((32, 32), dtype=np.uint8)
        mask[:, : 8 * number] = 255
        mask[8:16] = 100
        Image.fromarray(mask).save(folder / f"{number:02d}-masklabel.png")
    return folder


def config_of(model: Path, root: Path, family: str, **changes: Any) -> TrainConfig:
    make = tiny_flux_config if family == "flux" else tiny_config
    masked_images(root)
    concepts = [
        {"path": str(root / "train")},
        {
            "path": str(make_images(root / "other", seed=3)),
            "prior_prediction": True,
            "loss_weight": 0.5,
        },
    ]
    settings = {
        "concepts": concepts,
        "steps": 2,
        "validate_every": 0,
        "learning_rate": 0.05,
        "batch_size": 4,
        "masked_training": True,
        "unmasked_weight": 0.1,
        "masked_prior_preservation_weight": 0.8,
        **changes,
    }
    return make(model, root, **settings)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("sdxl", {}),
    "dora": ("sdxl", {"use_dora": True, "optimizer": {"name": "adamw"}}),
    "one encoder": ("sdxl", {"train_text_encoder": True}),
    "both encoders": (
        "sdxl",
        {"train_text_encoder": True, "train_text_encoder_2": True},
    ),
    "stella": ("sdxl", {"lora_init": "stella", "optimizer": {"name": "stella"}}),
    "flux": ("flux", {"train_text_encoder": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_target_and_gradient_are_those_of_a_base_model_beside(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    family, changes = CASES[case]
    model = request.getfixturevalue(f"tiny_{family}")
    config = config_of(model, tmp_path, family, **changes)
    states: list[TrainingState] = []
    loss = TrainingState.loss
    with monkeypatch.context() as patch:
        watch(patch, states)
        train(config)
    state = states[-1]
    visits = state.order.batch(0, 4) + state.order.batch(4, 4)
    plain = state.images.batch(visits)
    latents = plain["latents"]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(latents.shape, generator=generator)
    timesteps = state.family.timesteps_at(torch.rand(len(visits), generator=generator))
    found = loss(state, visits, Fixed(noise, timesteps))  # type: ignore[arg-type]
    assert set(plain["prior_prediction"].tolist()) == {True, False}
    assert 0.3 < float(plain["mask"].mean()) < 0.9

    # A second model, opened without any LoRA.
    base = open_family(config, CPU)
    captions = state.images.captions(visits)
    with torch.no_grad():
        untouched = {**plain, **base.encode_captions(captions)}
        prior = base.predict(base.denoiser, untouched, noise, timesteps).predicted
    assert not any("lora" in name for name, _ in base.denoiser.named_parameters())
    batch = dict(plain)
    if state.family.trained_text:
        batch |= state.family.encode_captions(captions)
    own = state.family.predict(state.denoiser, batch, noise, timesteps)
    # The LoRA has changed the prediction.
    assert (own.predicted - prior).abs().max() > 1e-4
    mask = plain["mask"].clamp(0.1, 1)
    chosen = plain["prior_prediction"].view(-1, 1, 1, 1)
    target = torch.where(chosen, prior, own.target)
    inside = (mask * (own.predicted - target) ** 2).mean((1, 2, 3))
    outside = ((1 - mask) * (own.predicted - prior) ** 2).mean((1, 2, 3))
    expected = ((inside + 0.8 * outside) * plain["loss_weight"]).mean()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    gradients = [
        torch.autograd.grad(value, state.parameters, allow_unused=True)
        for value in (found, expected)
    ]
    assert any(g is not None and g.abs().max() > 0 for g in gradients[0])
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_at_the_start_only_the_images_have_a_gradient(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With black masks, the loss of a LoRA of zero is zero outside."""
    folder = make_images(tmp_path / "train")
    for number in range(4):
        mask = Image.new("L", (32, 32))
        mask.save(folder / f"{number:02d}-masklabel.png")
    config = tiny_config(
        tiny_sdxl,
        tmp_path,
        steps=2,
        validate_every=2,
        masked_training=True,
        unmasked_probability=0.0,
        unmasked_weight=0.0,
        masked_prior_preservation_weight=1.0,
    )
    losses: list[float] = []
    loss = TrainingState.loss

    def record(self: TrainingState, visits: Any, noise: Any) -> Tensor:
        found = loss(self, visits, noise)
        losses.append(found.item())
        return found

    monkeypatch.setattr(TrainingState, "loss", record)
    result = train(config)
    assert losses == [0, 0]
    assert result.validation_before == pytest.approx(result.validation_after)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["lora", "both encoders"])
def test_a_run_that_is_cut_ends_the_same(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter, case: str
) -> None:
    changes = {**CASES[case][1], "steps": 3, "gradient_checkpointing": True}
    whole = train(config_of(tiny_sdxl, tmp_path, "sdxl", run_name="whole", **changes))
    config = config_of(tiny_sdxl, tmp_path, "sdxl", **changes)
    with stop_after(1, "stop"):
        assert train(config).interrupted
    assert_same_factors(whole, train(config, resume="last"))


def test_settings_that_cannot_work_are_reported() -> None:
    with pytest.raises(ConfigError) as error:
        parse_config({"compile": True, "masked_prior_preservation_weight": 0.5})
    assert str(error.value).endswith(
        "masked_prior_preservation_weight: is not supported with compile=true. Remove "
        "one of them."
    )
    data = {"concepts": [{"path": "a", "prior_prediction": True}], "compile": True}
    with pytest.raises(ConfigError, match=r"concepts\.0\.prior_prediction: is not"):
        parse_config(data)
    config = parse_config({"masked_prior_preservation_weight": 0.5})
    assert "masked_prior_preservation_weight" in [x.key for x in remarks(config)]
