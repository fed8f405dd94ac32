"""A tagger and a BLIP model of a few kilobytes, made without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)

__all__ = ["make_blip", "make_tagger"]

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


def make_blip(folder: Path) -> Path:
    """Write a BLIP model with random weights, the same at every call."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    words += [f"word{number}" for number in range(26)]
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(words) + "\n", encoding="utf-8")
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = BlipConfig(
        text_config={
            **sizes,
            "vocab_size": len(words),
            "encoder_hidden_size": 16,
            "bos_token_id": 5,
            "eos_token_id": 3,
            "sep_token_id": 3,
            "pad_token_id": 0,
            "max_position_embeddings": 64,
        },
        vision_config={**sizes, "image_size": 32, "patch_size": 16},
        projection_dim=16,
        image_text_hidden_size=16,
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = BlipForConditionalGeneration(config)
        # Small random weights would give the same text for every image.
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    tokenizer = BertTokenizerFast(
        vocab=str(vocabulary), vocab_file=str(vocabulary), bos_token="[DEC]"
    )
    BlipProcessor(BlipImageProcessor(size=size), tokenizer).save_pretrained(folder)
    return folder
