"""Create the environment of another tool, with this package installed, for tests.

    python scripts/setup_host.py sd-scripts CHECKOUT
    python scripts/setup_host.py musubi-tuner CHECKOUT
    python scripts/setup_host.py diffusers CHECKOUT
    python scripts/setup_host.py kohya_ss CHECKOUT
    python scripts/setup_host.py onetrainer CHECKOUT [--mgds CHECKOUT_OF_MGDS]
    python scripts/setup_host.py comfyui CHECKOUT
    python scripts/setup_host.py forge CHECKOUT
    python scripts/setup_host.py diffsynth CHECKOUT

creates CHECKOUT/.venv with the versions that the trainer requires and installs this
checkout there. Nothing else in CHECKOUT is changed. Only the required packages are
installed: for OneTrainer those for LoRA training on a CPU and its Qt GUI, for diffusers
those of its DreamBooth examples, for kohya_ss those of its GUI, for ComfyUI and Forge
those for loading a model and a LoRA. Paths may be relative to the current folder.
"""

# No __future__ import: the check of _bootstrap must run on a Python too old for it.
import argparse
import dataclasses
import subprocess
import sys
from pathlib import Path

from _bootstrap import explained, here, prepare
from _environment import Checkout, InstallError, pip
from _torch_build import (
    TorchSource,
    add_torch_options,
    install_beside_torch,
    torch_source,
)


@dataclasses.dataclass(frozen=True)
class Host:
    """Layout and requirements of a trainer's checkout."""

    script: str
    """A file that every checkout contains."""

    requirements: "tuple[str, ...]"
    """Arguments of pip install."""

    loose: "tuple[str, ...]" = ()
    """Packages that are installed without dependencies, because they pin torch."""


MGDS = "mgds @ git+https://github.com/Nerogar/mgds.git@3a6994a"
ONETRAINER = (
    *("numpy==2.2.6", "pillow", "tqdm", "parse", "PyYAML", "huggingface-hub<2"),
    *("accelerate==1.12.0", "safetensors", "diffusers==0.40.0", "transformers==5.5.4"),
    *("tensorboard==2.20.0", "omegaconf", "sentencepiece", "opencv-python-headless"),
    *("scipy", "matplotlib", "psutil", "requests", "deepdiff", "imagesize", "pooch"),
    *("gguf==0.17.1", "av==16.1.0", "fabric", "PySide6-Essentials==6.11.1", "pydantic"),
    *("scenedetect==0.7", "onnxruntime", "adv_optm==2.2.3", "customtkinter==5.2.2"),
)
DIFFUSERS = (
    *("-e", ".", "accelerate==1.15.0", "transformers==5.23.0", "peft==0.21.2"),
    *("ftfy", "Jinja2", "protobuf", "sentencepiece", "tensorboard"),
)
KOHYA_SS = (
    *("gradio==6.17.3", "easygui==0.98.3", "toml==0.10.2", "rich", "psutil", "pillow"),
    *("safetensors", "accelerate==1.7.0"),
)
COMFYUI = (
    *("transformers==4.57.3", "torchsde==0.2.6", "einops", "numpy", "sentencepiece"),
    *("safetensors", "aiohttp", "PyYAML", "pillow", "scipy", "tqdm", "psutil"),
    *("pydantic", "av"),
)
FORGE = (
    *("transformers==4.46.1", "diffusers==0.31.0", "accelerate==0.31.0", "einops"),
    *("numpy<2", "pillow", "psutil", "safetensors", "sentencepiece", "tqdm"),
)
VISION = ("torchvision",)
HOSTS = {
    "sd-scripts": Host("sdxl_train_network.py", ("-r", "requirements.txt"), VISION),
    "musubi-tuner": Host("wan_train_network.py", ("-e", ".", "tensorboard"), VISION),
    "diffusers": Host(
        "examples/dreambooth/train_dreambooth_lora_sdxl.py", DIFFUSERS, VISION
    ),
    "kohya_ss": Host("kohya_gui.py", KOHYA_SS),
    "onetrainer": Host("modules/util/create.py", ONETRAINER, VISION),
    "comfyui": Host("comfy/sd.py", COMFYUI, VISION),
    "forge": Host("backend/loader.py", FORGE, VISION),
    "diffsynth": Host("diffsynth/diffusion/runner.py", ("-e", "."), VISION),
}


