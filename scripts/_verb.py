"""Run a ``stiefel-lora`` command in the checkout's own environment."""

# No __future__ import: the check of _bootstrap must run on a Python too old for it.
import sys
from pathlib import Path

from _bootstrap import here, install
from _environment import InstallError, run

__all__ = ["run_verb"]


def run_verb(verb: str) -> int:
    """Install if needed, then pass all arguments to ``stiefel-lora VERB``."""
    try:
        python = install(here(), ["train"])
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    command = [python, "-m", "stiefel_lora.cli", verb, *sys.argv[1:]]
    return run(command, cwd=Path.cwd())
