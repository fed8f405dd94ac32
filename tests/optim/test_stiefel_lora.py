from __future__ import annotations

import functools
import itertools

import pytest
import torch
from lora_net import LoraLinear, LoraNet, backward, products, snapshot, task, train
from torch import nn

from stiefel_lora import (
    LoRAPlus,
    PairingError,
    StelLA,
    StiefelLoRA,
    create_optimizer,
    find_pairs,
    init_stiefel_,
    orthonormalize_,
)
from stiefel_lora.geometry import orthogonality_error, random_orthonormal
from stiefel_lora.optim.engine.batching import ready_members
from stiefel_lora.optim.gauge import name_seed

Factors = functools.partial(StiefelLoRA, step="factors")
B_RULES, A_RULES = ("spectral", "momentum"), ("muon", "adamw", "sign")
every_rule = pytest.mark.parametrize(
    ("b_rule", "a_rule"), list(itertools.product(B_RULES, A_RULES))
)


def pair(rows=24, width=20, rank=6, seed=0, dtype=torch.float32):
    """B orthonormal and A random, as named parameters."""
    generator = torch.Generator().manual_seed(seed)
    up = nn.Parameter(random_orthonormal(rows, rank, seed=seed, dtype=dtype))
    down = nn.Parameter(torch.randn(rank, width, generator=generator).to(dtype))
    return up, down


def named(up, down, name="q"):
    return [(f"{name}.lora_A.weight", down), (f"{name}.lora_B.weight", up)]


def give_product_gradient(up, down, gradient):
    """Factor gradients of a loss whose gradient with respect to B A is given."""
    up.grad = gradient @ down.detach().mT
    down.grad = up.detach().mT @ gradient


@pytest.mark.parametrize("b_rule", B_RULES)
@pytest.mark.parametrize("adversarial", [False, True])
def test_b_stays_orthonormal_for_a_thousand_float32_steps(b_rule, adversarial):
    up, down = pair()
    optimizer = Factors(named(up, down), lr=5e-2, b_rule=b_rule)
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    for _ in range(1000):
        noise = torch.randn(up.shape, generator=generator)
        if adversarial:
            # Momentum that is nearly normal: B S with symmetric S has no tangent part.
            core = torch.randn(6, 6, generator=generator)
            up.grad = up.detach() @ (core + core.mT) + 1e-6 * noise
        else:
            up.grad = noise
        down.grad = torch.randn(down.shape, generator=generator)
        optimizer.step()
        worst = max(worst, float(orthogonality_error(up.detach())))
    assert worst < 1e-5


def test_a_normal_momentum_does_not_move_b():
    up, down = pair()
    optimizer = Factors(named(up, down), lr=5e-2, momentum=0.0)
    core = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    up.grad, down.grad = up.detach() @ (core + core.mT), torch.zeros_like(down)
    before = up.detach().clone()
    optimizer.step()
    assert (up.detach() - before).abs().max() < 1e-6


@pytest.mark.parametrize("rank", [1, 4, 16])
@pytest.mark.parametrize("a_rule", A_RULES)
def test_momentum_rule_turns_columns_by_the_angle(rank, a_rule):
    # T9 with theta = angle_per_lr * lr: the root mean square over columns of the angle.
    up, down = pair(rows=64, width=48, rank=rank, dtype=torch.float64)
    before = up.detach().clone()
    optimizer = Factors(
        named(up, down), lr=1e-3, b_rule="momentum", a_rule=a_rule, angle_per_lr=3.0
    )
    give_product_gradient(up, down, torch.randn(64, 48, dtype=torch.float64))
    optimizer.step()
    # Chord length of each column; for 3e-3 rad the angle is the chord to 1e-6.
    turned = (up.detach() - before).norm(dim=0)
    assert float(turned.square().mean().sqrt()) == pytest.approx(3e-3, rel=0.01)


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_spectral_rule_turns_every_direction_by_about_the_angle(rank):
    up, down = pair(rows=64, width=48, rank=rank, dtype=torch.float64)
    before = up.detach().clone()
    optimizer = Factors(named(up, down), lr=1e-3, angle_per_lr=3.0)
    give_product_gradient(up, down, torch.randn(64, 48, dtype=torch.float64))
    optimizer.step()
    values = torch.linalg.svdvals(up.detach() - before)
    # The last projection keeps the part of msign outside the span of B and the skew
    # part inside: each has spectral norm <= 1, and it is orthogonal in Frobenius norm.
    assert float(values[0]) <= 2**0.5 * 3e-3
    assert float(values.norm()) <= 3e-3 * rank**0.5 * (1 + 1e-6)
    assert float(values.median()) > 0.9 * 3e-3


