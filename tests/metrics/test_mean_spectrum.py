"""The mean spectrum of the blocks in a measurement of ranks."""

from __future__ import annotations

import pytest
import torch

from stiefel_lora.metrics.ranks import measure_ranks
from stiefel_lora.optim.pairs import Pair


def random_pair(name: str, rank: int) -> Pair:
    generator = torch.Generator().manual_seed(rank)
    up = torch.randn(12, rank, generator=generator)
    down = torch.randn(rank, 9, generator=generator)
    return Pair(name, torch.nn.Parameter(up), torch.nn.Parameter(down))


@torch.no_grad()
def test_it_is_that_of_the_products_also_with_several_ranks() -> None:
    pairs = [random_pair("a", 4), random_pair("b", 2), random_pair("c", 3)]
    rows = torch.full((3, 4), torch.nan, dtype=torch.float64)
    for row, pair in zip(rows, pairs, strict=True):
        values = torch.linalg.svdvals((pair.up @ pair.down).double())[: pair.rank]
        row[: pair.rank] = values / values.sum()
    found = measure_ranks(pairs).spectrum
    assert found == pytest.approx(rows.nanmean(0).tolist(), rel=1e-6)


def test_blocks_without_an_update_are_left_out() -> None:
    still = random_pair("still", 4)
    torch.nn.init.zeros_(still.down)
    moved = random_pair("moved", 4)
    alone = measure_ranks([moved]).spectrum
    assert measure_ranks([still, moved]).spectrum == pytest.approx(alone)
    assert measure_ranks([still]).spectrum == []
