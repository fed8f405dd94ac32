"""Batches of real, small trainings, killed for real."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import pytest
from safetensors.torch import load_file

from helpers.jobs import forked_batch, kill, kinds, pid_of, tiny_file, until
from helpers.runs import assert_same_tensors
from stiefel_lora.config import load_config, parse_config
from stiefel_lora.jobs import JobState, Plan, Queue, add_jobs
from stiefel_lora.jobs.engine import LocalEngine
from stiefel_lora.jobs.runner import Runner
from stiefel_lora.training import train


class Batch(NamedTuple):
    """A batch that was killed twice on its way, and its end."""

    arguments: tuple[object, ...]
    folder: Path
    code: int | None
    output: str


@pytest.fixture(scope="module")
def batch(tiny_sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """Three jobs: two train, one fails at the model (its rank is too large).

    The first is killed after its first checkpoint, then the runner; the same command
    ends what they began.
    """
    root = tmp_path_factory.mktemp("batch")
    sample = {"prompt": "a", "steps": 1, "width": 32, "height": 32}
    shared = {"validate_every": 3, "sample_every": 6, "samples": [sample]}
    configs = [
        tiny_file(tiny_sdxl, root, "first", optimizer={"name": "adamw"}, **shared),
        tiny_file(tiny_sdxl, root, "second", **shared),
        tiny_file(tiny_sdxl, root, "large", lora_rank=64),
    ]
    folder = root / "out"
    arguments = (*configs, "--folder", folder, "--devices", "cpu")
    begun = forked_batch(root / "begun.txt", *arguments)
    queue = until(lambda: folder.is_dir() and Queue(folder), "a queue")
    job = until(queue.jobs, "jobs")[0]
    checkpoint = job.folder.checkpoints / "step-2" / "state.json"
    until(checkpoint.is_file, "a checkpoint")
    first = pid_of(queue, job.id)
    kill(first)
    until(
        lambda: (
            (again := queue.job(job.id)).attempt == 2 and again.pid not in (None, first)
        ),
        "a second attempt",
    )
    begun.kill()
    begun.join()
    return Batch(arguments, folder, *run(root / "ended.txt", *arguments))


def run(log: Path, *arguments: object) -> tuple[int | None, str]:
    """Run a batch to its end; exit code and output."""
    process = forked_batch(log, *arguments)
    process.join()
    return process.exitcode, log.read_text(encoding="utf-8")


def rows(batch: Batch) -> list[dict[str, str]]:
    text = (batch.folder / "results.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def test_the_others_are_done_and_the_failure_has_its_message(batch):
    assert batch.code == 1, batch.output
    found = {row["job"]: row["state"] for row in rows(batch)}
    assert found == {"first": "done", "second": "done", "large": "failed"}
    assert "lora_rank=64" in rows(batch)[2]["message"]
    assert "large: failed. " in batch.output


def test_the_killed_job_went_on_from_its_checkpoint_and_nothing_ran_twice(batch):
    killed, other, failed = Queue(batch.folder).jobs()
    assert kinds(killed, "start", "resume", "end") == ["start", "resume", "end"]
    assert kinds(other, "start", "resume", "end") == ["start", "end"]
    assert [job.attempt for job in (killed, other)] == [2, 1]
    assert not failed.run_dir.exists()
    journal = (batch.folder / "journal.txt").read_text(encoding="utf-8")
    assert "the process was killed" in journal.lower()


def test_it_ended_with_the_bits_of_a_run_left_alone(batch, tiny_sdxl, tmp_path):
    killed = Queue(batch.folder).jobs()[0]
    alone = parse_config({**killed.config, "output_dir": str(tmp_path)})
    (kohya, *_) = train(alone).lora_files
    (file,) = (p for p in killed.folder.lora.iterdir() if p.stem == killed.name)
    assert_same_tensors(load_file(kohya), load_file(file))


def test_figures_in_csv_and_json(batch):
    data = json.loads((batch.folder / "results.json").read_text(encoding="utf-8"))
    done, failed = data[0], data[2]
    assert done["differs"]["optimizer.name"] == "adamw"
    assert failed["differs"]["lora_rank"] == 64
    assert 0 < done["held_out_loss"] < 10
    assert 1 <= done["lowest_effective_rank"] <= done["effective_rank"] <= 4
    for name in ("validation loss", "held-out loss"):
        assert [step for step, _ in done["curves"][name]] == [0, 3, 6]
    assert [step for step, _ in done["curves"]["training loss"]] == [*range(1, 7)]
    assert all((batch.folder / file).is_file() for file in done["files"])
    assert failed["held_out_loss"] is None
    assert rows(batch)[0]["held_out_loss"] == str(done["held_out_loss"])
    assert rows(batch)[2]["held_out_loss"] == ""


class Page(HTMLParser):
    """Elements of a page with their attributes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag, **wanted):
        return [
            attributes
            for name, attributes in self.found
            if name == tag
            and all(attributes.get(k.rstrip("_")) == v for k, v in wanted.items())
        ]


def test_the_page(batch):
    page = Page(batch.folder / "index.html")
    assert not page.open
    assert len(page.all("section", class_="card")) == 3
    assert "One seed, not a quality claim." in page.text
    # Three figures of each of the two jobs that have any, and empty ones of the other.
    assert len(page.all("polyline", class_="curve")) == 3 * 3
    drawn = [line for line in page.all("polyline", class_="curve") if line["points"]]
    assert len(drawn) == 2 * 3
    anchors = {"#" + str(a["id"]) for _, a in page.found if "id" in a}
    assert {use["href"] for use in page.all("use")} <= anchors
    assert {img["alt"] for img in page.all("img")} == {"a"}


def test_the_page_needs_no_other_file(batch):
    page = Page(batch.folder / "index.html")
    assert all(
        str(img["src"]).startswith("data:image/webp;base64,") for img in page.all("img")
    )
    assert not page.all("link")
    assert all("src" not in script for script in page.all("script"))
    assert "http" not in page.text.replace("http-equiv", "")
    files = [
        str(a["href"]) for a in page.all("a") if not str(a["href"]).startswith("#")
    ]
    missing = [file for file in files if not (batch.folder / file).exists()]
    assert files
    # A job that failed at its start has no folder.
    assert all("large" in file for file in missing)


def test_the_same_command_again_tries_only_what_failed(batch, tmp_path):
    before = Queue(batch.folder).jobs()
    code, output = run(tmp_path / "again.txt", *batch.arguments)
    assert code == 1, output
    after = Queue(batch.folder).jobs()
    more = [job.attempt - old.attempt for job, old in zip(after, before, strict=True)]
    assert more == [0, 0, 1]
    assert kinds(after[1], "start", "resume", "end") == ["start", "end"]


def test_a_runner_starts_a_job_as_users_have_it(tmp_path):
    """``python -m``, up to the refusal of a model that is gone by then."""
    model = tmp_path / "model"
    model.mkdir()
    config = load_config(tiny_file(model, tmp_path))
    queue = Queue(tmp_path / "queue")
    add_jobs(queue, [Plan(config, "tiny.json", {})])
    model.rmdir()
    runner = Runner(queue, LocalEngine([""]))
    assert runner.lead()
    until(lambda: not runner.tick(), "the end of the job")
    (job,) = queue.jobs()
    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    assert str(model) in job.message
