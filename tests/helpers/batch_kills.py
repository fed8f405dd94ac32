"""A batch with a broken config, a killed job and a killed runner, to its good end.

Run as a program it prints the log of all that, as a user would see it:

    PYTHONPATH=modules:tests python -m helpers.batch_kills FOLDER [--seed N]

The job and the runner are ended by SIGKILL at random moments of the first jobs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

from helpers.jobs import (
    batch_command,
    kill,
    kinds,
    pid_of,
    run_batch_command,
    tiny_file,
    until,
)
from helpers.tiny_sdxl import build_tiny_sdxl
from stiefel_lora.jobs import Queue

JOBS = 4
STEPS = 40
"""Far more than a fast machine trains in the 0.2 s between a step and the kill."""

KILLED_BEFORE = 8


def main() -> None:
    """Make the configs, run, kill, run again, check."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    seed = random.SystemRandom().getrandbits(32)
    parser.add_argument("--seed", type=int, default=seed)
    arguments = parser.parse_args()
    say(f"seed {arguments.seed}")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model = build_tiny_sdxl(arguments.folder / "model")
    configs = [
        tiny_file(model, arguments.folder, f"job_{number}", seed=number, steps=STEPS)
        for number in range(JOBS)
    ]
    command = (*configs, "--folder", arguments.folder / "batch")
    refused(configs[-1], command)
    run_and_kill(command, random.Random(arguments.seed))
    complete(command)


def refused(config: Path, command: tuple[object, ...]) -> None:
    """Break a config, see the batch refuse it by name, and mend it."""
    good = config.read_text(encoding="utf-8")
    broken = {**json.loads(good), "lora_rnk": 8}
    config.write_text(json.dumps(broken), encoding="utf-8")
    code, output = run_batch_command(*command)
    say(f"$ batch with a broken config: exit code {code}\n{output}")
    assert code == 2
    assert config.name in output
    assert not any(config.parent.glob("runs/*"))
    config.write_text(good, encoding="utf-8")


def run_and_kill(command: tuple[object, ...], chance: random.Random) -> None:
    """Kill a job at a random moment of its life, then the runner at another."""
    runner = batch_command(*command)
    folder = Path(str(command[-1]))
    queue = until(lambda: folder.is_dir() and Queue(folder), "a queue")
    first = until(queue.jobs, "jobs")[0]
    step = chance.randrange(KILLED_BEFORE)
    pid = pid_of(queue, first.id)
    until(lambda: kinds(first, "train")[step:], f"step {step}")
    time.sleep(chance.uniform(0, 0.2))
    kill(pid)
    assert not kinds(first, "end"), "the job ended before the kill"
    say(f"$ kill -9 of the job, near its step {step}")
    number = chance.choice((first.id, first.id + 1))
    until(lambda: queue.job(number).attempt >= 3 - number, "the next process")
    time.sleep(chance.uniform(0, 10))
    kill(runner.pid)
    output, _ = runner.communicate()
    say(f"$ kill -9 of the runner; it had said:\n{output}")


def complete(command: tuple[object, ...]) -> None:
    """The same command again ends it, with nothing run twice."""
    code, output = run_batch_command(*command)
    say(f"$ the same command again: exit code {code}\n{output}")
    assert code == 0
    queue = Queue(str(command[-1]))
    for job in queue.jobs():
        say(f"{job.name}: {' '.join(kinds(job, 'start', 'resume', 'end'))}")
        assert kinds(job, "start", "end") == ["start", "end"]
    attempts = [job.attempt for job in queue.jobs()]
    assert sum(attempts) == JOBS + 1, attempts
    say(queue.journal_path.read_text(encoding="utf-8"))


def say(text: str) -> None:
    """Print at once, whoever reads."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
