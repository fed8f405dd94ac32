"""Make CLIP's merge rules, bundled in the package, from open_clip's vocabulary.

    pip download --no-deps open-clip-torch==3.3.0
    unzip open_clip_torch-3.3.0-py3-none-any.whl open_clip/bpe_simple_vocab_16e6.txt.gz
    python scripts/make_clip_merges.py open_clip/bpe_simple_vocab_16e6.txt.gz

Of its 262,144 rules CLIP uses the first 48,894; with 512 tokens for bytes and two marks
they give 49,408 tokens. The vocabulary itself follows from the rules
(stiefel_lora.checkpoints.supplied_parts.clip_vocabulary), so it is not stored.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

RULES = 49_408 - 2 * 256 - 2
FOLDER = Path(__file__).parents[1] / "modules" / "stiefel_lora" / "checkpoints"


def main() -> None:
    """Write ``clip_merges.txt.gz``: a line with the version, then one rule a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("vocabulary", type=Path)
    lines = gzip.decompress(parser.parse_args().vocabulary.read_bytes()).decode()
    rules = lines.split("\n")[1 : RULES + 1]
    text = "\n".join(["#version: 0.2", *rules, ""])
    # No time stamp and no name: the same input gives the same bytes.
    (FOLDER / "clip_merges.txt.gz").write_bytes(
        gzip.compress(text.encode(), 9, mtime=0)
    )


if __name__ == "__main__":
    main()
