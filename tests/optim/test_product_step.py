"""The step of the product: against Riemannion, in every gauge, and where A is thin."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_net import LoraNet, backward, task
from reference.linear_algebra import msign

from stiefel_lora import OptionError, StiefelLoRA, create_optimizer
from stiefel_lora.config import load_config
from stiefel_lora.geometry import (
    inverse_cholesky,
    inverse_sqrt_of_retraction,
    joint_polar_core,
    orthogonality_error,
    random_orthonormal,
)
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.optim.engine import two_passes

F64 = torch.float64

# P_T(Z) leaves out one corner of Z, which can make its spectral norm 2 / sqrt(3) times
# as large. A per cent is for rounding and for what the iterations leave.
LONGEST = 2 / 3**0.5 * 1.01


def point(rows=26, width=20, rank=5, seed=0, sizes=(1.0, 0.2), dtype=F64):
    """B orthonormal, and A whose singular values run from one size to the other."""
    up = random_orthonormal(rows, rank, seed=seed, dtype=F64)
    right = random_orthonormal(width, rank, seed=seed + 100, dtype=F64)
    sigma = torch.logspace(*map(math.log10, sizes), rank, dtype=F64)
    # Rows of A that are far from orthogonal: no gauge is special.
    turn = random_orthonormal(rank, rank, seed=seed + 200, dtype=F64)
    return (up @ turn.mT).to(dtype), ((turn * sigma) @ right.mT).to(dtype)


def forces(rows=26, width=20, steps=5, seed=3):
    """Gradients of the product with a spectrum that falls, one a step."""
    generator = torch.Generator().manual_seed(seed)
    shape = (steps, rows, width)
    noise = torch.randn(shape, generator=generator, dtype=F64)
    u, s, vh = torch.linalg.svd(noise, full_matrices=False)
    s = s * torch.logspace(0, -1, s.shape[-1], dtype=F64)
    return (u * s.unsqueeze(-2)) @ vh


class Run:
    """One pair under step="product", driven by gradients of the product."""

    def __init__(self, up, down, lr, **options):
        self.up, self.down = (torch.nn.Parameter(t.clone()) for t in (up, down))
        # What the references below are given.
        options = {"momentum": 0.9, "step": "product", **options}
        named = [("q.lora_A.weight", self.down), ("q.lora_B.weight", self.up)]
        self.optimizer = StiefelLoRA(named, lr=lr, **options)

    def take(self, *gradients):
        for gradient in gradients:
            gradient = gradient.to(self.up)
            self.up.grad = gradient @ self.down.detach().mT
            self.down.grad = self.up.detach().mT @ gradient
            self.optimizer.step()
        return self

    @property
    def factors(self):
        return self.up.detach(), self.down.detach()

    @property
    def product(self):
        return self.up.detach() @ self.down.detach()

    def product_in_float64(self):
        return self.up.detach().double() @ self.down.detach().double()

    @property
    def momenta(self):
        state = self.optimizer.state
        return (
            state[self.up]["momentum_up"].clone(),
            state[self.down]["momentum_down"].clone(),
        )


def riemannion(up, down, lr, gradients, momentum=0.9):
    """The paper's step on m x n matrices: projection, SVD, truncated SVD."""
    x, old = up @ down, torch.zeros(up.shape[0], down.shape[1], dtype=up.dtype)
    rank = down.shape[0]

    def project(z):
        left, right = u @ u.mT, v @ v.mT
        return left @ z + z @ right - left @ z @ right

    for gradient in gradients:
        u, _, vh = torch.linalg.svd(x, full_matrices=False)
        u, v = u[:, :rank], vh[:rank].mT
        old = project(gradient + momentum * old)
        u, s, vh = torch.linalg.svd(x - lr * project(msign(old)), full_matrices=False)
        x = u[:, :rank] * s[:rank] @ vh[:rank]
    return x


@pytest.mark.parametrize("steps", [1, 5])
def test_it_is_riemannion_to_second_order(steps):
    """Halving lr must quarter the distance: 3.6 leaves room for the third order."""
    start, gradients = point(), forces(steps=steps)
    errors = []
    for lr in (4e-2, 2e-2, 1e-2, 5e-3):
        ours = Run(*start, lr).take(*gradients).product
        errors.append(
            float(torch.linalg.norm(ours - riemannion(*start, lr, gradients)))
        )
    ratios = [big / small for big, small in itertools.pairwise(errors)]
    assert min(ratios) > 3.6
    # And the distance is small beside the way that was taken.
    assert errors[-1] < 1e-2 * steps * 5e-3 * 5**0.5


