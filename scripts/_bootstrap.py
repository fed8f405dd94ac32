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
import dataclasses
import errno
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from _pip_failure import explain

__all__ = [
    "TORCH",
    "Checkout",
    "InstallError",
    "explained",
    "here",
    "install",
    "pip",
    "prepare",
    "run",
]

TORCH = "torch==2.13.0"
TORCH_FROM_INDEX = "torch>=2.4"
GIGABYTES = 3
STAMPED_FILES = (
    "pyproject.toml",
    "setup.py",
    "constraints.txt",
    "modules/stiefel_lora/_version.py",
)


class InstallError(Exception):
    """The environment could not be created; the message is shown to the user."""


@dataclasses.dataclass(frozen=True)
class Checkout:
    """Paths of a checkout."""

    root: Path

    @property
    def venv(self) -> Path:
        """The virtual environment."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """Python interpreter of the environment."""
        if os.name == "nt":
            return self.venv / "Scripts" / "python.exe"
        return self.venv / "bin" / "python"

    @property
    def stamp(self) -> Path:
        """Record of the installation, as JSON; missing after a failure."""
        return self.venv / "stiefel_lora_stamp.json"

    @property
    def log(self) -> Path:
        """Complete output of pip in the last installation."""
        return self.venv / "stiefel_lora_install.log"

    def key(self) -> str:
        """Hash of the files and the path that determine an installation."""
        digest = hashlib.sha256(str(self.root).encode())
        for name in STAMPED_FILES:
            digest.update((self.root / name).read_bytes())
        return digest.hexdigest()


def here() -> Checkout:
    """Return the checkout of this script."""
    return Checkout(Path(__file__).resolve().parent.parent)


def install(
    checkout: Checkout, extras: Iterable[str], torch_index: "str | None" = None
) -> Path:
    """Update .venv and return its interpreter.

    Extras of an earlier call are kept. Without ``torch_index`` an installed torch is
    kept, whatever its build.

    Raises:
        InstallError: contains the cause, the end of pip's output and the path of the
            log.
    """
    stamp = _read_stamp(checkout)
    wanted = sorted({*extras, *stamp.get("extras", [])})
    same_torch = torch_index is None or torch_index == stamp.get("torch_index")
    current = stamp.get("key") == checkout.key() and stamp["extras"] == wanted
    if current and same_torch and checkout.python.exists():
        return checkout.python
    with explained():
        _build(checkout, wanted, torch_index, replace_torch=not same_torch)
        stamp = {
            "key": checkout.key(),
            "extras": wanted,
            "torch_index": torch_index or stamp.get("torch_index"),
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
        raise InstallError(_explain("No space left on device")) from error


def prepare(
    checkout: Checkout, torch_index: "str | None", *, replace_torch: bool = False
) -> Path:
    """Create .venv with torch; return a constraint file that pins torch.

    The file also pins torchvision, which only loads with the matching torch.

    Raises:
        InstallError: contains the cause, the end of pip's output and the path of the
            log.
    """
    _make_venv(checkout)
    checkout.log.write_text("", encoding="utf-8")
    if replace_torch and _torch_version(checkout):
        pip(checkout, ["uninstall", "--yes", "torch"], "Removing the installed torch")
    if not _torch_version(checkout):
        _install_torch(checkout, torch_index)
    version = _torch_version(checkout)
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


def pip(checkout: Checkout, arguments: "list[str]", title: str) -> None:
    """Run pip in .venv, with its last line on the screen and all output in the log.

    Raises:
        InstallError: contains the cause, the end of pip's output and the path of the
            log.
    """
    print(f"{title} (log: {checkout.log})", flush=True)
    command = [str(checkout.python), "-m", "pip", "--disable-pip-version-check"]
    child = subprocess.Popen(
        [*command, "--no-input", *arguments],
        cwd=checkout.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert child.stdout is not None
    lines: list[str] = []
    with child, checkout.log.open("a", 1, encoding="utf-8") as log:
        for line in child.stdout:
            lines.append(line)
            log.write(line)
            _show(line)
    _show("")
    if child.returncode:
        output = "".join(lines)
        raise InstallError(
            f"{_explain(output)}\n\n{_tail(output)}\n\nThe whole log: {checkout.log}"
        )


def run(
    command: Sequence["str | Path"], *, cwd: Path, env: "dict[str, str] | None" = None
) -> int:
    """Run a command that handles Ctrl-C itself, and return its exit code.

    The child also receives Ctrl-C from the terminal and needs time to save, so this
    process keeps waiting.
    """
    child = subprocess.Popen(
        [str(part) for part in command], cwd=cwd, env={**os.environ, **(env or {})}
    )
    while True:
        try:
            code = child.wait()
            return code if code >= 0 else 128 - code
        except KeyboardInterrupt:
            continue


def _build(
    checkout: Checkout,
    extras: "list[str]",
    torch_index: "str | None",
    *,
    replace_torch: bool,
) -> None:
    checkout.stamp.unlink(missing_ok=True)
    pinned = prepare(checkout, torch_index, replace_torch=replace_torch)
    names = ",".join(extras)
    arguments = ["install", "--editable", f".[{names}]", "-c", "constraints.txt"]
    pip(checkout, [*arguments, "-c", str(pinned)], f"Installing stiefel-lora[{names}]")
    _say_build(checkout)


def _make_venv(checkout: Checkout) -> None:
    usable = _answers(checkout, "import sys; assert sys.version_info >= (3, 10)")
    if usable and _answers(checkout, "import pip"):
        return
    missing = [m for m in ("venv", "ensurepip") if not importlib.util.find_spec(m)]
    if missing:
        raise InstallError(
            f"This Python ({sys.executable}) lacks the module {missing[0]}, which is "
            "needed to create virtual environments. On Debian and Ubuntu: sudo apt "
            "install python3-venv. Then run the same command again."
        )
    print(f"Creating the virtual environment {checkout.venv}", flush=True)
    command = [sys.executable, "-m", "venv", str(checkout.venv)]
    if not usable:
        command.append("--clear")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        output = done.stdout + done.stderr
        raise InstallError(
            "The virtual environment could not be created. "
            f"{_explain(output)}\n\n{_tail(output)}"
        )


def _install_torch(checkout: Checkout, index: "str | None") -> None:
    arguments = ["install", TORCH]
    if index is not None:
        arguments = ["install", TORCH_FROM_INDEX, "--index-url", index]
    elif sys.platform == "linux" and not shutil.which("nvidia-smi"):
        print(
            "No NVIDIA GPU was found. On Linux pip's torch usually brings several GB "
            "of CUDA\npackages all the same; to avoid that, stop here and give "
            "--torch-index the CPU\naddress from PyTorch's 'Get Started' page."
        )
    pip(checkout, arguments, f"Installing {arguments[1]}")


def _say_build(checkout: Checkout) -> None:
    if shutil.which("nvidia-smi") and not _answers(
        checkout, "import torch; assert torch.version.cuda or torch.version.hip"
    ):
        print(
            "This machine has an NVIDIA GPU, but the installed torch is a CPU build. "
            "Run the\nscript again with --torch-index and the address that PyTorch's "
            "'Get Started' page\nshows for your system and CUDA version."
        )


def _show(line: str) -> None:
    """Update one line on a terminal; print nothing to a log file."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 3
        print("\r  " + line.strip()[:width].ljust(width), end="\r", flush=True)


def _explain(output: str) -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    machine = f"{platform.system()} {platform.machine()}"
    return explain(output, python=version, platform=machine, gigabytes=GIGABYTES)


def _tail(output: str, lines: int = 12) -> str:
    return "\n".join("  | " + line for line in output.strip().splitlines()[-lines:])


def _answers(checkout: Checkout, code: str) -> bool:
    if not checkout.python.exists():
        return False
    command = [str(checkout.python), "-c", code]
    return not subprocess.run(command, capture_output=True, check=False).returncode


def _torch_version(checkout: Checkout) -> str:
    code = "import importlib.metadata as m; print(m.version('torch'))"
    command = [str(checkout.python), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if not done.returncode else ""


def _read_stamp(checkout: Checkout) -> "dict[str, Any]":
    try:
        stamp = json.loads(checkout.stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}
