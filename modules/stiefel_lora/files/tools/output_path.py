"""Checks of the path of an output file."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..._exceptions import OutputError
from .peft_file_names import CONFIG, WEIGHTS

__all__ = ["Output", "check_new_folder", "check_output", "with_suffix"]

_KINDS = {".safetensors": (".safetensors", ".sft"), ".html": (".html", ".htm")}
# Suffixes that other programs open as something else.
_PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


@dataclasses.dataclass(frozen=True)
class Output:
    """Path of an output, with messages."""

    path: Path
    remarks: tuple[str, ...] = ()


def with_suffix(
    path: str | os.PathLike[str],
    *,
    option: str = "--output",
    suffix: str = ".safetensors",
) -> Output:
    """Append the suffix of the file format if it is missing.

    Other parts after a dot, as in ``style_v1.5``, are part of the name.

    Raises:
        OutputError: If the name has the suffix of another weight format.
    """
    path = Path(path)
    if path.name.lower().endswith(_KINDS[suffix]):
        return Output(path)
    longer = path.with_name(path.name.rstrip(".") + suffix) if path.name else path
    if path.suffix.lower() in _PICKLES:
        raise OutputError(
            f"{option}: {path} has the suffix of another format, not {suffix}. Use "
            f"{path.with_suffix(suffix)}."
        )
    return Output(longer, (f"{option}: {suffix} was appended to {path.name}.",))


def check_output(
    path: str | os.PathLike[str],
    inputs: Sequence[Path],
    *,
    overwrite: bool,
    option: str = "--output",
    suffix: str = ".safetensors",
    advice: str = "Add --overwrite, or use another file.",
) -> Output:
    """Check the path of an output file and append a missing suffix.

    Args:
        path: path of the file. The suffix can be missing.
        inputs: input files and folders.
        overwrite: whether to replace an existing file.
        option: name of the option, for error messages.
        suffix: suffix of the file.
        advice: end of the error message about an existing file.

    Raises:
        OutputError: If the output exists, is an input or a folder, has the suffix of
            another format, or would be read with the settings of another PEFT file.
    """
    given = Path(path)
    _check_name(given, option)
    if os.path.isdir(os.path.realpath(given)):
        raise OutputError(
            f"{option}: {given} is a folder. Use a file such as "
            f"{given / f'lora{suffix}'}."
        )
    output = with_suffix(given, option=option, suffix=suffix)
    path = output.path
    _check_name(path, option)
    # The path that is written, which can exist although a folder in the given path does
    # not: no_folder/../file.
    whole = Path(os.path.realpath(path))
    if whole.is_dir():
        raise OutputError(f"{option}: {path} is a folder. Use another file.")
    _check_no_input(path, inputs, option, "file")
    if whole.exists() and not whole.is_file():
        raise OutputError(
            f"{option}: {path} is a pipe or a device. Use a regular file."
        )
    if whole.exists() and not overwrite:
        raise OutputError(f"{option}: {path} already exists. {advice}")
    if not path.parent.exists() and whole.parent.exists():
        output = dataclasses.replace(output, path=whole)
    if whole.name == WEIGHTS and (whole.parent / CONFIG).exists():
        raise OutputError(
            f"{option}: {path.parent} contains {CONFIG}, whose alpha and rank are "
            f"applied to {path.name}. Use another name or folder, or lora convert --to "
            "peft-folder."
        )
    return output


def check_new_folder(
    path: str | os.PathLike[str], inputs: Sequence[Path], option: str = "--output"
) -> Output:
    """Check that an output folder does not exist and does not overlap with an input.

    Raises:
        OutputError: If the folder cannot be used, or the path is a file.
    """
    path = Path(path)
    _check_name(path, option)
    if path.suffix == ".safetensors":
        raise OutputError(
            f"{option}: {path} is a file. Use a new folder such as "
            f"{path.with_suffix('')}."
        )
    whole = Path(os.path.realpath(path))
    if whole.exists():
        raise OutputError(f"{option}: {path} already exists. Use a new folder.")
    _check_no_input(path, inputs, option, "folder")
    return Output(path if path.parent.exists() else whole)


def _check_name(path: Path, option: str) -> None:
    """Raise for a path that the operating system refuses, such as one too long."""
    try:
        path.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            reason = error.strerror or str(error)
            raise OutputError(
                f"{option}: {path} cannot be used: {reason}. Use another path."
            ) from error


def _check_no_input(path: Path, inputs: Sequence[Path], option: str, kind: str) -> None:
    """Raise if a path is an input, or in an input folder, also through links."""
    whole = Path(os.path.realpath(path))
    same = _identity(whole)
    for given in inputs:
        if same is not None and same == _identity(given):
            raise OutputError(
                f"{option}: {path} is an input file, which is never overwritten. Use "
                f"another {kind}."
            )
        if not given.is_dir():
            continue
        for folder, names in _linked_folders(given):
            if folder in whole.parents:
                raise OutputError(
                    f"{option}: {path} is in the input folder {given}, which is never "
                    f"changed. Use another {kind}."
                )
            # Folders of a download contain links to files elsewhere.
            if same is not None and same in (_identity(folder / x) for x in names):
                raise OutputError(
                    f"{option}: {path} is a file of the input folder {given}, which is "
                    f"never changed. Use another {kind}."
                )


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file, or None if it does not exist."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _linked_folders(given: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield the real paths of a folder and all folders below, with their files."""
    seen, waiting = set(), [os.path.realpath(given)]
    while waiting:
        folder = waiting.pop()
        if folder in seen:
            continue
        seen.add(folder)
        names = []
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if os.path.isdir(entry.path):
                    waiting.append(os.path.realpath(entry.path))
                else:
                    names.append(entry.name)
        yield Path(folder), names
