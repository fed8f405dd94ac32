"""Run ``stiefel-lora batch`` in the checkout's environment, created if missing.

    python scripts/batch_train.py CONFIG... --sweep lora_rank=8,16,32

All arguments are passed to ``stiefel-lora batch``.
"""

# No __future__ import: the check of _bootstrap must run on a Python too old for it.
import sys

from _verb import run_verb

if __name__ == "__main__":
    sys.exit(run_verb("batch"))