@pytest.mark.parametrize("rank", [1, 5, 12])
def test_muon_step_has_the_rate_as_spectral_norm_of_the_product(rank):
    up, down = pair(rows=40, width=30, rank=rank, dtype=torch.float64)
    b, a = up.detach().clone(), down.detach().clone()
    optimizer = Factors(named(up, down), lr=2e-2, angle_per_lr=0.0)
    give_product_gradient(up, down, torch.randn(40, 30, dtype=torch.float64))
    optimizer.step()
    change = up.detach() @ down.detach() - b @ a
    assert float(torch.linalg.matrix_norm(change, 2)) == pytest.approx(2e-2, rel=1e-6)


def test_sign_step_has_entries_of_a_fifth_of_the_rate():
    up, down = pair()
    before = down.detach().clone()
    optimizer = Factors(named(up, down), lr=1e-2, a_rule="sign")
    give_product_gradient(up, down, torch.randn(24, 20))
    optimizer.step()
    torch.testing.assert_close(
        (down.detach() - before).abs(), torch.full_like(before, 2e-3), rtol=1e-3, atol=0
    )


def test_adamw_rule_moves_a_exactly_as_torch_does():
    up, down = pair()
    other = nn.Parameter(down.detach().clone())
    optimizer = Factors(
        named(up, down), lr=1e-2, a_rule="adamw", weight_decay=0.1, beta2=0.99
    )
    reference = torch.optim.AdamW(
        [other], lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1, fused=True
    )
    generator = torch.Generator().manual_seed(2)
    for _ in range(5):
        up.grad = torch.randn(up.shape, generator=generator)
        down.grad = torch.randn(down.shape, generator=generator)
        other.grad = down.grad.clone()
        optimizer.step()
        reference.step()
        assert torch.equal(down, other)


def test_without_momentum_and_angle_b_rests_and_sign_is_signsgd():
    up, down = pair()
    b, a = up.detach().clone(), down.detach().clone()
    optimizer = Factors(
        named(up, down), lr=1e-2, a_rule="sign", momentum=0.0, angle_per_lr=0.0
    )
    give_product_gradient(up, down, torch.randn(24, 20))
    optimizer.step()
    torch.testing.assert_close(up.detach(), b, atol=1e-6, rtol=0)
    torch.testing.assert_close(down.detach(), a - 2e-3 * down.grad.sign())


def test_weight_decay_shrinks_the_product_and_never_b():
    up, down = pair(dtype=torch.float64)
    b, product = up.detach().clone(), (up @ down).detach()
    optimizer = Factors(named(up, down), lr=0.5, weight_decay=0.1)
    up.grad, down.grad = torch.zeros_like(up), torch.zeros_like(down)
    optimizer.step()
    torch.testing.assert_close(up.detach(), b, atol=1e-12, rtol=0)
    torch.testing.assert_close((up @ down).detach(), 0.95 * product, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("a_rule", "invariant"), [("muon", True), ("sign", False), ("adamw", False)]
)
def test_rotating_the_gauge_changes_nothing_where_it_should_not(a_rule, invariant):
    # T11: (B, A) -> (B O, O^T A) is the same adapter. Spectral B with Muon A moves it
    # the same way; rules that look at entries do not.
    gradients = torch.randn(6, 24, 20, dtype=torch.float64)
    results = []
    for turned in (False, True):
        up, down = pair(dtype=torch.float64)
        if turned:
            turn = random_orthonormal(6, 6, seed=3, dtype=torch.float64)
            up.data, down.data = up.data @ turn, turn.mT @ down.data
        optimizer = Factors(named(up, down), lr=2e-2, a_rule=a_rule)
        for gradient in gradients:
            give_product_gradient(up, down, gradient)
            optimizer.step()
        results.append((up @ down).detach())
    gap = float((results[0] - results[1]).abs().max())
    assert gap < 1e-10 if invariant else gap > 1e-4


