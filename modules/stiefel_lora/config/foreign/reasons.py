"""Reasons why options of other trainers have no counterpart, to follow "because"."""

from __future__ import annotations

from ...families.catalogue import family_names, listed

__all__ = [
    "ADAPTERS",
    "AT_START",
    "AUGMENTATION",
    "BUCKETS",
    "CACHE",
    "CAPTIONS",
    "CHECKPOINTS",
    "CLOUD",
    "CONDITIONS",
    "DEVICES",
    "FACTORS",
    "FAMILIES",
    "FUSED_LAYERS",
    "LOADER",
    "LOGS",
    "LOSSES",
    "MASKS",
    "MERGED",
    "METADATA",
    "NOISE",
    "OFFLOADING",
    "PRECISION",
    "REGULARIZATION",
    "SAMPLER",
    "SCHEDULES",
    "SNAPSHOTS",
    "SOURCES",
    "START",
    "TEXT_LAYERS",
    "TIMESTEPS",
]

ADAPTERS = "LoRA and DoRA (use_dora) are the only adapters"
AT_START = "samples are generated before the first step whenever sample_every is set"
AUGMENTATION = (
    "only enable_random_flip, enable_crop_jitter and random_..._max_strength of a "
    "concept vary images"
)
BUCKETS = (
    "buckets have about as many pixels as resolution; bucket_step and max_aspect_ratio "
    "set their shapes"
)
CACHE = "the cache in cache_dir is updated automatically when files change"
CAPTIONS = (
    "captions are read from text files or metadata.jsonl, and trigger_word is prepended"
)
CHECKPOINTS = (
    "checkpoints are written every checkpoint_every and limited by keep_checkpoints"
)
CLOUD = "nothing is uploaded, and runs stay on this machine"
CONDITIONS = "training uses captioned images only, no video, audio or control inputs"
DEVICES = "a run uses one device"
FACTORS = "lora_alpha and lora_rank set the scale, and rank_pattern that of layers"
FAMILIES = (
    f"model_type must be {listed(family_names())}, and the variant is detected from "
    "the model files"
)
FUSED_LAYERS = (
    "q, k and v of a block of FLUX (and the first layer of the MLP of single blocks) "
    "share one A there, and have one each here"
)
LOADER = "images and captions are encoded in advance, so there is no parallel loading"
LOGS = "logs are only written to events.jsonl and the trackers"
LOSSES = (
    "the loss is set only by mse_strength, mae_strength, huber_strength and "
    "loss_weight_fn"
)
MASKS = (
    "masks (masked_training) are files beside the images: copy that of cat.png to "
    "cat-masklabel.png"
)
MERGED = (
    "a LoRA is merged into the base model in advance, with stiefel-lora lora merge "
    "FILE --into MODEL (docs/questions/existing-lora.md)"
)
METADATA = "the metadata of LoRA files is written from the settings of the run"
NOISE = (
    "the noise is only changed by offset_noise_weight, multires_noise_iterations, "
    "perturbation_noise_weight and ip_noise_gamma"
)
OFFLOADING = (
    "parts of a model are not offloaded to RAM or disk while training; weight_dtype "
    "and gradient_checkpointing save memory on the GPU"
)
PRECISION = (
    "train_dtype and weight_dtype set the precision, and the LoRA is updated in float32"
)
REGULARIZATION = "is_reg of a concept marks the images of another folder"
SAMPLER = (
    "samples use the sampler of the base model, or sampler of a sample by its name in "
    "ComfyUI"
)
SCHEDULES = (
    "learning_rate_scheduler has constant, linear, cosine, cosine_with_restarts, "
    "polynomial and rex, which end with the run"
)
SNAPSHOTS = "LoRA files are written every save_every, at the end and on request"
SOURCES = "concepts are folders on the disk"
START = "lora_model_name starts from LoRA files; train CONFIG --resume resumes a run"
TEXT_LAYERS = (
    "text encoders have the attention mask and length that the family was trained with"
)
TIMESTEPS = (
    "timestep_distribution, noising_weight and noising_bias set how timesteps are drawn"
)
