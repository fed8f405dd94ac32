"""Properties of the published methods beyond the contract (ids of the test list)."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_net import LoraNet, backward, products, task, train
from test_reference import gradients, targets
from test_reference import start as starting_pairs

from stiefel_lora import OptionError, create_optimizer
from stiefel_lora.geometry import orthogonality_error, random_orthonormal
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.optim import (
    find_pairs,
    init_riemannion_,
    init_stella_,
    init_stiefel_,
)

F64 = torch.float64


def named(pairs):
    return [
        (f"layer{i}.lora_{role}.weight", torch.nn.Parameter(tensor.clone()))
        for i, pair in enumerate(pairs)
        for role, tensor in zip("BA", pair, strict=True)
    ]


def run(name, pairs, steps, lr, goals, **options):
    """Train on |B A - goal|^2 / 2; return the products."""
    parameters = named(pairs)
    optimizer = create_optimizer(name, parameters, lr=lr, **options)
    tensors = [tensor for _, tensor in parameters]
    couples = list(zip(tensors[::2], tensors[1::2], strict=True))
    for _ in range(steps):
        detached = [(b.detach(), a.detach()) for b, a in couples]
        for couple, grads in zip(couples, gradients(detached, goals), strict=True):
            for tensor, gradient in zip(couple, grads, strict=True):
                tensor.grad = gradient.clone()
        optimizer.step()
    return [b.detach() @ a.detach() for b, a in couples]


def change_basis(pairs, seed, stretch):
    """(B M, M^-1 A) with a random M of condition about `stretch` squared."""
    changed = []
    for index, (b, a) in enumerate(pairs):
        rank = b.shape[1]
        turn = random_orthonormal(rank, rank, seed=seed + index, dtype=F64)
        scales = torch.logspace(-1, 1, rank, base=stretch, dtype=F64)
        m = turn * scales
        changed.append((b @ m, torch.linalg.inv(m) @ a))
    return changed


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("lora_rite", {"weight_decay": 0.1}, 1e-10),
        ("lora_rite", {"escape": True}, 1e-10),
        # msign by Newton-Schulz is good to about 1e-9 here; exact SVDs give 1e-12.
        ("riemannion", {"weight_decay": 0.1}, 1e-8),
        ("lora_muon", {"weight_decay": 0.1}, 1e-8),
        ("lora_tsd", {"weight_decay": 0.1, "tau": 3}, 1e-8),
    ],
)
@settings(max_examples=8)
@given(st.integers(0, 1000), st.floats(1.0, 4.0))
def test_t10_the_product_does_not_depend_on_the_basis(
    name, options, tolerance, seed, stretch
):
    pairs, goals = starting_pairs(), targets()
    changed = change_basis(pairs, seed, stretch)
    one = run(name, pairs, 6, 2e-2, goals, **options)
    other = run(name, changed, 6, 2e-2, goals, **options)
    for x, y in zip(one, other, strict=True):
        assert torch.linalg.norm(x - y) <= tolerance * torch.linalg.norm(x)


@pytest.mark.parametrize("name", ["adamw", "scaled_adamw"])
def test_t10_adam_moments_do_depend_on_it(name):
    pairs, goals = starting_pairs(), targets()
    changed = change_basis(pairs, 5, 3.0)
    one = run(name, pairs, 6, 2e-2, goals)
    other = run(name, changed, 6, 2e-2, goals)
    gaps = [
        torch.linalg.norm(x - y) / torch.linalg.norm(x)
        for x, y in zip(one, other, strict=True)
    ]
    assert max(gaps) > 1e-2


def test_t16_riemannion_moves_from_the_present_point():
    """X+ = X - eta xi + O(eta^2); the printed step ends near 0 instead of near X."""
    pairs, goals = starting_pairs(), targets()
    before = [b @ a for b, a in pairs]
    errors = []
    for eta in (1e-2, 1e-3):
        after = run("riemannion", pairs, 1, eta, goals)
        steps = [(x - y) / eta for x, y in zip(before, after, strict=True)]
        errors.append(steps)
    for coarse, fine in zip(*errors, strict=True):
        # xi is the limit; the distance to it falls like eta.
        assert torch.linalg.matrix_norm(fine, 2) <= 1.0 + 0.5
        assert torch.linalg.norm(coarse - fine) <= 2e-1 * torch.linalg.norm(fine)


def test_riemannion_decay_shrinks_the_product_where_no_gradient_is():
    pairs = starting_pairs()
    parameters = named(pairs)
    optimizer = create_optimizer("riemannion", parameters, lr=0.1, weight_decay=0.5)
    for _, tensor in parameters:
        tensor.grad = torch.zeros_like(tensor)
    optimizer.step()
    after = [p.detach() for _, p in parameters]
    for (b, a), (b2, a2) in zip(
        pairs, zip(after[::2], after[1::2], strict=True), strict=True
    ):
        assert (b2 @ a2 - 0.95 * (b @ a)).abs().max() <= 1e-12


@pytest.mark.parametrize("rows_of_batch", [1, 2, 4])
def test_t17_rite_does_not_freeze_on_gradients_of_low_rank(rows_of_batch):
    """The reference turns a slightly negative eigenvalue into no step at all."""
    torch.manual_seed(0)
    up = torch.nn.Parameter(torch.zeros(24, 16))
    down = torch.nn.Parameter(torch.randn(16, 32) / 16)
    optimizer = create_optimizer("lora_rite", [("x.lora_B", up), ("x.lora_A", down)])
    frozen = []
    for step in range(40):
        x, y = torch.randn(rows_of_batch, 32), torch.randn(rows_of_batch, 24)
        loss = (x @ (up @ down).T - y).square().mean()
        for p in (up, down):
            p.grad = None
        loss.backward()
        before = up.detach().clone(), down.detach().clone()
        optimizer.step()
        still = [torch.equal(b, p) for b, p in zip(before, (up, down), strict=True)]
        # With B = 0 the gradient of A is 0: no method can move A at the first step.
        frozen.append(still[0] or (still[1] and step > 0))
    assert not any(frozen)


@pytest.mark.parametrize("seed", range(4))
def test_riemannion_columns_keep_place_and_sign(seed):
    """Singular values that cross change places in an SVD, and signs are arbitrary."""
    turn = random_orthonormal(6, 6, seed=seed, dtype=F64)
    frames = [random_orthonormal(20, 6, seed=seed + n, dtype=F64) for n in (1, 2)]
    pair = [torch.nn.Parameter(frames[0]), torch.nn.Parameter(0.5 * frames[1].mT)]
    sizes = torch.logspace(0, -0.4, 6, dtype=F64)[torch.randperm(6)]
    pair[1].data.mul_(sizes[:, None])
    named = list(zip(["x.lora_B", "x.lora_A"], pair, strict=True))
    optimizer = create_optimizer("riemannion", named, lr=1e-3)
    for step in range(5):
        before = pair[0].detach().clone(), pair[1].detach().clone()
        goal = frames[0] @ turn @ frames[1].mT
        slope = before[0] @ before[1] - goal
        pair[0].grad, pair[1].grad = slope @ before[1].mT, before[0].mT @ slope
        optimizer.step()
        overlap = (pair[0].detach().mT @ before[0]).diagonal()
        # The start may turn into the SVD gauge, whose order is that of the sizes.
        assert step == 0 or overlap.min() > 0.9


@pytest.mark.parametrize("start", ["B = 0", "A = 0", "tiny B"])
@pytest.mark.parametrize("rank", [8, 64, 96])
def test_rite_takes_no_step_in_directions_that_are_rounding(rank, start):
    """A first gradient of low rank leaves B with singular values of 1e-8."""
    torch.manual_seed(0)
    up, down = torch.zeros(96, rank), torch.randn(rank, 96) / 96**0.5
    if start == "A = 0":
        up, down = down.T.contiguous(), up.T.contiguous()
    if start == "tiny B":
        up = 1e-7 * torch.randn(96, rank)
    up, down = torch.nn.Parameter(up), torch.nn.Parameter(down)
    named = [("x.lora_B", up), ("x.lora_A", down)]
    optimizer = create_optimizer("lora_rite", named, lr=1e-3)
    goal = torch.randn(96, 4) @ torch.randn(4, 96)
    before = (up @ down).detach()
    for _ in range(6):
        optimizer.zero_grad()
        (up @ down - goal).square().mean().backward()
        optimizer.step()
        after = (up @ down).detach()
        # A step of each factor is lr sqrt(rows) in every direction.
        step = torch.linalg.matrix_norm(after - before, 2)
        assert step <= 6 * 1e-3 * 96**0.5
        before = after
    assert (after - goal).square().mean() < goal.square().mean()


@pytest.mark.parametrize("base_rule", ["adam", "sgd", "lion"])
@pytest.mark.parametrize("retraction", ["polar", "exponential"])
def test_t18_stella_keeps_both_frames_and_the_product(base_rule, retraction):
    model = LoraNet()
    options = {"base_rule": base_rule, "retraction": retraction}
    optimizer = create_optimizer("stella", model, lr=1e-2, **options)
    train(model, optimizer, 60)
    for pair in optimizer.pairs:
        v = optimizer.state[pair.down]["v"]
        s = optimizer.state[pair.up]["s"]
        assert orthogonality_error(pair.up.detach()) <= 1e-5
        assert orthogonality_error(v.mT) <= 1e-5
        gap = (s @ v - pair.down).abs().max()
        assert gap <= 1e-6 * pair.down.abs().max()


def test_t18_retractions_agree_to_second_order():
    """Both maps leave the tangent line by O(t^2), so the gap over t falls with t."""
    pairs, goals = starting_pairs(), targets()
    gaps = []
    for lr in (1e-2, 1e-3):
        one, other = (
            run("stella", pairs, 1, lr, goals, retraction=kind)
            for kind in ("polar", "exponential")
        )
        gaps.append(
            max(torch.linalg.norm(x - y) for x, y in zip(one, other, strict=True)) / lr
        )
    assert gaps[0] > 0
    assert gaps[1] < 0.2 * gaps[0]


def test_stella_diagonal_keeps_s_diagonal():
    model = LoraNet()
    optimizer = create_optimizer("stella", model, lr=1e-2, s_form="diagonal")
    train(model, optimizer, 20)
    for pair in optimizer.pairs:
        s = optimizer.state[pair.up]["s"]
        assert torch.equal(s, torch.diag(torch.diagonal(s)))


@pytest.mark.parametrize("sizes", [(1.0, 1.0), (2.0, 0.5)])
def test_stella_diagonal_keeps_frames_that_fit(sizes):
    """With S = I an SVD of A would turn U and V at random."""
    model = LoraNet()
    pairs = init_stella_(model)
    for pair in pairs:
        lengths = torch.tensor(sizes * (pair.rank // 2))
        pair.down.data.mul_(lengths[:, None])
    before = [(pair.up.detach().clone(), pair.down.detach().clone()) for pair in pairs]
    optimizer = create_optimizer("stella", model, lr=0.0, s_form="diagonal")
    backward(model, task())
    optimizer.step()
    for pair, (up, down) in zip(pairs, before, strict=True):
        torch.testing.assert_close(pair.up.detach(), up, rtol=0, atol=1e-6)
        torch.testing.assert_close(pair.down.detach(), down, rtol=0, atol=1e-6)
        s = optimizer.state[pair.up]["s"].diagonal()
        lengths = torch.tensor(sizes * (pair.rank // 2))
        torch.testing.assert_close(s, lengths, rtol=1e-5, atol=0)


def test_stella_sgd_is_heavy_ball():
    """S moves by lr g, then by lr (1 + beta1) g under a constant gradient of S."""
    up, down = (torch.linalg.qr(torch.randn(8, 3))[0] for _ in range(2))
    pair = [torch.nn.Parameter(up), torch.nn.Parameter(down.T.contiguous())]
    named = list(zip(["x.lora_B", "x.lora_A"], pair, strict=True))
    options = {"base_rule": "sgd", "beta1": 0.5, "lr": 1e-3}
    optimizer = create_optimizer("stella", named, **options)
    sizes = []
    for _ in range(3):
        v = optimizer.state[pair[1]].get("v", down.T)
        pair[0].grad, pair[1].grad = torch.zeros(8, 3), v.clone()
        before = pair[1].detach().clone()
        optimizer.step()
        sizes.append(float((pair[1].detach() - before).norm()) / 3**0.5)
    assert sizes == pytest.approx([1e-3, 1.5e-3, 1.75e-3], rel=1e-2)


def test_stella_refactors_when_a_changes_behind_its_back():
    model, batch = LoraNet(), task()
    optimizer = create_optimizer("stella", model, lr=1e-2)
    train(model, optimizer, 5, batch)
    state = optimizer.state_dict()
    for pair in optimizer.pairs:
        pair.down.data.mul_(1.5)
    optimizer.load_state_dict(state)
    before = products(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    backward(model, batch)
    optimizer.step()
    for x, y in zip(before, products(model), strict=True):
        assert (x - y).abs().max() <= 1e-6


def test_the_starts_are_what_they_say():
    model = LoraNet()
    for pair in init_stella_(model):
        eigenvalues = torch.linalg.svdvals((pair.up @ pair.down).detach().double())
        assert (eigenvalues[: pair.rank] - 1).abs().max() <= 1e-6
    for pair in init_riemannion_(model):
        assert 0 < (pair.up @ pair.down).abs().max() <= 1e-7
    for pair in init_stiefel_(model):
        assert not pair.down.any()


def test_lora_plus_with_ratio_one_is_fused_adamw_to_the_bit():
    results = []
    for make in (
        lambda m: create_optimizer("lora_plus", m, lr=1e-2, lr_ratio=1.0),
        lambda m: torch.optim.AdamW(
            [p for p in m.parameters() if p.requires_grad],
            lr=1e-2,
            weight_decay=0.0,
            fused=True,
        ),
    ):
        model = LoraNet()
        train(model, make(model), 10)
        results.append([p.detach().clone() for p in model.parameters()])
    for x, y in zip(*results, strict=True):
        assert torch.equal(x, y)


def test_lora_plus_moves_b_that_many_times_as_far():
    model = LoraNet()
    pairs = find_pairs(model).pairs
    for pair in pairs:
        torch.nn.init.normal_(pair.up)
    before = [(p.up.detach().clone(), p.down.detach().clone()) for p in pairs]
    optimizer = create_optimizer("lora_plus", model, lr=1e-3, lr_ratio=8.0)
    backward(model, task())
    optimizer.step()
    # Adam's first step is the rate itself wherever there is a gradient to speak of.
    for pair, (up, down) in zip(pairs, before, strict=True):
        moved = (pair.down.detach() - down).abs(), (pair.up.detach() - up).abs()
        assert float(moved[0].median()) == pytest.approx(1e-3, rel=1e-2)
        assert float(moved[1].median()) == pytest.approx(8e-3, rel=1e-2)


def test_lora_plus_trains_b_alone_where_a_is_frozen():
    model, batch = LoraNet(), task()
    optimizer = create_optimizer("lora_plus", model, lr=1e-2)
    backward(model, batch)
    pair = find_pairs(model).pairs[0]
    pair.down.grad = None
    before = pair.up.detach().clone(), pair.down.detach().clone()
    optimizer.step()
    assert not torch.equal(before[0], pair.up)
    assert torch.equal(before[1], pair.down)


def test_scaled_adamw_with_large_damping_is_adamw():
    """The preconditioner becomes I / delta, a factor that Adam's ratio cancels."""
    pairs, goals = starting_pairs(), targets()
    plain = run("adamw", pairs, 5, 1e-2, goals, eps=1e-30)
    scaled = run("scaled_adamw", pairs, 5, 1e-2, goals, eps=1e-30, damping=1e9)
    for x, y in zip(plain, scaled, strict=True):
        assert torch.linalg.norm(x - y) <= 1e-6 * torch.linalg.norm(x)


