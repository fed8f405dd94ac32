"""Out of memory becomes advice; encoders leave memory once they are done."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.families import open_sdxl
from helpers.runs import tiny_config
from stiefel_lora import TrainingError
from stiefel_lora.config import parse_config
from stiefel_lora.training import read_events
from stiefel_lora.training.backend import savings
from stiefel_lora.training.checkpointing.checkpoint import load_checkpoint
from stiefel_lora.training.state import TrainingState
from stiefel_lora.training.trainer import Run, train


def too_large_for_this_machine(*_: Any) -> None:
    """Torch's own allocator fails: an exabyte."""
    torch.empty(1 << 60, dtype=torch.uint8)


def as_on_a_gpu(*_: Any) -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("fail", [too_large_for_this_machine, as_on_a_gpu])
def test_it_names_three_settings_and_the_last_checkpoint(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Any
) -> None:
    """Raised inside the third step, from a hook of the U-Net itself."""
    prepare = Run.prepare

    def prepare_and_hook(run: Run) -> TrainingState:
        machine = prepare(run)
        calls = []

        def hook(*_: Any) -> None:
            calls.append(1)
            if len(calls) == 3:
                fail()

        machine.model.register_forward_pre_hook(hook)
        return machine

    monkeypatch.setattr(Run, "prepare", prepare_and_hook)
    with pytest.raises(TrainingError) as error:
        train(tiny_config(tiny_sdxl, tmp_path, checkpoint_every=1))
    shown = str(error.value)
    last = tmp_path / "runs" / "tiny" / "checkpoints" / "step-2"
    assert shown.startswith("Out of memory (")
    assert (
        "These changes save the most memory: gradient_checkpointing=true, batch_size=1 "
        "with gradient_accumulation_steps=2, weight_dtype=bfloat16. Resume from "
        f"{last}."
    ) in shown
    assert load_checkpoint(last).step == 2
    events = list(read_events(tmp_path / "runs" / "tiny" / "events.jsonl"))
    assert events[-1]["type"] == "error"
    assert events[-1]["values"]["message"] == shown


def test_without_a_checkpoint_and_before_the_first_step(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stiefel_lora.families.sdxl import Sdxl

    monkeypatch.setattr(Sdxl, "encode_image", too_large_for_this_machine)
    with pytest.raises(TrainingError, match="No checkpoint has been saved yet"):
        train(tiny_config(tiny_sdxl, tmp_path))
    assert not (tmp_path / "runs" / "tiny").exists()


def test_other_errors_pass(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stiefel_lora.families.sdxl import Sdxl

    def wrong(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Sdxl, "predict", wrong)
    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"):
        train(tiny_config(tiny_sdxl, tmp_path))


def test_advice_leaves_out_what_is_done_already() -> None:
    lean = parse_config(
        {
            "gradient_checkpointing": True,
            "batch_size": 1,
            "weight_dtype": "nfloat4",
            "resolution": 1024,
            "lora_rank": 16,
        }
    )
    assert savings(lean)[:3] == [
        "resolution=768",
        "layer_filter_preset=attn-only",
        "lora_rank=8",
    ]
    adamw = parse_config(
        {"optimizer": {"name": "adamw"}, "gradient_checkpointing": True}
    )
    assert savings(adamw)[:3] == [
        "weight_dtype=nfloat4",
        "resolution=768",
        "optimizer.name=adamw_8bit",
    ]
    small = parse_config(
        {
            "gradient_checkpointing": True,
            "weight_dtype": "nfloat4",
            "resolution": 256,
            "lora_rank": 4,
            "layer_filter_preset": "attn-only",
        }
    )
    assert savings(small) == ["closing other programs that use the same memory"]


def test_released_encoders_leave_memory(tiny_sdxl: Path) -> None:
    def alive() -> int:
        return sum(
            value.numel() * value.element_size()
            for value in gc.get_objects()
            if isinstance(value, torch.nn.Parameter)
        )

    gc.collect()
    before = alive()
    family = open_sdxl(tiny_sdxl)
    family.encode_caption("thing")
    family.encode_image(torch.zeros(3, 32, 32), FRAME)
    encoder = weakref.ref(family._encoders["text_encoder"])
    loaded = alive() - before
    assert loaded > 0
    family.release_encoders()
    # Without a collection: nothing may hold them in a circle.
    assert encoder() is None
    assert alive() - before == 0


class _Frame:
    time_ids = (32, 32, 0, 0, 32, 32)


FRAME: Any = _Frame()
