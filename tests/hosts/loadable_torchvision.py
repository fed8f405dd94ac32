"""Import this first where torchvision is a CUDA build and torch is not.

It then finds no operators of its own and ends the import; the hosts import it and use
none of them to train.
"""

from __future__ import annotations

import torch

if not torch.cuda.is_available():
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
