"""Orders to a run: those of before its start are void, whoever starts it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.fixtures import StopAfter
from helpers.jobs import ready_config
from helpers.runs import tiny_config
from stiefel_lora.config import load_config
from stiefel_lora.jobs import Plan, Queue, add_jobs, pause_jobs, worker
from stiefel_lora.runs.run_lock import hold_run
from stiefel_lora.training import RunFolder, read_events, send_command
from stiefel_lora.training.checkpointing.checkpoint import list_checkpoints
from stiefel_lora.training.trainer import train


def test_orders_from_before_a_resume_are_void_and_reported(
    tiny_sdxl: Path,
    tmp_path: Path,
    stop_after: StopAfter,
    capsys: pytest.CaptureFixture[str],
) -> None:
    samples = [{"prompt": "thing", "steps": 1}]
    config = tiny_config(tiny_sdxl, tmp_path, samples=samples)
    with stop_after(1, "stop"):
        run = train(config).run_dir
    for order in ("stop", "save", "sample"):
        send_command(run, order)
    (run / "commands" / "notes.txt").touch()
    result = train(config, resume="last")
    assert (result.step, result.interrupted) == (4, False)
    assert [path.name for path in (run / "commands").iterdir()] == ["notes.txt"]
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == [
        "step-1",
        "step-4",
    ]
    assert not list((run / "samples").iterdir())
    shown = capsys.readouterr().err
    assert f"{run / 'commands'}: ignored sample, save, stop, which was left" in shown


def test_an_order_after_the_claim_is_followed(tmp_path: Path) -> None:
    """A stop can be requested while a run is still loading."""
    folder = RunFolder(tmp_path / "run")
    send_command(folder.root, "stop")
    with hold_run(folder.root):
        assert not list(folder.commands.iterdir())
        send_command(folder.root, "stop")
        with hold_run(folder.root):
            pass
        assert [path.name for path in folder.commands.iterdir()] == ["stop"]


@pytest.mark.parametrize("early", [True, False])
def test_a_job_follows_its_own_orders_and_no_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    queue = Queue(tmp_path / "queue")
    config = load_config(ready_config(tmp_path))
    (job,) = add_jobs(queue, [Plan(config, "cats.json", {})])
    saved = job.folder.checkpoints / "step-1"
    saved.mkdir(parents=True)
    (saved / "state.json").touch()
    send_command(job.run_dir, "stop")
    job = queue.claim(lambda _: "")
    assert job is not None
    if early:
        pause_jobs(queue, [job.id])
    ran = []

    def train_file(config: str, overrides: list[str], resume: str) -> Any:
        assert (overrides, resume) == ([], str(job.run_dir))
        ran.append([*job.folder.commands.iterdir()])
        return SimpleNamespace(interrupted=False)

    monkeypatch.setattr(worker, "train_file", train_file)
    code = worker.run(queue, job)
    assert (code, ran) == ((130, []) if early else (0, [[]]))


def test_samples_without_an_interval_are_made_by_order_alone(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter
) -> None:
    samples = [{"prompt": "thing", "steps": 1}]
    changes = {"steps": 3, "samples": samples, "sample_every": 0}
    with stop_after(2, "sample"):
        result = train(tiny_config(tiny_sdxl, tmp_path, **changes))
    made = [path.name for path in (result.run_dir / "samples").iterdir()]
    assert made == ["step-000002-0.png"]
    assert result.before_after is None
    quiet = train(tiny_config(tiny_sdxl, tmp_path, **changes))
    assert not list((quiet.run_dir / "samples").iterdir())
    kinds = [event["type"] for event in read_events(quiet.run_dir / "events.jsonl")]
    assert "sample" not in kinds
