"""Check that a command writes or reports everything that its input files contain."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..._exceptions import OutputError
from ..kohya_names import fusing_of
from .layer_names import canonical_key
from .lora_file import LoraFile

__all__ = ["check_all_written"]


def check_all_written(
    inputs: Iterable[LoraFile], output: LoraFile, reported: Collection[str] = ()
) -> None:
    """Check that no layer and no tensor of another adapter is lost.

    Tensors that are not part of an adapter are reported for all inputs.

    Args:
        inputs: files that were read.
        output: file that will be written. q, k and v can be fused or separate.
        reported: keys of layers and tensors that were converted, or whose omission was
            requested or is reported.

    Raises:
        OutputError: If a layer or a tensor of an input would be lost.
    """
    layers = _whole_layers(output)
    tensors = {key for other in output.others for key in other.tensors}
    for given in inputs:
        own = _whole_layers(given)
        lost = [
            key
            for key, parts in own.items()
            if key not in layers and not parts <= set(reported)
        ]
        kept = tensors | set(reported)
        lost += [k for other in given.others for k in other.tensors if k not in kept]
        if lost:
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise OutputError(
                f"{given.path}: {lost[0]}{more} would be lost in the output, so "
                "nothing was written. Use another key format, or remove the keys from "
                "the file."
            )


def _whole_layers(file: LoraFile) -> dict[str, set[str]]:
    """Return the keys of the layers by the key of the fused layer they belong to."""
    fusing = fusing_of(file.family)
    wholes = fusing.diffusers_paths() if fusing is not None else {}
    found: dict[str, set[str]] = {}
    for layer in file.layers:
        first, _, path = layer.name.partition(".")
        whole = wholes.get(path)
        key = layer.key if whole is None else canonical_key(f"{first}.{whole}")
        found.setdefault(key, set()).add(layer.key)
    return found
