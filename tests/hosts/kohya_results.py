"""What a training with the network module leaves behind, in kohya's two trainers."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file

from stiefel_lora.geometry import orthogonality_error

__all__ = ["assert_file", "assert_ranks_shown", "ups_of"]

RANK = 4


def ups_of(weights: dict) -> list[str]:
    return [name for name in weights if name.endswith("lora_up.weight")]


def assert_file(path: Path, layers: int) -> None:
    """Every B orthonormal, every A moved, alpha the rank in weights and metadata."""
    weights = load_file(path)
    ups = [weights[name] for name in ups_of(weights)]
    assert len(ups) == layers
    assert all(orthogonality_error(up.flatten(1).float()) <= 1e-5 for up in ups)
    downs = [v for name, v in weights.items() if name.endswith("lora_down.weight")]
    assert len(downs) == layers
    assert all(down.any() for down in downs)
    alphas = {float(v) for name, v in weights.items() if name.endswith("alpha")}
    assert alphas == {float(RANK)}
    with safe_open(path, "pt") as file:
        assert float(file.metadata()["ss_network_alpha"]) == RANK


def assert_ranks_shown(logs: Path, layers: int) -> list[str]:
    """Curves of every block in the TensorBoard file; returns the tags of the ranks."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = logs.rglob("events.*")
    found = EventAccumulator(str(events), size_guidance={"scalars": 0})
    found.Reload()
    tags = found.Tags()["scalars"]
    blocks = [tag for tag in tags if tag.startswith("effective_rank.")]
    assert len(blocks) == layers
    assert [event.step for event in found.Scalars("effective_rank/mean")] == [5, 10]
    assert found.Scalars("orthogonality/largest")[-1].value <= 1e-5
    assert "loss/current" in tags
    return blocks
