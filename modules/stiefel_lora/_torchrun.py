"""Launcher of torch with a short message instead of a traceback.

``python -m stiefel_lora._torchrun --standalone --nproc-per-node 2 ...``
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["main"]


def main() -> None:
    """Run torchrun and exit with 1 if a process fails."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as run

    try:
        run(sys.argv[1:])
    except ChildFailedError as error:
        failures: dict[int, Any] = error.failures
        for index, failure in failures.items():
            if failure.exitcode < 0:
                print(
                    f"Process {index} was ended by signal {-failure.exitcode}.",
                    file=sys.stderr,
                )
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
