"""Explain a failed installation from pip's own output."""

import re

__all__ = ["explain"]

# The first matching pattern is used. Full disk and missing network come first, because
# both make pip end with misleading messages about versions.
CAUSES = (
    (
        r"No space left on device|Errno 28|not enough space|WinError 112",
        "The disk is full. Free some space (about {gigabytes} GB are needed) and run "
        "the same command again.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "The certificate of the package server was rejected, probably because of a "
        "proxy or an old certificate store. Set the certificate in pip (pip config "
        "set global.cert FILE) and run the same command again.",
    ),
    (
        r"NewConnectionError|ConnectTimeout|ReadTimeout|Read timed out|ProxyError"
        r"|Temporary failure in name resolution|getaddrinfo failed"
        r"|Network is unreachable|Connection refused|Connection aborted"
        r"|Max retries exceeded",
        "The package server cannot be reached. Check the network (and the address "
        "after --torch-index, if one was given) and run the same command again.",
    ),
    (
        r"Permission denied|Errno 13|WinError 5\b|Access is denied",
        "A file could not be written. Check the permissions of this folder and that "
        "no program uses .venv, then run the same command again.",
    ),
    (
        r"WinError 206|filename or extension is too long|long path",
        "A path is longer than Windows allows. Move the checkout to a shorter folder, "
        "such as C:\\stiefel-lora, and run the same command again.",
    ),
    (
        r"ResolutionImpossible|conflicting dependencies|has requirement .+ but you",
        "Two packages need different versions of a third; see the lines below. If you "
        "edited pyproject.toml or constraints.txt, undo that; if torch comes from "
        "--torch-index, choose an address with a newer torch.",
    ),
    (
        r"\(from versions: none\)[\s\S]*No matching distribution found for ([^\s(]+)",
        "pip found no build of {found} for Python {python} on {platform}. Either "
        "there is none (run the script with another Python; 3.11 is tested), or the "
        "package server cannot be reached (check the network, and the address after "
        "--torch-index, if one was given).",
    ),
    (
        r"No matching distribution found for ([^\s(]+)",
        "There is no build of {found} for Python {python} on {platform}. Run the "
        "script with another Python (3.11 is tested); for torch, --torch-index with "
        "an address from PyTorch's 'Get Started' page may have one.",
    ),
    (
        r"requires a different Python",
        "A package does not support Python {python}. Run the script with another "
        "Python (3.11 is tested).",
    ),
    (
        r"Microsoft Visual C\+\+|error: command .*(gcc|cc|clang|cl\.exe)"
        r"|Failed (?:to build|building wheel)|Failed to build installable wheels"
        r"|metadata-generation-failed|subprocess-exited-with-error",
        "A package without a prebuilt wheel for Python {python} on {platform} could "
        "not be compiled. Run the script with another Python (3.11 is tested).",
    ),
    (
        r"MemoryError|\bKilled\b",
        "The machine ran out of memory. Close other programs and run the same "
        "command again.",
    ),
)
UNKNOWN = "pip failed for an unknown reason. The lines below are the end of its output."


def explain(output: str, *, python: str, platform: str, gigabytes: int) -> str:
    """Return the cause of a failed pip call and the fix.

    ``output`` is the complete output of pip, ``python`` a version such as "3.11",
    ``platform`` a description of the machine, ``gigabytes`` the disk space that the
    installation needs.
    """
    for pattern, text in CAUSES:
        found = re.search(pattern, output, flags=re.IGNORECASE)
        if found:
            return text.format(
                found=found[1] if found.lastindex else "",
                python=python,
                platform=platform,
                gigabytes=gigabytes,
            )
    return UNKNOWN
