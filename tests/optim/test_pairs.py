from __future__ import annotations

import logging

import pytest
import torch
from lora_net import LoraNet
from torch import nn

from stiefel_lora import OptionError, PairingError, create_optimizer, find_pairs
from stiefel_lora.optim.groups import spare_magnitudes


def tensors(*shapes):
    return [nn.Parameter(torch.zeros(shape)) for shape in shapes]


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("blocks.0.to_q.lora_A.default.weight", "blocks.0.to_q.lora_B.default.weight"),
        ("blocks.0.to_q.lora_A.weight", "blocks.0.to_q.lora_B.weight"),
        ("blocks.0.to_q.lora_down.weight", "blocks.0.to_q.lora_up.weight"),
        ("blocks.0.to_q.lora.down.weight", "blocks.0.to_q.lora.up.weight"),
    ],
)
def test_names_of_all_flavours(down, up):
    a, b = tensors((4, 8), (6, 4))
    found = find_pairs([(up, b), (down, a)])
    assert [(p.name, p.up is b, p.down is a) for p in found.pairs] == [
        ("blocks.0.to_q", True, True)
    ]


def test_two_adapters_of_one_layer_stay_apart():
    names = [
        f"q.lora_{role}.{name}.weight" for name in ("default", "style") for role in "AB"
    ]
    found = find_pairs(
        list(zip(names, tensors((4, 8), (6, 4), (2, 8), (6, 2)), strict=True))
    )
    assert [p.name for p in found.pairs] == ["q", "q[style]"]


def test_a_model_lists_its_pairs_and_the_rest():
    found = find_pairs(LoraNet())
    assert [p.name for p in found.pairs] == ["first", "second", "third", "last"]
    assert [name for name, _ in found.rest] == ["shift"]


def test_names_survive_in_groups():
    a, b = tensors((4, 8), (6, 4))
    group = {
        "params": [b, a],
        "lora_param_names": ["x.lora_up.weight", "x.lora_down.weight"],
    }
    assert find_pairs([group]).pairs[0].name == "x"


def test_the_attribute_original_name():
    a, b = tensors((4, 8), (6, 4))
    a.original_name, b.original_name = "q.lora_A.weight", "q.lora_B.weight"
    assert find_pairs([b, a]).pairs[0].name == "q"


def test_tags_settle_what_shapes_cannot():
    first, second = tensors((4, 4), (4, 4))
    first._is_lora_B, second._is_lora_A = True, True
    pair = find_pairs([first, second]).pairs[0]
    assert pair.up is first
    assert pair.down is second


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_neighbors_are_distinguished_by_shape(order):
    factors = tensors((4, 8), (6, 4))
    pair = find_pairs([factors[i] for i in order]).pairs[0]
    assert pair.up is factors[1]
    assert pair.down is factors[0]


def test_convolutions_pair_like_matrices():
    down, up = tensors((4, 8, 3, 3), (6, 4, 1, 1))
    pair = find_pairs([down, up]).pairs[0]
    assert [m.shape for m in pair.matrices] == [(6, 4), (4, 72)]


def test_a_magnitude_between_pairs_is_rest():
    params = tensors((4, 8), (6, 4), (6,), (4, 8), (6, 4), (6,))
    found = find_pairs(params)
    assert len(found.pairs) == 2
    assert [t.dim() for _, t in found.rest] == [1, 1]


def test_lora_plus_groups_pair_by_position():
    downs, ups = tensors((4, 8), (4, 20)), tensors((6, 4), (9, 4))
    found = find_pairs([{"params": downs, "lr": 1e-3}, {"params": ups, "lr": 1e-2}])
    assert [
        (p.up is u, p.down is d)
        for p, u, d in zip(found.pairs, ups, downs, strict=True)
    ] == [
        (True, True),
        (True, True),
    ]
    assert not found.rest


def test_square_neighbors_without_names_are_refused():
    with pytest.raises(PairingError, match=r"pass named_parameters\(\)"):
        find_pairs(tensors((4, 4), (4, 4)))


