"""Run the tests that ask the same of every method, and write what each passed.

    python scripts/contract_table.py

writes docs/contract.md. A cell counts the cases that passed; a method for which a test
does not run has a note in its place.
"""

from __future__ import annotations

import collections
import datetime
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import torch

from stiefel_lora.methods import CATALOGUE

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "contract.md"
FILES = (
    "tests/optim",
    "tests/adapters/test_dora.py",
    "tests/training/test_every_method.py",
)
# A property of fewer methods than these says more about them than about a contract.
LEAST_METHODS = 3

COUPLED = "a step needs both factors: refused"
CODES = "moments are 8-bit codes of bitsandbytes"
NOTES = {
    ("test_one_by_one_is_the_same_step", "adamw"): "torch's own class",
    ("test_one_by_one_is_the_same_step", "adamw_8bit"): "bitsandbytes' own class",
    **{
        ("test_one_by_one_is_the_same_step", name): COUPLED
        for name in ("stella", "lora_rite", "riemannion", "scaled_adamw")
    },
    ("test_float64_stays_float64", "adamw_8bit"): CODES,
    ("test_fast_path_equals_reference", "adamw_8bit"): CODES + ", distance bounded",
}

Outcomes = dict[str, dict[str, list[bool]]]


def main() -> int:
    """Test, write, and return 1 where something failed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *FILES]
        subprocess.run(command, cwd=ROOT, check=False)
        outcomes = read(report)
    TARGET.write_text("\n".join(page(outcomes)) + "\n", encoding="utf-8")
    passed = all(all(c) for row in outcomes.values() for c in row.values())
    return 0 if passed else 1


def read(report: Path) -> Outcomes:
    """Test -> method -> whether each case passed; skipped cases are left out."""
    outcomes: Outcomes = collections.defaultdict(lambda: collections.defaultdict(list))
    for case in ElementTree.parse(report).iter("testcase"):
        test, _, parameters = case.get("name", "").partition("[")
        if case.find("skipped") is not None:
            continue
        method = method_of(parameters)
        if method is not None:
            failed = case.find("failure") is not None or case.find("error") is not None
            outcomes[test][method].append(not failed)
    return {t: row for t, row in outcomes.items() if len(row) >= LEAST_METHODS}


def method_of(parameters: str) -> str | None:
    """The method that a test's parameters name; what follows it are its options."""
    parts = parameters.rstrip("]").split("-")
    return next((part for part in parts if part in CATALOGUE), None)


def page(outcomes: Outcomes) -> Iterator[str]:
    """Lines of the page."""
    yield "# What every method passes"
    yield ""
    yield (
        f"Written by `python scripts/contract_table.py` on {datetime.date.today()}, "
        f"torch {torch.__version__}. Each row is a test that runs for many methods; a "
        "cell counts the cases that passed. Tests of one method alone, among them the "
        "comparisons with published implementations, are in `tests/optim`."
    )
    yield ""
    names = [entry.label for entry in CATALOGUE.values()]
    yield "| | " + " | ".join(names) + " |"
    yield "|---|" + "---|" * len(names)
    for test, row in outcomes.items():
        says = test.removeprefix("test_").replace("_", " ")
        cells = [cell(test, name, row.get(name)) for name in CATALOGUE]
        yield f"| {says} | {' | '.join(cells)} |"


def cell(test: str, name: str, cases: list[bool] | None) -> str:
    """Number of cases passed, or why there are none."""
    if cases is None:
        return NOTES.get((test, name), "not in this test")
    if all(cases):
        return f"{len(cases)} passed"
    return f"**{cases.count(False)} of {len(cases)} failed**"


if __name__ == "__main__":
    sys.exit(main())
