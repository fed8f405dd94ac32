"""Take screenshots of an HTML page in a browser, light and dark.

    python scripts/render_page.py PAGE.html --into FOLDER

Needs Chromium or Chrome on the PATH (Debian: apt-get install chromium). Writes
PAGE-light.png and PAGE-dark.png.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Blink's numbers of the color schemes.
SCHEMES = {"light": 1, "dark": 0}


def main() -> int:
    """Take a screenshot in both schemes."""
    arguments = _parse()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(
            f"None of {', '.join(BROWSERS)} is on the PATH. Install Chromium.",
            file=sys.stderr,
        )
        return 2
    if not arguments.page.is_file():
        print(f"There is no file {arguments.page}.", file=sys.stderr)
        return 2
    arguments.into.mkdir(parents=True, exist_ok=True)
    for scheme, number in SCHEMES.items():
        image = arguments.into / f"{arguments.page.stem}-{scheme}.png"
        _draw(browser, arguments, image, number)
        if not image.is_file():
            print(f"{browser} did not write a screenshot.", file=sys.stderr)
            return 1
        print(image)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path)
    parser.add_argument("--into", type=Path, default=Path("."), metavar="FOLDER")
    parser.add_argument("--size", default="1240,1800", metavar="WIDTH,HEIGHT")
    return parser.parse_args()


def _draw(
    browser: str, arguments: argparse.Namespace, image: Path, scheme: int
) -> None:
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--window-size={arguments.size}",
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--screenshot={image.absolute()}",
            arguments.page.absolute().as_uri(),
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            # Chromium's sandbox refuses to work for root, as in containers.
            command.insert(1, "--no-sandbox")
        subprocess.run(command, check=False, capture_output=True, timeout=600)


if __name__ == "__main__":
    sys.exit(main())
