"""The batched fast path against the plain float64 reference of every method."""

from __future__ import annotations

import pytest
import torch
from reference.adam import AdamWReference
from reference.lora_muon import LoraMuonReference
from reference.lora_tsd import LoraTsdReference
from reference.polora import PoloraReference
from reference.riemannion import RiemannionReference
from reference.rite import RiteReference
from reference.scaled_adamw import ScaledAdamWReference
from reference.stella import StellaReference
from reference.stiefel import StiefelReference
from reference.stiefel_product import StiefelProductReference
from reference.whitened_lora import WhitenedReference

from stiefel_lora import create_optimizer
from stiefel_lora.geometry import random_orthonormal
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.optim import PAPER_OPTIONS, PULL_REQUEST_OPTIONS

STEPS = 12
# Two pairs of one shape, so that batching matters; a square, a rank-1 and a full one.
SHAPES = [(9, 6, 3), (7, 12, 4), (7, 12, 4), (5, 5, 2), (8, 4, 1), (4, 9, 4)]

# The fast path has no factorization where it can do without, so it agrees to the
# accuracy of its Newton-Schulz iterations; QR, eigh and Adam agree to rounding. Below
# RESOLVED of the norm the iterations shorten a direction on purpose.
EXACT, ITERATED, RESOLVED = 1e-11, 1e-7, 1e-3
# The spectral norm is a Rayleigh quotient, low by at most log(r)/1024.
SPECTRAL = 2e-3

STIEFEL = "stiefel_lora", StiefelReference, 2e-2
FACTORS = {"step": "factors"}
PRODUCT = "stiefel_lora", StiefelProductReference, 2e-2
STELLA = "stella", StellaReference, 1e-2
RITE = "lora_rite", RiteReference, 2e-2
RIEMANNION = "riemannion", RiemannionReference, 2e-2
LORA_MUON = "lora_muon", LoraMuonReference, 2e-2
POLORA = "polora", PoloraReference, 5e-2
LORA_TSD = "lora_tsd", LoraTsdReference, 2e-2
WHITENED = "whitened_lora", WhitenedReference, 1e-2

CASES = [
    (*STIEFEL, FACTORS, ITERATED),
    (
        *STIEFEL[:2],
        5e-3,
        {**FACTORS, "a_rule": "adamw", "weight_decay": 0.1},
        ITERATED,
    ),
    (
        *STIEFEL[:2],
        1e-2,
        {**FACTORS, "a_rule": "sign", "nesterov": False},
        ITERATED,
    ),
    (*STIEFEL, {**FACTORS, "b_rule": "momentum", "transport": False}, ITERATED),
    (
        *STIEFEL,
        {**FACTORS, "b_rule": "momentum", "b_length": "spectral"},
        SPECTRAL,
    ),
    (*STIEFEL, {**FACTORS, "b_rule": "momentum", "b_length": "raw"}, ITERATED),
    (*STIEFEL, {**PULL_REQUEST_OPTIONS, "weight_decay": 0.1}, EXACT),
    (*STIEFEL, {**PAPER_OPTIONS, "angle_per_lr": 1.0}, EXACT),
    (*PRODUCT, {"step": "product"}, ITERATED),
    (*PRODUCT, {"step": "product", "weight_decay": 0.1, "momentum": 0.5}, ITERATED),
    (*STELLA, {}, EXACT),
    (*STELLA, {"base_rule": "sgd", "retraction": "exponential"}, EXACT),
    (*STELLA, {"base_rule": "lion", "weight_decay": 0.1}, EXACT),
    (*STELLA, {"s_form": "diagonal"}, EXACT),
    (*RITE, {}, EXACT),
    (*RITE, {"escape": True, "weight_decay": 0.1, "clip_norm": 0.0}, EXACT),
    (*RITE, {"skip_above": 0.0, "clip_norm": 0.1}, EXACT),
    (*RIEMANNION, {"weight_decay": 0.1}, ITERATED),
    (*RIEMANNION, {"momentum_form": "orthogonal", "momentum": 0.5}, ITERATED),
    (*LORA_MUON, {}, ITERATED),
    (*LORA_MUON, {"weight_decay": 0.1, "momentum": 0.5, "growth": 1.0}, ITERATED),
    (*POLORA, {}, SPECTRAL),
    (*POLORA, {"curvature_damping": 1e-2, "weight_decay": 0.1}, SPECTRAL),
    (*LORA_TSD, {"trust_region": 1.0}, ITERATED),
    (*LORA_TSD, {"tau": 3, "weight_decay": 0.1}, ITERATED),
    (*WHITENED, {}, ITERATED),
    (*WHITENED, {"weight_decay": 0.1, "longest_turn": 1.0}, ITERATED),
    ("adamw", AdamWReference, 2e-2, {"weight_decay": 0.1}, EXACT),
    ("lora_plus", AdamWReference, 1e-2, {"lr_ratio": 4.0}, EXACT),
    ("scaled_adamw", ScaledAdamWReference, 1e-2, {"weight_decay": 0.1}, EXACT),
]
IDS = [
    f"{case[0]}-{'-'.join(map(str, case[3].values())) or 'default'}" for case in CASES
]