def test_it_is_the_optimizer_riemannion_to_second_order():
    up, down = point()
    left, sigma, right = torch.linalg.svd(up @ down, full_matrices=False)
    start = left[:, :5].contiguous(), sigma[:5, None] * right[:5]
    gradients, errors = forces(), []
    for lr in (2e-2, 1e-2):
        twin = [torch.nn.Parameter(part.clone()) for part in start]
        named = [("q.lora_B.weight", twin[0]), ("q.lora_A.weight", twin[1])]
        other = create_optimizer("riemannion", named, lr=lr)
        for gradient in gradients:
            twin[0].grad = gradient @ twin[1].detach().mT
            twin[1].grad = twin[0].detach().mT @ gradient
            other.step()
        found = (twin[0] @ twin[1]).detach()
        ours = Run(*start, lr).take(*gradients).product
        errors.append(float(torch.linalg.norm(ours - found)))
    assert errors[0] / errors[1] > 3.5


@settings(max_examples=25, deadline=None)
@given(
    rank=st.integers(1, 6),
    rows=st.integers(6, 30),
    width=st.integers(6, 30),
    seed=st.integers(0, 2**16),
    momentum=st.sampled_from([0.0, 0.5, 0.95]),
)
def test_the_product_does_not_depend_on_the_gauge(rank, rows, width, seed, momentum):
    """(B O, O^T A) for orthogonal O: same products, momenta that turn along."""
    up, down = point(rows, width, rank, seed)
    turn = random_orthonormal(rank, rank, seed=seed + 1, dtype=F64)
    gradients = forces(rows, width, 4, seed)
    one = Run(up, down, 3e-2, momentum=momentum).take(*gradients)
    other = Run(up @ turn, turn.mT @ down, 3e-2, momentum=momentum).take(*gradients)
    scale = torch.linalg.norm(one.product)
    assert torch.linalg.norm(one.product - other.product) <= 1e-10 * scale
    # O is what takes one B to the other at the end.
    found, size = one.factors[0].mT @ other.factors[0], float(gradients.norm())
    (up_one, down_one), (up_other, down_other) = one.momenta, other.momenta
    assert torch.linalg.norm(up_one @ found - up_other) <= 1e-9 * size
    assert torch.linalg.norm(found.mT @ down_one - down_other) <= 1e-9 * size


def test_the_transport_is_the_projection_of_the_old_vector():
    """All four terms of it, each large enough to be missed."""
    up, down = point(sizes=(1.0, 0.02))
    run = Run(up, down, 5e-2, momentum=0.9)
    gradient = forces(steps=1)[0]
    run.take(gradient)
    inverse = torch.linalg.inv(
        down @ down.mT + (5e-2 / 3) ** 2 * torch.eye(5, dtype=F64)
    )
    outside = torch.eye(26, dtype=F64) - up @ up.mT
    from_left = outside @ gradient @ down.mT @ inverse @ down
    from_right = up @ up.mT @ gradient
    new_up, new_down = run.factors
    new_outside = torch.eye(26, dtype=F64) - new_up @ new_up.mT
    terms_up = [new_outside @ part @ new_down.mT for part in (from_left, from_right)]
    terms_down = [new_up.mT @ part for part in (from_left, from_right)]
    for found, terms in zip(run.momenta, (terms_up, terms_down), strict=True):
        whole = sum(terms)
        assert torch.linalg.norm(found - whole) <= 1e-9 * torch.linalg.norm(whole)
        for term in terms:
            assert torch.linalg.norm(term) > 0.05 * torch.linalg.norm(whole)


