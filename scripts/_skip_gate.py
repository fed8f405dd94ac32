"""Pytest plugin: print every skip with its reason, fail on one that is not listed.

The list, tests/skips.txt, has one line per skip: NODE-ID -- REASON. Both sides may
contain ``fnmatch`` wildcards; a line without a match is allowed, because a skip may
depend on the machine. scripts/run_tests.py loads this with ``-p _skip_gate``.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest

__all__ = ["SkipGate", "pytest_addoption", "pytest_configure", "read_list"]


def read_list(path: Path) -> list[tuple[str, str]]:
    """Read (node id, reason) patterns; empty lines and ``#`` comments are dropped.

    Raises:
        ValueError: a line without `` -- ``.
    """
    patterns = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        node, separator, reason = line.partition(" -- ")
        if not separator:
            raise ValueError(f"{path}: write NODE-ID -- REASON, not {line!r}")
        patterns.append((node.strip(), reason.strip()))
    return patterns


class SkipGate:
    """Collects skips; at the end prints them and fails if one is not listed."""

    def __init__(self, allowed: list[tuple[str, str]]) -> None:
        self.allowed = allowed
        self.skips: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a skipped test; an expected failure does not count."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self.note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a module that was skipped as a whole."""
        if report.skipped:
            self.note(report)

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Record node id and reason; a skip's longrepr is (file, line, reason)."""
        detail = report.longrepr
        reason = detail[2] if isinstance(detail, tuple) else str(detail)
        self.skips.append((report.nodeid, reason.removeprefix("Skipped: ")))

    def is_allowed(self, skip: tuple[str, str]) -> bool:
        """Return True if a line of the list matches node id and reason."""
        return any(
            fnmatch.fnmatchcase(skip[0], node) and fnmatch.fnmatchcase(skip[1], reason)
            for node, reason in self.allowed
        )

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a passing run with an unlisted skip."""
        if not all(map(self.is_allowed, self.skips)) and session.exitstatus in (0, 5):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        """Print one line per skip."""
        for skip in self.skips:
            verdict = "listed" if self.is_allowed(skip) else "NOT LISTED: a failure"
            terminalreporter.write_line(f"skip ({verdict}): {skip[0]} -- {skip[1]}")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--skip-list FILE``."""
    parser.addoption("--skip-list", type=Path, help="file with the allowed skips")


def pytest_configure(config: pytest.Config) -> None:
    """Enable the gate if a list is given."""
    path = config.getoption("--skip-list")
    if path is not None:
        config.pluginmanager.register(SkipGate(read_list(path)), "skip-gate")
