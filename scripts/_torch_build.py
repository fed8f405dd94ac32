"""Install the torch that fits the machine.

uv selects the build that the GPU and its driver can use (``--torch-backend=auto``):
NVIDIA by the version of the driver, AMD, Intel, or none. If uv or the index of PyTorch
cannot be reached, the reason is printed, and pip installs its default build.
"""

# No __future__ import: the version check of _bootstrap must run on older Pythons.
import argparse
import dataclasses
import shutil
import sys
from pathlib import Path

from _environment import Checkout, InstallError, logged, output_of, pip

__all__ = [
    "ANY_SOURCE",
    "TORCH",
    "TorchSource",
    "add_torch_options",
    "describe_torch",
    "install_beside_torch",
    "install_torch",
    "torch_source",
    "torch_version",
]

TORCH = "torch==2.13.0"
ANY_TORCH = "torch>=2.4"
"""For an index, or a driver, without the tested version."""

AUTO = "auto"
INSTALL = ("install", "--force-reinstall")
"""Another build of the same version counts as installed for pip."""


@dataclasses.dataclass(frozen=True)
class TorchSource:
    """Source of torch: a package index, or the index of a backend."""

    index: "str | None" = None
    """Address or folder, for pip's ``--index-url``."""

    backend: "str | None" = None
    """uv's ``--torch-backend``: ``cpu``, ``cu128``, ``rocm7.1``... None is ``auto``."""

    @property
    def key(self) -> "str | None":
        """Text that identifies the source; None if nothing was chosen."""
        return self.index or self.backend


ANY_SOURCE = TorchSource()


def add_torch_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--torch-backend`` and ``--torch-index`` to the options of a script."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--torch-backend",
        metavar="NAME",
        help="torch build, such as cpu, cu128 or rocm7.1 (default: chosen by uv for "
        "this machine; an installed torch is kept)",
    )
    group.add_argument(
        "--torch-index",
        metavar="URL",
        help="package index for torch, instead of uv's choice",
    )


def torch_source(arguments: argparse.Namespace) -> TorchSource:
    """Return the source that the options select."""
    return TorchSource(arguments.torch_index, arguments.torch_backend)


def install_torch(checkout: Checkout, source: TorchSource) -> None:
    """Install torch into .venv, in place of an installed one.

    A failure leaves the installed one as it was.

    Raises:
        InstallError: contains the cause, the end of the output and the path of the log.
    """
    if source.index is not None:
        arguments = [*INSTALL, ANY_TORCH, "--index-url", source.index]
        pip(checkout, arguments, f"Installing {ANY_TORCH}")
        return
    reason = _by_uv(checkout, [TORCH], source)
    # An old driver needs a CUDA for which the tested torch was not built.
    if reason and "No solution found" in reason:
        reason = _by_uv(checkout, [ANY_TORCH], source)
    if not reason:
        return
    if source.backend is not None:
        raise InstallError(
            f"--torch-backend {source.backend}: {reason}\nThe whole log: {checkout.log}"
        )
    print(f"uv could not choose a torch build: {reason}\nUsing pip's build instead.")
    if sys.platform == "linux" and not shutil.which("nvidia-smi"):
        print(
            "No NVIDIA GPU was found. On Linux pip's torch usually brings several GB "
            "of CUDA\npackages all the same; to avoid that, stop here and give "
            "--torch-index the CPU\naddress from PyTorch's 'Get Started' page."
        )
    pip(checkout, [*INSTALL, TORCH], f"Installing {TORCH}")


def install_beside_torch(
    checkout: Checkout, package: str, constraints: Path, source: TorchSource
) -> None:
    """Install a package that is built for one build of torch, such as torchvision.

    It comes from the same index as torch, without its dependencies.

    Raises:
        InstallError: contains the cause, the end of the output and the path of the log.
    """
    arguments = ["--no-deps", package, "-c", str(constraints)]
    if source.index is not None:
        arguments += ["--index-url", source.index]
    elif not _by_uv(checkout, arguments, source):
        return
    title = f"Installing {package} without dependencies"
    pip(checkout, ["install", *arguments], title)


def describe_torch(checkout: Checkout) -> str:
    """Return the version of torch, and what to do if it does not use the GPU."""
    code = (
        "import torch; v = torch.version; print(torch.__version__, "
        "'gpu' if v.cuda or v.hip or torch.backends.mps.is_available() else 'cpu')"
    )
    version, _, device = output_of([checkout.python, "-c", code]).partition(" ")
    text = f"Installed torch {version}."
    if device == "cpu" and shutil.which("nvidia-smi"):
        text += (
            " This machine has an NVIDIA GPU, but this is a build for the CPU. Run the"
            "\nscript again with --torch-backend auto."
        )
    return text


def torch_version(checkout: Checkout) -> str:
    """Return the version of the installed torch, or ""."""
    code = "import importlib.metadata as m; print(m.version('torch'))"
    return output_of([checkout.python, "-c", code])


def _by_uv(checkout: Checkout, requirements: "list[str]", source: TorchSource) -> str:
    """Install by uv; return why that failed, or ""."""
    python = str(checkout.python)
    try:
        pip(checkout, ["install", "uv"], "Installing uv, which chooses the torch build")
    except InstallError as error:
        return str(error).splitlines()[0]
    backend = source.backend or AUTO
    command = [python, "-m", "uv", "pip", "install", "--python", python]
    # uv reads no configuration of pip, so its index would be another one.
    mirror = output_of([python, "-m", "pip", "config", "get", "global.index-url"])
    code, output = logged(
        checkout,
        [*command, "--torch-backend", backend, "--reinstall", *requirements],
        f"Installing {requirements[0]} for the backend {backend}",
        {"UV_DEFAULT_INDEX": mirror} if mirror else {},
    )
    return _cause(output) if code else ""


def _cause(output: str) -> str:
    """Return the error of uv in one line: its first line and its innermost cause."""
    lines = [line.strip() for line in output.strip().splitlines()]
    at = next((i for i, text in enumerate(lines) if text.startswith("error:")), 0)
    errors = [text for text in lines[at:] if text] or ["no output"]
    first = errors[0].removeprefix("error:").strip()
    causes = [text for text in errors if text.startswith("cause:")]
    return f"{first}: {causes[-1].partition(':')[2].strip()}" if causes else first
