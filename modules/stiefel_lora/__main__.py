"""Entry point of ``python -m stiefel_lora``, which is the command ``stiefel-lora``."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