# Its moments are codes of another package; test_field_methods.py bounds the distance.
WITHOUT_REFERENCE = {"adamw_8bit"}


def test_every_method_has_a_reference():
    assert {case[0] for case in CASES} | WITHOUT_REFERENCE == set(CATALOGUE)


def start(seed=0):
    """Orthonormal B and an A with orthogonal rows of unequal length, float64."""
    pairs = []
    for index, (out, width, rank) in enumerate(SHAPES):
        b = random_orthonormal(out, rank, seed=seed + index, dtype=torch.float64)
        rows = random_orthonormal(width, rank, seed=~index, dtype=torch.float64).T
        sizes = torch.linspace(1.5, 0.5, rank, dtype=torch.float64)
        pairs.append((b, sizes[:, None] * rows))
    return pairs


def targets():
    generator = torch.Generator().manual_seed(7)
    return [
        torch.randn(out, width, generator=generator, dtype=torch.float64)
        for out, width, _ in SHAPES
    ]


def gradients(pairs, goals):
    """Of the sum of |B A - goal|^2 / 2 over the pairs."""
    errors = [b @ a - goal for (b, a), goal in zip(pairs, goals, strict=True)]
    return [(e @ a.T, b.T @ e) for (b, a), e in zip(pairs, errors, strict=True)]


def run_reference(cls, lr, options, goals):
    reference = cls(start(), lr, **options)
    for _ in range(STEPS):
        reference.step(gradients(reference.pairs, goals))
    assert getattr(reference, "least", 1.0) > RESOLVED
    return reference.pairs


def run_fast(name, lr, options, goals):
    tensors = [(torch.nn.Parameter(b), torch.nn.Parameter(a)) for b, a in start()]
    named = [
        (f"layer{i}.lora_{role}.weight", tensor)
        for i, pair in enumerate(tensors)
        for role, tensor in zip("BA", pair, strict=True)
    ]
    optimizer = create_optimizer(name, named, lr=lr, **options)
    for _ in range(STEPS):
        detached = [(b.detach(), a.detach()) for b, a in tensors]
        for pair, grads in zip(tensors, gradients(detached, goals), strict=True):
            for tensor, gradient in zip(pair, grads, strict=True):
                tensor.grad = gradient.clone()
        optimizer.step()
    return [(b.detach(), a.detach()) for b, a in tensors]


@pytest.mark.parametrize(("name", "cls", "lr", "given", "tolerance"), CASES, ids=IDS)
def test_fast_path_equals_reference(name, cls, lr, given, tolerance):
    options = CATALOGUE[name].defaults() | given
    goals = targets()
    slow, fast = (
        run_reference(cls, lr, options, goals),
        run_fast(name, lr, given, goals),
    )
    moved = 0.0
    for (b, a), (b_fast, a_fast), (b0, a0) in zip(slow, fast, start(), strict=True):
        scale = torch.linalg.norm(b @ a)
        assert torch.linalg.norm(b @ a - b_fast @ a_fast) <= tolerance * scale
        moved = max(moved, float(torch.linalg.norm(b @ a - b0 @ a0) / scale))
    assert moved > 100 * tolerance