@pytest.mark.parametrize("ratio", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("thin", [1.0, 1e-2, 1e-4, 1e-8])
def test_every_condition_gives_a_finite_step_of_the_right_size(ratio, thin):
    """X_L beside X_R from a millionth to a million, A from flat to nearly singular."""
    start = point(64, 48, 6, sizes=(1.0, thin))
    up, _ = start
    inside = up @ up.mT
    lr = 1e-2
    results = {}
    for dtype in (torch.float32, F64):
        run = Run(*(part.to(dtype) for part in start), lr)
        before = run.product
        for gradient in forces(64, 48, 6):
            part = inside @ gradient
            run.take(ratio * (gradient - part) + part)
            assert orthogonality_error(run.factors[0]) <= 1e-6
        moved = run.product.to(F64) - before.to(F64)
        # Six steps, each at most lr but for what msign and rounding leave.
        assert torch.linalg.matrix_norm(moved, 2) <= LONGEST * 6 * lr
        results[dtype] = moved
    rough, exact = results[torch.float32], results[F64]
    if ratio == 1.0 and thin >= 1e-2:
        assert torch.linalg.norm(rough - exact) <= 0.05 * torch.linalg.norm(exact)
    # Directions that float32 does not resolve are shortened; none is invented.
    along = (rough * exact).sum() / torch.linalg.norm(rough) ** 2
    assert along >= 0.7
    assert torch.linalg.norm(rough) <= 1.05 * torch.linalg.norm(exact)


@pytest.mark.parametrize(("rank", "seed"), [(8, 3), (16, 0)])
def test_float32_steps_stay_bounded_where_a_and_the_gradient_are_singular(rank, seed):
    """A target of rank 4 without noise leaves most directions of A at rounding.

    There the Gram matrices are indefinite in float32, and msign of an indefinite matrix
    has no bound.
    """
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(n, 4, generator=generator, dtype=F64) for n in (64, 48))
    left, right = (torch.linalg.qr(part).Q for part in (left, right))
    target = left * torch.tensor([4.0, 2.0, 1.0, 0.5]).double() @ right.mT
    steps, lr = 600, 1e-2
    up = random_orthonormal(64, rank, seed=seed)
    run = Run(up, torch.zeros(rank, 48), lr)
    group = run.optimizer.param_groups[0]
    for step in range(steps):
        group["lr"] = lr * (1 - step / steps)
        before = run.product
        run.take(before - target)
        longest = torch.linalg.matrix_norm(run.product - before, 2)
        # The last steps are as short as rounding of a product of norm 4.
        assert longest <= LONGEST * group["lr"] + 1e-5, step
    left_over = torch.linalg.norm(run.product - target) / torch.linalg.norm(target)
    assert left_over**2 <= 0.07


@pytest.mark.parametrize("lr", [1e-10, 2e-2])
@pytest.mark.parametrize("length", [0.0, 1.0])
@pytest.mark.parametrize("scale", [1e-19, 1e-16, 1e-12])
def test_gradients_whose_squares_underflow_give_finite_bounded_steps(scale, length, lr):
    """The coefficients of a gradient of 1e-19 have squares beyond float32."""
    up, down = point(48, 40, 3, sizes=(1.0, 1e-4), dtype=torch.float32)
    run = Run(up, length * down, lr, momentum=0.6)
    for gradient in forces(48, 40, 4):
        before = run.product
        run.take((scale * gradient).float())
        assert orthogonality_error(run.factors[0]) <= 1e-5
        moved = torch.linalg.matrix_norm(run.product - before, 2)
        # Beside the step, rounding of a product of norm 1.
        assert float(moved) <= 1.3 * lr + 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_gradient_of_rank_one_moves_one_direction(dtype):
    up, down = point(dtype=dtype)
    run = Run(up, down, 1e-2, momentum=0.0)
    generator = torch.Generator().manual_seed(5)
    left, right = (torch.randn(n, generator=generator, dtype=F64) for n in (26, 20))
    before = run.product
    run.take(1e-4 * torch.outer(left, right))
    sigma = torch.linalg.svdvals((run.product - before).to(F64))
    # The tangent part of a rank-1 matrix has rank 2 at most.
    assert float(sigma[0]) <= LONGEST * 1e-2
    assert float(sigma[2]) <= 0.05 * float(sigma[0])


@pytest.mark.slow
def test_b_stays_orthonormal_for_five_thousand_float32_steps():
    run = Run(*point(64, 48, 8, sizes=(1.0, 1e-3), dtype=torch.float32), 2e-2)
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    for _ in range(5000):
        run.take(torch.randn(64, 48, generator=generator))
        worst = max(worst, float(orthogonality_error(run.factors[0])))
    assert worst <= 1e-6


