"""Jobs for tests: config files, queues, runners as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from helpers.forked import start_forked
from helpers.runs import make_images, tiny_config
from stiefel_lora.config import dump_lean
from stiefel_lora.jobs import Job, Queue, engine, worker
from stiefel_lora.training import read_events

__all__ = [
    "batch_command",
    "forked_batch",
    "kill",
    "kinds",
    "pid_of",
    "python_process",
    "ready_config",
    "run_batch_command",
    "tiny_file",
    "until",
]

MODULES = str(Path(__file__).resolve().parents[2] / "modules")
# A busy machine needs long for a start that takes a second on an idle one.
PATIENCE = 600.0


def ready_config(folder: Path, name: str = "cats", **changes: Any) -> Path:
    """Write a config that passes all checks that need no model."""
    (folder / "sdxl").mkdir(exist_ok=True)
    make_images(folder / "pictures", count=1)
    path = folder / f"{name}.json"
    data = {
        "base_model_name": "./sdxl",
        "concepts": "pictures",
        "output_dir": "runs",
        **changes,
    }
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def tiny_file(model: Path, root: Path, name: str = "tiny", **changes: Any) -> Path:
    """Write a config that trains for seconds."""
    settings = {"steps": 6, "checkpoint_every": 2, "cache_dir": str(root / "cache")}
    config = tiny_config(model, root, run_name=name, **{**settings, **changes})
    path = root / f"{name}.json"
    path.write_text(dump_lean(config), encoding="utf-8")
    return path


def batch_command(*arguments: object) -> subprocess.Popen[str]:
    """Start ``stiefel-lora batch``."""
    return subprocess.Popen(
        [sys.executable, "-m", "stiefel_lora", "batch", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": MODULES, "OMP_NUM_THREADS": "1"},
    )


def forked_batch(log: Path, *arguments: object) -> ForkServerProcess:
    """Start ``stiefel-lora batch`` and its jobs as forks: no process imports torch.

    Each is a process all the same, without terminal, with its own number, locks and
    files. ``batch_command`` starts them as users do.
    """
    return start_forked(_batch, [*map(str, arguments)], log=log)


def _batch(arguments: list[str]) -> None:
    from stiefel_lora._commands import app

    engine.start_detached = _fork_worker  # type: ignore[assignment]
    app(["batch", *arguments], prog_name="stiefel-lora")


class _Fork:
    """As much of ``Popen`` as the runner uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        done, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if done else None


def _fork_worker(
    module: str, arguments: Sequence[str], log: Path, env: Mapping[str, str]
) -> _Fork:
    assert module == worker.__name__
    log.parent.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        return _Fork(pid)
    with log.open("ab") as output, open(os.devnull, "rb") as nothing:
        for number, file in enumerate((nothing, output, output)):
            os.dup2(file.fileno(), number)
    # The lock of the runner stays its own.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.setsid()
    os.environ.update(env)
    sys.argv = [module, *arguments]
    code: Any = 1
    try:
        worker.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def python_process(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Run some Python with pipes to and from it."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": MODULES},
    )


def run_batch_command(*arguments: object) -> tuple[int, str]:
    """Run ``stiefel-lora batch`` to its end; exit code and output."""
    process = batch_command(*arguments)
    output, _ = process.communicate()
    return process.returncode, output


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until a condition holds, and give its value."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {PATIENCE:.0f} s in vain for {what}")


def kinds(job: Job, *wanted: str) -> list[str]:
    """Types of the events of a job's training, in order."""
    events = [event["type"] for event in read_events(job.folder.events_file)]
    return [kind for kind in events if not wanted or kind in wanted]


def kill(pid: int) -> None:
    """End a process as nothing can catch."""
    os.kill(pid, signal.SIGKILL)


def pid_of(queue: Queue, number: int) -> int:
    """Wait until a job has a process, and give its number."""
    return until(lambda: queue.job(number).pid, f"a process of job {number}")
