from __future__ import annotations

import errno
import hashlib
import io
import json
import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stiefel_lora import CheckpointError, OutputError
from stiefel_lora.training.checkpointing.branches import Branch
from stiefel_lora.training.checkpointing.checkpoint import (
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    remove_leftovers,
    save_checkpoint,
)
from stiefel_lora.training.checkpointing.rng import capture_rng, restore_rng, seed_all


def make(step: int) -> Checkpoint:
    return Checkpoint(
        step=step,
        position=8 * step,
        identity={"rank": 4},
        factors={"q.lora_A.default.weight": torch.full((4, 3), step + 0.1)},
        optimizer={
            "state": {
                0: {"exp_avg": torch.ones(4, 3) * step, "step": torch.tensor(1.0)}
            },
            "param_groups": [{"lr": 0.1, "params": [0], "names": ["q"]}],
        },
        training={
            "rng": capture_rng(),
            "noise": torch.zeros(1),
            "smooth_loss": 0.5,
            "scaler": {},
        },
    )


def test_everything_comes_back(tmp_path: Path) -> None:
    before = make(3)
    path = save_checkpoint(tmp_path, before, keep=3)
    assert path == tmp_path / "step-3"
    after = load_checkpoint(path)
    assert (after.step, after.position, after.identity) == (3, 24, {"rank": 4})
    assert torch.equal(*(c.factors["q.lora_A.default.weight"] for c in (before, after)))
    assert after.optimizer["param_groups"] == before.optimizer["param_groups"]
    assert torch.equal(
        after.optimizer["state"][0]["exp_avg"], before.optimizer["state"][0]["exp_avg"]
    )


def test_only_the_latest_are_kept_in_numeric_order(tmp_path: Path) -> None:
    for step in (9, 10, 100, 11):
        save_checkpoint(tmp_path, make(step), keep=3)
    assert [p.name for p in list_checkpoints(tmp_path)] == [
        "step-10",
        "step-11",
        "step-100",
    ]


def test_same_step_again_replaces(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make(5), keep=3)
    save_checkpoint(tmp_path, make(5), keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-5"]


def test_random_generators_continue_where_they_were() -> None:
    seed_all(7)
    states = capture_rng()
    first = (random.random(), np.random.rand(), float(torch.rand(())))  # noqa: NPY002
    restore_rng(states)
    assert first == (random.random(), np.random.rand(), float(torch.rand(())))  # noqa: NPY002


class _Disk:
    """Lets ``budget`` bytes through and then is full."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.open = Path.open

    def __call__(self, path: Path, *args: Any, **options: Any) -> Any:
        file = self.open(path, *args, **options)
        if args and args[0] == "wb":
            write = file.write

            def limited(data: bytes) -> int:
                self.budget -= len(data)
                if self.budget < 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return write(data)

            file = _Wrapped(file, limited)
        return file


class _Wrapped:
    def __init__(self, file: Any, write: Any) -> None:
        self._file = file
        self.write = write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Wrapped:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


@pytest.mark.parametrize("budget", [0, 200, 2000, 4000])
def test_full_disk_leaves_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    last = save_checkpoint(tmp_path, make(1), keep=1)
    disk = _Disk(budget)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *a, **k: disk(*a, **k))
        with pytest.raises(OutputError) as error:
            save_checkpoint(tmp_path, make(2), keep=1)
    assert str(error.value) == (
        f"The checkpoint {tmp_path / 'step-2'} could not be written (No space left "
        f"on device). The last valid checkpoint is {last}. Free disk space and "
        "resume with --resume."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    assert load_checkpoint(last).step == 1


def test_a_full_disk_before_the_first_checkpoint_advises_no_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = _Disk(200)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *a, **k: disk(*a, **k))
        with pytest.raises(OutputError) as error:
            save_checkpoint(tmp_path, make(2), keep=1)
    assert str(error.value).endswith(
        ". No checkpoint has been saved yet. Free disk space and start again."
    )


def test_half_written_and_moved_folders_are_tidied_up(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make(1), keep=3)
    (tmp_path / "step-1").rename(tmp_path / ".step-1-older.tmp")
    (tmp_path / ".step-2.tmp").mkdir()
    (tmp_path / "step-7").mkdir()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"step-1", "step-7"}
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-1"]


@pytest.mark.parametrize("name", ["lora.safetensors", "optimizer.pt", "training.pt"])
def test_a_flipped_bit_is_noticed(tmp_path: Path, name: str) -> None:
    path = save_checkpoint(tmp_path, make(1), keep=3)
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["lora.safetensors", "optimizer.pt", "state.json"])
def test_a_missing_or_cut_file_is_noticed(tmp_path: Path, name: str) -> None:
    path = save_checkpoint(tmp_path, make(1), keep=3)
    (path / name).write_bytes((path / name).read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="is missing or damaged"):
        load_checkpoint(path)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match="is missing or damaged"):
        load_checkpoint(path)


STATES: dict[str, Any] = {
    "step": "1",
    "position": None,
    "identity": [],
    "files": ["lora.safetensors"],
    "branch": {"name": 1, "parents": []},
}


@pytest.mark.parametrize("key", [*STATES, "none", "list", "deep", "other step", "far"])
def test_a_state_of_wrong_types_is_damaged(tmp_path: Path, key: str) -> None:
    path = save_checkpoint(tmp_path, make(1), keep=3)
    state = json.loads((path / "state.json").read_text())
    if key in STATES:
        state[key] = STATES[key]
    text = {
        "none": "null",
        "list": "[]",
        "deep": "[" * 100_000,
        "other step": json.dumps({**state, "step": 2}),
        "far": json.dumps({**state, "files": {"../x": "0"}}),
    }.get(key, json.dumps(state))
    (path / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"damaged \(state.json is damaged"):
        load_checkpoint(path)


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["optimizer.pt", "training.pt", "lora.safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04junk",
        b"\x80",
        b"PK\x03\x04",
        b"\x00" * 64,
        pickle.dumps(Path()),
        saved([1]),
        saved({"state": {}}),
        saved(dict),
    ],
)
def test_a_file_damaged_before_its_checksum_was_made_is_damaged(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = save_checkpoint(tmp_path, make(1), keep=3)
    (path / name).write_bytes(content)
    state = json.loads((path / "state.json").read_text())
    state["files"][name] = hashlib.sha256(content).hexdigest()
    (path / "state.json").write_text(json.dumps(state))
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        with pytest.raises(CheckpointError, match="is missing or damaged") as error:
            load_checkpoint(path)
    assert not remarks
    assert name in str(error.value)
    assert "weights_only" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_from_before_there_were_branches_is_on_the_first(
    tmp_path: Path,
) -> None:
    path = save_checkpoint(tmp_path, make(1), keep=3)
    state = json.loads((path / "state.json").read_text())
    assert state.pop("branch") == {"name": "", "parents": []}
    (path / "state.json").write_text(json.dumps(state))
    assert load_checkpoint(path).branch == Branch()


def test_a_branch_contains_what_came_before_it() -> None:
    first = Branch()
    second = first.fork(4)
    third = second.fork(6)
    assert Branch.from_json(json.loads(json.dumps(third.to_json()))) == third
    assert first.name != second.name != third.name
    cases = [(2, first), (4, first), (5, second), (6, second), (7, third)]
    assert all(third.holds(step, branch) for step, branch in cases)
    cases = [(5, first), (7, second), (1, first.fork(0))]
    assert not any(third.holds(step, branch) for step, branch in cases)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    checkpoint = make(1)
    checkpoint.training["evil"] = Evil()
    path = save_checkpoint(tmp_path, checkpoint, keep=3)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()
