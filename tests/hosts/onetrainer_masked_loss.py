"""Compute OneTrainer's masked loss with its prior; runs in its environment.

    python onetrainer_masked_loss.py ONETRAINER_ROOT INPUTS OUTPUT

INPUTS is a file of torch: ``losses``, ``prior`` and ``mask``. OUTPUT gets the loss of
each image for each combination of settings.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch


def main(root: Path, inputs: Path, output: Path) -> None:
    """Write the losses by unmasked weight, normalization and weight of the prior."""
    sys.path.insert(0, str(root))
    from modules.util.loss.masked_loss import masked_losses_with_prior

    given = torch.load(inputs, weights_only=True)
    found = {}
    for unmasked, normalize, weight in itertools.product(
        (0.0, 0.25), (False, True), (0.0, 0.7)
    ):
        losses = masked_losses_with_prior(
            losses=given["losses"].clone(),
            prior_losses=given["prior"].clone(),
            mask=given["mask"].clone(),
            unmasked_weight=unmasked,
            normalize_masked_area_loss=normalize,
            masked_prior_preservation_weight=weight,
        )
        found[f"{unmasked} {normalize} {weight}"] = losses.mean((1, 2, 3))
    torch.save(found, output)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
