#!/usr/bin/env sh
# Update the checkout and its environment.
cd "$(dirname "$0")" || exit 1
if ! command -v python3 >/dev/null 2>&1; then
    echo "Python 3.10 or newer is needed and python3 was not found: install it first."
    exit 1
fi
exec python3 scripts/update.py "$@"