@every_rule
def test_entry_gauge_keeps_the_product(b_rule, a_rule):
    model = LoraNet()
    for layer in (model.first, model.second, model.third, model.last):
        nn.init.normal_(layer.lora_B["default"].weight)
    before = products(model)
    optimizer = Factors(model, lr=0.0, b_rule=b_rule, a_rule=a_rule)
    backward(model, task())
    optimizer.step()
    for one, other in zip(before, products(model), strict=True):
        assert (one - other).abs().max() < 1e-6 * one.abs().max()
    for found in optimizer.pairs:
        assert orthogonality_error(found.up.detach()) < 1e-6


def test_gradients_of_the_old_factors_are_translated():
    # The first step from a general B must be the step from its orthonormal form.
    gradient = torch.randn(24, 20, dtype=torch.float64)
    general = torch.randn(24, 6, dtype=torch.float64)
    down = torch.randn(6, 20, dtype=torch.float64)
    q, r = torch.linalg.qr(general)
    sign = torch.diagonal(r).sign()
    results = []
    for b, a in ((general, down), (q * sign, (r * sign[:, None]) @ down)):
        up, low = nn.Parameter(b.clone()), nn.Parameter(a.clone())
        optimizer = Factors(named(up, low), lr=1e-2)
        give_product_gradient(up, low, gradient)
        optimizer.step()
        results.append((up @ low).detach())
    torch.testing.assert_close(*results, atol=1e-12, rtol=0)


def test_a_rank_deficient_b_enters_without_blowing_up():
    up = nn.Parameter(torch.randn(24, 1) @ torch.randn(1, 6))
    down = nn.Parameter(torch.randn(6, 20))
    before = (up @ down).detach()
    optimizer = Factors(named(up, down), lr=1e-3)
    give_product_gradient(up, down, torch.randn(24, 20))
    optimizer.step()
    change = torch.linalg.matrix_norm((up @ down).detach() - before, 2)
    assert orthogonality_error(up.detach()) < 1e-6
    # One step moves A by lr and turns B by at most 0.5 lr.
    assert change < 1e-3 + 0.5e-3 * torch.linalg.matrix_norm(before, 2) * 2


def test_a_standard_start_is_brought_into_the_gauge_in_the_first_step():
    model = LoraNet()
    optimizer = Factors(model, lr=5e-2)
    backward(model, task())
    optimizer.step()
    for found in optimizer.pairs:
        assert orthogonality_error(found.up.detach()) < 1e-6
        assert found.down.abs().max() == 0
    backward(model, task())
    optimizer.step()
    assert all(found.down.abs().max() > 0 for found in optimizer.pairs)


def test_the_start_depends_on_the_layer_and_not_on_the_order():
    starts = []
    for reverse in (False, True):
        model = LoraNet()
        entries = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        init_stiefel_(entries[::-1] if reverse else entries)
        starts.append(model.third.lora_B["default"].weight.detach().clone())
    assert torch.equal(*starts)
    twins = LoraNet()
    init_stiefel_(twins)
    one, other = (
        layer.lora_B["default"].weight for layer in (twins.second, twins.third)
    )
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    "wrapped",
    [
        "module.a.b",
        "_orig_mod.a.b",
        "_orig_mod.module.a.b",
        "module._orig_mod.a.b",
        "a._orig_mod.b",
    ],
)
def test_the_start_is_the_same_under_ddp_and_compile(wrapped):
    assert name_seed(wrapped, 3) == name_seed("a.b", 3)
    assert name_seed("a.module.b", 3) != name_seed("a.b", 3)


