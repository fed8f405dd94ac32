"""Sphinx settings; built with warnings as errors by scripts/run_tests.py."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "modules"), str(Path(__file__).parent / "_ext")]

from stiefel_lora import __version__  # noqa: E402

project = "stiefel-lora"
author = "The stiefel-lora authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.doctest", "sphinx.ext.mathjax", "tables"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"stiefel-lora {release}"
