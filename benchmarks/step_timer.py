"""Run a training script and write down when each optimizer step ended.

    python step_timer.py RECORD SCRIPT ARGUMENTS...

SCRIPT is a file, or ``-m MODULE``. Both trainers that are compared step through
accelerate, so one hook serves both: after each step a JSON line with the wall clock
since the process began, the processor time of the process, the seconds of it that went
into encoders, how many numbers are trained, and the largest resident memory so far.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import runpy
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Hook in, then become the script."""
    record, *sys.argv = sys.argv[1:]
    if os.environ.get("BENCHMARK_HOST"):
        # Its torchvision may be built for another torch.
        sys.path.insert(0, str(HERE.parent / "tests" / "hosts"))
        import loadable_torchvision  # noqa: F401
    _record_steps(Path(record))
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
        runpy.run_path(sys.argv[0], run_name="__main__")


def _record_steps(record: Path) -> None:
    from accelerate.optimizer import AcceleratedOptimizer

    # Handed over, so that the start of Python itself is counted.
    began = float(os.environ["BENCHMARK_BEGAN"])
    step: Any = AcceleratedOptimizer.step
    encoder = _EncoderClock()

    def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = step(self, *args, **kwargs)
        line = {
            "wall": time.time() - began,
            "processor": time.process_time(),
            "encoder": encoder.seconds,
            "trained": sum(p.numel() for g in self.param_groups for p in g["params"]),
            "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        with record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return result

    AcceleratedOptimizer.step = recorded  # type: ignore[method-assign]


class _EncoderClock:
    """Processor seconds inside the VAE's encoder and the text encoders."""

    def __init__(self) -> None:
        from diffusers import AutoencoderKL
        from transformers import (
            CLIPTextModel,
            CLIPTextModelWithProjection,
            T5EncoderModel,
        )

        self.seconds = 0.0
        self._time(AutoencoderKL, "encode")
        for kind in (CLIPTextModel, CLIPTextModelWithProjection, T5EncoderModel):
            self._time(kind, "forward")

    def _time(self, kind: type[Any], name: str) -> None:
        encode: Any = getattr(kind, name)

        @functools.wraps(encode)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return encode(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - began

        setattr(kind, name, timed)


if __name__ == "__main__":
    main()
