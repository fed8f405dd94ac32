"""Settings for every test: no network, no hub."""

from __future__ import annotations

import os

# Read by the hub's client at import, so it must be set before any test module loads.
os.environ["HF_HUB_OFFLINE"] = "1"

# Bit-for-bit comparisons: with several threads the order of sums depends on how memory
# happens to be aligned. Programs that tests start inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Read by Qt when an application is made.
os.environ["QT_QPA_PLATFORM"] = "offscreen"

from hypothesis import settings

from helpers.qt import missing_library

# A deadline would make a test depend on how busy the machine is. The examples are the
# same in every run, so that a failure in CI is one at home.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("house")

if not missing_library():
    pytest_plugins = ["pytestqt.plugin"]
