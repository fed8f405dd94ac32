"""Make the environment of another trainer, with this package in it, to test inside it.

    python scripts/setup_host.py sd-scripts CHECKOUT

makes CHECKOUT/.venv from the versions that the trainer asks for and installs this
checkout there. Nothing else of CHECKOUT is changed.
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

    requirements: str


HOSTS = {"sd-scripts": Host("sdxl_train_network.py", "requirements.txt")}


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
            wanted = ["install", "-r", host.requirements, *held]
            pip(checkout, wanted, f"Installing what {arguments.host} asks for")
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
        "--torch-index", metavar="URL", help="package index to take torch from"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
