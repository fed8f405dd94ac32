"""Inside the Trainer of transformers, our optimizers take the steps they take alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Trainer, TrainingArguments

from stiefel_lora import create_optimizer, init_stiefel_

STEPS, SAMPLES = 4, 32


class Regression(nn.Module):
    """Two layers whose forward returns the loss, as the Trainer wants it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 8)

    def forward(
        self, inputs: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        found = self.second(torch.tanh(self.first(inputs)))
        return {"loss": (found - labels).square().mean()}


def adapted() -> nn.Module:
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["first", "second"])
    model = get_peft_model(Regression(), config)  # type: ignore[arg-type]
    init_stiefel_(model)
    # In float64: a sum in another order moves directions that float32 leaves open.
    return model.double()


def samples() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "inputs": torch.randn(12, generator=generator, dtype=torch.float64),
            "labels": torch.randn(8, generator=generator, dtype=torch.float64),
        }
        for _ in range(SAMPLES)
    ]


@pytest.mark.parametrize("name", ["stiefel_lora", "lora_rite"])
def test_the_trainer_takes_our_steps(name: str, tmp_path: Path) -> None:
    inside, outside, data = adapted(), adapted(), samples()
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=STEPS,
        per_device_train_batch_size=SAMPLES,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    optimizer = create_optimizer(name, inside, lr=1e-2)
    Trainer(
        model=inside,
        args=arguments,
        train_dataset=data,  # type: ignore[arg-type]
        optimizers=(optimizer, None),
    ).train()
    plain = create_optimizer(name, outside, lr=1e-2)
    batch = {key: torch.stack([entry[key] for entry in data]) for key in data[0]}
    for _ in range(STEPS):
        plain.zero_grad()
        outside(**batch)["loss"].backward()
        plain.step()
    # The Trainer shuffles its one batch: the sum of the loss rounds in another order.
    for mine, theirs in zip(inside.parameters(), outside.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
