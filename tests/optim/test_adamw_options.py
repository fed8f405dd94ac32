"""Options that a rule declares for everything left to torch's AdamW."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from lora_net import LoraNet, backward, task

from helpers.plugin_methods import forgetting_plugins
from stiefel_lora import Option, PairOptimizer, Rule, create_optimizer, register

DECAY = Option("beta1", 0.5, low=0, high=1, high_open=True, doc="Decay of momentum.")
DECLARED = {"beta1": 0.0, "beta2": 0.5, "eps": 1e-3, "weight_decay": 0.0}
USUAL = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}


class _Still(Rule):
    """Pairs stay where they are, so that AdamW alone moves anything."""

    def update(self, batch):
        """Move nothing."""


class _Own(_Still):
    """Declares its own AdamW."""

    def adamw_options(self, group):
        """Another decay, and none of the group's."""
        return DECLARED


@pytest.fixture(autouse=True)
def catalogue() -> Iterator[None]:
    with forgetting_plugins():
        yield


def _registered(rule_class: type[Rule], options: tuple[Option, ...] = ()) -> str:
    class Still(PairOptimizer):
        rule = rule_class()

    register(label="Still", summary="Nothing moves.", default_lr=1e-2, options=options)(
        Still
    )
    return Still.method


def _moved(make) -> torch.Tensor:
    """The parameter outside pairs after three steps."""
    model, batch = LoraNet(), task()
    optimizer = make(model)
    for _ in range(3):
        backward(model, batch)
        optimizer.step()
    return model.shift.detach()


def _by_torch(beta1: float, beta2: float, eps: float, weight_decay: float):
    return _moved(
        lambda model: torch.optim.AdamW(
            [model.shift],
            lr=1e-2,
            betas=(beta1, beta2),
            eps=eps,
            weight_decay=weight_decay,
            fused=True,
        )
    )


@pytest.mark.parametrize(
    ("rule", "options", "expected"),
    [
        (_Still, (), USUAL),
        (_Still, (DECAY,), USUAL | {"beta1": 0.5}),
        (_Own, (), DECLARED),
        (_Own, (DECAY,), DECLARED),
    ],
    ids=["usual", "option", "declared", "declared beside an option"],
)
def test_parameters_outside_pairs_take_the_declared_adamw(rule, options, expected):
    name = _registered(rule, options)
    found = _moved(lambda model: create_optimizer(name, model))
    assert torch.equal(found, _by_torch(**expected))


@pytest.mark.parametrize("saved_by", ["ours", "foreach"])
def test_adamw_is_the_fused_one_of_torch_to_the_bit(saved_by):
    """A state that torch's foreach kernels saved continues in the fused one."""
    results = []
    for fused in (True, False):
        model, batch = LoraNet(), task()
        params = [p for p in model.parameters() if p.requires_grad]
        options = {"lr": 1e-2, "weight_decay": 0.1}
        optimizer = torch.optim.AdamW(params, foreach=True, **options)
        for step in range(6):
            if step == 3 or (step == 0 and saved_by == "ours"):
                saved = optimizer.state_dict()
                if fused:
                    optimizer = torch.optim.AdamW(params, fused=True, **options)
                    for group in saved["param_groups"]:
                        group |= {"fused": True, "foreach": None}
                else:
                    optimizer = create_optimizer("adamw", params, **options)
                if step:
                    optimizer.load_state_dict(saved)
            backward(model, batch)
            optimizer.step()
        results.append([parameter.detach() for parameter in params])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