def test_init_leaves_the_model_as_it_was():
    model = LoraNet()
    x, _ = task()
    before = model(x)
    found = init_stiefel_(model, seed=3)
    assert len(found) == 4
    torch.testing.assert_close(model(x), before, rtol=0, atol=0)


def test_pairs_in_the_gauge_keep_their_bits_on_load():
    model = LoraNet()
    optimizer = Factors(model, lr=5e-2)
    train(model, optimizer, 4)
    before = snapshot(model)
    optimizer.load_state_dict(optimizer.state_dict())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    owners = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    members = ready_members(optimizer.pairs, owners, optimizer.rule)
    optimizer._settling.settle(optimizer.state, members, optimizer.rule, width=16.0)
    for one, other in zip(before, snapshot(model), strict=True):
        assert torch.equal(one, other)


def test_an_average_of_factors_is_brought_back_with_its_product():
    # T20, EMA: averages of orthonormal matrices are not orthonormal.
    model, batch = LoraNet(dtype=torch.float64), task(torch.float64)
    optimizer = Factors(model, lr=0.2)
    average = None
    for _ in range(10):
        train(model, optimizer, 1, batch)
        factors = [p.detach().clone() for p in model.parameters()]
        average = (
            factors
            if average is None
            else [0.9 * a + 0.1 * f for a, f in zip(average, factors, strict=True)]
        )
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), average, strict=True):
            parameter.copy_(value)
    assert max(orthogonality_error(p.up.detach()) for p in optimizer.pairs) > 1e-3
    before = products(model)
    changed = orthonormalize_(model)
    assert [pair.name for pair in changed] == [pair.name for pair in optimizer.pairs]
    for pair in optimizer.pairs:
        assert orthogonality_error(pair.up.detach()) < 1e-12
    for one, other in zip(before, products(model), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
    assert orthonormalize_(model) == []


def test_learning_rates_per_group_reach_their_factor():
    up, down = pair()
    groups = [
        {"params": [("q.lora_A.weight", down)], "lr": 0.0},
        {"params": [("q.lora_B.weight", up)], "lr": 1e-2},
    ]
    optimizer = Factors(groups)
    b, a = up.detach().clone(), down.detach().clone()
    give_product_gradient(up, down, torch.randn(24, 20))
    optimizer.step()
    assert torch.equal(down.detach(), a)
    assert not torch.equal(up.detach(), b)


def test_a_stack_of_pairs_moves_like_each_alone(monkeypatch):
    batch = task()
    results = []
    for elements in (1, 2**23):
        monkeypatch.setattr(
            "stiefel_lora.optim.engine.stacking.CHUNK_ELEMENTS", elements
        )
        model = LoraNet(dtype=torch.float64)
        train(model, Factors(model, lr=5e-2), 5, task(torch.float64))
        results.append(snapshot(model))
    assert batch is not None
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("out", "width", "rank"), [(5, 5, 5), (5, 30, 5), (30, 1, 1), (2, 2, 1)]
)
@every_rule
def test_extreme_shapes_train(out, width, rank, b_rule, a_rule):
    up, down = pair(out, width, rank)
    optimizer = Factors(named(up, down), lr=1e-2, b_rule=b_rule, a_rule=a_rule)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        give_product_gradient(up, down, torch.randn(out, width, generator=generator))
        optimizer.step()
    assert torch.isfinite(down).all()
    assert orthogonality_error(up.detach()) < 1e-6


