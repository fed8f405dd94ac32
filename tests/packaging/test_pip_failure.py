"""What pip prints on a failure becomes a message with cause and way out."""

from __future__ import annotations

import pytest

from _pip_failure import UNKNOWN, explain

CASES = {
    "disk": (
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space "
        "left on device",
        "The disk is full",
    ),
    "network": (
        "WARNING: Retrying (Retry(total=0)) after connection broken by "
        "'NewConnectionError(...: Failed to establish a new connection)'\n"
        "ERROR: Could not find a version that satisfies the requirement torch==2.13.0 "
        "(from versions: none)\n"
        "ERROR: No matching distribution found for torch==2.13.0",
        "The package server cannot be reached",
    ),
    "nothing at all": (
        "ERROR: Could not find a version that satisfies the requirement torch==2.13.0 "
        "(from versions: none)\n"
        "ERROR: No matching distribution found for torch==2.13.0",
        "found no build of torch==2.13.0 for Python 3.19",
    ),
    "certificate": (
        "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]'))",
        "certificate",
    ),
    "no wheel": (
        "ERROR: Could not find a version that satisfies the requirement torch==2.13.0 "
        "(from versions: 2.14.0, 2.15.0)\n"
        "ERROR: No matching distribution found for torch==2.13.0",
        "no build of torch==2.13.0 for Python 3.19 on Plan9 mips",
    ),
    "old python": (
        "ERROR: Package 'stiefel-lora' requires a different Python: 3.9.1 not in "
        "'>=3.10'",
        "does not support Python 3.19",
    ),
    "compiler": (
        "error: command '/usr/bin/gcc' failed with exit code 1\n"
        "ERROR: Failed building wheel for grpcio",
        "could not be compiled",
    ),
    "windows compiler": (
        "error: Microsoft Visual C++ 14.0 or greater is required.",
        "could not be compiled",
    ),
    "permission": (
        "ERROR: Could not install packages due to an OSError: [Errno 13] Permission "
        "denied: 'x'",
        "could not be written",
    ),
    "conflict": (
        "ERROR: ResolutionImpossible: for help visit",
        "different versions of a third",
    ),
    "memory": ("MemoryError", "out of memory"),
}


@pytest.mark.parametrize("case", CASES)
def test_cause(case: str) -> None:
    output, expected = CASES[case]
    message = explain(output, python="3.19", platform="Plan9 mips", gigabytes=3)
    assert expected in message


def test_unknown_cause_points_to_the_output() -> None:
    message = explain("boom", python="3.11", platform="Linux", gigabytes=3)
    assert message == UNKNOWN
