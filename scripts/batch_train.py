"""``stiefel-lora batch`` in the checkout's own environment, made when missing.

    python scripts/batch_train.py CONFIG... --sweep lora_rank=8,16,32

All arguments go to ``stiefel-lora batch``.
"""

# No future import here: _bootstrap's check must speak on a Python too old for it.
import sys

from _verb import run_verb

if __name__ == "__main__":
    sys.exit(run_verb("batch"))
