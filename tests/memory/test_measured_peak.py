"""The estimate of activations against the memory that a real process takes.

On the demo's SDXL base, in a process of its own on the CPU in float32: how far the
resident memory rises while a batch of 48 goes forward and back. The estimate must be
within a factor of 1.5 of it, either way: the C library's heap, and the gradients that
are under way at the peak, are in the one and not in the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stiefel_lora.memory.activations import Kind, activation_bytes
from stiefel_lora.memory.steps import layers_of
from stiefel_lora.memory.unet import unet_steps

DEMO = Path(__file__).parents[2] / "modules" / "stiefel_lora" / "demo" / "sdxl"
BATCH, SIDE, RANK, FACTOR = 48, 16, 16, 1.5

STEP = r"""
import json, re, sys
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig

folder, checkpointing, batch = sys.argv[1:]

def resident(what):
    status = open("/proc/self/status").read()
    return 1024 * int(re.search(what + r":\s+(\d+)", status)[1])

unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
unet.requires_grad_(False)
layers = [n for n, m in unet.named_modules()
          if isinstance(m, torch.nn.Linear) and "attentions" in n]
unet.add_adapter(LoraConfig(r=16, lora_alpha=16, target_modules=layers))
unet.train()
if checkpointing == "yes":
    unet.enable_gradient_checkpointing()
config = unet.config

def step(batch):
    width = config.projection_class_embeddings_input_dim
    ids = 6 * config.addition_time_embed_dim
    added = {"text_embeds": torch.randn(batch, width - ids),
             "time_ids": torch.zeros(batch, 6)}
    text = torch.randn(batch, 77, config.cross_attention_dim)
    noise = torch.randn(batch, 4, 16, 16)
    out = unet(noise, torch.ones(batch), encoder_hidden_states=text,
               added_cond_kwargs=added).sample
    out.pow(2).mean().backward()
    unet.zero_grad()

# What is made once is made now.
step(1)
before = resident("VmRSS")
# The largest resident memory begins anew.
open("/proc/self/clear_refs", "w").write("5")
step(int(batch))
print(json.dumps(resident("VmHWM") - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_process_grows_as_estimated(checkpointing: bool) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            STEP,
            DEMO,
            "yes" if checkpointing else "no",
            str(BATCH),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    measured = json.loads(done.stdout.splitlines()[-1])
    steps = unet_steps(json.loads((DEMO / "unet" / "config.json").read_text()), SIDE)
    targets = {name for name in layers_of(steps) if "attentions" in name}
    kind = Kind(targets, RANK, BATCH, 4, checkpointing)
    ratio = activation_bytes(steps, kind) / measured
    print(f"checkpointing {checkpointing}: estimate / measured = {ratio:.2f}")
    assert 1 / FACTOR <= ratio <= FACTOR