@pytest.mark.parametrize(("rows", "rank"), [(4, 4), (16, 16)])
def test_a_square_b_stays_orthonormal_where_gradients_of_the_factors_disagree(
    rows, rank
):
    # X is all rounding here. Its Gram matrix must not become a step of B.
    up, down = point(rows, 3 * rows, rank, sizes=(1e-6, 1e-6))
    run = Run(up, down, lr=0.02, momentum=0.6)
    generator = torch.Generator().manual_seed(1)
    for _ in range(100):
        for factor in (run.up, run.down):
            noise = torch.randn(factor.shape, generator=generator, dtype=F64)
            factor.grad = 1e-4 * noise
        run.optimizer.step()
        assert orthogonality_error(run.up.detach()) < 1e-13


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(("rows", "rank"), [(2, 2), (4, 4), (5, 4)])
def test_b_stays_orthonormal_where_a_is_smaller_than_a_step(rows, rank, dtype):
    # The target and the noise are as small as a step, so A is, and B turns far.
    lr, width = 0.02, 12
    generator = torch.Generator().manual_seed(2)

    def drawn():
        size = rows**0.5 + width**0.5
        found = torch.randn(rows, width, generator=generator, dtype=F64) / size
        return lr * found.to(dtype)

    up = random_orthonormal(rows, rank, seed=2, dtype=dtype)
    run = Run(up, torch.zeros(rank, width, dtype=dtype), lr, momentum=0.6)
    target = 0.1 * drawn()
    # What the reorthonormalization leaves of an error of a few times _CORRECTABLE.
    most = {torch.float32: 1e-5, F64: 1e-13}[dtype]
    for _ in range(300):
        run.take(1e-4 * (run.product - target + drawn()))
        assert orthogonality_error(run.up.detach().double()) < most


def test_the_first_step_from_zero_is_msign_of_the_gradient_of_a():
    up, down = point()
    run = Run(up, torch.zeros_like(down), 1e-2)
    gradient = forces(steps=1)[0]
    run.take(gradient)
    assert (run.factors[0] - up).abs().max() < 1e-14
    expected = -1e-2 * msign(up.mT @ gradient)
    assert torch.linalg.norm(run.factors[1] - expected) < 1e-9


def test_without_a_gradient_of_b_it_is_muon_on_a():
    up, down = point()
    run = Run(up, down, 1e-2)
    for gradient in forces(steps=3):
        run.down.grad = up.mT @ gradient
        run.up.grad = torch.zeros_like(up)
        run.optimizer.step()
    momentum, expected = torch.zeros_like(down), down.clone()
    for gradient in forces(steps=3):
        momentum = 0.9 * momentum + up.mT @ gradient
        expected = expected - 1e-2 * msign(momentum)
    # The momentum of A pushes against the span of B alone, so B stays.
    assert (run.factors[0] - up).abs().max() < 1e-12
    assert torch.linalg.norm(run.factors[1] - expected) < 1e-9


def test_zero_gradients_and_lr_zero_are_fixed_points():
    for lr, scale in ((1e-2, 0.0), (0.0, 1.0)):
        run = Run(*point(), lr)
        before = run.product
        run.take(*(scale * forces(steps=3)))
        assert torch.linalg.norm(run.product - before) < 1e-12


def test_float32_steps_without_gradient_do_not_shrink_the_product():
    """Not even after many: a bias of each step would act like a weight decay."""
    up, down = point(24, 16, 4, dtype=torch.float32)
    run = Run(up, down, 2e-2, momentum=0.6)
    before = run.product.to(F64)
    for _ in range(300):
        run.take(torch.zeros(24, 16))
    apart = run.product.to(F64) - before
    # Rounding of 300 steps; the bias alone was 7e-4.
    assert torch.linalg.norm(apart) <= 2e-5 * torch.linalg.norm(before)


def test_weight_decay_shrinks_the_product():
    run = Run(*point(), 1e-2, weight_decay=0.5)
    before = run.product
    run.take(torch.zeros(26, 20, dtype=F64))
    torch.testing.assert_close(run.product, (1 - 0.5e-2) * before)


def test_lr_is_the_spectral_norm_of_the_step():
    for seed in range(5):
        run = Run(*point(sizes=(1.0, 0.5), seed=seed), 1e-3)
        before = run.product
        run.take(forces(steps=1, seed=seed)[0])
        size = float(torch.linalg.matrix_norm(run.product - before, 2))
        assert 1e-3 <= size <= LONGEST * 1e-3


