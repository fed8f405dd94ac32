"""Two processes of a training: the run of one, and what happens if one ends."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from helpers.runs import tiny_config
from helpers.team_runs import distance, events, factors, run
from helpers.training_process import SIGKILL, SIGTERM, kill_at, start_team
from helpers.varied import varied_settings
from stiefel_lora import ConfigError
from stiefel_lora.config.process_count import check_process_count

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="needs fork (not on Windows)"
)

SGD = {"optimizer": {"name": "custom", "class": "torch.optim.SGD"}}
# Whatever is drawn for a batch or in proportion to it.
EVERYTHING = {
    "lora_dropout": 0.2,
    "rank_dropout": 0.2,
    "module_dropout": 0.2,
    "offset_noise_weight": 0.1,
    "offset_noise_random_strength": True,
    "adaptive_noise_scale": 0.1,
    "multires_noise_iterations": 2,
    "perturbation_noise_weight": 0.1,
    "ip_noise_gamma": 0.1,
    "gradient_accumulation_steps": 2,
    "train_text_encoder": True,
    "ema": "cpu",
}


def both(model: Path, root: Path, logs: str, **settings: Any) -> tuple[Path, Path]:
    """Train on one process and on two."""
    found = []
    for count in (1, 2):
        config = tiny_config(model, root, run_name=f"on{count}", **settings)
        found.append(run(config, root / logs / str(count), count, check_every=1))
    return found[0], found[1]


def test_the_first_gradient_images_noise_and_timesteps_are_equal(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    settings = {"steps": 1, "learning_rate": 1.0, "clip_grad_norm": 0, "batch_size": 4}
    one, two = both(tiny_sdxl, tmp_path, "logs", **SGD, **settings)
    ups = [{n: v for n, v in factors(f).items() if "lora_B" in n} for f in (one, two)]
    # B was 0, so that it is the gradient with the learning rate 1.
    assert all(bool(value.any()) for value in ups[0].values())
    assert distance(*ups) < 1e-5
    (alone,), (shared,) = (events(f, "processes") for f in (one, two))
    first, second = shared["batches"]
    assert alone["batches"] == [first + second]
    assert len({*first, *second}) == 4
    (a,), (b,) = (events(f, "train") for f in (one, two))
    assert b["loss/train"] == pytest.approx(a["loss/train"], rel=1e-6)
    assert events(two, "start")[0]["processes"] == 2
    assert "processes" not in events(one, "start")[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "limit"), [("adamw", 2e-2), ("sgd", 1e-4), ("stiefel_lora", 2e-2)]
)
def test_factors_after_4_steps_and_validation_losses_are_equal(
    tiny_sdxl: Path, tmp_path: Path, optimizer: str, limit: float
) -> None:
    chosen = SGD if optimizer == "sgd" else {"optimizer": {"name": optimizer}}
    samples = [{"prompt": text, "steps": 2} for text in ("a", "b", "c")]
    settings = {"samples": samples, "sample_every": 4, "validate_every": 2}
    settings |= {"learning_rate": 1e-2}
    one, two = both(tiny_sdxl, tmp_path, "logs", **chosen, **settings)
    assert distance(factors(one), factors(two)) < limit
    first, second = (events(folder, "validation") for folder in (one, two))
    assert len(first) == 3
    for a, b in zip(first, second, strict=True):
        assert b["validation/loss"] == pytest.approx(a["validation/loss"], rel=1e-4)
    # Of an unchanged model, every process makes the same image.
    names = sorted(path.name for path in (one / "samples").iterdir())
    assert names == sorted(path.name for path in (two / "samples").iterdir())
    assert "step-000000-2.png" in names
    for number in range(3):
        images = [folder / f"samples/step-000000-{number}.png" for folder in (one, two)]
        assert len({Image.open(image).tobytes() for image in images}) == 1


@pytest.mark.slow
def test_so_are_those_with_everything_that_is_drawn(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    settings = {**varied_settings(tmp_path), **SGD, **EVERYTHING}
    one, two = both(tiny_sdxl, tmp_path, "logs", learning_rate=1e-2, **settings)
    assert distance(factors(one), factors(two)) < 1e-4
    for a, b in zip(events(one, "processes"), events(two, "processes"), strict=True):
        # Two batches for each step.
        (first, second), ((whole),) = b["batches"], a["batches"]
        assert whole == [first[0], second[0], first[1], second[1]]


def _count_work(folder: Path, index: int) -> None:
    """Write down each encoding, and each file that a process opens to write."""
    from stiefel_lora.data.encoder import Encoder

    plain, notes = Encoder._encode, (folder / f"notes-{index}").open("w", buffering=1)

    def encode(self: Encoder, *arguments: Any) -> Any:
        notes.write(f"encoded {arguments[0].name}\n")
        return plain(self, *arguments)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if (
            event == "open"
            and "runs" in str(arguments[0])
            and arguments[2] & os.O_CREAT
        ):
            notes.write(f"wrote {arguments[0]}\n")

    Encoder._encode = encode  # type: ignore[method-assign]
    sys.addaudithook(audit)


def test_images_are_encoded_once_and_one_process_writes_and_prints(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path, steps=1, validate_every=1)
    logs = tmp_path / "logs"
    logs.mkdir()
    team = start_team(config, logs, before=functools.partial(_count_work, logs))
    assert team.codes() == [0, 0], team.printed(1)
    notes = [(logs / f"notes-{index}").read_text().splitlines() for index in (0, 1)]
    encoded = [[n for n in found if n.startswith("encoded")] for found in notes]
    # 4 images for training and 2 for validation.
    assert [len(found) for found in encoded] == [3, 3]
    assert len({note for found in encoded for note in found}) == 4
    assert any("events.jsonl" in note for note in notes[0])
    written = [n for n in notes[1] if n.startswith("wrote") and "/runs/tiny/" in n]
    assert not written
    assert "Run folder" in team.printed(0)
    assert "Run folder" not in team.printed(1)
    assert "Training" not in team.printed(1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_signal_to_any_process_saves_once_and_ends_all(
    tiny_sdxl: Path, tmp_path: Path, number: int
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path, steps=6)
    stop = functools.partial(kill_at, 2, number, SIGTERM)
    team = start_team(config, tmp_path / "logs", before=stop)
    assert team.codes() == [130, 130]
    folder = tmp_path / "runs" / "tiny"
    assert [path.name for path in folder.glob("checkpoints/*")] == ["step-3"]
    assert len(events(folder, "checkpoint")) == 1
    assert team.printed(0).count("Saving a checkpoint and stopping") == 1
    # On another number of processes, it ends as a run of that number.
    resumed = run(config, tmp_path / "again", 1, resume=str(folder))
    whole = config.model_copy(update={"run_name": "whole"})
    assert distance(factors(run(whole, tmp_path / "w", 1)), factors(resumed)) < 2e-2


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_process_leaves_a_checkpoint_of_the_last_step(
    tiny_sdxl: Path, tmp_path: Path, number: int
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path, steps=6)
    end = functools.partial(kill_at, 3, number, SIGKILL)
    team = start_team(config, tmp_path / "logs", before=end)
    codes = team.codes()
    assert codes[number] == -SIGKILL
    assert codes[1 - number] == 1
    folder = tmp_path / "runs" / "tiny"
    assert [path.name for path in folder.glob("checkpoints/*")] == ["step-3"]
    printed = team.printed(1 - number)
    assert printed.count("ended unexpectedly at step 3. The last checkpoint is") == 1
    assert f'--resume "{folder}"' in printed
    # The noise of the step that was not completed is drawn again: on two processes, the
    # run ends to the bit as if it had not been killed.
    resumed = run(config, tmp_path / "again", 2, resume=str(folder))
    whole = config.model_copy(update={"run_name": "whole"})
    expected = factors(run(whole, tmp_path / "w", 2))
    assert distance(expected, factors(resumed)) == 0


def _turn(index: int) -> None:
    """Change a bit in one process after the second step."""
    from stiefel_lora.training.loop import Loop

    plain = Loop._log_step

    def log_step(self: Loop, *arguments: Any) -> None:
        if index == 1 and self.step == 2:
            with torch.no_grad():
                first = self._state.parameters[0].view(-1)[:1]
                first.copy_(first.nextafter(torch.tensor(9.0)))
        plain(self, *arguments)

    Loop._log_step = log_step  # type: ignore[method-assign]


def test_factors_that_differ_in_a_bit_end_the_run(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path)
    team = start_team(config, tmp_path / "logs", before=_turn, check_every=1)
    assert team.codes() == [1, 1]
    assert "Step 2: the LoRA of process 1 differs" in team.printed(0)
    assert "differs" not in team.printed(1)


def _unreadable(index: int) -> None:
    from stiefel_lora import DataError
    from stiefel_lora.training.state import TrainingState

    def loss(self: TrainingState, *arguments: Any) -> Any:
        raise DataError("The image can no longer be read.")

    if index == 1:
        TrainingState.loss = loss  # type: ignore[method-assign]


@pytest.mark.slow
def test_an_error_of_one_process_is_printed_by_it(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path)
    team = start_team(config, tmp_path / "logs", before=_unreadable)
    assert team.codes() == [1, 2]
    assert "Process 1: The image can no longer be read." in team.printed(1)
    assert "No checkpoint has been saved" in team.printed(0)


def test_a_batch_that_cannot_be_divided_is_refused(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path, batch_size=2)
    team = start_team(config, tmp_path / "logs", 3)
    assert team.codes() == [2, 2, 2]
    message = "batch_size=2: the images of a batch cannot be divided among 3 processes."
    assert message in team.printed(0)
    assert not team.printed(1).strip()
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ConfigError, match="multiple of 4, such as 4"):
        check_process_count(config, 4)
    with pytest.raises(ConfigError, match="must be at least 1"):
        check_process_count(config, 0)
    single = config.model_copy(update={"device": "cuda:1"})
    with pytest.raises(ConfigError, match="2 processes need a GPU each"):
        check_process_count(single, 2)
    check_process_count(config, 2)
    check_process_count(single, 1)
