"""Create .venv in the checkout and install the package there; standard library only.

torch is installed first, then the package with its extras under a constraint that pins
torch: in an empty environment, pip may resolve ``torch`` to gigabytes that the machine
cannot use. A stamp in .venv records what was installed, so that the next call takes
milliseconds.
"""

# No __future__ import: the version check must run on a Python that lacks it.
import sys

if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(
        "stiefel-lora needs Python 3.10 or newer, but this is Python "
        f"{sys.version_info[0]}.{sys.version_info[1]} ({sys.executable}). Run the "
        f"script with a newer one, for example: python3.11 {sys.argv[0]}"
    )

import contextlib
import errno
import importlib.util
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from _environment import Checkout, InstallError, explained_by, output_of, pip, tail
from _python_choice import NEWEST, OLDEST, base_python
from _torch_build import (
    ANY_SOURCE,
    TorchSource,
    describe_torch,
    install_torch,
    torch_version,
)

__all__ = ["explained", "here", "install", "prepare"]


def here() -> Checkout:
    """Return the checkout of this script."""
    return Checkout(Path(__file__).resolve().parent.parent)


def install(
    checkout: Checkout, extras: Iterable[str], source: TorchSource = ANY_SOURCE
) -> Path:
    """Update .venv and return its interpreter.

    Extras of an earlier call are kept. An installed torch is kept, whatever its build,
    unless ``source`` differs from that of the last call that gave one.

    Raises:
        InstallError: contains the cause, the end of pip's output and the path of the
            log.
    """
    stamp = _read_stamp(checkout)
    wanted = sorted({*extras, *stamp.get("extras", [])})
    chosen = stamp.get("torch_source", stamp.get("torch_index"))
    same_torch = source.key is None or source.key == chosen
    current = stamp.get("key") == checkout.key() and stamp["extras"] == wanted
    if current and same_torch and checkout.python.exists():
        return checkout.python
    with explained():
        _build(checkout, wanted, source, replace_torch=not same_torch)
        stamp = {
            "key": checkout.key(),
            "extras": wanted,
            "torch_source": source.key or chosen,
        }
        checkout.stamp.write_text(json.dumps(stamp), encoding="utf-8")
    return checkout.python


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Convert OSError, such as a full disk, to InstallError."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise InstallError(f"The installation stopped: {error}") from error
        raise InstallError(explained_by("No space left on device")) from error


def prepare(
    checkout: Checkout, source: TorchSource, *, replace_torch: bool = False
) -> Path:
    """Create .venv with torch; return a constraint file that pins torch.

    The file also pins torchvision, which only loads with the matching torch.

    Raises:
        InstallError: contains the cause, the end of pip's output and the path of the
            log.
    """
    _make_venv(checkout)
    checkout.log.write_text("", encoding="utf-8")
    if replace_torch or not torch_version(checkout):
        install_torch(checkout, source)
    version = torch_version(checkout)
    pinned = checkout.venv / "torch_constraint.txt"
    pins = [f"torch=={version}\n", *_torchvision_pin(version)]
    pinned.write_text("".join(pins), encoding="utf-8")
    return pinned


def _torchvision_pin(torch: str) -> "list[str]":
    """Return the pin of the torchvision that is built for a release of torch.

    Since torch 2.1 torchvision's minor version is torch's plus 15, with the same patch
    (the table in torchvision's README). A nightly or another major version has no pin.
    """
    release = re.fullmatch(r"2\.(\d+)\.(\d+)(\+\S*)?", torch)
    if release is None:
        return []
    return [f"torchvision==0.{int(release[1]) + 15}.{release[2]}\n"]


def _build(
    checkout: Checkout,
    extras: "list[str]",
    source: TorchSource,
    *,
    replace_torch: bool,
) -> None:
    checkout.stamp.unlink(missing_ok=True)
    pinned = prepare(checkout, source, replace_torch=replace_torch)
    names = ",".join(extras)
    arguments = ["install", "--editable", f".[{names}]", "-c", "constraints.txt"]
    pip(checkout, [*arguments, "-c", str(pinned)], f"Installing stiefel-lora[{names}]")
    print(describe_torch(checkout))


def _make_venv(checkout: Checkout) -> None:
    suitable = f"import sys; assert {OLDEST} <= sys.version_info[:2] <= {NEWEST}"
    usable = _answers(checkout, suitable)
    if usable and _answers(checkout, "import pip"):
        return
    missing = [m for m in ("venv", "ensurepip") if not importlib.util.find_spec(m)]
    if missing:
        raise InstallError(
            f"This Python ({sys.executable}) lacks the module {missing[0]}, which is "
            "needed to create virtual environments. On Debian and Ubuntu: sudo apt "
            "install python3-venv. Then run the same command again."
        )
    python = base_python(checkout)
    print(f"Creating the virtual environment {checkout.venv}", flush=True)
    command = [python, "-m", "venv", str(checkout.venv)]
    if not usable:
        command.append("--clear")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        output = done.stdout + done.stderr
        raise InstallError(
            "The virtual environment could not be created. "
            f"{explained_by(output)}\n\n{tail(output)}"
        )


def _answers(checkout: Checkout, code: str) -> bool:
    """Return whether some code runs in .venv."""
    return bool(output_of([checkout.python, "-c", f"{code}; print(1)"]))


def _read_stamp(checkout: Checkout) -> "dict[str, Any]":
    try:
        stamp = json.loads(checkout.stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}