def test_two_rates_of_a_pair_give_their_geometric_mean_and_are_reported(caplog):
    up, down = point()
    gradient = forces(steps=1)[0]
    plain = Run(up, down, 1e-2).take(gradient).product
    factors = [torch.nn.Parameter(part.clone()) for part in (up, down)]
    groups = [
        {"params": [(f"q.lora_{role}.weight", factor)], "lr": rate}
        for role, factor, rate in zip("BA", factors, (4e-2, 0.25e-2), strict=True)
    ]
    optimizer = StiefelLoRA(groups, lr=1.0, step="product")
    assert "1 LoRA pair has two learning rates" in caplog.text
    factors[0].grad = gradient @ down.mT
    factors[1].grad = up.mT @ gradient
    optimizer.step()
    torch.testing.assert_close((factors[0] @ factors[1]).detach(), plain)


def test_two_momenta_of_a_pair_are_that_of_b_and_are_reported(caplog):
    start, gradients = point(), forces(steps=3)
    plain = Run(*start, 1e-2, momentum=0.5).take(*gradients).product
    two = Run(*start, 1e-2)
    groups = [
        {"params": [(f"q.lora_{role}.weight", factor)], "momentum": momentum}
        for role, factor, momentum in (("B", two.up, 0.5), ("A", two.down, 0.95))
    ]
    two.optimizer = StiefelLoRA(groups, lr=1e-2, step="product")
    assert "1 LoRA pair has two values of momentum" in caplog.text
    assert "The value of B is used for both" in caplog.text
    assert torch.equal(two.take(*gradients).product, plain)


