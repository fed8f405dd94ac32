"""Diagnosis of the environment: versions, devices, and missing packages."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.metadata
import importlib.util
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._install import EXTRAS, install_command, pip_command, requirements_of
from ._version import __version__

__all__ = ["Diagnosis", "Part", "diagnose", "gpu_gigabytes"]

# What a part imports at its first use; an installed package can still be broken.
_IMPORTED = {
    "train": ("accelerate", "diffusers", "peft", "transformers", "tensorboard"),
    "ui": ("PySide6.QtWidgets", "pyqtgraph"),
    "web": ("nicegui",),
    "quant": ("bitsandbytes",),
    "xformers": ("xformers.ops",),
    "optimizers": (
        "adv_optm",
        "came_pytorch",
        "lion_pytorch",
        "prodigyopt",
        "prodigyplus",
        "schedulefree",
    ),
    "captions": ("onnxruntime",),
    "heif": ("pillow_heif",),
    "plots": ("matplotlib",),
    "cluster": ("ray",),
}
NEEDED = ("train",)
"""Parts of the package that are required for training."""

_SMI = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv")


@dataclasses.dataclass(frozen=True)
class Part:
    """Part of the package that requires additional packages."""

    extra: str
    purpose: str
    missing: list[str]
    """Requirements that are not installed, or whose version is not supported."""

    broken: str = ""
    """Error message of an import, if no requirement is missing."""

    @property
    def works(self) -> bool:
        """Return whether this part can be used."""
        return not self.missing and not self.broken


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Result of :func:`diagnose`."""

    version: str
    folder: str
    python: str
    system: str
    torch: str
    """Version and build of torch, or the error of its import."""

    devices: list[str]
    """Devices that torch can use in addition to the CPU."""

    parts: list[Part]
    problems: list[str]
    """Problems that prevent training, with their fixes."""

    notes: list[str]
    """Other problems, with their fixes."""

    @property
    def is_broken(self) -> bool:
        """Return whether training is not possible."""
        return bool(self.problems)


def diagnose() -> Diagnosis:
    """Check the environment. All packages are imported."""
    with _quiet():
        torch, problem = _torch()
        devices = _devices(torch) if torch else []
        parts = [_part(extra) for extra in EXTRAS]
    problems = [problem] if problem else []
    notes = []
    for part in parts:
        if not part.works:
            place = problems if part.extra in NEEDED else notes
            place.append(_advice(part))
    notes += _about_gpu(torch)
    return Diagnosis(
        version=__version__,
        folder=str(Path(__file__).parent),
        python=f"{platform.python_version()} ({sys.executable})",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        torch=_build(torch) if torch else "not usable",
        devices=devices,
        parts=parts,
        problems=problems,
        notes=notes,
    )


@contextlib.contextmanager
def _quiet() -> Any:
    """Suppress output and warnings of libraries during import."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _torch() -> tuple[Any, str]:
    """Import torch. Return the module, or None and the reason."""
    try:
        return importlib.import_module("torch"), ""
    except Exception as error:
        return None, (
            f"torch cannot be imported ({_first_line(error)}). Install it as described "
            "on the 'Get Started' page of PyTorch."
        )


def _build(torch: Any) -> str:
    version = torch.version
    if getattr(version, "cuda", None):
        build = f"CUDA {version.cuda}"
    elif getattr(version, "hip", None):
        build = f"ROCm {version.hip}"
    else:
        build = "no GPU support" if sys.platform != "darwin" else "Apple"
    return f"{torch.__version__} ({build})"


def _devices(torch: Any) -> list[str]:
    found = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gigabytes = torch.cuda.get_device_properties(index).total_memory / 2**30
            name = torch.cuda.get_device_name(index)
            found.append(f"cuda:{index} {name}, {gigabytes:.1f} GB")
    if torch.backends.mps.is_available():
        found.append("mps (Apple)")
    return found


def _about_gpu(torch: Any) -> list[str]:
    """Return a message about a GPU that cannot be used, if there is one."""
    driver = _nvidia()
    if not driver or torch is None or torch.cuda.is_available():
        return []
    if torch.version.cuda is None:
        return [
            f"This machine has an NVIDIA GPU ({driver}), but torch has no GPU support. "
            "Run the script install with --torch-backend auto, or install torch as "
            "described on the 'Get Started' page of PyTorch."
        ]
    return [
        f"torch is built for CUDA {torch.version.cuda}, but cannot use the GPU "
        f"({driver}). Update the driver, or install a torch for an older CUDA."
    ]


def gpu_gigabytes() -> int | None:
    """Return the memory of the first NVIDIA GPU in GB, rounded, or None without one."""
    found = re.search(r"(\d+) MiB$", _nvidia())
    return round(int(found[1]) / 1024) if found else None


def _nvidia() -> str:
    """Return name, driver and memory of the first NVIDIA GPU, or ""."""
    if not shutil.which(_SMI[0]):
        return ""
    try:
        done = subprocess.run(
            _SMI, capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.splitlines()
    if done.returncode or len(lines) < 2:
        return ""
    name, version, memory = (part.strip() for part in lines[1].split(","))
    return f"{name}, driver {version}, {memory}"


def _part(extra: str) -> Part:
    missing = [text for text in map(_missing, requirements_of(extra)) if text]
    broken = "" if missing else _import_error(extra)
    return Part(extra, EXTRAS[extra], missing, broken)


def _missing(requirement: tuple[str, str]) -> str:
    """Return a description of a requirement that is not met, or ""."""
    name, versions = requirement
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return name
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        # It comes with transformers, which is then missing itself.
        return ""
    if SpecifierSet(versions).contains(installed, prereleases=True):
        return ""
    return f"{name}{versions} (installed: {installed})"


def _import_error(extra: str) -> str:
    # Without a display, Qt would end the process here.
    if extra == "ui":
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    for module in _IMPORTED[extra]:
        try:
            importlib.import_module(module)
        # Native libraries raise anything, such as OSError or RuntimeError.
        except Exception as error:
            cause = _module_of(error, module)
            by = "" if cause == module else f", imported by {module}"
            return f"{cause}: {_first_line(error)}{by}"
    return ""


def _module_of(error: BaseException, module: str) -> str:
    """Return the package in whose code an import failed, if it is another one.

    peft imports bitsandbytes if it is installed, so a broken bitsandbytes breaks peft.
    """
    found = module
    trace = error.__traceback__
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if name in _distributions() and name != __package__:
            found = name
        trace = trace.tb_next
    return found


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    """Return the distributions by the packages that they install."""
    return importlib.metadata.packages_distributions()


def _advice(part: Part) -> str:
    if part.broken:
        return (
            f"{part.purpose}: {part.broken}. The package is installed, but cannot be "
            f"loaded. Install it again with: {_reinstall(part.broken)}"
        )
    return (
        f"{part.purpose}: {', '.join(part.missing)} missing. Install with: "
        f"{install_command(part.extra)}"
    )


def _reinstall(broken: str) -> str:
    """Return the command that installs the package of an error message again."""
    package = re.split(r"[.:]", broken)[0]
    name = _distributions().get(package, [package])[0]
    return pip_command(f"--force-reinstall --no-deps {name}")


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
