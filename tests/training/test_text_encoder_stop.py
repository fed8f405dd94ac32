"""Text encoders whose training ends before that of the denoiser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.fixtures import StopAfter
from helpers.runs import assert_same_factors, tiny_config
from stiefel_lora.families.text_training import TrainableText
from stiefel_lora.training import TrainResult, read_events
from stiefel_lora.training.trainer import train

BOTH: dict[str, Any] = {
    "train_text_encoder": True,
    "train_text_encoder_2": True,
    "text_encoder_stop_training_after": 2,
    "text_encoder_2_stop_training_after": 3,
    "learning_rate": 0.1,
    "validate_every": 0,
}


def factors_at(result: TrainResult, step: int, part: str) -> dict[str, torch.Tensor]:
    path = result.run_dir / "checkpoints" / f"step-{step}" / "lora.safetensors"
    found = load_file(path)
    return {name: v for name, v in found.items() if name.startswith(f"{part}.")}


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    assert one
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimizer", ["stiefel_lora", "adamw"])
def test_the_factors_stay_and_the_rates_are_0(
    tiny_sdxl: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
) -> None:
    learning: list[list[bool]] = []
    encode = TrainableText.encode_captions

    def seen(self: TrainableText, *given: Any) -> Any:
        found = encode(self, *given)
        if torch.is_grad_enabled():
            learning.append([found["embeds"].requires_grad])
        return found

    monkeypatch.setattr(TrainableText, "encode_captions", seen)
    result = train(
        tiny_config(
            tiny_sdxl,
            tmp_path,
            optimizer={"name": optimizer},
            checkpoint_every=1,
            keep_checkpoints=9,
            **BOTH,
        )
    )
    steps = range(1, 5)
    for part, last in (("text_encoder", 2), ("text_encoder_2", 3), ("unet", 4)):
        at = {step: factors_at(result, step, part) for step in steps}
        moved = [step for step in steps[1:] if not are_equal(at[step - 1], at[step])]
        assert moved == [step for step in steps[1:] if step <= last]
    events = read_events(result.run_dir / "events.jsonl")
    rates = [e["values"]["lr/text_encoder"] for e in events if e["type"] == "train"]
    assert rates == pytest.approx([0.1, 0.1, 0, 0])
    # No gradients are computed once both encoders have stopped.
    assert learning == [[True], [True], [True], [False]]
    shown = capsys.readouterr().err
    assert "The LoRA of text_encoder is no longer trained after step 2." in shown


@pytest.mark.slow
def test_a_run_resumes_to_the_bit(
    tiny_sdxl: Path,
    tmp_path: Path,
    stop_after: StopAfter,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes: dict[str, Any] = {
        **BOTH,
        "steps": 5,
        "ema": "cpu",
        "ema_update_step_interval": 1,
        "scale_weight_norms": 1e-3,
        "module_dropout": 0.3,
    }
    whole = train(tiny_config(tiny_sdxl, tmp_path, run_name="whole", **changes))
    config = tiny_config(tiny_sdxl, tmp_path, **changes)
    with stop_after(4, "stop"):
        stopped = train(config)
    before = {p: factors_at(stopped, 4, p) for p in ("text_encoder", "unet")}
    capsys.readouterr()
    resumed = train(config, resume=stopped.run_dir)
    shown = capsys.readouterr().err
    assert "The LoRA of text_encoder is no longer trained after step 2." in shown
    assert_same_factors(whole, resumed)
    assert are_equal(before["text_encoder"], factors_at(resumed, 5, "text_encoder"))
    assert not are_equal(before["unet"], factors_at(resumed, 5, "unet"))
