"""OneTrainer's fused back pass: allowed where a method is separable, else refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from onetrainer_stand_in import LABELS, configured, factors, started

from stiefel_lora import OptionError
from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.integrations.onetrainer._choices import OFFERED
from stiefel_lora.integrations.onetrainer._layers import adapters_of

TOGETHER = [label for label in LABELS if not OFFERED[label].separable]


def fused(host: Any, label: str, **changes: Any) -> Any:
    config = configured(host, label, **changes)
    config.optimizer.fused_back_pass = True
    return host.Trainer(config)


@pytest.mark.parametrize("label", TOGETHER)
def test_methods_that_move_pairs_refuse_it(host: Any, label: str) -> None:
    assert not host.Optimizer[label].supports_fused_back_pass()
    message = (
        f"Fused back pass: not supported by {OFFERED[label].label.replace('+', '.')}"
    )
    with pytest.raises(OptionError, match=message):
        fused(host, label).start()


def test_the_hosts_own_answers_are_kept(host: Any) -> None:
    assert host.Optimizer["ADAMW"].supports_fused_back_pass()
    assert not host.Optimizer["SGD"].supports_fused_back_pass()


def test_the_step_of_the_product_names_the_step_that_can_be_fused(host: Any) -> None:
    with pytest.raises(OptionError, match="Turn it off, or set Step to factors"):
        fused(host, "Stiefel LoRA").start()


@pytest.mark.parametrize("decompose", [False, True])
def test_a_fused_back_pass_ends_with_the_same_factors(
    host: Any, decompose: bool
) -> None:
    usual = started(host, "Stiefel LoRA", step="factors", lora_decompose=decompose)
    usual.train(6)
    trainer = fused(host, "Stiefel LoRA", step="factors", lora_decompose=decompose)
    trainer.start()
    trainer.train(6)
    found = factors(trainer)
    for name, value in factors(usual).items():
        assert value.any()
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """StelLA, said to be separable; what its steps of one parameter were given."""
    entry = OFFERED["StelLA"]
    monkeypatch.setitem(OFFERED, "StelLA", dataclasses.replace(entry, separable=True))
    given: list[tuple[Any, ...]] = []

    def step_parameter(self: Any, parameter: Any, group: Any, index: int) -> None:
        given.append((parameter, group, index, parameter.grad.clone()))

    monkeypatch.setattr(entry.load(), "step_parameter", step_parameter)
    return given


def test_a_separable_method_steps_parameter_by_parameter(
    host: Any, stepped: list[tuple[Any, ...]]
) -> None:
    trainer = fused(host, "StelLA")
    trainer.start()
    trainer.train(1)
    parameters = trainer.parameters
    assert {id(entry[0]) for entry in stepped} == {id(p) for p in parameters}
    assert len(stepped) == len(parameters)
    for parameter, group, index, gradient in stepped:
        assert group["params"][index] is parameter
        assert gradient.shape == parameter.shape
        assert parameter.grad is None


def test_a_loaded_lora_is_in_the_gauge_before_single_steps(
    host: Any, stepped: list[tuple[Any, ...]]
) -> None:
    trainer = fused(host, "StelLA")
    begun = host.Trainer(configured(host, "ADAMW"))
    begun.start()
    begun.train(3)
    before = [layer.product() for layer in adapters_of(begun.model.unet_lora)]
    trainer.start((begun.model.unet_lora.state_dict(), None, 0, None))
    for pair in trainer.model.optimizer.pairs:
        assert orthogonality_error(pair.up.detach()) <= 1e-5
    layers = adapters_of(trainer.model.unet_lora)
    for layer, product in zip(layers, before, strict=True):
        torch.testing.assert_close(layer.product(), product)
