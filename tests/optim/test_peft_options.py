"""Every option of peft's LoraConfig: same output, and the same LoRA after loading."""

from __future__ import annotations

import copy

import pytest
import torch
from catalogue_cases import RATES
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.config import BdLoraConfig, KasaConfig, MontecloraConfig
from peft.utils.hotswap import prepare_model_for_compiled_hotswap
from torch import nn

from stiefel_lora import OptionError, PairingError, create_optimizer
from stiefel_lora.methods import method
from stiefel_lora.optim.alpha import alpha_note

LAYERS = ["first", "second"]


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 16, 16) / 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nd,edo->no", x, self.weight)


class Net(nn.Module):
    """An embedding, linear layers, convolutions (one grouped) and experts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.words = nn.Embedding(11, 16, padding_idx=0)
        self.first = nn.Linear(16, 24)
        self.second = nn.Linear(24, 16)
        self.conv = nn.Conv2d(4, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.experts = Experts()
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.words(x).mean(1)
        x = x + self.second(torch.tanh(self.first(x)))
        image = self.grouped(self.conv(x.view(-1, 4, 2, 2))).flatten(1)
        x = x + image.view(-1, 2, 16).mean(1)
        return self.head(x + self.experts(x))


WORDS = torch.tensor([[1, 4, 2], [3, 3, 9], [10, 0, 5], [6, 7, 8]])
MATRIX = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "rank_pattern": {"rank_pattern": {"second": 2}},
    "alpha_pattern": {"alpha_pattern": {"first": 3}},
    "rslora, both patterns": {
        "use_rslora": True,
        "rank_pattern": {"second": 2},
        "alpha_pattern": {"second": 3, "first": 1},
    },
    "bias": {"bias": "all"},
    "lora_only": {"bias": "lora_only"},
    "lora_bias": {"lora_bias": True},
    "lora_bias, rslora": {"lora_bias": True, "use_rslora": True},
    "embedding": {"target_modules": [*LAYERS, "words"]},
    "embedding, dora": {"target_modules": [*LAYERS, "words"], "use_dora": True},
    "convolutions": {"target_modules": [*LAYERS, "conv"]},
    "dora": {"use_dora": True, "target_modules": [*LAYERS, "conv"]},
    "dora, rslora": {"use_dora": True, "use_rslora": True},
    "modules_to_save": {"modules_to_save": ["head"]},
    "tokens": {"trainable_token_indices": {"words": [2, 4]}},
    "parameter": {"target_parameters": ["head.weight"]},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "pissa": {"init_lora_weights": "pissa"},
    "mica": {"init_lora_weights": "mica"},
    "olora, alpha = r": {"init_lora_weights": "olora", "lora_alpha": 4},
    "grouped": {"target_modules": [*LAYERS, "conv", "grouped"]},
    "experts": {"target_parameters": ["experts.weight"]},
    "kasa": {"kasa_config": KasaConfig()},
    "block diagonal": {
        "use_bdlora": BdLoraConfig(
            target_modules_bd_a=["first"], target_modules_bd_b=["second"], nblocks=2
        )
    },
    "block diagonal, others": {
        "target_modules": [*LAYERS, "head"],
        "use_bdlora": BdLoraConfig(
            target_modules_bd_a=["first"], nblocks=2, match_strict=False
        ),
    },
}

SOME = ["rslora, both patterns", "lora_bias, rslora", "experts", "kasa"]


def adapted(base: nn.Module, options: dict) -> nn.Module:
    settings = {"r": 4, "lora_alpha": 10, "target_modules": LAYERS, **options}
    torch.manual_seed(5)
    model = get_peft_model(base, LoraConfig(**settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "magnitude" not in name:
                parameter.add_(torch.randn_like(parameter) / 8)
    return model


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(WORDS).square().mean().backward()
    optimizer.step()


def output(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(WORDS)


# What differs by method is the entry: one that is enough for most options.
CASES = [
    *((case, "stiefel_lora") for case in MATRIX),
    *((case, name) for case in SOME for name in ("riemannion", "stella")),
]


@pytest.mark.parametrize(("case", "name"), CASES)
def test_output_stays_and_the_saved_adapter_is_the_trained_one(case, name, tmp_path):
    base = Net()
    model = adapted(copy.deepcopy(base), MATRIX[case])
    before = output(model)
    optimizer = create_optimizer(name, model, lr=0.0)
    torch.testing.assert_close(output(model), before, rtol=1e-5, atol=1e-5)
    for _ in range(2):
        step(model, optimizer)
    torch.testing.assert_close(output(model), before, rtol=1e-4, atol=1e-4)
    for group in optimizer.param_groups:
        group["lr"] = RATES[name] / 5
    for _ in range(3):
        step(model, optimizer)
    trained = output(model)
    assert (trained - before).abs().max() > 1e-3
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)
    torch.testing.assert_close(output(loaded), trained, rtol=1e-5, atol=1e-5)


def test_noise_on_a_is_not_rescaled():
    model = adapted(Net(), {"monteclora_config": MontecloraConfig()})
    layer = model.base_model.model.first
    before, noise_free = layer.lora_A["default"].weight.clone(), output(model.eval())
    create_optimizer("stiefel_lora", model)
    assert torch.equal(layer.lora_A["default"].weight, before)
    torch.testing.assert_close(output(model), noise_free, rtol=1e-5, atol=1e-5)


def test_a_frozen_adapter_and_its_config_stay_as_they_are():
    model = adapted(Net(), {})
    model.add_adapter("style", LoraConfig(r=2, lora_alpha=7, target_modules=LAYERS))
    layer = model.base_model.model.first
    before = layer.lora_A["style"].weight.clone()
    create_optimizer("stiefel_lora", model)
    assert torch.equal(layer.lora_A["style"].weight, before)
    assert layer.scaling == {"default": 1.0, "style": 3.5}
    assert model.peft_config["style"].lora_alpha == 7
    assert model.peft_config["default"].lora_alpha == 4


def test_a_config_that_others_share_stays_as_it_is(tmp_path):
    """Of another model, of a frozen adapter, and of the next run of a script."""
    config = LoraConfig(r=4, lora_alpha=10, target_modules=LAYERS)
    model, other = (get_peft_model(Net(), config) for _ in range(2))
    model.add_adapter("style", config)
    with torch.no_grad():
        for name, parameter in (*model.named_parameters(), *other.named_parameters()):
            if "lora_" in name:
                parameter.add_(torch.randn_like(parameter) / 8)
    model.set_adapter("style")
    expected = output(model), output(other)
    model.set_adapter("default")
    create_optimizer("stiefel_lora", model)
    assert config.lora_alpha == 10
    assert model.peft_config["default"].lora_alpha == 4
    model.save_pretrained(tmp_path / "one")
    other.save_pretrained(tmp_path / "two")
    for path, before in zip(("one/style", "two"), expected, strict=True):
        loaded = PeftModel.from_pretrained(Net(), tmp_path / path)
        torch.testing.assert_close(output(loaded), before, rtol=1e-5, atol=1e-5)


def test_a_scale_that_is_a_tensor_stays_that_tensor():
    """Compiled layers whose adapters are swapped while they run hold it."""
    model = adapted(Net(), {})
    prepare_model_for_compiled_hotswap(model)
    layer, before = model.base_model.model.first, output(model)
    held = layer.scaling["default"]
    create_optimizer("stiefel_lora", model)
    assert layer.scaling["default"] is held
    assert float(held) == 1.0
    torch.testing.assert_close(output(model), before, rtol=1e-5, atol=1e-5)


def test_two_trained_adapters_are_both_folded():
    model = adapted(Net(), {})
    model.add_adapter("style", LoraConfig(r=2, lora_alpha=7, target_modules=LAYERS))
    model.base_model.set_adapter(["default", "style"])
    before = output(model)
    create_optimizer("riemannion", model)
    torch.testing.assert_close(output(model), before, rtol=1e-5, atol=1e-5)
    assert [c.lora_alpha for c in model.peft_config.values()] == [4, 2]


def test_every_model_of_a_list_keeps_its_config_in_step():
    models = [adapted(Net(), {}), adapted(Net(), {"r": 2, "use_rslora": True})]
    models[1].requires_grad_(False)
    models.append(adapted(Net(), {"r": 2, "use_rslora": True}))
    before = [output(model) for model in models]
    create_optimizer("stiefel_lora", nn.ModuleList(models))
    configs = [model.peft_config["default"] for model in models]
    assert [c.lora_alpha for c in configs] == [4, 10, 2]
    assert [c.use_rslora for c in configs] == [False, True, False]
    for model, old in zip(models, before, strict=True):
        torch.testing.assert_close(output(model), old, rtol=1e-5, atol=1e-5)


def test_a_scale_set_by_hand_is_folded_though_it_is_one(tmp_path):
    model = adapted(Net(), {"lora_alpha": 8})
    for layer in LAYERS:
        model.base_model.model.get_submodule(layer).set_scale("default", 0.5)
    before = output(model)
    create_optimizer("stiefel_lora", model)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(Net(), tmp_path)
    torch.testing.assert_close(output(loaded), before, rtol=1e-5, atol=1e-5)


def tied_net() -> nn.Module:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = Net(), Net()

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            return self.one(words) + self.two(words)

    model = adapted(Tied(), {"target_modules": ["first"]})
    one, two = (getattr(model.base_model.model, n).first for n in ("one", "two"))
    two.lora_A["default"].weight = one.lora_A["default"].weight
    return model


def test_a_shared_factor_is_scaled_once_and_its_layers_take_adamw(caplog):
    model = tied_net()
    before = output(model)
    optimizer = create_optimizer("stiefel_lora", model, lr=0.0)
    torch.testing.assert_close(output(model), before, rtol=1e-5, atol=1e-5)
    step(model, optimizer)
    torch.testing.assert_close(output(model), before, rtol=1e-5, atol=1e-5)
    assert not optimizer.pairs
    assert "(shared by several layers)" in caplog.text


@pytest.mark.parametrize(
    ("options", "count", "reason"),
    [
        (MATRIX["grouped"], 3, "grouped convolution"),
        (MATRIX["experts"], 2, "one LoRA for several experts"),
        (MATRIX["block diagonal, others"], 0, "BdLora"),
    ],
)
def test_layers_that_are_no_product_take_adamw_and_are_named(
    options, count, reason, caplog
):
    optimizer = create_optimizer("stiefel_lora", adapted(Net(), options))
    assert len(optimizer.pairs) == count
    assert caplog.text.count(f"({reason})") == 1


@pytest.mark.parametrize("frozen", ["lora_A", "lora_B"])
def test_a_model_with_frozen_factors_trains_the_others(frozen, caplog):
    model = adapted(Net(), {})
    for name, parameter in model.named_parameters():
        if frozen in name:
            parameter.requires_grad_(False)
    optimizer = create_optimizer("stiefel_lora", model)
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    step(model, optimizer)
    for name, parameter in model.named_parameters():
        moves = "lora_" in name and frozen not in name
        assert torch.equal(parameter, start[name]) != moves
    line = "2 of 2 parameters use AdamW at a learning rate of 0.001 = 0.05 x 0.02 "
    assert f"{line}(other factor frozen)" in caplog.text


def test_a_shared_factor_under_two_scales_is_refused_and_nothing_changed():
    model = tied_net()
    model.base_model.model.two.first.set_scale("default", 0.3)
    before = output(model)
    with pytest.raises(OptionError, match=r"share a factor.* .2.5 and 0.75"):
        create_optimizer("stiefel_lora", model)
    assert torch.equal(output(model), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_alpha": 0}, "have no effect"),
        ({"init_lora_weights": "olora"}, "init_lora_weights is 'olora'"),
    ],
)
def test_a_scale_that_cannot_be_folded_is_refused(options, message):
    model = adapted(Net(), options)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(OptionError, match=message):
        create_optimizer("stiefel_lora", model)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_part_without_its_config_is_refused():
    model = adapted(Net(), {})
    with pytest.raises(OptionError, match="Pass the whole model"):
        create_optimizer("stiefel_lora", model.base_model.model.first)
    create_optimizer("stella", model.base_model.model.first)


def test_an_initial_adapter_of_pissa_is_to_be_saved_again(caplog):
    create_optimizer("stiefel_lora", adapted(Net(), {"init_lora_weights": "pissa"}))
    assert caplog.text.count("path_initial_model_for_weight_conversion") == 1


def test_alpha_is_reported_where_a_method_leaves_it(caplog):
    create_optimizer("lora_plus", adapted(Net(), {"lora_alpha": 1}))
    assert caplog.text.count("alpha / rank is 0.25 in 2 layers") == 1
    assert "multiply the learning rate by 4." in caplog.text
    caplog.clear()
    create_optimizer("lora_plus", adapted(Net(), {"lora_alpha": 4}))
    create_optimizer("stiefel_lora", adapted(Net(), {"lora_alpha": 4}))
    assert "alpha" not in caplog.text


def test_another_scale_than_alpha_over_rank_has_its_name(caplog):
    """Rank 4: alpha / sqrt(rank) is 2 at alpha = rank, which setting alpha keeps."""
    stabilized = {"lora_alpha": 4, "use_rslora": True}
    create_optimizer("lora_plus", adapted(Net(), stabilized))
    assert "the scale of the product is 2 in 2 layers, and LoRA+" in caplog.text
    assert "Set use_rslora to False and alpha to the rank or multiply" in caplog.text
    assert "alpha / rank" not in caplog.text
    caplog.clear()
    create_optimizer("stiefel_lora", adapted(Net(), stabilized))
    assert "The scale of the LoRA was not 1 in 2 layers" in caplog.text
    assert "alpha was not the rank" not in caplog.text


def test_hosts_get_the_line_on_alpha_for_their_layers():
    note = alpha_note(method("stella"), [1 / 16, 1.0])
    assert note is not None
    assert "0.0625 to 1 in 2 layers" in note
    assert alpha_note(method("stella"), []) is None
    assert alpha_note(method("stiefel_lora"), [0.5]) is None


def test_embeddings_alone_take_adamw(caplog):
    model = adapted(Net(), {"target_modules": ["words"]})
    optimizer = create_optimizer("stiefel_lora", model)
    assert not optimizer.pairs
    assert caplog.text.count("(embedding)") == 1


def test_a_refusal_of_the_pairs_leaves_alpha_as_it_was():
    model = adapted(Net(), {})
    model.base_model.model.first.lora_A["default"].weight.data = torch.zeros(5, 16)
    with pytest.raises(PairingError, match="have shapes"):
        create_optimizer("stiefel_lora", model)
    assert model.peft_config["default"].lora_alpha == 10
    assert model.base_model.model.second.scaling == {"default": 2.5}


@pytest.mark.parametrize(
    ("name", "options"),
    [("kasa", {"kasa_config": KasaConfig()}), ("experts", MATRIX["experts"])],
)
def test_lora_plus_has_its_rates_in_layers_that_are_no_product(name, options):
    model = adapted(Net(), options)
    optimizer = create_optimizer("lora_plus", model, lr=1e-4, lr_ratio=16.0)
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    step(model, optimizer)
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            moved = float((parameter - start[key]).abs().max())
            assert moved == pytest.approx(16e-4, rel=1e-2)
