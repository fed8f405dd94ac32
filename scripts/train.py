"""``stiefel-lora train`` in the checkout's own environment, made when missing.

    python scripts/train.py CONFIG_OR_PRESET --set KEY=VALUE

All arguments go to ``stiefel-lora train``.
"""

# No future import here: _bootstrap's check must speak on a Python too old for it.
import sys

from _verb import run_verb

if __name__ == "__main__":
    sys.exit(run_verb("train"))