def test_stacks_as_on_a_gpu_give_the_same_numbers(monkeypatch):
    batch, results = task(), []
    for layout in (two_passes.LAYOUTS["cpu"], two_passes.ACCELERATOR):
        monkeypatch.setitem(two_passes.LAYOUTS, "cpu", layout)
        model = LoraNet(dtype=F64)
        optimizer = create_optimizer("stiefel_lora", model, lr=1e-2, step="product")
        for _ in range(5):
            backward(model, task(F64))
            optimizer.step()
        results.append([p.detach().clone() for p in model.parameters()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    del batch


def test_rules_of_the_factors_are_refused_beside_it():
    with pytest.raises(OptionError, match="b_rule='momentum' has no effect if step"):
        StiefelLoRA(LoraNet(), step="product", b_rule="momentum")
    with pytest.raises(OptionError, match="Remove it, or set step='factors'"):
        create_optimizer("stiefel_lora", LoraNet(), step="product", nesterov=False)


def test_a_group_may_step_the_product_and_another_its_factors():
    model, batch = LoraNet(), task()
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    first = [entry for entry in named if entry[0].startswith("first")]
    rest = [entry for entry in named if not entry[0].startswith("first")]
    groups = [{"params": first, "step": "product"}, {"params": rest}]
    optimizer = create_optimizer("stiefel_lora", groups, lr=1e-2)
    alone = LoraNet()
    whole = create_optimizer("stiefel_lora", alone, lr=1e-2, step="product")
    for net, opt in ((model, optimizer), (alone, whole)):
        for _ in range(3):
            backward(net, batch)
            opt.step()
    # The first step's gradients are equal, so the first layer's momentum must be.
    up = model.first.lora_B["default"].weight
    assert set(optimizer.state[up]) == set(
        whole.state[alone.first.lora_B["default"].weight]
    )


@settings(max_examples=30, deadline=None)
@given(rank=st.integers(1, 12), seed=st.integers(0, 2**16), low=st.floats(-2.4, 0))
def test_joint_polar_core_is_the_inverse_root(rank, seed, low):
    frame = random_orthonormal(rank, rank, seed=seed, dtype=F64)
    sigma = torch.logspace(low, 0, rank, dtype=F64)
    gram = (frame * sigma**2) @ frame.mT
    exact = (frame / sigma) @ frame.mT
    found = joint_polar_core(gram)
    assert torch.linalg.norm(found - exact) <= 1e-7 * torch.linalg.norm(exact)
    rough = joint_polar_core(gram.float()).to(F64)
    # (K^(1/2) T) has the singular values that msign would have.
    reached = torch.linalg.svdvals((frame * sigma) @ frame.mT @ rough)
    assert float((reached - 1).abs().max()) <= 2e-2
    assert not joint_polar_core(torch.zeros(rank, rank)).isnan().any()


@settings(max_examples=30, deadline=None)
@given(rank=st.integers(1, 12), seed=st.integers(0, 2**16), steep=st.floats(0, 3))
def test_inverse_sqrt_of_a_retraction_is_exact(rank, seed, steep):
    frame = random_orthonormal(rank, rank, seed=seed, dtype=F64)
    values = 1 + torch.linspace(0, steep, rank, dtype=F64) ** 2
    gram = (frame * values) @ frame.mT
    for dtype, tolerance in ((F64, 1e-13), (torch.float32, 1e-5)):
        root = inverse_sqrt_of_retraction(gram.to(dtype)[None], 3.0)[0].to(F64)
        left = root @ gram @ root - torch.eye(rank, dtype=F64)
        assert float(left.abs().max()) <= tolerance


def test_a_damped_factor_survives_an_indefinite_matrix():
    gram = torch.diag(torch.tensor([1.0, 0.5, -1e-3]))[None]
    inverse = inverse_cholesky(gram, torch.full((1, 1, 1), 1e-6))
    assert inverse.isfinite().all()
    # No direction is amplified beyond the root of the larger shift.
    assert torch.linalg.matrix_norm(inverse, 2) <= (1.5e-2 - 1e-3) ** -0.5 + 1


def test_a_configuration_refuses_what_has_no_effect(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(
        '{"optimizer": {"name": "stiefel_lora", "step": "product", "a_rule": "sign"}}'
    )
    with pytest.raises(Exception, match=r"optimizer\.a_rule: 'sign' has no effect"):
        load_config(config)


def test_a_rate_of_0_moves_nothing_where_a_was_reset_to_0():
    """The first step of a warm-up, with momentum of weights that were replaced."""
    run = Run(*point(dtype=torch.float32), lr=1e-2).take(*forces(steps=3))
    with torch.no_grad():
        run.down.zero_()
        run.optimizer.state[run.up]["momentum_up"].normal_()
    for group in run.optimizer.param_groups:
        group["lr"] = 0.0
    run.take(*forces(steps=1))
    assert not run.product.any()
    for group in run.optimizer.param_groups:
        group["lr"] = 1e-2
    run.take(*forces(steps=5))
    assert torch.isfinite(run.product).all()
    assert run.product.norm() > 1e-2


@pytest.mark.parametrize(
    ("options", "rate"),
    [({}, 2e-2), ({"step": "product"}, 2e-2), ({"step": "factors"}, 2e-2)],
)
def test_without_a_rate_it_is_the_one_where_the_options_begin(options, rate):
    optimizer = create_optimizer("stiefel_lora", LoraNet(), **options)
    assert [group["lr"] for group in optimizer.param_groups] == [rate]


def test_momentum_unset_is_that_of_the_step():
    start, gradients = point(), forces(steps=3)
    results = [
        Run(*start, 1e-2, momentum=momentum).take(*gradients).product
        for momentum in (None, 0.6)
    ]
    assert torch.equal(*results)
    rule = StiefelLoRA.rule
    group = Run(*start, 1e-2).optimizer.param_groups[0]
    factors = {**group, "step": "factors", "momentum": None}
    assert rule.numbers(factors)["momentum"] == 0.9


def test_options_in_effect_are_those_that_are_used():
    entry = CATALOGUE["stiefel_lora"]
    product = entry.in_effect({"weight_decay": 0.1})
    used = {"step": "product", "momentum": 0.6, "rest_lr_ratio": 0.05}
    adam = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    assert product == used | adam | {"weight_decay": 0.1}
    factors = entry.in_effect({"step": "factors", "a_rule": "sign"})
    assert (factors["momentum"], factors["angle_per_lr"]) == (0.9, 7.0)
    assert entry.in_effect({"momentum": 0.3})["momentum"] == 0.3


def test_options_that_need_another_are_those_of_the_factors():
    entry = CATALOGUE["stiefel_lora"]
    needing = {option.name for option in entry.options if option.needs}
    assert needing == {
        "b_rule",
        "b_length",
        "retraction",
        "transport",
        "a_rule",
        "angle_per_lr",
        "nesterov",
        "decay_rule",
    }
