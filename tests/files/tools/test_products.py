"""Merge methods on the products: entry by entry, never on A and B apart."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.lora_files import dense, make, stack, write
from stiefel_lora._exceptions import OptionError
from stiefel_lora.files import Method, Part, Target, merge_lora
from stiefel_lora.files.tools.products import combined

SEEDS = st.integers(0, 2**31)


def parts_in(folder, seed: int = 0, weights=(0.7, -0.4)) -> list[Part]:
    return [
        Part(write(folder / f"{n}.safetensors", make(seed=seed + n)), weight)
        for n, weight in enumerate(weights)
    ]


def weighted(parts: list[Part]) -> torch.Tensor:
    return torch.stack([part.weight * stack(dense(part.file)) for part in parts])


@given(st.sampled_from(["dare", "magnitude"]), SEEDS)
def test_a_density_of_one_is_the_exact_sum(tmp_path_factory, name, seed):
    folder = tmp_path_factory.mktemp("lora")
    parts = parts_in(folder, seed)
    out = folder / "out.safetensors"
    report = merge_lora(parts, out, method=Method(name, 1.0))
    found, sums = stack(dense(report.saved.file)), weighted(parts).sum(0)
    assert float((found - sums).norm()) < 1e-5 * sum(report.norms)
    assert report.error < 1e-5


def test_entries_by_hand():
    one = torch.tensor([[3.0, -1.0, 2.0, 0.5]])
    two = torch.tensor([[-1.0, -4.0, 5.0, 0.25]])
    # The two largest of each are 3, 2 and -4, 5.
    largest = combined([one, two], Method("magnitude", 0.5))
    assert largest.tolist() == [[3.0, -4.0, 7.0, 0.0]]
    ties = combined([one, two], Method("ties", 0.5))
    assert ties.tolist() == [[3.0, -4.0, 3.5, 0.0]]
    # Signs of the sums are +, -, +, +: of the first column only 3 has it.
    whole = combined([one, two], Method("ties", 1.0))
    assert whole.tolist() == [[3.0, -2.5, 3.5, 0.375]]


def test_dare_keeps_the_mean():
    one = torch.full((400, 400), 2.0)
    found = combined([one], Method("dare", 0.25), seed=1)
    assert set(found.unique().tolist()) == {0.0, 8.0}
    assert float(found.mean()) == pytest.approx(2.0, rel=0.02)
    again = combined([one], Method("dare", 0.25), seed=1)
    assert torch.equal(found, again)


@given(SEEDS)
def test_the_error_is_that_of_the_rank(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("lora")
    parts = parts_in(folder, seed, (1.0, 1.0))
    way = Method("ties", 0.5)
    report = merge_lora(parts, folder / "out.safetensors", Target(rank=2), method=way)
    found = dense(report.saved.file)
    lost, whole = [], []
    for key in found:
        updates = [dense(part.file)[key].float() for part in parts]
        exact = combined(updates, way).double()
        sigma = torch.linalg.svdvals(exact)
        assert float((found[key] - exact).norm()) == pytest.approx(
            float(sigma[2:].norm()), rel=1e-4, abs=1e-5 * float(sigma.norm())
        )
        lost.append(sigma[2:])
        whole.append(sigma)
    true = float(torch.cat(lost).norm() / torch.cat(whole).norm())
    assert report.error == pytest.approx(true, abs=1e-5)


@given(SEEDS)
def test_the_norm_of_one_file_is_kept(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("lora")
    parts = parts_in(folder, seed, (1.0, 0.5, 0.5))
    report = merge_lora(parts, folder / "out.safetensors", method=Method("norm"))
    norms = [float(stack(dense(part.file)).norm()) for part in parts]
    mean = 0.5 * norms[0] + 0.25 * norms[1] + 0.25 * norms[2]
    found, sums = stack(dense(report.saved.file)), weighted(parts).sum(0)
    assert float(found.norm()) == pytest.approx(mean, rel=1e-5)
    direction = sums * (mean / sums.norm())
    assert torch.allclose(found, direction, rtol=0, atol=1e-5 * mean)


def test_factors_of_sections_count_in_the_mean_norm(tmp_path):
    parts = parts_in(tmp_path, 0, (0.5,))
    halved = dataclasses.replace(parts[0], weight=1.0, sections={"*": 0.5})
    for number, part in enumerate((halved, dataclasses.replace(halved, weight=2.0))):
        output = tmp_path / f"out{number}.safetensors"
        report = merge_lora([part], output, method=Method("norm"))
        exact = weighted(parts).sum(0)
        assert torch.allclose(stack(dense(report.saved.file)), exact, atol=1e-5)


def test_wrong_options(tmp_path):
    for wrong in (("x",), ("ties", 0.0), ("ties", 1.5)):
        with pytest.raises(OptionError):
            Method(*wrong)
    target = Target(error=0.1)
    with pytest.raises(OptionError, match="only --rank can be combined with it"):
        merge_lora(parts_in(tmp_path), tmp_path / "x", target, method=Method("ties"))
