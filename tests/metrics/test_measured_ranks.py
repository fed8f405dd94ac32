from __future__ import annotations

import math

import pytest
import torch

from helpers.ranks import entropy_rank
from stiefel_lora.metrics.rank_map import heat_map
from stiefel_lora.metrics.ranks import measure_ranks
from stiefel_lora.metrics.tags import split_section, tag_of
from stiefel_lora.optim.pairs import Pair

SHAPES = [(12, 10, 3), (12, 10, 3), (8, 20, 4), (12, 10, 3)]


def make_pairs() -> list[Pair]:
    generator = torch.Generator().manual_seed(0)
    return [
        Pair(
            f"down_blocks.1.attentions.{i}.to_q",
            torch.randn(out, r, generator=generator),
            torch.randn(r, into, generator=generator),
        )
        for i, (out, into, r) in enumerate(SHAPES)
    ]


def test_agrees_with_the_spectrum_of_the_product_itself() -> None:
    pairs = make_pairs()
    report = measure_ranks(pairs)
    assert report.orthogonality == []
    for i, pair in enumerate(pairs):
        values = torch.linalg.svdvals((pair.up @ pair.down).double())[: pair.rank]
        assert report.effective[i] == pytest.approx(entropy_rank(values), rel=1e-6)
        stable = float(values.square().sum() / values[0].square())
        assert report.stable[i] == pytest.approx(stable, rel=1e-6)
    assert report.lowest == min(report.effective)
    assert 0 < report.share <= 1


def test_constrained_factors_say_how_orthonormal_they_are() -> None:
    pairs = make_pairs()
    pairs[2].up.copy_(torch.linalg.qr(pairs[2].up).Q)
    report = measure_ranks(pairs, pairs)
    assert report.orthogonality[2] < 1e-5
    assert report.orthogonality[0] > 0.1
    assert "orthogonality.down_blocks.1/attentions.2.to_q" in report.scalars()


def test_convolutions_are_measured_flat() -> None:
    up, down = torch.randn(8, 2, 1, 1), torch.randn(2, 4, 3, 3)
    report = measure_ranks([Pair("conv_in", up, down)])
    flat = measure_ranks([Pair("x", up.flatten(1), down.flatten(1))])
    assert report.effective == flat.effective


def test_a_product_that_is_zero_has_rank_zero() -> None:
    zero = Pair("mid_block.q", torch.randn(8, 2), torch.zeros(2, 4))
    report = measure_ranks([zero])
    assert report.effective == [0.0]


@pytest.mark.parametrize(
    ("name", "section", "rest"),
    [
        ("down_blocks.1.attentions.0.proj_in", "down_blocks.1", "attentions.0.proj_in"),
        ("up_blocks.0.attentions.2.proj_out", "up_blocks.0", "attentions.2.proj_out"),
        ("mid_block.attentions.0.proj_in", "mid_block", "attentions.0.proj_in"),
        ("time_embedding.linear_1", "time_embedding", "linear_1"),
        ("conv_in", "other", "conv_in"),
    ],
)
def test_sections(name: str, section: str, rest: str) -> None:
    assert split_section(name) == (section, rest)
    assert tag_of("stable_rank", name) == f"stable_rank.{section}/{rest}"


@pytest.mark.parametrize("blocks", [1, 12, 722])
def test_heat_map_has_a_color_for_every_block_and_time(blocks: int) -> None:
    names = [f"down_blocks.{i % 3}.q{i}" for i in range(blocks)]
    columns = [[0.0] * blocks, [1.0] * blocks]
    image = heat_map(names, columns, [5, 10])
    row = 18 + (image.height - 36) // 2
    assert image.getpixel((130 + 10, row)) == (68, 1, 84)
    assert image.getpixel((130 + 630, row)) == (253, 231, 37)


def test_a_block_that_is_not_finite_leaves_the_others_their_ranks() -> None:
    pairs, good = make_pairs(), measure_ranks(make_pairs())
    pairs[1].up[2, 1] = float("nan")
    pairs[2].down[0, 0] = float("inf")
    report = measure_ranks(pairs, pairs)
    for i in (0, 3):
        assert report.effective[i] == good.effective[i]
        assert report.stable[i] == good.stable[i]
    for i in (1, 2):
        assert math.isnan(report.effective[i])
        assert math.isnan(report.stable[i])
    assert report.mean == pytest.approx((good.effective[0] + good.effective[3]) / 2)
    assert report.lowest == min(good.effective[0], good.effective[3])
    bad = measure_ranks(pairs[1:3])
    assert math.isnan(bad.mean)
    assert math.isnan(bad.lowest)
    assert math.isnan(bad.share)


def test_heat_map_leaves_a_block_without_a_rank_white() -> None:
    image = heat_map(["a.q", "a.k"], [[float("nan"), 1.0]], [5])
    assert image.getpixel((400, 20)) == (255, 255, 255)
