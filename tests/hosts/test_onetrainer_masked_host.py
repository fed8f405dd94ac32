"""The loss outside of masks beside that of OneTrainer.

Needs a checkout and its environment:
ONETRAINER_ROOT=CHECKOUT python -m pytest tests/hosts -k onetrainer_masked_host
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from unmodified_host import UnmodifiedHost

from stiefel_lora.families import Prediction
from stiefel_lora.training.loss.denoising_loss import Objective

HERE = Path(__file__).parent
HOST = UnmodifiedHost("ONETRAINER_ROOT")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HOST.given, reason="ONETRAINER_ROOT names no checkout"),
]


def test_the_masked_loss_is_that_of_onetrainer(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, target, base = torch.randn(3, 5, 4, 8, 8, generator=generator)
    mask = torch.rand(5, 1, 8, 8, generator=generator).round(decimals=1)
    mask[0] = 0
    inputs = {"mask": mask, "losses": (predicted - target).square()}
    torch.save({**inputs, "prior": (predicted - base).square()}, tmp_path / "in.pt")
    script = HERE / "onetrainer_masked_loss.py"
    HOST.run(script, HOST.root, tmp_path / "in.pt", tmp_path / "out.pt")
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    assert len(found) == 8
    for settings, expected in found.items():
        unmasked, normalize, weight = settings.split()
        objective = Objective(
            unmasked_weight=float(unmasked),
            normalize_masked_area=normalize == "True",
            prior_weight=float(weight),
        )
        own = objective.losses(
            Prediction(predicted, target), {"mask": mask}, None, base
        )
        # OneTrainer divides 0 by 0 for a mask that is black everywhere.
        known = ~expected.isnan()
        assert known[1:].all()
        torch.testing.assert_close(own[known], expected[known], rtol=1e-5, atol=1e-6)
        assert own.isfinite().all()