def roles(found, params):
    place = {id(p): i for i, p in enumerate(params)}
    return [(place[id(p.down)], place[id(p.up)]) for p in found.pairs]


A, B, SQUARE = (4, 16), (16, 4), (4, 4)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([A, B] * 3, [(0, 1), (2, 3), (4, 5)]),
        ([B, A] * 2, [(1, 0), (3, 2)]),
        # LyCORIS's LoHa: two products a layer.
        ([(64, 4), (4, 32), (64, 4), (4, 32)], [(1, 0), (3, 2)]),
        ([A, B, (16,), A, B, (16,)], [(0, 1), (3, 4)]),
        # A weight that is trained as a whole, before and behind.
        ([(10, 16), A, B, A, B, (16, 16)], [(1, 2), (3, 4)]),
        # A layer narrower than the rank, first or last.
        ([(4, 3), (16, 4), A, B], [(2, 3)]),
        ([A, B, A, (2, 4)], [(0, 1)]),
        ([(4, 8, 3, 3), (16, 4, 1, 1), A, B], [(0, 1), (2, 3)]),
    ],
)
def test_lists_in_order_are_paired_without_names(shapes, expected):
    params = tensors(*shapes)
    assert roles(find_pairs(params), params) == expected


LOKR = [(8, 8), (64, 8), (8, 64)]


@pytest.mark.parametrize(
    "shapes",
    [
        [A, A, A, B, B, B],
        [A, B, B, A],
        [A, B, A],
        [A, A, B],
        LOKR,
        LOKR * 2,
        LOKR * 4,
        # LoKr with a whole second matrix.
        [(16, 16), (64, 16)] * 2,
        [SQUARE, B, A, B],
        # Tucker's core between A and B.
        [(4, 8, 1, 1), (4, 4, 3, 3), (6, 4, 1, 1)],
        # Shifted by one, the narrow layers at both ends hide it.
        [(8, 3), (16, 8), (8, 16), (16, 8), (8, 16), (2, 8)],
    ],
)
def test_lists_that_could_be_paired_otherwise_are_refused(shapes):
    with pytest.raises(PairingError, match=r"pass named_parameters\(\)"):
        find_pairs(tensors(*shapes))


FROZEN = {
    "base": ([(16, 16), A, B, (16, 16), A, B], "f..f..", [(1, 2), (4, 5)]),
    "a base that fits": ([(100, 4), A, B], "f..", [(1, 2)]),
    "up and down": (
        [(24, 16), A, (24, 4), (16, 24), (4, 24), B],
        "f..f..",
        [(1, 2), (4, 5)],
    ),
    "embedding between": ([A, B, (9, 4), A, B], "..f..", [(0, 1), (3, 4)]),
    "every A": ([A, B, A, B], "f.f.", [(0, 1), (2, 3)]),
    "every B": ([A, B, A, B], ".f.f", [(0, 1), (2, 3)]),
    "a whole pair": ([A, B, A, B], "ff..", [(2, 3)]),
    "everything": ([A, B, A, B], "ffff", [(0, 1), (2, 3)]),
}


@pytest.mark.parametrize("case", FROZEN)
def test_frozen_weights_in_a_list_without_names(case):
    """model.parameters() of a peft model holds those of the base."""
    shapes, marks, expected = FROZEN[case]
    params = tensors(*shapes)
    for parameter, mark in zip(params, marks, strict=True):
        parameter.requires_grad_(mark == ".")
    assert roles(find_pairs(params), params) == expected


def test_frozen_weights_that_fit_otherwise_are_refused():
    params = tensors(A, B, A, B)
    params[0].requires_grad_(False)
    params[3].requires_grad_(False)
    with pytest.raises(PairingError, match=r"pass named_parameters\(\)"):
        find_pairs(params)


