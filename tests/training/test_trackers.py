"""Trackers of accelerate: what they receive, and what happens without them."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sqlite3
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from accelerate import tracking

from helpers.runs import tiny_config
from helpers.wandb_log import read_wandb
from stiefel_lora import ConfigError
from stiefel_lora.config import packages
from stiefel_lora.config.packages import missing_packages
from stiefel_lora.training import read_events
from stiefel_lora.training.trainer import train

SETTINGS: dict[str, Any] = {
    "steps": 2,
    "rank_every": 1,
    "sample_every": 2,
    "samples": [{"prompt": "a cat", "steps": 1}],
}


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None,
        reason=f"{package} is not installed",
    )


class Recorder:
    """A tracker as those of accelerate, which keeps what it receives."""

    requires_logging_directory = True
    last: Recorder
    fails_at = ""

    def __init__(self, run_name: str, logging_dir: str) -> None:
        self.project, self.folder = run_name, logging_dir
        self.calls: list[tuple[str, Any, int | None]] = []
        Recorder.last = self

    def _note(self, call: str, values: Any = None, step: int | None = None) -> None:
        self.calls.append((call, values, step))
        if self.fails_at == call:
            raise ConnectionError("no route to the host")

    def start(self) -> None:
        self._note("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._note("config", values)

    def log(self, values: dict[str, Any], step: int) -> None:
        self._note("log", values, step)

    def log_images(self, values: dict[str, Any], step: int) -> None:
        self._note("images", values, step)

    def log_artifact(self, path: str) -> None:
        self._note("artifact", path)

    def finish(self) -> None:
        self._note("finish")

    def of(self, call: str) -> list[Any]:
        return [values for kind, values, _ in self.calls if kind == call]


@pytest.fixture(autouse=True)
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    """Replace the tracker ``aim``, which is not installed."""
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "aim", Recorder)
    monkeypatch.setitem(packages.TRACKER_PACKAGES, "aim", "json")
    monkeypatch.setattr(Recorder, "fails_at", "")
    return Recorder


def test_settings_curves_images_and_the_lora_are_logged(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    changes = {"trackers": ["aim"], "tracker_project": "cats", **SETTINGS}
    result = train(tiny_config(tiny_sdxl, tmp_path, **changes))
    found = Recorder.last
    assert (found.project, found.folder) == ("cats", str(result.run_dir))
    assert found.of("config")[0]["lora_rank"] == 4
    steps = [
        step for kind, values, step in found.calls if "loss/train" in (values or ())
    ]
    assert steps == [1, 2]
    ranks = [values for values in found.of("log") if "effective_rank/mean" in values]
    assert len(ranks) == 2
    kinds = {tag.partition(".")[0] for tag in ranks[0]}
    assert "effective_rank" in kinds
    assert "orthogonality/largest" in ranks[0]
    # Details of blocks are only in events.jsonl.
    assert not kinds & {"stable_rank", "orthogonality"}
    images = [tag for values in found.of("images") for tag in values]
    assert images.count("samples/a cat") == 2
    assert "effective_rank/blocks_over_time" in images
    assert found.of("artifact") == [str(path) for path in result.lora_files]
    assert found.calls[-1][0] == "finish"
    assert not any(result.tensorboard_dir.iterdir())
    events = read_events(result.run_dir / "events.jsonl")
    written = [event["values"] for event in events if event["type"] == "ranks"]
    assert any(tag.startswith("stable_rank.") for tag in written[0])


def test_all_charts_of_blocks_are_logged_on_request(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    changes = {"trackers": ["aim"], "all_block_charts": True, "steps": 1}
    train(tiny_config(tiny_sdxl, tmp_path, **changes))
    tags = {tag for values in Recorder.last.of("log") for tag in values}
    assert any(tag.startswith("stable_rank.") for tag in tags)
    assert any(tag.startswith("orthogonality.") for tag in tags)


def test_a_tracker_that_does_not_start_ends_the_run_before_images_are_encoded(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "fails_at", "start")
    config = tiny_config(tiny_sdxl, tmp_path, trackers=["aim"])
    with pytest.raises(ConfigError, match=r"aim cannot be started \(no route"):
        train(config)
    assert not (tmp_path / "runs" / "tiny").exists()
    assert not (tmp_path / "runs" / ".cache").exists()


def test_a_tracker_that_fails_later_is_stated_once(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(Recorder, "fails_at", "log")
    result = train(tiny_config(tiny_sdxl, tmp_path, trackers=["aim"], steps=2))
    assert result.step == 2
    assert capsys.readouterr().err.count("aim failed (no route to the host)") == 1
    assert len(Recorder.last.of("log")) == 1


def test_a_missing_package_is_named_before_anything_else(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(packages.TRACKER_PACKAGES, "swanlab", "no_such_package")
    config = tiny_config(tiny_sdxl, tmp_path, trackers=["tensorboard", "swanlab"])
    with pytest.raises(ConfigError, match="'swanlab' requires the package no_such"):
        train(config)
    assert not (tmp_path / "runs").exists()
    (found,) = missing_packages(config)
    assert found.key == "trackers"


def test_settings_that_wandb_refuses_are_one_message(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def login(**_: object) -> None:
        raise ValueError("mode: input should be online, offline or disabled")

    wandb = types.ModuleType("wandb")
    wandb.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    wandb.login = login  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_MODE", "offlin")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    config = tiny_config(tiny_sdxl, tmp_path, trackers=["wandb"])
    with pytest.raises(ConfigError, match=r"wandb cannot be started \(mode: input"):
        train(config)
    assert not (tmp_path / "runs").exists()


@needs("wandb")
def test_wandb_without_a_key_is_refused(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tiny_config(tiny_sdxl, tmp_path, trackers=["wandb"])
    with pytest.raises(ConfigError, match="wandb is not logged in"):
        train(config)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@needs("wandb")
def test_an_offline_run_of_wandb_can_be_read_back(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    # Settings are kept from an earlier test.
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    result = train(tiny_config(tiny_sdxl, tmp_path, trackers=["wandb"], **SETTINGS))
    (path,) = result.run_dir.glob("wandb/offline-*/*.wandb")
    records = [*read_wandb(path)]
    (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run"][:1]
    assert (run.project, run.display_name) == ("stiefel-lora", "tiny")
    rows = [
        {
            item.key or ".".join(item.nested_key): item.value_json
            for item in r.history.item
        }
        for r in records
        if r.WhichOneof("record_type") == "history"
    ]
    losses = [float(row["loss/train"]) for row in rows if "loss/train" in row]
    events = read_events(result.run_dir / "events.jsonl")
    assert losses == [e["values"]["loss/train"] for e in events if e["type"] == "train"]
    assert any("samples/a cat" in key for row in rows for key in row)
    config = {
        item.key: item.value_json
        for r in records
        for item in r.config.update
        if r.WhichOneof("record_type") == "config"
    }
    assert config["lora_rank"] == "4"
    names = [r.artifact for r in records if r.WhichOneof("record_type") == "artifact"]
    names += [
        r.request.log_artifact.artifact
        for r in records
        if r.WhichOneof("record_type") == "request"
    ]
    assert ("tiny", "model") in [(artifact.name, artifact.type) for artifact in names]


@pytest.mark.slow
@needs("trackio")
def test_the_store_of_trackio_can_be_read_back(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trackio

    for module in (trackio, trackio.utils, trackio.sqlite_storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "store", raising=False)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))
    result = train(tiny_config(tiny_sdxl, tmp_path, trackers=["trackio"], **SETTINGS))
    (path,) = (tmp_path / "store").glob("*.db")
    store = sqlite3.connect(path)
    rows = [
        (step, json.loads(text))
        for step, text in store.execute("select step, metrics from metrics order by id")
    ]
    losses = {step: row["loss/train"] for step, row in rows if "loss/train" in row}
    events = read_events(result.run_dir / "events.jsonl")
    assert losses == {
        e["step"]: e["values"]["loss/train"] for e in events if e["type"] == "train"
    }
    assert any("samples/a cat" in row for _, row in rows)
    (text,) = store.execute("select config from configs").fetchone()
    assert json.loads(text)["lora_rank"] == 4
    assert store.execute("select count(*) from artifacts").fetchone() == (1,)
