"""The virtual environment of a checkout: paths, and pip with its output in a log."""

# No __future__ import: the version check of _bootstrap must run on older Pythons.
import dataclasses
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from _pip_failure import explain

__all__ = [
    "Checkout",
    "InstallError",
    "explained_by",
    "logged",
    "output_of",
    "pip",
    "run",
    "tail",
]

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


def pip(checkout: Checkout, arguments: "list[str]", title: str) -> None:
    """Run pip in .venv, with its last line on the screen and all output in the log.

    Raises:
        InstallError: contains the cause, the end of pip's output and the path of the
            log.
    """
    command = [str(checkout.python), "-m", "pip", "--disable-pip-version-check"]
    code, output = logged(checkout, [*command, "--no-input", *arguments], title)
    if code:
        raise InstallError(
            f"{explained_by(output)}\n\n{tail(output)}\n\nThe whole log: {checkout.log}"
        )


def logged(
    checkout: Checkout,
    command: "list[str]",
    title: str,
    env: "Mapping[str, str] | None" = None,
) -> "tuple[int, str]":
    """Run a command with its output in the log; return its exit code and output."""
    print(f"{title} (log: {checkout.log})", flush=True)
    child = subprocess.Popen(
        command,
        cwd=checkout.root,
        env={**os.environ, **(env or {})},
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
    return child.returncode, "".join(lines)


def output_of(command: "Sequence[str | Path]") -> str:
    """Return what a command prints, stripped; "" if it fails or does not exist."""
    try:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if not done.returncode else ""


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


def explained_by(output: str) -> str:
    """Return the cause of a failure from the output of pip, and the fix."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    machine = f"{platform.system()} {platform.machine()}"
    return explain(output, python=version, platform=machine, gigabytes=GIGABYTES)


def tail(output: str, lines: int = 12) -> str:
    """Return the last lines of an output, indented."""
    return "\n".join("  | " + line for line in output.strip().splitlines()[-lines:])


def _show(line: str) -> None:
    """Update one line on a terminal; print nothing to a log file."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 3
        print("\r  " + line.strip()[:width].ljust(width), end="\r", flush=True)
