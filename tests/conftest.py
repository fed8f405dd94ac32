"""Settings for every test: no network, no hub."""

from __future__ import annotations

import os

# Read by the hub's client at import, so it must be set before any test module loads.
os.environ["HF_HUB_OFFLINE"] = "1"
