"""Create .venv, install, then lint, check types, test and build the docs.

python scripts/run_tests.py              all of that, with the fast tests
python scripts/run_tests.py lint types   only these steps
python scripts/run_tests.py --slow       only the tests that take minutes
python scripts/run_tests.py --soak       only the tests that take an hour and more
python scripts/run_tests.py --workers 1  tests one after another, not one on each core
"""

# No __future__ import: the check of _bootstrap must run on a Python too old for it.
import argparse
import os
import sys
import time
from pathlib import Path

from _bootstrap import here, install
from _environment import InstallError, run
from _torch_build import add_torch_options, torch_source

EXTRAS = ("train", "ui", "test", "docs")
PYTEST = ["-m", "pytest", "tests", "-p", "_skip_gate", "--skip-list", "tests/skips.txt"]
SPHINX = ["-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
MOST_WORKERS = 8
"""Memory per pytest process, which loads torch and diffusers."""

NO_TESTS = 5
"""Exit code of pytest if no test was selected."""

STEPS = ("lint", "types", "tests", "docs")
APART = ("slow", "soak")


def commands(step: str, workers: int) -> "list[list[str]]":
    """Arguments of Python for one step."""
    if step == "lint":
        return [
            ["-m", "ruff", "check"],
            ["-m", "ruff", "format", "--check"],
            ["scripts/voice.py"],
        ]
    if step == "types":
        return [["-m", "pyrefly", "check"]]
    if step == "docs":
        return [
            [*SPHINX, "-b", "html", "docs", "build/docs/html"],
            [*SPHINX, "-b", "doctest", "docs", "build/docs/doctest"],
        ]
    mark = step if step in APART else "not slow and not soak"
    # worksteal assigns consecutive files to a worker, so that the fixtures of a file
    # are rarely set up twice; an idle worker takes half of the remaining tests of
    # another.
    beside = ["-n", str(workers), "--dist", "worksteal", "--durations", "10"]
    return [
        [*PYTEST, *beside, "-m", f"({mark}) and not alone"],
        [*PYTEST, "-m", f"({mark}) and alone"],
    ]


def cores() -> int:
    """Return the number of workers, limited by the available cores and memory."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    return min(os.cpu_count() or 1, MOST_WORKERS)


def main() -> int:
    """Run the selected steps, even after a failure, and print a summary."""
    arguments = _parse()
    checkout = here()
    try:
        python = install(checkout, EXTRAS, torch_source(arguments))
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    chosen = [arguments.apart] if arguments.apart else arguments.steps or STEPS
    results = [
        _step(name, commands(name, arguments.workers), python, checkout.root)
        for name in chosen
    ]
    print("\n" + "\n".join(line for _, line in results), flush=True)
    return 0 if all(passed for passed, _ in results) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "steps", nargs="*", metavar="STEP", help=f"any of: {', '.join(STEPS)}"
    )
    for mark in APART:
        parser.add_argument(
            f"--{mark}",
            action="store_const",
            dest="apart",
            const=mark,
            help=f"run only the {mark} tests",
        )
    add_torch_options(parser)
    parser.add_argument(
        "--workers",
        type=int,
        default=cores(),
        metavar="N",
        help="number of parallel test processes (default: %(default)s)",
    )
    arguments = parser.parse_args()
    unknown = [name for name in arguments.steps if name not in STEPS]
    if unknown:
        parser.error(f"no step {unknown[0]!r}; there are {', '.join(STEPS)}")
    if arguments.apart and arguments.steps:
        mark = arguments.apart
        parser.error(f"--{mark} only runs the {mark} tests; remove the steps")
    return arguments


def _step(
    name: str, todo: "list[list[str]]", python: Path, root: Path
) -> "tuple[bool, str]":
    start = time.monotonic()
    codes = []
    for command in todo:
        print(f"\n== {name}: python {' '.join(command)}", flush=True)
        # The plugin _skip_gate is in scripts/; tests never access a hub.
        env = {"PYTHONPATH": str(root / "scripts"), "HF_HUB_OFFLINE": "1"}
        code = run([python, *command], cwd=root, env=env)
        # Some marks have no tests that must run alone.
        codes.append(
            0 if code == NO_TESTS and command[-1].endswith(") and alone") else code
        )
    failed = [code for code in codes if code]
    verdict = f"FAILED (exit code {failed[0]})" if failed else "passed"
    return not failed, f"{name}: {verdict} in {time.monotonic() - start:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
