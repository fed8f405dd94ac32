#!/usr/bin/env sh
# Make .venv and install into it; arguments go to scripts/train_ui.py.
cd "$(dirname "$0")" || exit 1
if ! command -v python3 >/dev/null 2>&1; then
    echo "Python 3.10 or newer is needed and python3 was not found: install it first."
    exit 1
fi
exec python3 scripts/train_ui.py --install-only "$@"
