"""Find a Python for which torch has builds.

The newest Python of a machine (``py -3`` on Windows) is often too new for torch: then
an older one on this machine is used, or uv downloads one.
"""

# No __future__ import: the version check of _bootstrap must run on older Pythons.
import os
import shutil
import sys
from pathlib import Path

from _environment import Checkout, InstallError, logged, output_of, pip

__all__ = ["NEWEST", "OLDEST", "base_python"]

OLDEST = (3, 10)
NEWEST = (3, 14)
"""The newest Python with builds of the tested torch and of all packages."""

DOWNLOADED = "3.12"
"""Version that uv downloads: all packages have wheels for it."""


def base_python(checkout: Checkout) -> str:
    """Return the path of the Python that creates .venv: this one, if torch supports it.

    Raises:
        InstallError: If there is none, and none can be downloaded.
    """
    if sys.version_info[:2] <= NEWEST:
        return sys.executable
    current = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    print(f"torch has no builds for {current} ({sys.executable}).", flush=True)
    found = _installed() or _downloaded(checkout, current)
    print(f"Using {found} instead.", flush=True)
    return found


def _installed() -> str:
    """Return the newest suitable Python of this machine, or ""."""
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        if os.name == "nt":
            code = "import sys; print(sys.executable)"
            found = output_of(["py", f"-3.{minor}", "-c", code])
        else:
            found = shutil.which(f"python3.{minor}") or ""
        # Some Linux distributions ship Pythons that cannot create environments.
        if found and output_of([found, "-c", "import venv, ensurepip; print(1)"]):
            return found
    return ""


def _downloaded(checkout: Checkout, current: str) -> str:
    """Download a Python with uv, which runs on the Python that is too new for torch."""
    helper = Checkout(checkout.root / "build" / "uv")
    advice = f"Install Python {DOWNLOADED} and run the same command again."
    output_of([sys.executable, "-m", "venv", "--clear", helper.venv])
    if not helper.python.exists():
        raise InstallError(
            f"torch has no builds for {current}, and no other Python was found. "
            + advice
        )
    try:
        pip(helper, ["install", "uv"], "Installing uv, which can download a Python")
    except InstallError as error:
        raise InstallError(f"{error}\n\n{advice}") from error
    uv = [str(helper.python), "-m", "uv", "python"]
    title = f"Downloading Python {DOWNLOADED}"
    code, output = logged(helper, [*uv, "install", DOWNLOADED], title)
    found = output_of([*uv, "find", "--managed-python", DOWNLOADED])
    if code or not Path(found).is_file():
        last = (output.strip().splitlines() or ["no output"])[-1].strip()
        raise InstallError(
            f"Python {DOWNLOADED} could not be downloaded ({last}). {advice}"
        )
    return found
