"""OneTrainer's EMA: what is saved is a LoRA with orthonormal B, training goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from onetrainer_stand_in import factors, started

from helpers.runs import assert_same_tensors
from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.integrations.onetrainer._layers import adapters_of


def products(trainer: Any) -> dict[str, torch.Tensor]:
    layers = adapters_of(trainer.model.unet_lora)
    return {layer.prefix: layer.product().detach() for layer in layers}


def averages(trainer: Any) -> list[torch.Tensor]:
    return [mean.clone() for mean in trainer.model.ema.ema_parameters]


def averaged_products(trainer: Any) -> dict[str, torch.Tensor]:
    """The products of the running averages, alpha being the rank."""
    means = dict(zip(factors(trainer), averages(trainer), strict=True))
    return {
        name.removesuffix("lora_up.weight"): up
        @ means[name.replace("lora_up", "lora_down")]
        for name, up in means.items()
        if "lora_up" in name
    }


@pytest.mark.parametrize("label", ["Stiefel LoRA", "StelLA", "Riemannion"])
@pytest.mark.parametrize("fuse", [False, True])
def test_the_average_is_a_lora_with_orthonormal_factors(
    host: Any, label: str, fuse: bool
) -> None:
    trainer = started(host, label, fuse=fuse, ema="CPU", lora_alpha=4.0)
    trainer.train(8)
    expected, kept = averaged_products(trainer), averages(trainer)
    pairs = trainer.model.optimizer.pairs
    trainer.model.ema.copy_ema_to(trainer.parameters, store_temp=False)
    assert len(pairs) == 2
    assert all(orthogonality_error(pair.up.detach()) <= 1e-5 for pair in pairs)
    torch.testing.assert_close(products(trainer), expected)
    for mean, before in zip(trainer.model.ema.ema_parameters, kept, strict=True):
        assert torch.equal(mean, before)


def test_the_hosts_averages_alone_are_not_orthonormal(host: Any) -> None:
    trainer = started(host, "Stiefel LoRA", ema="CPU")
    trainer.train(8)
    ups = [mean for mean in averages(trainer) if mean.shape == (16, 4)]
    assert ups
    assert all(orthogonality_error(up) > 1e-4 for up in ups)


def test_a_sample_with_averages_leaves_training_as_it_was(host: Any) -> None:
    plain = started(host, "Stiefel LoRA")
    plain.train(6)
    trainer = started(host, "Stiefel LoRA", ema="CPU")
    trainer.train(3)
    trainer.model.ema.copy_ema_to(trainer.parameters, store_temp=True)
    trainer.model.ema.copy_temp_to(trainer.parameters)
    trainer.train(3)
    assert_same_tensors(factors(plain), factors(trainer))


def test_averages_go_on_after_a_backup(host: Any, tmp_path: Path) -> None:
    whole = started(host, "Stiefel LoRA", ema="CPU")
    whole.train(6)
    begun = started(host, "Stiefel LoRA", ema="CPU")
    begun.train(3)
    saved = begun.backup(tmp_path / "backup.pt")
    resumed = started(host, "Stiefel LoRA", saved, ema="CPU")
    resumed.train(3)
    assert averages(whole)[0].any()
    for mean, expected in zip(averages(resumed), averages(whole), strict=True):
        assert torch.equal(mean, expected)


def test_averages_of_another_optimizer_begin_anew(
    host: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = started(host, "ADAMW", ema="CPU")
    begun.train(6)
    saved = begun.backup(tmp_path / "backup.pt")
    resumed = started(host, "Stiefel LoRA", saved, ema="CPU")
    assert "EMA is reset" in capsys.readouterr().out
    current = factors(resumed).values()
    for mean, value in zip(averages(resumed), current, strict=True):
        assert torch.equal(mean, value)


def test_another_optimizers_averages_are_left_alone(host: Any) -> None:
    trainer = started(host, "ADAMW", ema="CPU")
    trainer.train(6)
    kept = averages(trainer)
    trainer.model.ema.copy_ema_to(trainer.parameters, store_temp=False)
    for value, mean in zip(factors(trainer).values(), kept, strict=True):
        assert torch.equal(value, mean)
