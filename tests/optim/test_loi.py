"""LOI against dense singular value decompositions of the layers' gradients (T15)."""

from __future__ import annotations

import pytest
import torch
from catalogue_cases import every_method, make
from lora_net import LoraLinear, LoraNet, backward, snapshot, task, train

from stiefel_lora import OptionError, init_loi_
from stiefel_lora.geometry import orthogonality_error


def layers(model):
    return [m for m in model.modules() if isinstance(m, LoraLinear)]


def dense_gradients(batch):
    """Of the frozen weights, with the adapters at zero."""
    model = LoraNet()
    for layer in layers(model):
        layer.base.weight.requires_grad_(True)
    backward(model, batch)
    return [layer.base.weight.grad.double() for layer in layers(model)]


def loi(model, batch, **options):
    return init_loi_(model, lambda: backward(model, batch), **options)


def test_t15_the_tangent_space_at_the_start_holds_the_best_approximation():
    model, batch = LoraNet(), task()
    found = loi(model, batch, offset=True, power=4)
    for record, gradient in zip(found, dense_gradients(batch), strict=True):
        rank = record.pair.rank
        u, s, vh = torch.linalg.svd(gradient, full_matrices=False)
        best = u[:, : 2 * rank] @ torch.diag(s[: 2 * rank]) @ vh[: 2 * rank]
        left = record.offset_up.double()
        right = torch.linalg.qr(record.offset_down.double().T)[0]
        p_left, p_right = left @ left.T, right @ right.T
        projected = p_left @ gradient + gradient @ p_right - p_left @ gradient @ p_right
        # The bound of the randomized factorization, as algorithms.md gives it.
        assert torch.linalg.norm(projected - best) <= 1e-2 * torch.linalg.norm(best)
        gap = (record.singular_values.double() - s[: 2 * rank]).abs().max()
        assert gap <= 1e-2 * s[0]


def test_without_offset_the_model_is_unchanged_and_b_sees_the_gradient():
    model, batch = LoraNet(), task()
    before = backward(LoraNet(), batch)
    found = loi(model, batch, power=4)
    assert backward(model, batch) == pytest.approx(before, rel=1e-6)
    for record, gradient in zip(found, dense_gradients(batch), strict=True):
        up = record.pair.up.detach().double()
        assert orthogonality_error(up) <= 1e-5
        assert not record.pair.down.any()
        seen = torch.linalg.norm(up.T @ gradient)
        best = torch.linalg.svdvals(gradient)[: record.pair.rank].norm()
        assert seen >= 0.99 * best


def test_the_offset_has_the_documented_size():
    model, batch = LoraNet(), task()
    for record in loi(model, batch, offset=True):
        product = record.offset_up @ record.offset_down
        values = torch.linalg.svdvals(product)[: record.pair.rank]
        torch.testing.assert_close(
            values, torch.full_like(values, record.pair.rank**-0.5)
        )


@pytest.mark.parametrize(("options", "passes"), [({}, 12), ({"power": 3}, 24)])
def test_it_takes_the_documented_number_of_backward_passes(options, passes):
    model, batch = LoraNet(), task()
    calls = []

    def counted():
        calls.append(1)
        backward(model, batch)

    init_loi_(model, counted, **options)
    assert len(calls) == passes


def test_the_same_seed_gives_the_same_start():
    starts = []
    for _ in range(2):
        model, batch = LoraNet(), task()
        loi(model, batch, seed=3)
        starts.append(snapshot(model))
    for one, other in zip(*starts, strict=True):
        assert torch.equal(one, other)


@every_method
def test_methods_train_from_it(name):
    model, batch = LoraNet(), task()
    loi(model, batch)
    start = backward(model, batch)
    end = train(model, make(name, model), 100, batch)
    assert end < 0.5 * start


def test_an_error_leaves_the_factors_as_they_were():
    model = LoraNet()
    before = snapshot(model)

    def fails():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        init_loi_(model, fails)
    with pytest.raises(OptionError, match="has no gradient"):
        init_loi_(model, lambda: None)
    for one, other in zip(before, snapshot(model), strict=True):
        assert torch.equal(one, other)


def test_an_offset_without_room_is_a_message():
    model = LoraNet()
    model.last = LoraLinear(16, 8, 5)
    with pytest.raises(OptionError, match="2 x rank <= 8 in the layer 'last'"):
        loi(model, task(), offset=True)


def test_no_svd_is_larger_than_the_directions(monkeypatch):
    real, sizes = torch.linalg.svd, []

    def svd(matrix, **options):
        sizes.append(matrix.shape)
        return real(matrix, **options)

    monkeypatch.setattr(torch.linalg, "svd", svd)
    model, batch = LoraNet(), task()
    found = loi(model, batch)
    counts = {min(3 * record.pair.rank, *record.pair.sides) for record in found}
    assert {side for shape in sizes for side in shape} == counts