def test_convolutions_train_flattened():
    down = nn.Parameter(torch.randn(4, 6, 3, 3))
    up = nn.Parameter(torch.zeros(10, 4, 1, 1))
    optimizer = Factors(named(up, down), lr=1e-2)
    for _ in range(3):
        up.grad, down.grad = torch.randn_like(up), torch.randn_like(down)
        optimizer.step()
    assert up.shape == (10, 4, 1, 1)
    assert orthogonality_error(up.detach().flatten(1)) < 1e-6
    assert down.abs().max() > 0


def test_a_rank_above_the_layer_uses_adamw_and_is_logged(caplog):
    down, up = nn.Parameter(torch.randn(8, 20)), nn.Parameter(torch.zeros(4, 8))
    optimizer = Factors(named(up, down, "conv_out"), lr=1e-2)
    assert not optimizer.pairs
    assert "conv_out.up" in caplog.text
    up.grad, down.grad = torch.ones_like(up), torch.ones_like(down)
    optimizer.step()
    assert up.abs().max() > 0


def test_peft_alpha_is_folded_into_a(caplog):
    class PeftLike(LoraLinear):
        def __init__(self):
            super().__init__(12, 16, 4)
            self.scaling = {"default": 0.25}
            self.lora_alpha = {"default": 1.0}
            self.r = {"default": 4}

        def forward(self, x):
            low = self.lora_A["default"](x)
            return self.base(x) + self.lora_B["default"](low) * self.scaling["default"]

    torch.manual_seed(0)
    layer = PeftLike()
    nn.init.normal_(layer.lora_B["default"].weight)
    x = torch.randn(5, 12)
    before = layer(x)
    optimizer = create_optimizer("stiefel_lora", layer, lr=0.0)
    assert layer.scaling == {"default": 1.0}
    assert layer.lora_alpha == {"default": 4}
    assert "alpha was not the rank in 1 layer." in caplog.text
    layer(x).square().sum().backward()
    optimizer.step()
    torch.testing.assert_close(layer(x), before, rtol=1e-5, atol=1e-5)


def test_init_refuses_a_rank_above_the_layer():
    up, down = nn.Parameter(torch.zeros(4, 8)), nn.Parameter(torch.zeros(8, 20))
    with pytest.raises(
        PairingError, match="The rank 8 exceeds the size of the layer 'q'"
    ):
        init_stiefel_(named(up, down))


def test_init_without_pairs_is_a_message():
    with pytest.raises(PairingError, match="there are no LoRA pairs"):
        init_stiefel_(nn.Linear(3, 3))


def test_a_spectral_rule_at_high_rank_keeps_the_product_full_rank():
    model, batch = LoraNet(), task()
    train(model, Factors(model, lr=5e-2), 60, batch)
    from stiefel_lora import effective_rank

    for found in find_pairs(model).pairs:
        assert float(effective_rank(found.up, found.down)) > 0.7 * found.rank


def test_bare_parameters_hide_alpha_and_that_is_logged_once(caplog):
    from stiefel_lora.optim import alpha

    alpha._warn_of_hidden_alpha.cache_clear()
    for _ in range(2):
        Factors(named(*pair()))
    assert caplog.text.count("Set alpha to the rank") == 1
    caplog.clear()
    alpha._warn_of_hidden_alpha.cache_clear()
    Factors(LoraNet())
    assert "alpha" not in caplog.text


@pytest.mark.parametrize("method", [StelLA, LoRAPlus])
def test_methods_that_leave_alpha_alone_say_so_of_bare_parameters(method, caplog):
    from stiefel_lora.optim import alpha

    alpha._warn_of_hidden_scale.cache_clear()
    for _ in range(2):
        method(named(*pair()), lr=1e-4)
    assert caplog.text.count("scaled by alpha / rank") == 1
    assert f"{method.__name__.replace('Plus', '+')} does not change it" in caplog.text
    caplog.clear()
    alpha._warn_of_hidden_scale.cache_clear()
    # A host that handles alpha marks its groups, whatever it is.
    method([{"params": named(*pair()), alpha.ALPHA_IS_RANK: False}], lr=1e-4)
    assert "alpha" not in caplog.text
