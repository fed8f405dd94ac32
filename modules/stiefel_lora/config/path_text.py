"""Functions for paths, and for names on the Hugging Face Hub."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

__all__ = [
    "FORBIDDEN",
    "RESERVED",
    "expanded",
    "is_hub_name",
    "looks_like_path",
    "path_problem",
    "safe_name",
]

# Names that Windows reserves for devices, with any extension.
RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
# Leaves room for suffixes.
_SAFE_BYTES = 80
MODEL_FILES = (".safetensors", ".sft", ".ckpt")

# Names: Linux counts bytes, Windows and macOS count characters. Whole paths: Linux's
# limit, the largest of the three.
_LONGEST_NAME = 255
_LONGEST_PATH = 4096


def path_problem(text: str) -> str | None:
    """Return the reason why a text is not a valid path, or None."""
    if "\0" in text:
        return "must not contain a null character"
    try:
        encoded = os.fsencode(text)
        # A name of other bytes cannot be stored in JSON, metadata or databases.
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "must be valid Unicode text"
    in_bytes = sys.platform.startswith("linux")
    names = text.replace("\\", "/").split("/") if os.name == "nt" else text.split("/")
    longest = max(len(os.fsencode(name) if in_bytes else name) for name in names)
    unit = "bytes" if in_bytes else "characters"
    if longest > _LONGEST_NAME:
        return f"must have at most {_LONGEST_NAME} {unit} in each file or folder name"
    if len(encoded) > _LONGEST_PATH:
        return f"must have at most {_LONGEST_PATH} bytes"
    return None


def safe_name(text: str) -> str:
    r"""Turn a text into the name of a file or folder that all systems allow.

    >>> safe_name("my cat"), safe_name('a"b:c.'), safe_name("con")
    ('my cat', 'a_b_c', '_con')
    """
    name = FORBIDDEN.sub("_", text.encode("utf-8", "replace").decode())
    name = name.encode()[:_SAFE_BYTES].decode(errors="ignore").strip(" .")
    return f"_{name}" if RESERVED.match(name) else name or "lora"


def expanded(path: str | Path) -> Path:
    """Replace ``~`` by the home folder. Invalid paths are returned unchanged."""
    return Path(path if path_problem(str(path)) else os.path.expanduser(path))


def looks_like_path(name: str) -> bool:
    """Return whether a text is a path and not a name on the Hugging Face Hub.

    >>> looks_like_path("models/sdxl.safetensors"), looks_like_path("org/name")
    (True, False)
    """
    return (
        name.startswith((".", "~"))
        or os.path.isabs(name)
        or "\\" in name
        or name.count("/") > 1
        or name.lower().endswith(MODEL_FILES)
    )


def is_hub_name(name: str) -> bool:
    """Return whether a text has the form "org/name" of the Hugging Face Hub."""
    return name.count("/") == 1 and not looks_like_path(name)
