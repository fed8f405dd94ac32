"""Make the environment of another trainer, with this package in it, to test inside it.

    python scripts/setup_host.py sd-scripts CHECKOUT
    python scripts/setup_host.py onetrainer CHECKOUT [--mgds CHECKOUT_OF_MGDS]

makes CHECKOUT/.venv from the versions that the trainer asks for and installs this
checkout there. Nothing else of CHECKOUT is changed. For OneTrainer it installs what
training a LoRA on a CPU and its Qt window need, not all that it asks for.
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


MGDS = "mgds @ git+https://github.com/Nerogar/mgds.git@3a6994a"
ONETRAINER = (
    *("numpy==2.2.6", "pillow", "tqdm", "parse", "PyYAML", "huggingface-hub<2"),
    *("accelerate==1.12.0", "safetensors", "diffusers==0.40.0", "transformers==5.5.4"),
    *("tensorboard==2.20.0", "omegaconf", "sentencepiece", "opencv-python-headless"),
    *("scipy", "matplotlib", "psutil", "requests", "deepdiff", "imagesize", "pooch"),
    *("gguf==0.17.1", "av==16.1.0", "fabric", "PySide6-Essentials==6.11.1", "pydantic"),
    *("scenedetect==0.7", "onnxruntime", "adv_optm==2.2.3", "customtkinter==5.2.2"),
)
HOSTS = {
    "sd-scripts": Host("sdxl_train_network.py", ("-r", "requirements.txt")),
    "onetrainer": Host("modules/util/create.py", ONETRAINER),
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
            if arguments.host == "onetrainer":
                # torchvision asks for a torch of its own, mgds for all of both.
                loose = ["install", "--no-deps", "torchvision", arguments.mgds]
                pip(checkout, loose, "Installing torchvision and mgds")
            own = ["install", "--editable", str(here().root), *held]
            pip(checkout, own, "Installing stiefel-lora")
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Done: {checkout.python}")
    return 0


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