def test_the_8_bit_moments_stay_near_adamw():
    """Small tensors keep 32-bit moments; large ones differ by the codes' rounding."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    torch.manual_seed(0)
    weights = torch.randn(96, 64)
    results = []
    for name in ("adamw", "adamw_8bit"):
        parameter = torch.nn.Parameter(weights.clone())
        optimizer = create_optimizer(name, [parameter], lr=1e-2)
        generator = torch.Generator().manual_seed(1)
        for _ in range(20):
            noise = 0.1 * torch.randn(96, 64, generator=generator)
            parameter.grad = parameter.detach() + noise
            optimizer.step()
        results.append(parameter.detach() - weights)
    gap = torch.linalg.norm(results[0] - results[1]) / torch.linalg.norm(results[0])
    assert 0 < gap < 0.05


# Those that keep state by pairs; the others are classes of torch and bitsandbytes.
PAIR_METHODS = [n for n in CATALOGUE if n not in ("adamw", "adamw_8bit")]
COUPLED = [(n, {}) for n in PAIR_METHODS if not CATALOGUE[n].separable]
COUPLED += [(n, dict(CATALOGUE[n].joint)) for n in PAIR_METHODS if CATALOGUE[n].joint]


@pytest.mark.parametrize(("name", "options"), COUPLED)
def test_a_fused_backward_pass_is_refused(name, options):
    model = LoraNet()
    optimizer = create_optimizer(name, model, **options)
    parameter = next(model.parameters())
    with pytest.raises(OptionError, match="Disable the fused backward pass"):
        optimizer.step_parameter(parameter, optimizer.param_groups[0], 0)


@pytest.mark.parametrize("name", PAIR_METHODS)
def test_flat_buffers_in_place_of_factors_are_refused(name):
    """Changes of DeepSpeed ZeRO to the groups of an optimizer that it wraps."""
    model = LoraNet()
    optimizer = create_optimizer(name, model)
    flat = torch.nn.Parameter(torch.zeros(100))
    flat.grad = torch.zeros(100)
    optimizer.param_groups[0]["params"] = [flat]
    with pytest.raises(OptionError, match="Use DDP, or FSDP2"):
        optimizer.step()


@pytest.mark.parametrize("name", PAIR_METHODS)
def test_sharded_factors_are_refused(name):
    class DTensor(torch.nn.Parameter):
        pass

    up, down = DTensor(torch.zeros(8, 2)), DTensor(torch.zeros(2, 8))
    with pytest.raises(OptionError, match="does not support sharded LoRA parameters"):
        create_optimizer(name, [("x.lora_B", up), ("x.lora_A", down)])


def test_a_missing_package_is_a_message(monkeypatch):
    for module in ("bitsandbytes", "bitsandbytes.optim"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "stiefel_lora.optim.adamw_8bit", raising=False)
    with pytest.raises(
        OptionError, match=r"requires the package bitsandbytes, .* pip install"
    ):
        create_optimizer("adamw_8bit", LoraNet())
