"""The estimate of activations against the memory that a real process takes.

On the demo's SDXL base, in a process of its own on the CPU in float32: how far the
resident memory rises while a batch of 48 goes forward and back. The estimate must be
within a factor of 1.25 of it, either way: the C library's heap, and the gradients that
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
from stiefel_lora.memory.unet_steps import unet_steps

DEMO = Path(__file__).parents[2] / "modules" / "stiefel_lora" / "demo" / "sdxl"
BATCH, SIDE, RANK, FACTOR = 48, 16, 16, 1.25

# Set, it keeps the C library from raising the size above which memory goes back to the
# system at once; what the process holds would else be a multiple of what is alive.
HEAP = {"MALLOC_TRIM_THRESHOLD_": "100000", "MALLOC_ARENA_MAX": "1"}
HEAP |= {"OMP_NUM_THREADS": "1"}

STEP = r"""
import json, os, sys, threading, time
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig

folder, checkpointing, batch = sys.argv[1:]

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

class Watch(threading.Thread):
    # The kernel's own maximum holds the loading too.
    peak, over = 0, False

    def run(self):
        while not self.over:
            self.peak = max(self.peak, resident())
            time.sleep(0.002)

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
before = resident()
watch = Watch()
watch.start()
step(int(batch))
watch.over = True
watch.join()
print(json.dumps(watch.peak - before))
"""


@pytest.mark.alone
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
        env={**os.environ, **HEAP},
        capture_output=True,
        text=True,
        check=True,
    )
    measured = json.loads(done.stdout.splitlines()[-1])
    steps = unet_steps(json.loads((DEMO / "unet" / "config.json").read_text()), SIDE)
    targets = {name: RANK for name in layers_of(steps) if "attentions" in name}
    kind = Kind(targets, BATCH, 4, checkpointing)
    ratio = activation_bytes(steps, kind) / measured
    print(f"checkpointing {checkpointing}: estimate / measured = {ratio:.2f}")
    assert 1 / FACTOR <= ratio <= FACTOR
