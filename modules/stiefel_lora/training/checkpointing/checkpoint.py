"""Format of checkpoints on disk.

The folder ``step-N`` contains ``lora.safetensors`` (factors in float32), with EMA
``ema.safetensors`` (averaged factors), ``optimizer.pt`` and ``training.pt`` (loaded
with ``weights_only=True``), and ``state.json`` with the identity of the run, the branch
(see ``branches``) and a checksum of each file. Checkpoints are written under a
temporary name and renamed at the end, so that incomplete checkpoints are never loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..._exceptions import CheckpointError, OutputError, reason_of
from .branches import Branch

__all__ = [
    "Checkpoint",
    "branch_of",
    "checkpoint_path",
    "is_on_branch",
    "list_checkpoints",
    "load_checkpoint",
    "pack_state",
    "remove_leftovers",
    "save_checkpoint",
    "step_of",
    "unpack_state",
]

_FORMAT = 1
_TEMPORARY = ".tmp"
_AVERAGE = "ema.safetensors"
_FACTORS = "lora.safetensors"
# Files of states, and the keys that a resume needs from them.
_PARTS = {
    "optimizer.pt": {"state", "param_groups"},
    "training.pt": {"rng", "noise", "scaler", "smooth_loss"},
}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint."""

    step: int
    """Number of completed optimizer steps."""

    position: int
    """Number of images that were used for training."""

    identity: dict[str, Any]
    """Identity of the run, which must match when resuming."""

    factors: dict[str, Tensor]
    """LoRA factors by parameter name."""

    optimizer: dict[str, Any]
    """State dict of the optimizer."""

    training: dict[str, Any]
    """States of random number generators, gradient scaler and training loop."""

    average: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """EMA of the factors by parameter name. Empty without EMA."""

    branch: Branch = dataclasses.field(default_factory=Branch)
    """Branch of the run."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write the checkpoint ``folder/step-N``. Only the ``keep`` latest ones are kept.

    Raises:
        OutputError: If the disk is full or not writable. Older checkpoints are not
            changed.
    """
    target = checkpoint_path(folder, checkpoint.step)
    temporary = folder / f".{target.name}{_TEMPORARY}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _write_files(temporary, checkpoint)
        _swap_in(temporary, target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        kept = list_checkpoints(folder)
        last = (
            f"The last valid checkpoint is {kept[-1]}"
            if kept
            else "No checkpoint has been saved yet"
        )
        then = "resume with --resume" if kept else "start again"
        raise OutputError(
            f"The checkpoint {target} could not be written ({error.strerror}). "
            f"{last}. Free disk space and {then}."
        ) from error
    _remove_old(folder, keep)
    return target


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint from a ``step-N`` folder.

    Raises:
        CheckpointError: If the checkpoint is missing, incomplete or damaged.
    """
    try:
        return _read(path)
    except MemoryError:
        raise
    # With damaged bytes, the readers below can raise nearly anything.
    except Exception as error:
        raise CheckpointError(
            f"The checkpoint {path} is missing or damaged ({reason_of(error)}). "
            "Resume from an older checkpoint."
        ) from error


def is_on_branch(path: Path, last: Checkpoint) -> bool:
    """Return whether ``path`` is ``last`` or an earlier checkpoint of its branch.

    If a checkpoint cannot be read, only its step is compared.
    """
    step = step_of(path)
    if step > last.step:
        return False
    branch = branch_of(path)
    return branch is None or last.branch.holds(step, branch)


def branch_of(path: Path) -> Branch | None:
    """Return the branch of a checkpoint, or None if it cannot be read."""
    try:
        return _read_state(path).branch
    except (OSError, ValueError):
        return None


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the folder of the checkpoint after ``step`` steps."""
    return folder / f"step-{step}"


def step_of(path: Path) -> int:
    """Return the step N of a folder ``step-N``."""
    return int(path.name.removeprefix("step-"))


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first."""
    found = []
    for path in folder.glob("step-*"):
        number = path.name.removeprefix("step-")
        if number.isdigit() and (path / "state.json").is_file():
            found.append((int(number), path))
    # By number: as text, step-1000 precedes step-200.
    return [path for _, path in sorted(found)]


def remove_leftovers(folder: Path) -> None:
    """Remove incomplete files of a killed process, and restore moved checkpoints."""
    for older in folder.glob(f".step-*-older{_TEMPORARY}"):
        target = folder / older.name[1:].removesuffix(f"-older{_TEMPORARY}")
        if not target.exists():
            older.rename(target)
    # Second, since this pattern also matches the names above.
    for path in folder.glob(f".step-*{_TEMPORARY}"):
        shutil.rmtree(path, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class _State:
    """Content of ``state.json``, with checked types."""

    step: int
    position: int
    identity: dict[str, Any]
    files: dict[str, str]
    branch: Branch


def _read_state(path: Path) -> _State:
    """Read ``state.json``.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file was not written by ``save_checkpoint``.
    """
    text = (path / "state.json").read_text(encoding="utf-8")
    try:
        data = json.loads(text)
        state = _State(
            step=data["step"],
            position=data["position"],
            identity=data["identity"],
            files=data["files"],
            branch=Branch.from_json(data.get("branch")),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("state.json is damaged") from None
    right = (
        type(state.step) is int
        and type(state.position) is int
        and min(state.step, state.position) >= 0
        and isinstance(state.identity, dict)
        and isinstance(state.files, dict)
        # Bare names: a checkpoint must only read its own files.
        and all(Path(name).name == name for name in state.files)
        and path.name == f"step-{state.step}"
    )
    if not right:
        raise ValueError("state.json is damaged")
    return state


def _read(path: Path) -> Checkpoint:
    state = _read_state(path)
    # All files are read and verified before any of them is parsed.
    data = {name: (path / name).read_bytes() for name in state.files}
    for name, expected in state.files.items():
        if hashlib.sha256(data[name]).hexdigest() != expected:
            raise ValueError(f"{name} is damaged")
    missing = sorted({_FACTORS, *_PARTS} - data.keys())
    if missing:
        raise ValueError(f"{missing[0]} is missing from state.json")
    return Checkpoint(
        step=state.step,
        position=state.position,
        identity=state.identity,
        branch=state.branch,
        factors=_tensors(_FACTORS, data),
        optimizer=_part("optimizer.pt", data),
        training=_part("training.pt", data),
        average=_tensors(_AVERAGE, data) if _AVERAGE in data else {},
    )


def _tensors(name: str, data: dict[str, bytes]) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data[name])
    except SafetensorError as error:
        raise ValueError(f"{name} is not a safetensors file ({error})") from error


def _part(name: str, data: dict[str, bytes]) -> dict[str, Any]:
    try:
        found = unpack_state(data[name])
    except MemoryError:
        raise
    # torch's own message suggests an unsafe way to read the file.
    except Exception as error:
        raise ValueError(f"{name} is damaged") from error
    if not isinstance(found, dict) or not _PARTS[name] <= found.keys():
        raise ValueError(f"{name} lacks entries that are required to resume")
    return found


def _write_files(folder: Path, checkpoint: Checkpoint) -> None:
    data = {
        _FACTORS: safetensors.torch.save(checkpoint.factors),
        "optimizer.pt": pack_state(checkpoint.optimizer),
        "training.pt": pack_state(checkpoint.training),
    }
    if checkpoint.average:
        data[_AVERAGE] = safetensors.torch.save(checkpoint.average)
    state = {
        "format": _FORMAT,
        "step": checkpoint.step,
        "position": checkpoint.position,
        "identity": checkpoint.identity,
        "branch": checkpoint.branch.to_json(),
        "files": {name: hashlib.sha256(d).hexdigest() for name, d in data.items()},
    }
    # Last: it holds the checksums of the others, and a folder without it is incomplete.
    data["state.json"] = json.dumps(state, indent=2).encode()
    for name, content in data.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            # Before the folder is renamed: a power failure must not leave empty files
            # in it.
            os.fsync(file.fileno())


def _swap_in(temporary: Path, target: Path) -> None:
    """Rename the temporary folder, replacing a checkpoint of the same step."""
    # A process that dies between the two renames leaves the older checkpoint under its
    # temporary name, from which remove_leftovers restores it.
    if target.exists():
        older = target.with_name(f".{target.name}-older{_TEMPORARY}")
        shutil.rmtree(older, ignore_errors=True)
        target.rename(older)
        temporary.rename(target)
        shutil.rmtree(older, ignore_errors=True)
    else:
        temporary.rename(target)
    # Some systems cannot flush a folder (Windows); the rename itself is done.
    with contextlib.suppress(OSError):
        handle = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_old(folder: Path, keep: int) -> None:
    for path in list_checkpoints(folder)[:-keep]:
        # Renamed first: a kill in between must not leave one that seems whole.
        doomed = path.with_name(f".{path.name}-old{_TEMPORARY}")
        with contextlib.suppress(OSError):
            path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def pack_state(value: dict[str, Any]) -> bytes:
    """Serialize a state dict in the format of checkpoints."""
    # To memory first: torch's own file writer hides the reason of a full disk.
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def unpack_state(data: bytes) -> dict[str, Any]:
    """Load a state dict that was serialized by :func:`pack_state`, on the CPU."""
    with warnings.catch_warnings():
        # torch warns about damaged bytes before it raises.
        warnings.simplefilter("ignore")
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
