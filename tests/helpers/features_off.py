"""How to switch off each feature of docs/features.md: one line of code another way.

``Off(feature, file, present, absent, tests)``: in ``modules/stiefel_lora/<file>`` the
text ``present``, which stands there once, becomes ``absent``; each of ``tests`` must
then fail. ``feature`` is the first column of the page. Run by
tests/packaging/test_features_off.py.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["OFF", "Off"]


class Off(NamedTuple):
    """One feature, or one part of it, switched off."""

    feature: str
    file: str
    present: str
    absent: str
    tests: tuple[str, ...]

    @property
    def label(self) -> str:
        """For a reader; two of one file have the same."""
        return f"{self.feature} ({self.file})"


_DATA, _TRAINING = "tests/data/test_", "tests/training/test_"
_CAPTIONS = "caption dropout, shuffle, tag dropout"
_SHAPES = (
    f"{_TRAINING}varied_pictures.py::test_batches_have_masks_weights_and_all_shapes"
)
_VARIED = f"{_TRAINING}varied_pictures.py::test_each_setting_changes_what_is_learned"
_REACHES = f"{_TRAINING}objective.py::test_each_setting_reaches_the_run"
_RESUME = (
    f"{_TRAINING}stop_and_resume.py::"
    f"test_stopped_run_saves_says_how_to_go_on_and_ends_the_same"
)
_CUT = f"{_TRAINING}varied_pictures.py::test_a_run_cut_inside_a_pass_ends_the_same"
_AVERAGE = (
    f"{_TRAINING}averaging.py::"
    f"test_run_measures_and_writes_the_average_and_resumes_to_the_bit"
)

OFF = (
    Off(
        "window (GUI)",
        "ui/views/desk.py",
        "        window.examine()\n        if not",
        "        return\n        if not",
        ("tests/ui/window/test_demo_run.py::test_train_stop_resume_and_find_the_file",),
    ),
    Off(
        "presets",
        "config/presets.py",
        "return sorted(found, key=_place)",
        "return []",
        (
            "tests/config/test_presets.py::test_presets_whose_names_stay",
            "tests/test_cli.py::test_validate_a_preset_by_name",
        ),
    ),
    Off(
        "presets",
        "config/base_preset.py",
        "return {**inherited, **own}",
        "return own",
        ("tests/config/test_base_preset.py::test_only_the_difference_is_written",),
    ),
    Off(
        "LoRA inspect, resize, merge",
        "files/tools/inspection.py",
        "product_singular_values(up, down) * abs(factors.scale)",
        "product_singular_values(up, down)",
        ("tests/files/tools/test_inspection.py::test_numbers_of_a_known_spectrum",),
    ),
    Off(
        "LoRA inspect, resize, merge",
        "files/tools/resizing.py",
        "kept = min(rank, len(sigma))",
        "kept = len(sigma)",
        ("tests/files/tools/test_resizing.py::test_a_rank_is_the_dense_truncated_svd",),
    ),
    Off(
        "LoRA inspect, resize, merge",
        "files/tools/merging.py",
        "return weight * found[-1] if found else weight",
        "return found[-1] if found else 1.0",
        ("tests/files/tools/test_merging.py::test_exact_is_the_dense_weighted_sum",),
    ),
    Off(
        "job queue",
        "jobs/queue.py",
        "if device is None or row is None:",
        "if True:",
        ("tests/jobs/test_queue.py::test_an_attempt_is_settled_once",),
    ),
    Off(
        "job queue",
        "jobs/queue.py",
        "for job in self.jobs(JobState.RUNNING):",
        "for job in []:",
        ("tests/jobs/test_queue.py::test_a_job_whose_lock_is_free_is_dead",),
    ),
    Off(
        "sweeps over any setting",
        "jobs/sweep.py",
        "yield list(itertools.chain.from_iterable(points))",
        "yield []",
        ("tests/jobs/test_plan.py::test_a_sweep_reaches_every_field",),
    ),
    Off(
        "resume with full state",
        "training/snapshot.py",
        'machine.noise.restore(training["noise"])',
        "pass",
        (f"{_RESUME}[stop]",),
    ),
    Off(
        "resume with full state",
        "training/loop.py",
        "self.step, self._position = checkpoint.step, checkpoint.position",
        "self.step, self._position = checkpoint.step, 0",
        (f"{_CUT}[True]",),
    ),
    Off(
        "aspect-ratio buckets",
        "data/buckets.py",
        "(abs(math.log(s[0] / s[1]) - aspect), -s[0] * s[1])",
        "-s[0] * s[1]",
        (f"{_DATA}buckets.py::test_a_picture_goes_to_the_nearest_shape",),
    ),
    Off(
        "aspect-ratio buckets",
        "data/buckets.py",
        "enabled=config.aspect_ratio_bucketing",
        "enabled=False",
        (_SHAPES,),
    ),
    Off(
        _CAPTIONS,
        "data/caption_variants.py",
        "return rate > 0 and random",
        "return False and random",
        (
            f"{_DATA}variants.py::test_captions_are_dropped_as_often_as_asked",
            f"{_VARIED}[captions]",
        ),
    ),
    Off(
        _CAPTIONS,
        "data/encoded.py",
        "if is_dropped(picture, number):",
        "if False:",
        (f"{_VARIED}[captions]",),
    ),
    Off(
        _CAPTIONS,
        "data/caption_variants.py",
        "chance.shuffle(others)",
        "pass",
        (
            f"{_DATA}variants.py::test_shuffled_tags_come_in_every_order",
            f"{_VARIED}[shuffling]",
        ),
    ),
    Off(
        _CAPTIONS,
        "data/caption_variants.py",
        "kept += [tag for tag in others if not (rate and chance.random() < rate)]",
        "kept += others",
        (
            f"{_DATA}variants.py::test_tags_are_dropped_as_often_as_asked",
            f"{_VARIED}[tags]",
        ),
    ),
    Off(
        "masked training",
        "training/objective.py",
        "if mask is None:",
        "if True:",
        (
            f"{_TRAINING}objective.py::test_masks_weigh_what_is_outside_less",
            f"{_VARIED}[masks]",
        ),
    ),
    Off(
        "masked training",
        "data/prepare.py",
        "masked=config.masked_training",
        "masked=False",
        (_SHAPES,),
    ),
    Off(
        "EMA",
        "training/machine.py",
        "return self.evaluated() if average is None else average.applied()",
        "return self.evaluated()",
        (_AVERAGE,),
    ),
    Off(
        "EMA",
        "training/averaging.py",
        "if step % self._every:",
        "if True:",
        (_AVERAGE,),
    ),
    Off(
        "sample pictures",
        "training/monitor.py",
        "if not len(self._sampler):",
        "if True:",
        (f"{_TRAINING}train_run.py::test_grid_shows_samples_before_and_after",),
    ),
    Off(
        "validation loss",
        "training/monitor.py",
        "if self._validation is None:",
        "if True:",
        (f"{_TRAINING}train_run.py::test_held_out_loss_is_measured_first_and_last",),
    ),
    Off(
        "validation loss",
        "training/early_stop.py",
        "return self.watches and self._waited >= self._patience",
        "return False",
        (f"{_TRAINING}early_stop.py::test_run_ends_early_keeps_the_best_and_says_so",),
    ),
    Off(
        "TensorBoard",
        "training/run.py",
        "self.sink.add(TensorBoardSink(self.folder.tensorboard, resumed))",
        "pass",
        (f"{_TRAINING}train_run.py::test_tensorboard_can_be_read_back",),
    ),
    Off(
        "min-SNR",
        "training/level_weights.py",
        "return (gamma / ratio).clamp_max(1)",
        "return torch.ones_like(ratio)",
        (
            f"{_TRAINING}objective.py::"
            f"test_min_snr_has_its_own_form_for_each_prediction",
        ),
    ),
    Off(
        "min-SNR",
        "training/objective.py",
        "level_weight=LEVEL_WEIGHTS[config.loss_weight_fn]",
        "level_weight=constant",
        (f"{_REACHES}[loss_weight_fn]",),
    ),
    Off(
        "noise offset",
        "training/noise.py",
        "if self._offset_weight:",
        "if False:",
        (f"{_TRAINING}noise.py::test_offset_noise_is_one_number_a_channel",),
    ),
    Off(
        "noise offset",
        "training/noise.py",
        "config.offset_noise_weight,",
        "0.0,",
        (f"{_REACHES}[offset_noise_weight]",),
    ),
    Off(
        "timestep distribution",
        "training/timesteps.py",
        "DISTRIBUTIONS[self.distribution]",
        'DISTRIBUTIONS["uniform"]',
        (f"{_TRAINING}noise.py::test_distributions_have_their_quantiles",),
    ),
    Off(
        "timestep distribution",
        "training/timesteps.py",
        "distribution=config.resolved_timestep_distribution",
        'distribution="uniform"',
        (f"{_REACHES}[timestep_distribution]",),
    ),
    Off(
        "latents and text cached",
        "data/encoder.py",
        "if not self._store.holds(key):",
        "if True:",
        (
            f"{_TRAINING}settings_reach_the_blocks.py::"
            f"test_a_second_run_encodes_no_picture_and_no_caption",
        ),
    ),
    Off(
        "latents and text cached",
        "data/encoder.py",
        "if not store.holds(key):",
        "if True:",
        (
            f"{_TRAINING}settings_reach_the_blocks.py::"
            f"test_a_second_run_encodes_no_picture_and_no_caption",
        ),
    ),
    Off(
        "gradient checkpointing",
        "training/assemble.py",
        "family.set_gradient_checkpointing(config.gradient_checkpointing)",
        "family.set_gradient_checkpointing(False)",
        (
            f"{_TRAINING}settings_reach_the_blocks.py::"
            f"test_gradient_checkpointing_computes_blocks_twice",
        ),
    ),
    Off(
        "quantised base",
        "families/__init__.py",
        "if config.weight_dtype != config.plain_weight_dtype:",
        "if False:",
        (
            f"{_TRAINING}quantised.py::test_base_stays_and_factors_move",
            f"{_TRAINING}quantised.py::test_layers_hold_a_quarter_of_the_bytes",
        ),
    ),
    Off(
        "SDPA, flash, xformers",
        "training/attention.py",
        "if importlib.util.find_spec(package) is None:",
        "if False:",
        (
            f"{_TRAINING}attention_and_compile.py::"
            f"test_xformers_that_is_not_there_is_said_before_anything_is_loaded",
        ),
    ),
    Off(
        "text encoders trained",
        "training/components.py",
        "if not targets:\n        return denoiser",
        "if True:\n        return denoiser",
        (
            f"{_TRAINING}text_encoders.py::"
            f"test_files_hold_the_encoders_under_the_names_of_all_tools",
        ),
    ),
    Off(
        "text encoders trained",
        "training/components.py",
        '"lr": rates.get(part, rate)',
        '"lr": rate',
        (
            f"{_TRAINING}text_encoders.py::test_groups_have_rates_and_names_of_their_own",
        ),
    ),
    Off(
        "DoRA",
        "training/assemble.py",
        "use_dora=config.use_dora",
        "use_dora=False",
        (
            f"{_TRAINING}dora_run.py::test_a_stock_pipeline_shows_the_trainers_own_picture",
        ),
    ),
    Off(
        "optimizers by import path",
        "training/components.py",
        "kind = config.optimizer.load()",
        "kind = torch.optim.AdamW",
        (f"{_TRAINING}every_method.py::test_so_does_any_optimizer_by_its_class",),
    ),
    Off(
        "LoRA+",
        "optim/lora_plus.py",
        '"up": group["lr_ratio"]',
        '"up": 1.0',
        (
            "tests/optim/test_field_methods.py::"
            "test_lora_plus_moves_b_that_many_times_as_far",
        ),
    ),
    Off(
        "effective rank, spectrum",
        "training/monitor.py",
        'self._sink.scalars("ranks", step, report.scalars())',
        "pass",
        (f"{_TRAINING}train_run.py::test_every_block_has_its_ranks",),
    ),
    Off(
        "effective rank, spectrum",
        "geometry/spectrum.py",
        "effective=torch.where(alive, entropy.exp(), 0.0)",
        "effective=torch.where(alive, stable, 0.0)",
        ("tests/geometry/test_spectrum.py::test_known_spectra",),
    ),
    Off(
        "metadata for other programs",
        "files/metadata.py",
        "**network_metadata(family, rank, alpha),",
        "",
        ("tests/files/test_metadata.py::test_what_sd_scripts_and_a1111_read",),
    ),
    Off(
        "metadata for other programs",
        "files/metadata.py",
        '"modelspec.title": title,',
        "",
        ("tests/files/test_metadata.py::test_modelspec",),
    ),
    Off(
        "metadata for other programs",
        "training/output.py",
        "more=notes",
        "more={}",
        (
            f"{_TRAINING}run_notes.py::"
            f"test_files_tell_of_folders_buckets_tags_and_settings",
        ),
    ),
    Off(
        "memory estimate before a run",
        "memory/activations.py",
        "return kind.batch * (total + largest)",
        "return 1",
        ("tests/memory/test_measured_peak.py::test_a_process_grows_as_estimated",),
    ),
    Off(
        "memory estimate before a run",
        "_commands/validate.py",
        "    _show_memory(found.memory)\n",
        "",
        (f"{_TRAINING}preflight.py::test_the_command",),
    ),
)
