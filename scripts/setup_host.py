"""Make the environment of another tool, with this package in it, to test inside it.

    python scripts/setup_host.py sd-scripts CHECKOUT
    python scripts/setup_host.py musubi-tuner CHECKOUT
    python scripts/setup_host.py diffusers CHECKOUT
    python scripts/setup_host.py kohya_ss CHECKOUT
    python scripts/setup_host.py onetrainer CHECKOUT [--mgds CHECKOUT_OF_MGDS]
    python scripts/setup_host.py comfyui CHECKOUT
    python scripts/setup_host.py forge CHECKOUT

makes CHECKOUT/.venv from the versions that the trainer asks for and installs this
checkout there. Nothing else of CHECKOUT is changed. For OneTrainer it installs what
training a LoRA on a CPU and its Qt window need, not all that it asks for; for diffusers
what its DreamBooth examples need, for kohya_ss what its window needs, for ComfyUI and
Forge what loading a model and a LoRA needs.
"""

# No future import here: _bootstrap's check must speak on a Python too old for it.
import argparse
import dataclasses
import sys
from pathlib import Path

from _bootstrap import Checkout, InstallError, explained, here, pip, prepare


@dataclasses.dataclass(frozen=True)
class Host:
    """What a trainer's checkout looks like."""

    script: str
    """A file that is there in a checkout of it."""

    requirements: "tuple[str, ...]"
    """What pip install is given."""

    loose: "tuple[str, ...]" = ()
    """What is installed without what it asks for: a torch of its own."""


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
}


def main() -> int:
    """Install and say how to go on."""
    arguments = _parse()
    host, checkout = HOSTS[arguments.host], Checkout(arguments.checkout.resolve())
    if not (checkout.root / host.script).is_file():
        print(
            f"{checkout.root} is no checkout of {arguments.host}: it holds no "
            f"{host.script}.",
            file=sys.stderr,
        )
        return 2
    try:
        with explained():
            held = ["-c", str(prepare(checkout, arguments.torch_index))]
            wanted = ["install", *host.requirements, *held]
            pip(checkout, wanted, f"Installing what {arguments.host} asks for")
            for package in _loose(arguments):
                wanted = ["install", "--no-deps", package]
                pip(checkout, wanted, f"Installing {package} alone")
            own = ["install", "--editable", str(here().root), *held]
            pip(checkout, own, "Installing stiefel-lora")
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Done: {checkout.python}")
    return 0


def _loose(arguments: argparse.Namespace) -> "list[str]":
    """What would bring a torch of its own: torchvision, and OneTrainer's mgds."""
    loose = HOSTS[arguments.host].loose
    return [*loose, arguments.mgds] if arguments.host == "onetrainer" else [*loose]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("host", choices=HOSTS, help="the trainer")
    parser.add_argument("checkout", type=Path, help="folder of its checkout")
    parser.add_argument(
        "--mgds", default=MGDS, help="OneTrainer's data loader: a checkout of it"
    )
    parser.add_argument(
        "--torch-index", metavar="URL", help="package index to take torch from"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
