"""Run ``stiefel-lora train`` in the checkout's environment, created if missing.

    python scripts/train.py CONFIG_OR_PRESET --set KEY=VALUE

All arguments are passed to ``stiefel-lora train``.
"""

# No __future__ import: the check of _bootstrap must run on a Python too old for it.
import sys

from _verb import run_verb

if __name__ == "__main__":
    sys.exit(run_verb("train"))
