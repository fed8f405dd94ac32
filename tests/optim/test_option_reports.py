"""Options in messages: print, unknown names, large weight decays, published sets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from catalogue_cases import entry, make, parametrized
from lora_net import LoraNet

from stiefel_lora import OptionError, create_optimizer
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.optim import PAPER_OPTIONS, PULL_REQUEST_OPTIONS

ROOT = Path(__file__).resolve().parents[2]

every_method = parametrized(CATALOGUE)


@every_method
def test_print_shows_the_options_in_effect_with_their_values(name):
    optimizer = make(name, LoraNet())
    shown = " ".join(repr(optimizer).split())
    for option in entry(name).without_effect({}):
        assert f"{option.name}=" not in shown
    for option in entry(name).options:
        if option.unset_by is not None:
            assert f"{option.name}=None" not in shown


def test_print_shows_only_what_the_chosen_step_uses():
    product = repr(create_optimizer("stiefel_lora", LoraNet()))
    assert (
        "options: step='product', momentum=0.6, rest_lr_ratio=0.05, weight_decay=0, "
        "beta1=0.9, beta2=0.999, eps=1e-08"
    ) in " ".join(product.split())
    factors = repr(create_optimizer("stiefel_lora", LoraNet(), step="factors"))
    for text in ("b_rule='spectral'", "angle_per_lr=0.5", "momentum=0.9"):
        assert text in factors


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        (
            "stiefel_lora",
            "momentun",
            "StiefelLoRA has no option 'momentun'. Did you mean 'momentum'?",
        ),
        ("adamw", "bta1", "AdamW has no option 'bta1'. Did you mean 'beta1'?"),
        ("lora_rite", "foo", "LoRARITE has no option 'foo'. Available: params, lr, "),
    ],
)
def test_unknown_options_of_constructors_name_similar_ones(name, given, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        CATALOGUE[name].load()(LoraNet(), **{given: 0.5})


@every_method
@pytest.mark.parametrize(("lr", "decay"), [(0.5, 2.1), (0.02, 60.0)])
def test_a_decay_that_changes_the_sign_is_refused(name, lr, decay):
    with pytest.raises(OptionError, match=r"weight_decay=.* It must be at most 1, bec"):
        create_optimizer(name, LoraNet(), lr=lr, weight_decay=decay)
    fits = decay / 100
    optimizer = create_optimizer(name, LoraNet(), lr=lr, weight_decay=fits)
    with pytest.raises(OptionError, match="must be at most 1"):
        optimizer.add_param_group(
            {"params": [torch.nn.Parameter(torch.ones(2))], "weight_decay": decay}
        )


def test_a_decay_over_the_rank_is_not_multiplied_by_the_learning_rate():
    over_rank = {"step": "factors", "decay_rule": "over_rank"}
    net = LoraNet()
    create_optimizer("stiefel_lora", net, lr=1.0, weight_decay=2.0, **over_rank)
    with pytest.raises(OptionError, match=r"=2\.5 divided by the rank 2 is 1\.25\. "):
        create_optimizer("stiefel_lora", net, lr=0.0, weight_decay=2.5, **over_rank)
    with pytest.raises(OptionError, match=r"is 1\.5\. .* weight_decay of at most 2\.$"):
        create_optimizer(
            "stiefel_lora", LoraNet(), lr=0.5, step="factors", weight_decay=3.0
        )
    with pytest.raises(OptionError, match=r"lr_ratio=16 is 1\.6\. .* most 0\.625\.$"):
        create_optimizer("lora_plus", LoraNet(), lr=0.1, weight_decay=1.0)


def test_a_decay_that_a_schedule_makes_too_large_is_logged_once(caplog):
    model = LoraNet()
    optimizer = create_optimizer("stiefel_lora", model, lr=0.1, weight_decay=5.0)
    for rate in (0.2, 0.25, 0.3):
        optimizer.param_groups[0]["lr"] = rate
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    lines = [r.message for r in caplog.records if "weight_decay" in r.message]
    assert lines == [
        "stiefel_lora: weight_decay=5 times the learning rate 0.25 is 1.25. It must be "
        "at most 1, because each step multiplies the weights by 1 minus this product. "
        "Use a weight_decay of at most 4."
    ]


@pytest.mark.parametrize("options", [PAPER_OPTIONS, PULL_REQUEST_OPTIONS])
def test_the_docs_list_the_published_options(options):
    page = (ROOT / "docs" / "optimizers.md").read_text("utf-8")
    column = 1 if options is PULL_REQUEST_OPTIONS else 2
    table = page.split("| option | `PULL_REQUEST_OPTIONS`", 1)[1].split("\n\n", 1)[0]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    listed = {
        row[0].strip(" `"): json.loads(row[column].strip(" `"))
        for row in rows
        if row[column].strip()
    }
    assert listed == options
