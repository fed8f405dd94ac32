"""Kill training runs at random times, resume them, and compare with one left alone.

A process of its own, which forks a child for each try, so that a kill costs no import.
A child is ended by SIGKILL, which nothing can catch or tidy up after; the times are
uniform over the length of the run that was left alone. As a program:

    PYTHONPATH=modules:tests python -m helpers.kill_farm MODEL FOLDER [--seed N]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from helpers.runs import tiny_config, tiny_flux_config
from helpers.varied import varied_settings
from stiefel_lora import CheckpointError
from stiefel_lora.config import TrainConfig
from stiefel_lora.training.checkpointing.checkpoint import Checkpoint, list_checkpoints
from stiefel_lora.training.checkpointing.resume import find_run, read_latest
from stiefel_lora.training.trainer import train

CONFIGS = {"sdxl": tiny_config, "flux": tiny_flux_config}


def main(given: Sequence[str] | None = None) -> None:
    """Run the farm and exit 1 if anything differs.

    Args:
        given: options; without them, those of the command line.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().getrandbits(32)
    )
    parser.add_argument("--optimizer", default="stiefel_lora")
    parser.add_argument("--family", choices=CONFIGS, default="sdxl")
    parser.add_argument(
        "--everything",
        action="store_true",
        help="buckets, masks, changing pictures and captions, text encoders",
    )
    arguments = parser.parse_args(given)
    print(f"seed {arguments.seed}", flush=True)
    chance = random.Random(arguments.seed)
    settings = {
        "steps": arguments.steps,
        "checkpoint_every": 1,
        "keep_checkpoints": 2,
        "rank_every": 3,
        "learning_rate_scheduler": "cosine",
        "ema": "cpu",
        "ema_update_step_interval": 2,
        "validate_every": 4,
        "early_stop_patience": 100,
        "timestep_distribution": "logit_normal",
        "offset_noise_weight": 0.05,
        "optimizer": {"name": arguments.optimizer},
        "cache_dir": str(arguments.root / "cache"),
    }
    if arguments.everything:
        settings |= varied_settings(arguments.root)
        # FLUX's latents go in packs of two by two.
        settings |= {"bucket_step": 16, "train_text_encoder": True}
    make_config = CONFIGS[arguments.family]
    reference = make_config(
        arguments.model, arguments.root, run_name="reference", **settings
    )
    clock = Clock()
    wait_for(start(reference))
    clock.finished()
    expected = last_checkpoint(reference)
    killed, run = 0, 0
    while killed < arguments.kills:
        config = make_config(
            arguments.model, arguments.root, run_name=f"run_{run}", **settings
        )
        killed += harass(config, chance, clock, arguments.kills - killed)
        differences = compare(expected, last_checkpoint(config))
        print(f"{config.run_name}: {killed} kills so far, {len(differences)} differ")
        if differences:
            print("\n".join(differences))
            sys.exit(1)
        run += 1


class Clock:
    """Length of an undisturbed run: that of the last one which nothing ended early."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.length = 0.0

    def start(self) -> None:
        """A run begins."""
        self.began = time.monotonic()

    def finished(self) -> None:
        """It came to its end by itself."""
        self.length = time.monotonic() - self.began


def harass(config: TrainConfig, chance: random.Random, clock: Clock, most: int) -> int:
    """Run to the end with up to ``most`` kills on the way; returns how many hit."""
    kills = 0
    while True:
        clock.start()
        child = start(config)
        if kills == most:
            wait_for(child)
            return kills
        delay = chance.uniform(0, clock.length)
        if ended_within(child, delay):
            if kills == 0:
                clock.finished()
            return kills
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        print(f"killed after {delay:.2f} of {clock.length:.2f} s, {progress(config)}")


def start(config: TrainConfig) -> int:
    """Fork a child that trains, or goes on where a checkpoint is."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        try:
            train(config, resume="last")
        except CheckpointError:
            train(config)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended_within(child: int, seconds: float) -> bool:
    """Wait for a child, but no longer than this."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"the child failed ({status})"
            return True
        time.sleep(0.01)
    return False


def wait_for(child: int) -> None:
    """Wait for a child that must end well."""
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child failed ({status})"


def progress(config: TrainConfig) -> str:
    """Where a killed run stood."""
    try:
        return list_checkpoints(find_run(config, "last")[0].checkpoints)[-1].name
    except CheckpointError:
        return "no checkpoint"


def last_checkpoint(config: TrainConfig) -> Checkpoint:
    """The one a resume would take, which must be the last step's."""
    _, found = read_latest(find_run(config, "last")[0])
    assert found.step == config.steps
    return found


def compare(expected: Checkpoint, found: Checkpoint) -> list[str]:
    """Names of everything that is not the same to the bit."""
    pairs: list[tuple[str, Any, Any]] = [
        ("position", expected.position, found.position),
        ("factors", expected.factors, found.factors),
        ("optimizer", expected.optimizer, found.optimizer),
        ("training", expected.training, found.training),
        ("average", expected.average, found.average),
    ]
    return [name for part in pairs for name in _different(*part)]


def _different(name: str, a: Any, b: Any) -> list[str]:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), name
        return [n for key in a for n in _different(f"{name}.{key}", a[key], b[key])]
    if isinstance(a, list | tuple):
        assert len(a) == len(b), name
        return [n for i in range(len(a)) for n in _different(f"{name}.{i}", a[i], b[i])]
    if isinstance(a, torch.Tensor):
        same = a.dtype == b.dtype and torch.equal(a, b)
    else:
        same = a == b
    return [] if same else [name]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
