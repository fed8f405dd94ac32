"""Comparison of stacked LoRAs, on losses that are linear in both weights."""

from __future__ import annotations

from types import ModuleType

import pytest


def _row(study: ModuleType, strength: float, norms: tuple[float, float]) -> dict:
    """Losses fall by `strength` per weight; both LoRAs help on the stack."""
    weights = study.stack.WEIGHTS
    return {
        "style": [1 - strength * w for w in weights],
        "concepts": [2 - strength * w for w in weights],
        "stack": [[3 - strength * (a + 2 * b) for b in weights] for a in weights],
        "norms": list(norms),
        "cosine": 0.1,
        "numerics": study.one_run.NUMERICS,
    }


def test_equal_losses_scale_the_stronger_lora_down(study: ModuleType) -> None:
    strong, weak = (_row(study, strength, (1, 1)) for strength in (0.8, 0.4))
    own, other = study.stack._at_equal_losses(strong, weak)
    # At half its weights, the stronger one has the same losses in every respect.
    assert own == pytest.approx(other)
    assert other == pytest.approx(weak["stack"][-1][-1])


def test_equal_norms_scale_each_part_to_the_smaller_norm(study: ModuleType) -> None:
    own, other = study.stack._at_equal_norms(
        _row(study, 0.4, (4, 2)), _row(study, 0.4, (1, 8))
    )
    assert own == pytest.approx(3 - 0.4 * (1 / 4 + 2 * 1))
    assert other == pytest.approx(3 - 0.4 * (1 + 2 * 2 / 8))


@pytest.mark.parametrize(
    ("target", "weight"), [(1.0, 0.0), (0.9, 0.25), (0.7, 0.75), (0.65, 0.875)]
)
def test_the_weight_of_a_loss_lies_between_the_measured_ones(
    study: ModuleType, target: float, weight: float
) -> None:
    losses = [1 - 0.4 * w for w in study.stack.WEIGHTS]
    assert study.stack._weight_of(losses, target) == pytest.approx(weight)


def test_the_table_compares_seed_by_seed(study: ModuleType) -> None:
    stages, stack = study.stages, study.stack
    done: dict[str, dict] = {}
    for method, share in ((stages.ADAMW, 0.4), (stages.PRODUCT, 0.5)):
        for task in stack.PARTS:
            cell = stages.Cell("sdxl", method, stack.RANK, stack.STEPS, task)
            for rate in cell.sweep({}):
                run = cell.runs(rate)[0]
                away = abs(rate / method.rate - 1)
                done[run.key] = {
                    "by_image": [1 + away] * 4,
                    "numerics": study.one_run.NUMERICS,
                }
        for seed in stages.SEEDS:
            key = stack._stack(done, "sdxl", method, seed).key
            done[key] = _row(study, share, (1, 1))
    _, _, adamw, ours = stack.stack_table(done)
    both = {0.4: 3 - 0.4 * 3, 0.5: 3 - 0.5 * 3}
    assert f"| {both[0.4]:.4f} |" in adamw
    difference = 100 * (both[0.5] / both[0.4] - 1)
    assert f"{both[0.5]:.4f}: {difference:+.2f} %" in ours
