"""Why options of other trainers have no counterpart, to stand after "because"."""

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
    "DROPOUT",
    "FACTORS",
    "FAMILIES",
    "LOADER",
    "LOGS",
    "LOSSES",
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
AT_START = "samples are made before the first step wherever sample_every is set"
AUGMENTATION = (
    "images vary by enable_random_flip, enable_crop_jitter and random_..._max_strength "
    "of a concept alone"
)
BUCKETS = (
    "buckets have about as many pixels as resolution; bucket_step and max_aspect_ratio "
    "set their shapes"
)
CACHE = "the cache in cache_dir keeps itself up to date by the content of files"
CAPTIONS = "captions are learned as they stand in .txt files or metadata.jsonl"
CHECKPOINTS = (
    "checkpoints are written by checkpoint_every and kept by keep_checkpoints alone"
)
CLOUD = "nothing is uploaded, and runs stay on this machine"
CONDITIONS = "only images with captions are learned from, no videos, sounds or controls"
DEVICES = "a run uses one device"
DROPOUT = "the factors of a LoRA have no dropout"
FACTORS = "lora_alpha and lora_rank set the scale, and rank_pattern that of layers"
FAMILIES = f"model_type is {listed(family_names())}, and the files tell the rest"
LOADER = "images and captions are encoded ahead, so nothing loads them in parallel"
LOGS = "TensorBoard and events.jsonl are always written, and nothing else is"
LOSSES = (
    "the loss is set by mse_strength, mae_strength, huber_strength and loss_weight_fn "
    "alone"
)
METADATA = "the metadata of LoRA files is written from the settings of the run"
NOISE = "offset_noise_weight is the only change to the noise"
OFFLOADING = (
    "parts of a model are not moved to memory or disk while training; weight_dtype and "
    "gradient_checkpointing save memory on the GPU"
)
PRECISION = (
    "train_dtype and weight_dtype set the precision, and factors are moved in float32"
)
REGULARIZATION = "is_reg of a concept marks the images of another folder"
SAMPLER = "each family has one sampler, for samples that can be compared"
SCHEDULES = "schedules (constant, cosine, linear) end with steps and have no cycles"
SNAPSHOTS = "LoRA files are written at the end of a run and where it is asked to save"
SOURCES = "concepts are folders on the disk"
START = "a run starts from new factors; train CONFIG --resume continues a run"
TEXT_LAYERS = (
    "text encoders are read at the layer and length that the family was made for"
)
TIMESTEPS = (
    "timestep_distribution, noising_weight and noising_bias set how timesteps are drawn"
)