def main() -> int:
    """Check all arguments, install, and print the next command."""
    arguments = _parse()
    try:
        checkout, mgds, source = _checked(arguments)
    except InstallError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        with explained():
            _install(arguments.host, checkout, mgds, source)
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    _warn_of_torchvision(checkout)
    print(f"Done: {checkout.python}")
    return 0


def _install(
    name: str, checkout: Checkout, mgds: "str | None", source: TorchSource
) -> None:
    host = HOSTS[name]
    pinned = prepare(checkout, source)
    held = ["-c", str(pinned)]
    wanted = ["install", *host.requirements, *held]
    pip(checkout, wanted, f"Installing the requirements of {name}")
    for package in host.loose:
        # From the same index as torch: builds of two indexes do not load together.
        install_beside_torch(checkout, package, pinned, source)
    if mgds:
        pip(
            checkout,
            ["install", "--no-deps", mgds],
            f"Installing {mgds} without dependencies",
        )
    own = ["install", "--editable", str(here().root), *held]
    pip(checkout, own, "Installing stiefel-lora")


def _checked(
    arguments: argparse.Namespace,
) -> "tuple[Checkout, str | None, TorchSource]":
    """Return the checkout, the pip requirement of mgds, and the source of torch.

    Raises:
        InstallError: an argument that would fail or be ignored later.
    """
    name, root = arguments.host, arguments.checkout.resolve()
    if not (root / HOSTS[name].script).is_file():
        raise InstallError(
            f"{root} is not a checkout of {name}: it does not contain "
            f"{HOSTS[name].script}. Give the folder of the checkout."
        )
    if arguments.mgds is not None and name != "onetrainer":
        raise InstallError(
            f"--mgds: only used with onetrainer, not with {name}. Remove it."
        )
    mgds = _mgds(arguments.mgds or MGDS) if name == "onetrainer" else None
    source = torch_source(arguments)
    return Checkout(root), mgds, dataclasses.replace(source, index=_index(source.index))


def _mgds(given: str) -> str:
    """Resolve a folder; leave a requirement such as ``mgds @ git+https://...``."""
    if "://" in given:
        return given
    folder = Path(given).expanduser().resolve()
    if not (folder / "src" / "mgds").is_dir():
        raise InstallError(
            f"--mgds: {folder} is not a checkout of mgds: it does not contain "
            "src/mgds. Give the folder of a checkout, or remove --mgds to install it "
            "from GitHub."
        )
    return str(folder)


def _index(given: "str | None") -> "str | None":
    """Resolve a folder; pip runs in the checkout of the trainer."""
    if given is None or "://" in given:
        return given
    folder = Path(given).expanduser().resolve()
    if not folder.is_dir():
        raise InstallError(
            f"--torch-index: {given!r} is neither an address (https://...) nor a "
            "folder. Give the address from PyTorch's 'Get Started' page."
        )
    return folder.as_uri()


def _warn_of_torchvision(checkout: Checkout) -> None:
    """Print an error if the installed torchvision does not load."""
    code = "import importlib.util as u; u.find_spec('torchvision') and __import__("
    command = [str(checkout.python), "-c", f"{code}'torchvision')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        cause = (done.stderr.strip().splitlines() or ["no error was printed"])[-1]
        print(
            f"torchvision does not load with this torch ({cause}). Delete "
            f"{checkout.venv} and set --torch-index to the address from PyTorch's 'Get "
            "Started' page, so that both come from there.",
            file=sys.stderr,
        )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("host", choices=HOSTS, help="the trainer")
    parser.add_argument("checkout", type=Path, help="folder of its checkout")
    parser.add_argument(
        "--mgds", help=f"OneTrainer's data loader: a checkout of it, or {MGDS}"
    )
    add_torch_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