def test_all_parameters_of_peft_models_are_paired(caplog):
    nets = [LoraNet(seed) for seed in range(2)]
    caplog.set_level(logging.INFO, "stiefel_lora")
    groups = [{"params": list(net.parameters())} for net in nets]
    optimizer = create_optimizer("stiefel_lora", groups)
    expected = find_pairs(nn.ModuleList(nets)).pairs
    assert [(id(p.up), id(p.down)) for p in optimizer.pairs] == [
        (id(p.up), id(p.down)) for p in expected
    ]
    assert "2 of 18 parameters use AdamW" in caplog.text


def test_groups_in_order_are_paired_whatever_else_fits():
    groups = [tensors(A, A), tensors(B, B), tensors(A, A), tensors(B, B)]
    params = [p for group in groups for p in group]
    found = find_pairs([{"params": group} for group in groups])
    assert roles(found, params) == [(0, 2), (1, 3), (4, 6), (5, 7)]


def test_groups_that_fit_one_other_are_paired_across():
    groups = [tensors(A, A), tensors(A), tensors(B, B), tensors(B)]
    params = [p for group in groups for p in group]
    found = find_pairs([{"params": group} for group in groups])
    assert sorted(roles(found, params)) == [(0, 3), (1, 4), (2, 5)]


@pytest.mark.parametrize(
    "groups", [[[A, A], [A, A], [B, B], [B, B]], [[SQUARE], [SQUARE]]]
)
def test_groups_that_fit_several_are_refused(groups):
    with pytest.raises(PairingError, match=r"pass named_parameters\(\)"):
        find_pairs([{"params": tensors(*group)} for group in groups])


@pytest.mark.parametrize("between", ["lora_mid.weight", "lora_E.default"])
def test_a_matrix_between_the_factors_makes_them_no_pair(between):
    shapes = {"lora_A": (4, 8, 1, 1), between: (4, 4, 3, 3), "lora_B": (6, 4, 1, 1)}
    named = [
        (f"q.{n}", t) for n, t in zip(shapes, tensors(*shapes.values()), strict=True)
    ]
    found = find_pairs(named)
    assert not found.pairs
    assert "between A and B" in found.reasons[id(named[0][1])]


def test_a_grouped_convolution_is_no_pair_and_hides_no_other():
    shapes = [(4, 8, 3, 3), (6, 2, 1, 1), (4, 8), (6, 4)]
    names = ["c.lora_A.weight", "c.lora_B.weight", "q.lora_A.weight", "q.lora_B.weight"]
    found = find_pairs(list(zip(names, tensors(*shapes), strict=True)))
    assert [pair.name for pair in found.pairs] == ["q"]
    assert set(found.reasons.values()) == {"grouped convolution"}


def test_a_rank_of_zero_is_a_message():
    a, b = tensors((0, 8), (6, 0))
    with pytest.raises(PairingError, match="'q' have rank 0"):
        find_pairs([("q.lora_A.weight", a), ("q.lora_B.weight", b)])


def test_a_tensor_under_two_names_is_refused():
    a, b = tensors((4, 8), (6, 4))
    named = [("p.lora_A.weight", a), ("p.lora_B.weight", b), ("q.lora_A.weight", a)]
    with pytest.raises(OptionError, match=r"as 'p.lora_A.weight' and as 'q.lora_A"):
        find_pairs(named)
    with pytest.raises(OptionError, match="a tensor was passed twice"):
        find_pairs([{"params": [a]}, {"params": [b, a]}])


def test_square_factors_with_names_are_fine():
    a, b = tensors((4, 4), (4, 4))
    assert find_pairs([("q.lora_A.weight", a), ("q.lora_B.weight", b)]).pairs[0].up is b


def test_shapes_that_contradict_names_are_refused():
    a, b = tensors((4, 8), (6, 3))
    with pytest.raises(PairingError, match=r"'q' have shapes \(6, 3\) \(B\)"):
        find_pairs([("q.lora_A.weight", a), ("q.lora_B.weight", b)])


