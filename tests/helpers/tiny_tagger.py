"""A tagger of less than a kilobyte, with the files of the WD14 taggers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["make_tagger"]

# Name, category, and the channel (blue, green, red) whose mean decides, with its bias.
TAGS = (
    ("general", 9, 2, 128.0),
    ("red_thing", 0, 2, 128.0),
    ("blue_thing", 0, 0, 128.0),
    ("^_^", 0, 1, 128.0),
    ("some_hero", 4, 2, 220.0),
    ("highres", 5, 2, 128.0),
)


def make_tagger(folder: Path, *, side: int = 16, layout: str = "NHWC") -> Path:
    """Write a tagger with the files and shapes of the WD14 taggers.

    A probability is the sigmoid of (mean of the channel - bias) / 16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.zeros((3, len(TAGS)), np.float32)
    for place, (_, _, channel, _) in enumerate(TAGS):
        weights[channel, place] = 1 / 16
    bias = np.array([-row[3] / 16 for row in TAGS], np.float32)
    shape = ["N", side, side, 3] if layout == "NHWC" else ["N", 3, side, side]
    axes = [1, 2] if layout == "NHWC" else [2, 3]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=axes, keepdims=0),
        helper.make_node("Gemm", ["mean", "w", "b"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", len(TAGS)])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(
        helper.make_model(graph, opset_imports=opset, ir_version=8),
        str(folder / "model.onnx"),
    )
    rows = [f"{place},{row[0]},{row[1]},1" for place, row in enumerate(TAGS)]
    text = "\n".join(["tag_id,name,category,count", *rows])
    (folder / "selected_tags.csv").write_text(text + "\n", encoding="utf-8")
    return folder
