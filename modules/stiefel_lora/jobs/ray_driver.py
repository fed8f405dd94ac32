"""Process that is connected to Ray: ``python -m stiefel_lora.jobs.ray_driver``.

It reads requests from standard input and writes answers to standard output, one JSON
object per line: first the check of the cluster, then the jobs to start and their exit
codes. It is a separate process because Ray ends the process that is connected to a
cluster if the head of the cluster does not answer for a minute.

If its standard input is closed, it ends when its trainings have ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from .._exceptions import ConfigError, StiefelLoraError, reason_of
from .._locks import Lock
from .cluster_share import Share, share_of
from .node_job import check_node, run_job
from .slots import cores

__all__ = ["DIED", "main"]

DIED = 255
"""Exit code of a training whose process or node is gone."""

_WAIT_SECONDS = 0.2
_LOOK_SECONDS = 5.0
# A node first imports this package and Ray.
_CHECK_SECONDS = 180.0
# Trainings do not use the object store; this is the least that Ray accepts.
_STORE_BYTES = 80 * 1024**2


def main() -> None:
    """Answer the requests on standard input."""
    # Ray and libraries print to standard output.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    line = sys.stdin.readline()
    if not line:
        return
    request = json.loads(line)
    try:
        _connect(request["address"])
        share = _check(request)
    except StiefelLoraError as error:
        _answer(answers, {"error": str(error)})
        return
    _answer(answers, {**dataclasses.asdict(share), "nodes": len(_nodes())})
    _Driver(request, share, answers).work()


class _Driver:
    """Start trainings on Ray and report their exit codes."""

    def __init__(
        self, request: Mapping[str, Any], share: Share, answers: TextIO
    ) -> None:
        import ray

        self._request, self._share, self._answers = request, share, answers
        self._tasks: dict[Any, Mapping[str, Any]] = {}
        # Retries are up to the runner: it resumes from checkpoints, and gives up if a
        # job is killed again and again without a new one.
        self._task = ray.remote(max_calls=1, max_retries=0)(run_job)

    def work(self) -> None:
        """Answer requests until standard input is closed and all trainings ended."""
        requests: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(requests,), daemon=True).start()
        closed, looked = False, time.monotonic()
        while self._tasks or not closed:
            with contextlib.suppress(queue.Empty):
                line = requests.get(timeout=0 if self._tasks else _WAIT_SECONDS)
                closed = not line
                if line:
                    self._start(json.loads(line))
                    continue
            self._report()
            if time.monotonic() - looked > _LOOK_SECONDS:
                looked = time.monotonic()
                self._look()

    def _start(self, order: Mapping[str, Any]) -> None:
        task = self._task.options(
            num_cpus=self._share.cores,
            num_gpus=order["gpus"],
            scheduling_strategy="SPREAD",
            name=order["job"]["name"],
        )
        values = {key: value for key, value in order["job"].items() if key != "name"}
        places = (order["folder"], order["config_path"], order["log_path"])
        self._tasks[task.remote(values, *places)] = order

    def _report(self) -> None:
        import ray

        if not self._tasks:
            return
        ended, _ = ray.wait(list(self._tasks), timeout=_WAIT_SECONDS)
        for task in ended:
            order = self._tasks.pop(task)
            code = _code_of(task, Path(order["log_path"]))
            found = {"ended": [order["job"]["id"], order["job"]["attempt"]]}
            _answer(self._answers, {**found, "code": code})

    def _look(self) -> None:
        """Report the number of trainings that fit, after nodes joined or left."""
        with contextlib.suppress(ConfigError):
            share = _share(self._request, self._share.cores)
            _answer(self._answers, {"slots": share.slots})


def _read(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    requests.put("")


def _answer(answers: TextIO, values: Mapping[str, Any]) -> None:
    # The process of the batch may be gone. Its trainings continue.
    with contextlib.suppress(OSError):
        print(json.dumps(values), file=answers, flush=True)


def _connect(address: str) -> None:
    """Connect to a cluster, or start Ray on this machine.

    Raises:
        ConfigError: If Ray does not answer, or this machine is not part of the cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    local = {
        "num_cpus": cores(),
        "include_dashboard": False,
        "object_store_memory": _STORE_BYTES,
    }
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            **(local if address == "local" else {}),
        )
    # Ray raises errors of many types here: ConnectionError, RuntimeError, ValueError.
    except Exception as error:
        at = "on this machine" if address == "local" else f"at {address}"
        raise ConfigError(
            f"--address: Ray {at} cannot be used ({reason_of(error)}). Run this "
            "command on a machine of a running cluster (ray start), with the same "
            "version of Ray."
        ) from error


def _nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _share(request: Mapping[str, Any], size: int | None) -> Share:
    devices = [config["device"] for config in request["configs"]]
    resources = [node["Resources"] for node in _nodes()]
    return share_of(resources, devices, request["jobs"], size)


def _check(request: Mapping[str, Any]) -> Share:
    """Check that every node can run the trainings.

    Raises:
        ConfigError: If a node cannot.
    """
    share = _share(request, request["cores"])
    needs = ("CPU", "GPU") if share.gpus else ("CPU",)
    nodes = [
        node
        for node in _nodes()
        if all(node["Resources"].get(need, 0) >= 1 for need in needs)
    ]
    with contextlib.ExitStack() as stack:
        for path in request["locks"].values():
            lock = Lock(Path(path))
            lock.claim()
            stack.callback(lock.release)
        problems = _ask(nodes, request)
    for problem in problems:
        if problem:
            raise ConfigError(problem)
    return share


def _ask(nodes: Sequence[Mapping[str, Any]], request: Mapping[str, Any]) -> list[str]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    check = ray.remote(num_cpus=0, max_retries=0)(check_node)
    tasks = [
        check.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], False)
        ).remote(request["configs"], request["locks"], request["version"])
        for node in nodes
    ]
    found = []
    until = time.monotonic() + _CHECK_SECONDS
    for node, task in zip(nodes, tasks, strict=True):
        name = node["NodeManagerHostname"]
        try:
            found.append(ray.get(task, timeout=max(0.0, until - time.monotonic())))
        except ray.exceptions.GetTimeoutError:
            found.append(f"The node {name} did not answer in {_CHECK_SECONDS:.0f} s.")
        except ray.exceptions.RayError as error:
            found.append(
                f"The node {name} cannot run stiefel-lora ({_reason(error)}). Install "
                "it on all nodes, in the environment of Ray."
            )
    return found


def _code_of(task: Any, log: Path) -> int:
    """Return the exit code of a training that has ended."""
    import ray

    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        code, reason = 1, _reason(error)
    except ray.exceptions.RayError as error:
        code, reason = DIED, f"Ray: {_reason(error)}"
    with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as file:
        file.write(f"{reason}\n")
    return code


def _reason(error: Exception) -> str:
    """Return the last line of a message, which is below the traceback of a node."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")


if __name__ == "__main__":
    main()