def test_frozen_parameters_are_not_seen():
    model = LoraNet()
    model.first.requires_grad_(False)
    assert [p.name for p in find_pairs(model).pairs] == ["second", "third", "last"]


@pytest.mark.parametrize("key", ["param_names", "lora_param_names", "original_name"])
def test_magnitudes_are_spared_from_decay_however_they_are_named(key):
    names = ["layer.lora_A.weight", "layer.lora_magnitude_vector.weight"]
    group = {"params": [torch.zeros(2, 4), torch.zeros(4)], "weight_decay": 0.1}
    if key == "original_name":
        for name, tensor in zip(names, group["params"], strict=True):
            tensor.original_name = name
    else:
        group[key] = names
    plain, spared = spare_magnitudes([group])
    assert (plain["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert spared["params"][0] is group["params"][1]
    assert key == "original_name" or spared[key] == names[1:]


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv3d])
def test_convolutions_in_one_or_three_dimensions_take_adamw(kind, caplog):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lora_A = nn.ModuleDict({"default": kind(8, 4, 3, bias=False)})
            self.lora_B = nn.ModuleDict({"default": kind(4, 12, 1, bias=False)})

    optimizer = create_optimizer("stiefel_lora", nn.ModuleDict({"conv": Net()}))
    assert not optimizer.pairs
    dimensions = 1 if kind is nn.Conv1d else 3
    assert "2 of 2 parameters use AdamW" in caplog.text
    assert f"({dimensions}D convolution)" in caplog.text
    optimizer = create_optimizer("lora_plus", nn.ModuleDict({"conv": Net()}))
    assert len(optimizer.pairs) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"q.lora_A.weight": torch.zeros(4, 16)},
            "'q.lora_A.weight' is not a parameter",
        ),
        ([None, torch.zeros(4, 16)], "None is not a parameter"),
        ([("q.lora_A.weight", 3)], "3 is not a parameter"),
        ([{"param": []}], "a parameter group has 'param' but no 'params'"),
        (
            [{"params": tensors(A, B), "param_names": ["q.lora_A.weight"]}],
            "a group has 1 names for 2 parameters",
        ),
        (
            [{"params": tensors(A), "lora_param_names": ["q.lora_A", "q.lora_B"]}],
            "a group has 2 names for 1 parameters",
        ),
    ],
)
def test_what_is_no_list_of_parameters_is_a_message(given, message):
    for name in ("stiefel_lora", "adamw"):
        with pytest.raises(OptionError, match=message):
            create_optimizer(name, given)


RATES = ["1e-3", None, float("nan"), -1.0, [1e-3], True, torch.tensor(-1.0)]


@pytest.mark.parametrize("lr", RATES)
@pytest.mark.parametrize("name", ["stiefel_lora", "adamw"])
def test_a_learning_rate_that_is_no_number_is_a_message(name, lr):
    with pytest.raises(OptionError, match=r"must be in \[0, inf\)"):
        create_optimizer(name, [{"params": tensors(A, B), "lr": lr}])


@pytest.mark.parametrize("lr", [torch.tensor([1e-3, 1e-3]), torch.tensor(True)])
def test_a_learning_rate_that_is_several_or_a_truth_value_is_a_message(lr):
    with pytest.raises(OptionError, match="must be one number"):
        create_optimizer("stiefel_lora", tensors(A, B), lr=lr)


@pytest.mark.parametrize("name", ["stiefel_lora", "stella", "adamw"])
def test_a_learning_rate_that_a_scheduler_set_to_nan_changes_nothing(name):
    factors = tensors(A, B)
    optimizer = create_optimizer(name, factors, lr=1e-3)
    before = [factor.detach().clone() for factor in factors]
    for factor in factors:
        factor.grad = torch.ones_like(factor)
    optimizer.param_groups[0]["lr"] = float("nan")
    with pytest.raises(OptionError, match=r"must be in \[0, inf\), but got nan"):
        optimizer.step()
    assert all(map(torch.equal, factors, before))
