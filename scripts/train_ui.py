"""Open the GUI in the checkout's environment, created if missing.

    python scripts/train_ui.py                 install when needed, then the window
    python scripts/train_ui.py my.json         with these settings
    python scripts/train_ui.py --install-only  install and stop

start-ui.sh and start-ui.bat call this.
"""

# No __future__ import: the check of _bootstrap must run on a Python too old for it.
import argparse
import platform
import sys
from pathlib import Path

from _bootstrap import here, install
from _environment import InstallError, run
from _torch_build import add_torch_options, torch_source

QUANTIZING = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Windows", "AMD64")}
"""Systems with wheels of bitsandbytes and with the GPUs that it supports."""


def main() -> int:
    """Install if needed, then open the GUI."""
    arguments = _parse()
    try:
        python = install(here(), window_extras(), torch_source(arguments))
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.install_only:
        print("Installed. Open the GUI with start-ui.sh or start-ui.bat.")
        return 0
    config = [] if arguments.config is None else [arguments.config]
    return run([python, "-m", "stiefel_lora.cli", "ui", *config], cwd=Path.cwd())


def window_extras() -> "list[str]":
    """Return the extras that the presets of the GUI need on this system."""
    system = platform.system(), platform.machine()
    return ["train", "ui", *(["quant"] if system in QUANTIZING else [])]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="config file or preset to open")
    add_torch_options(parser)
    parser.add_argument(
        "--install-only", action="store_true", help="install only, do not open the GUI"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
