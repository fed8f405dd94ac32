"""``stiefel-lora train`` in the checkout's own environment, made when missing.

    python scripts/train.py CONFIG_OR_PRESET --set KEY=VALUE

All arguments go to ``stiefel-lora train``.
"""

# No future import here: _bootstrap's check must speak on a Python too old for it.
import sys
from pathlib import Path

from _bootstrap import InstallError, here, install, run


def main() -> int:
    """Install when needed, then train."""
    try:
        python = install(here(), ["train"])
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    command = [python, "-m", "stiefel_lora.cli", "train", *sys.argv[1:]]
    return run(command, cwd=Path.cwd())


if __name__ == "__main__":
    sys.exit(main())
