"""Commands for installing missing packages.

This package is not in a package index, so ``pip install "stiefel-lora[quant]"`` is not
possible. The extra is installed from the folder of the package (``direct_url.json``,
PEP 610). If that folder does not exist, the command contains the requirements of the
extra.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

__all__ = ["EXTRAS", "Requirement", "install_command", "pip_command", "requirements_of"]

DISTRIBUTION = "stiefel-lora"
EXTRAS = {
    "train": "training and the command line",
    "ui": "graphical interface",
    "web": "graphical interface in the browser",
    "quant": "8-bit and 4-bit base models, AdamW 8-bit",
    "xformers": "attention by xformers",
    "optimizers": "Prodigy, CAME, Lion, schedule-free and other optimizers",
    "captions": "automatic captions by a tagger",
    "heif": "images of phones (.heic, .heif)",
    "plots": "stiefel-lora runs plot",
    "cluster": "stiefel-lora batch on a cluster (Ray)",
}
"""Purpose of each extra."""

Requirement = tuple[str, str]
"""Name of a package and its supported versions, such as ``>=0.35``."""


def install_command(*extras: str) -> str:
    """Return the shell command that installs extras.

    Args:
        extras: names of extras, see ``EXTRAS``.
    """
    folder, editable = _source()
    if folder is not None:
        target = f'"{folder}[{",".join(extras)}]"'
        return pip_command(f"--editable {target}" if editable else target)
    wanted = [
        f'"{name}{versions}"'
        for extra in extras
        for name, versions in requirements_of(extra)
    ]
    return pip_command(" ".join(wanted))


def pip_command(arguments: str) -> str:
    """Return the shell command that runs ``pip install`` for this Python."""
    python = sys.executable or "python"
    if not _has_pip():
        # Environments of uv contain no pip.
        return f'uv pip install --python "{python}" {arguments}'
    quoted = f'"{python}"' if re.search(r"[^\w./\\:-]", python) else python
    return f"{quoted} -m pip install {arguments}"


def requirements_of(extra: str) -> list[Requirement]:
    """Return the requirements of an extra from the metadata of the package."""
    # Imported here: these two take longer than the rest of the package without torch.
    import importlib.metadata

    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        if re.search(rf"extra\s*==\s*['\"]{extra}['\"]", marker):
            matched = re.match(r"\s*([\w.-]+)\s*(.*?)\s*$", requirement)
            assert matched is not None
            found.append((matched[1], matched[2].replace(" ", "")))
    return found


def _has_pip() -> bool:
    # Not find_spec("pip"): setuptools takes that for a start of pip and switches this
    # process to the distutils of the standard library, which breaks torch.compile.
    import importlib.metadata

    try:
        importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _source() -> tuple[Path | None, bool]:
    """Return the installation folder of the package, and whether it is editable."""
    import importlib.metadata
    from urllib.parse import urlparse
    from urllib.request import url2pathname

    # In a checkout, the metadata of the last build may come first, without a record.
    texts = (
        found.read_text("direct_url.json")
        for found in importlib.metadata.distributions(name=DISTRIBUTION)
    )
    text = next(filter(None, texts), None)
    if text is None:
        return None, False
    record = json.loads(text)
    url = urlparse(record.get("url", ""))
    folder = Path(url2pathname(url.path))
    if url.scheme != "file" or not (folder / "pyproject.toml").is_file():
        return None, False
    return folder, bool(record.get("dir_info", {}).get("editable"))
