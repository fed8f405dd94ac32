"""How to switch off each feature of docs/features.md: one function changed.

``Off(feature, function, change, tests)``: the function, by its dotted name below
``stiefel_lora``, does as ``change`` describes; each of ``tests`` must then fail.
``feature`` is the first column of the page. A row holds no line of the source: a file
may be reworded or laid out differently, and only a function that is renamed or moved
needs another name here. Run by tests/packaging/test_features_off.py.
"""

from __future__ import annotations

from typing import NamedTuple

from .mutations import Call, Given, Mutation, Result, Returns, Value

__all__ = ["OFF", "Off"]


class Off(NamedTuple):
    """One feature, or one part of it, switched off."""

    feature: str
    function: str
    change: Mutation
    tests: tuple[str, ...]

    @property
    def label(self) -> str:
        """For a reader; two of one function have the same."""
        return f"{self.feature} ({self.function})"


_DATA, _TRAINING = "tests/data/test_", "tests/training/test_"
_IMPORTING = "tests/config/test_importing_"
_CAPTIONS = "caption dropout, shuffle, tag dropout"
_PREPARED = "images and captions prepared in the GUI"
_AS_TRAINED = "crops and captions shown as in training"
_AUTOMATIC = "automatic captions"
_BROWSER = "GUI in the browser"
_PAGES = "tests/ui/web/test_"
_HOSTILE = "tests/ui/web/test_hostile_requests.py::test_"
_CLIP = "tests/families/test_clip_settings.py::test_"
_PROMPTS = "tests/families/test_prompt_weights.py::test_"
_WEIGHTS = "weights in sample prompts"
_PRIOR = "masked prior preservation, prior prediction"
_BASE = f"{_TRAINING}prior_preservation.py::test_"
_RANGES = "validation loss by timesteps"
_FILES = f"{_DATA}image_formats.py::test_"
_FORMATS = "TIFF, GIF, AVIF, HEIC images"
_DROPPED = f"{_DATA}tag_dropout.py::test_"
_MODES = "tag dropout modes, special tags, random capitals"
_FIXED = f"{_DATA}fixed_augmentation.py::test_"
_BACKGROUND = "background of transparent images"
_MARKUP = "caption wildcards and separators"
_NUMBERED = "repeats in folder names (`10_cat`)"
_TAB = "tests/ui/window/test_data_tab.py::"
_SHAPES = (
    f"{_TRAINING}varied_pictures.py::test_batches_have_masks_weights_and_all_shapes"
)
_VARIED = f"{_TRAINING}varied_pictures.py::test_each_setting_changes_what_is_learned"
_REACHES = f"{_TRAINING}objective.py::test_each_setting_reaches_the_run"
_SAMPLING = f"{_TRAINING}lora_sampling.py::test_"
_SCHEDULE = f"{_TRAINING}schedule.py::"
_PACKAGED = "Prodigy, CAME, Lion, schedule-free and adv_optm by name"
_PACKAGED_TESTS = f"{_TRAINING}packaged_optimizers.py::"
_SAVED = "LoRA files during training, by steps, epochs or minutes"
_SAVED_TESTS = f"{_TRAINING}saved_files.py::"
_RATES = f"{_TRAINING}rate_pattern.py::"
_ZERO = "tests/families/test_zero_terminal_snr.py::"
_STOP = f"{_TRAINING}text_encoder_stop.py::"
_DROPOUT = f"{_TRAINING}lora_dropout.py::"
_NORMS = "tests/optim/test_product_norms.py::"
_NOISE = f"{_TRAINING}noise_changes.py::"
_RESUME = (
    f"{_TRAINING}stop_and_resume.py::"
    f"test_stopped_run_saves_explains_how_to_resume_and_ends_the_same"
)
_RUNS = "runs listed, plotted, compared and cleaned up without TensorBoard"
_RUNS_TESTS = "tests/runs/test_runs_command.py::"
_TRACKERS = "Weights & Biases and other trackers"
_TRACKERS_TESTS = f"{_TRAINING}trackers.py::"
_PROCESSES = f"{_TRAINING}several_processes.py::"
_CUT = f"{_TRAINING}varied_pictures.py::test_a_run_cut_inside_a_pass_ends_the_same"
_AVERAGE = (
    f"{_TRAINING}averaging.py::"
    f"test_run_measures_and_writes_the_average_and_resumes_to_the_bit"
)

OFF = (
    Off(
        "GUI",
        "ui.views.window.MainWindow.start",
        Returns(),
        ("tests/ui/window/test_demo_run.py::test_train_stop_resume_and_find_the_file",),
    ),
    Off(
        _BROWSER,
        "ui.web.pages.register_all",
        Returns(),
        (
            "tests/ui/web/test_web_start.py::"
            "test_the_first_page_is_there_without_a_redirect",
        ),
    ),
    Off(
        _BROWSER,
        "ui.web.security.Guard._check_token",
        Returns('""'),
        (f"{_HOSTILE}without_the_token",),
    ),
    Off(
        _BROWSER,
        "ui.web.access.Access.accepts_origin",
        Returns("True"),
        (f"{_HOSTILE}a_page_of_another_site",),
    ),
    Off(
        _BROWSER,
        "ui.web.access.Access.accepts_host",
        Returns("True"),
        (f"{_HOSTILE}another_host_name",),
    ),
    Off(
        _BROWSER,
        "ui.web.served_files.served_file",
        Returns("root / place"),
        (f"{_HOSTILE}paths_below_a_folder_of_images",),
    ),
    Off(
        _BROWSER,
        "ui.web.zip_upload._check_kind",
        Returns(),
        (f"{_HOSTILE}uploads",),
    ),
    Off(
        _BROWSER,
        "ui.web.lora_places._below",
        Returns("iter(folder.rglob('*'))"),
        (f"{_PAGES}lora_places.py::test_files_below_the_given_folders_are_listed",),
    ),
    Off(
        _BROWSER,
        "config.custom_code.check_custom_code",
        Returns(),
        ("tests/ui/web/test_custom_code.py::test_no_way_runs_code",),
    ),
    Off(
        "presets",
        "config.presets.list_presets",
        Returns("[]"),
        (
            "tests/config/test_presets.py::test_presets_whose_names_stay",
            "tests/test_cli.py::test_validate_a_preset_by_name",
        ),
    ),
    Off(
        "presets",
        "config.base_preset.with_base",
        Returns('{key: data[key] for key in data if key != "extends"}'),
        ("tests/config/test_base_preset.py::test_only_the_difference_is_written",),
    ),
    Off(
        "LoRA inspect, resize, merge",
        "files.tools.inspection._measured",
        Call("abs", "1.0"),
        ("tests/files/tools/test_inspection.py::test_numbers_of_a_known_spectrum",),
    ),
    Off(
        "LoRA inspect, resize, merge",
        "files.tools.resizing._truncated",
        Given("rank", "1 << 30"),
        ("tests/files/tools/test_resizing.py::test_a_rank_is_the_dense_truncated_svd",),
    ),
    Off(
        "LoRA inspect, resize, merge",
        "files.tools.merging._factor",
        Given("part", "dataclasses.replace(part, weight=1.0)"),
        ("tests/files/tools/test_merging.py::test_exact_is_the_dense_weighted_sum",),
    ),
    Off(
        "LoRA verify (files as other programs load them)",
        "files.tools.verifying._deviation",
        Returns("0.0"),
        (
            "tests/files/tools/test_verifying.py::"
            "test_the_deviation_is_that_of_the_updates",
        ),
    ),
    Off(
        "configurations of other trainers",
        "config.importing.key_walk.leaves",
        Returns("iter(())"),
        (
            f"{_IMPORTING}walk.py::test_a_key_without_a_rule_is_reported_and_matters",
            f"{_IMPORTING}sd_scripts.py::test_datasets_become_concepts",
            f"{_IMPORTING}onetrainer.py::test_concepts_and_samples_of_other_files",
            f"{_IMPORTING}ai_toolkit.py::test_a_usual_job_for_flux",
            "tests/test_import_command.py::test_strict_ends_with_2_if_training_differs",
        ),
    ),
    Off(
        _NUMBERED,
        "data.numbered_folders._parts_of",
        Returns('(None, "")'),
        tuple(
            f"{_DATA}numbered_folders.py::test_{name}"
            for name in (
                "each_subfolder_is_a_concept_with_its_repeats",
                "what_is_used_and_skipped_is_stated_once",
                "regularization_subfolders_are_used_as_often_as_the_others",
            )
        ),
    ),
    Off(
        _NUMBERED,
        "data.balance._shared",
        Returns("{}"),
        (
            f"{_DATA}numbered_folders.py::"
            "test_regularization_subfolders_are_used_as_often_as_the_others",
        ),
    ),
    Off(
        _NUMBERED,
        "config.importing.sd_data._numbered",
        Returns('took(f"{concept}.path", folder)'),
        (
            f"{_IMPORTING}sd_scripts.py::"
            "test_folders_with_repeats_in_their_names_stay_folders",
        ),
    ),
    Off(
        "clip skip",
        "families.unet.UNetFamily.__init__",
        Given("text_encoder_layer_skip", "0"),
        (
            f"{_CLIP}sd15_normalizes_an_earlier_layer[1]",
            f"{_CLIP}sdxl_skips_layers_of_each_encoder[1-0]",
            f"{_CLIP}caches_are_those_of_the_settings",
        ),
    ),
    Off(
        "clip skip",
        "training.export._clip_skip",
        Returns("None"),
        (
            f"{_TRAINING}run_notes.py::"
            "test_training_and_samples_use_the_same_layer_and_length[frozen]",
        ),
    ),
    Off(
        "clip skip",
        "config.importing.sd_training._clip_skip",
        Returns('left("is not supported")'),
        (f"{_IMPORTING}sd_scripts.py::test_layers_of_clip_are_counted_from_one",),
    ),
    Off(
        "several resolutions",
        "data.buckets.Buckets.sizes_for",
        Returns("(self.size_for(original),)"),
        (
            f"{_DATA}resolutions.py::test_uses_are_shared_equally",
            f"{_DATA}resolutions.py::test_each_image_is_used_equally_often_at_each",
            f"{_TRAINING}varied_pictures.py::"
            "test_images_of_several_resolutions_are_resumed_to_the_bit",
        ),
    ),
    Off(
        "several resolutions",
        "config.importing.onetrainer_data._override",
        Returns('left("is not supported")'),
        (f"{_IMPORTING}onetrainer.py::test_several_resolutions_are_lists",),
    ),
    Off(
        _MARKUP,
        "data.wildcards.with_choices",
        Returns("text"),
        (
            f"{_DATA}caption_markup.py::"
            "test_captions_are_those_of_sd_scripts_equally_often",
        ),
    ),
    Off(
        _MARKUP,
        "data.caption_variants._is_split",
        Returns("False"),
        (
            f"{_DATA}caption_markup.py::"
            "test_captions_are_those_of_sd_scripts_equally_often",
        ),
    ),
    Off(
        _MARKUP,
        "data.caption_variants.caption_at",
        Returns("image.caption"),
        (
            f"{_TRAINING}varied_pictures.py::"
            "test_a_run_with_wildcards_that_is_cut_ends_the_same[cached]",
        ),
    ),
    Off(
        _MARKUP,
        "config.importing.sd_data._separator",
        Returns('ignore("is not supported")'),
        (f"{_IMPORTING}sd_scripts.py::test_captions_keep_their_markup_and_extension",),
    ),
    Off(
        "caption extension",
        "data.captions.read_caption",
        Given("extension", "TEXT"),
        (
            f"{_DATA}caption_markup.py::test_captions_have_the_extension[.caption]",
            f"{_TAB}test_captions_of_another_extension_are_edited",
        ),
    ),
    Off(
        "captions of more than 75 tokens",
        "families.unet.UNetFamily.__init__",
        Given("max_token_length", "75"),
        (
            f"{_CLIP}sd15_joins_chunks_as_sd_scripts[long-150]",
            f"{_CLIP}sdxl_joins_chunks_of_both_encoders[long]",
        ),
    ),
    Off(
        "captions of more than 75 tokens",
        "data.long_captions.long_captions",
        Returns("LongCaptions(limit, {})"),
        (
            f"{_DATA}long_captions.py::test_the_commands_name_the_files[scan]",
            f"{_DATA}long_captions.py::test_the_commands_name_the_files[validate]",
        ),
    ),
    Off(
        _WEIGHTS,
        "_prompt_weights.parse_weights",
        Returns("WeightedPrompt(((prompt, 1.0),))"),
        (f"{_PROMPTS}prompts_are_parsed_as_in_a1111[a (red) cat]",),
    ),
    Off(
        _WEIGHTS,
        "training.samples.Sampler._read",
        Returns("text"),
        (f"{_PROMPTS}samples_use_weights_if_they_are_on[frozen]",),
    ),
    Off(
        _WEIGHTS,
        "families.prompt_weighting.weighted_states",
        Returns("states"),
        (
            f"{_PROMPTS}the_states_of_words_are_scaled[75]",
            f"{_PROMPTS}the_states_of_words_are_scaled[150]",
        ),
    ),
    Off(
        "weights in captions",
        "data.plan.Plan.encoded_as",
        Returns("caption"),
        (f"{_PROMPTS}captions_have_weights_if_they_are_on",),
    ),
    Off(
        "weights in captions",
        "families.prompt_weighting.weighted_states",
        Given("keeps_mean", "True"),
        (f"{_PROMPTS}captions_have_weights_if_they_are_on",),
    ),
    Off(
        _WEIGHTS,
        "config.checks._weights_that_are_text",
        Returns("()"),
        (f"{_PROMPTS}weights_that_are_text_are_noted_once",),
    ),
    Off(
        _WEIGHTS,
        "config.importing.sample_files._has_brackets",
        Returns("False"),
        (f"{_IMPORTING}sd_scripts.py::test_prompts_with_weights_switch_them_on",),
    ),
    Off(
        _PRIOR,
        "adapters.without_lora.without_lora",
        Value("layer._disable_adapters", "layer.other"),
        (
            f"{_BASE}target_and_gradient_are_those_of_a_base_model_beside[lora]",
            f"{_BASE}target_and_gradient_are_those_of_a_base_model_beside[dora]",
            f"{_BASE}target_and_gradient_are_those_of_a_base_model_beside[flux]",
        ),
    ),
    Off(
        _PRIOR,
        "training.loss.denoising_loss.Objective.losses",
        Value("self.prior_weight", "0"),
        (
            f"{_BASE}the_loss_outside_is_that_of_onetrainer[mse-False]",
            f"{_BASE}the_loss_outside_is_that_of_onetrainer[mae-True]",
        ),
    ),
    Off(
        _PRIOR,
        "training.loss.denoising_loss.Objective.losses",
        Given("base", "None"),
        (f"{_BASE}images_with_a_prior_have_another_target",),
    ),
    Off(
        _PRIOR,
        "config.importing.onetrainer_data._type",
        Returns('left("is not supported")'),
        (f"{_IMPORTING}onetrainer.py::test_prior_preservation_is_taken_over",),
    ),
    Off(
        _RANGES,
        "training.validation.Validation._edges",
        Returns("[]"),
        (
            f"{_TRAINING}validation.py::"
            "test_ranges_of_timesteps_add_up_to_the_loss[4-edges2]",
        ),
    ),
    Off(
        _RANGES,
        "training.logging.monitor.Monitor.validate",
        Value("self._validation.by_timesteps", "{}"),
        (f"{_TRAINING}train_run.py::test_the_validation_loss_is_logged_by_timesteps",),
    ),
    Off(
        _RANGES,
        "metrics.tags.bin_of_tag",
        Returns(),
        (
            "tests/ui/window/test_run_tab.py::"
            "test_the_loss_of_each_range_is_below_the_plot",
        ),
    ),
    Off(
        _FORMATS,
        "data.image_formats.is_image_name",
        Returns('path.suffix in (".png", ".jpg")'),
        (
            f"{_FILES}formats_are_found_and_show_the_same_colors[tiff]",
            f"{_FILES}formats_are_found_and_show_the_same_colors[gif]",
        ),
    ),
    Off(
        _FORMATS,
        "data.image_crop._opaque",
        Call("to_gray", "image"),
        (f"{_FILES}gray_tiffs_of_16_bits_are_scaled[257]",),
    ),
    Off(
        _FORMATS,
        "data.frames.has_frames",
        Returns("False"),
        (f"{_FILES}the_first_frame_is_used_and_stated[a.webp]",),
    ),
    Off(
        _FORMATS,
        "data.image_formats.missing_package",
        Returns("''"),
        (f"{_FILES}heic_files_are_counted_without_their_package",),
    ),
    Off(
        _FORMATS,
        "data.sizes._size_by_pillow",
        Call("getattr", "None"),
        (f"{_FILES}rotated_images_are_upright[a.tif]",),
    ),
    Off(
        _MODES,
        "data.tag_dropout.remaining_tags",
        Value("concept.tag_dropout_mode", "'RANDOM'"),
        (f"{_DROPPED}tags_are_weighted_by_their_place_in_the_caption",),
    ),
    Off(
        _MODES,
        "data.tag_dropout._is_safe",
        Returns("False"),
        (f"{_DROPPED}special_tags_stay_or_are_the_only_ones_that_go[RANDOM]",),
    ),
    Off(
        _MODES,
        "data.tag_dropout.capitalized",
        Returns("tag"),
        (f"{_DROPPED}capitals_of_each_kind",),
    ),
    Off(
        _MODES,
        "config.importing.onetrainer_data._specials",
        Returns("{}"),
        (
            f"{_IMPORTING}onetrainer.py::"
            "test_tags_capitals_and_fixed_augmentation_are_those_of_the_concept",
        ),
    ),
    Off(
        "fixed flip and colors",
        "data.augmentation._fixed",
        Returns("(False,) * 5"),
        (f"{_FIXED}fixed_changes_are_the_same_at_every_use",),
    ),
    Off(
        _BACKGROUND,
        "data.plan.plan_of",
        Value("config.alpha_background", "WHITE"),
        (f"{_FIXED}transparent_areas_get_the_background[#000000-clear1-half1]",),
    ),
    Off(
        _BACKGROUND,
        "data.encoder.Encoder._image_key",
        Value("background", "WHITE"),
        (f"{_FIXED}a_background_has_its_own_cache",),
    ),
    Off(
        "job queue",
        "jobs.queue.Queue.claim",
        Returns(),
        ("tests/jobs/test_queue.py::test_an_attempt_is_settled_once",),
    ),
    Off(
        "job queue",
        "jobs.queue.Queue.reap_dead_jobs",
        Returns("[]"),
        ("tests/jobs/test_queue.py::test_a_job_whose_lock_is_free_is_dead",),
    ),
    Off(
        "sweeps over any setting",
        "jobs.sweep.combinations",
        Result("[]"),
        ("tests/jobs/test_plan.py::test_a_sweep_reaches_every_field",),
    ),
    Off(
        _TRACKERS,
        "training.logging.tracker_sink.TrackerSink._use",
        Returns(),
        (f"{_TRACKERS_TESTS}test_settings_curves_images_and_the_lora_are_logged",),
    ),
    Off(
        _TRACKERS,
        "training.logging.tracker_sink.check_trackers",
        Returns(),
        (f"{_TRACKERS_TESTS}test_a_missing_package_is_named_before_anything_else",),
    ),
    Off(
        _TRACKERS,
        "training.trainer.Run._add",
        Value("self.config.all_block_charts", "False"),
        (f"{_TRACKERS_TESTS}test_all_charts_of_blocks_are_logged_on_request",),
    ),
    Off(
        _RUNS,
        "runs.run_summary.RunSummary.state",
        Returns("'finished'"),
        (f"{_RUNS_TESTS}test_the_list_has_settings_results_and_the_end",),
    ),
    Off(
        _RUNS,
        "runs.run_summary.RunSummary.curve",
        Returns("[]"),
        (f"{_RUNS_TESTS}test_the_curves_of_a_run_are_those_of_its_events",),
    ),
    Off(
        _RUNS,
        "_commands.runs._comparison",
        Given("runs", "runs[:1]"),
        (f"{_RUNS_TESTS}test_differences_and_results_are_side_by_side",),
    ),
    Off(
        _RUNS,
        "_commands.runs.clean",
        Given("yes", "True"),
        (f"{_RUNS_TESTS}test_nothing_is_deleted_without_being_asked",),
    ),
    Off(
        "several GPUs",
        "training.distributed.Processes.average_gradients",
        Returns(),
        (f"{_PROCESSES}test_the_first_gradient_images_noise_and_timesteps_are_equal",),
    ),
    Off(
        "several GPUs",
        "data.prepare.fill_cache",
        Returns(),
        (
            f"{_PROCESSES}test_images_are_encoded_once_and_one_process_writes_and_prints",
        ),
    ),
    Off(
        "several GPUs",
        "training.loop.Loop._save_alone",
        Returns("ProcessLost('')"),
        (f"{_PROCESSES}test_a_killed_process_leaves_a_checkpoint_of_the_last_step[1]",),
    ),
    Off(
        "several GPUs",
        "training.process_check.ProcessCheck.compare",
        Returns(),
        (f"{_PROCESSES}test_factors_that_differ_in_a_bit_end_the_run",),
    ),
    Off(
        "several GPUs",
        "training.sharding.shard_base",
        Returns(),
        (
            f"{_TRAINING}sharding.py::"
            "test_each_process_holds_half_of_each_weight_and_all_factors",
        ),
    ),
    Off(
        "resume with full state",
        "training.checkpointing.snapshot.restore",
        Call("noise.restore"),
        (f"{_RESUME}[stop]",),
    ),
    Off(
        "resume with full state",
        "training.loop.Loop.restore",
        Value("checkpoint.position", "0"),
        (f"{_CUT}[True]",),
    ),
    Off(
        "aspect-ratio buckets",
        "data.buckets.Buckets.size_for",
        Call("abs", "0.0"),
        (f"{_DATA}buckets.py::test_an_image_goes_to_the_nearest_shape",),
    ),
    Off(
        "aspect-ratio buckets",
        "data.buckets.buckets_of",
        Value("config.aspect_ratio_bucketing", "False"),
        (_SHAPES,),
    ),
    Off(
        _PREPARED,
        "ui.views.folder_watcher.FolderWatcher.watch",
        Returns(),
        (f"{_TAB}test_files_that_appear_change_and_vanish_are_followed",),
    ),
    Off(
        _PREPARED,
        "ui.views.thumbnails.ThumbnailModel.problem_of",
        Returns(),
        (f"{_TAB}test_problems_are_shown_at_the_image_with_their_reason",),
    ),
    Off(
        _PREPARED,
        "data.caption_files.undo_changes",
        Call("_put_back"),
        (f"{_TAB}test_many_captions_are_edited_and_undone",),
    ),
    Off(
        _PREPARED,
        "data.caption_edits.tag_counts",
        Returns("{}"),
        (f"{_TAB}test_tags_are_counted_searched_renamed_and_removed",),
    ),
    Off(
        _PREPARED,
        "ui.controllers.concept_list.add_folders",
        Returns("[]"),
        (f"{_TAB}test_dropped_folders_are_added_and_shown",),
    ),
    Off(
        _PREPARED,
        "ui.controllers.image_selection.ImageSelection.among",
        Returns("[]"),
        ("tests/ui/test_image_selection.py::test_images_are_added_and_removed",),
    ),
    Off(
        "epochs, intervals in epochs or minutes",
        "config.epochs._steps",
        Result("result + 1"),
        (
            f"{_TRAINING}epochs_and_minutes.py::"
            f"test_a_run_in_epochs_equals_the_run_of_its_steps",
        ),
    ),
    Off(
        "trigger word",
        "config.trigger.with_trigger",
        Result("text"),
        (
            f"{_DATA}trigger_word.py::"
            f"test_images_of_training_and_validation_get_it_but_not_regularization",
            f"{_DATA}trigger_word.py::"
            f"test_prompts_get_it_and_negative_prompts_only_for_the_placeholder",
        ),
    ),
    Off(
        "folders switched off",
        "data.folder.scan_with_problems",
        Value("concept.enabled", "True"),
        (
            f"{_DATA}disabled_folders.py::"
            f"test_a_disabled_folder_is_neither_read_nor_missed",
        ),
    ),
    Off(
        "folders switched off",
        "ui.controllers.concept_list.set_enabled",
        Returns(),
        (f"{_TAB}test_a_folder_is_switched_off_and_on",),
    ),
    Off(
        _AS_TRAINED,
        "ui.controllers.training_preview.plan_in",
        Given("training", "False"),
        (
            f"{_DATA}training_preview.py::test_previews_are_what_training_uses",
            f"{_TAB}test_the_image_and_its_captions_are_shown_as_in_training",
        ),
    ),
    Off(
        _AS_TRAINED,
        "ui.views.survey_page.SurveyPage._load_crop",
        Returns('Loaded(QImage(), "")'),
        (f"{_TAB}test_the_crops_of_a_bucket_are_shown",),
    ),
    Off(
        _AS_TRAINED,
        "ui.web.crops.Crop.decode",
        Returns('Image.new("RGBA", (64, 64))'),
        (f"{_PAGES}crops.py::test_the_pixels_are_those_of_training",),
    ),
    Off(
        _AUTOMATIC,
        "captioning.wd_tagger.tagger_input",
        Result("result[..., ::-1].copy()"),
        (
            f"{_DATA}captioning.py::"
            f"test_channels_range_padding_and_categories_are_those_of_the_taggers",
        ),
    ),
    Off(
        _AUTOMATIC,
        "captioning.blip_captioner.BlipCaptioner.caption",
        Returns('""'),
        (f"{_DATA}captioning.py::test_blip_describes_an_image_always_the_same",),
    ),
    Off(
        _AUTOMATIC,
        "captioning.caption_folder.caption_folder",
        Given("overwrite", "True"),
        (f"{_DATA}captioning.py::test_existing_captions_are_kept_unless_overwritten",),
    ),
    Off(
        _AUTOMATIC,
        "ui.controllers.auto_captions.WrittenCaptions.record",
        Call("record_changes", "0"),
        (
            f"{_TAB}test_captions_are_written_by_a_model_and_undone",
            f"{_PAGES}caption_process.py::test_captions_are_written_and_undone",
        ),
    ),
    Off(
        _AUTOMATIC,
        "ui.web.caption_process.usable_model",
        Returns("text"),
        (f"{_PAGES}caption_process.py::test_models_of_other_folders_are_refused",),
    ),
    Off(
        _CAPTIONS,
        "data.caption_variants.is_dropped",
        Returns("False"),
        (
            f"{_DATA}caption_variants.py::test_captions_are_dropped_as_often_as_asked",
            f"{_VARIED}[captions]",
        ),
    ),
    Off(
        _CAPTIONS,
        "data.plan.Plan.caption",
        Call("is_dropped", "False"),
        (f"{_VARIED}[captions]",),
    ),
    Off(
        _CAPTIONS,
        "data.caption_variants._tags",
        Call("shuffle"),
        (
            f"{_DATA}caption_variants.py::test_shuffled_tags_come_in_every_order",
            f"{_VARIED}[shuffling]",
        ),
    ),
    Off(
        _CAPTIONS,
        "data.tag_dropout.remaining_tags",
        Value("concept.tag_dropout_probability", "0"),
        (
            f"{_DATA}caption_variants.py::test_tags_are_dropped_as_often_as_asked",
            f"{_VARIED}[tags]",
        ),
    ),
    Off(
        "masked training",
        "training.loss.denoising_loss.Objective._masked",
        Given("mask", "None"),
        (
            f"{_TRAINING}objective.py::test_masks_weigh_what_is_outside_less",
            f"{_VARIED}[masks]",
        ),
    ),
    Off(
        "masked training",
        "data.plan.plan_of",
        Value("config.masked_training", "False"),
        (_SHAPES,),
    ),
    Off(
        "EMA",
        "training.state.TrainingState.averaged",
        Returns("self.evaluated()"),
        (_AVERAGE,),
    ),
    Off(
        "EMA",
        "training.ema.MovingAverage.update",
        Returns(),
        (_AVERAGE,),
    ),
    Off(
        "samples",
        "training.logging.monitor.Monitor.sample",
        Returns(),
        (f"{_TRAINING}train_run.py::test_grid_shows_samples_before_and_after",),
    ),
    Off(
        "samplers by name",
        "families.samplers.with_sampler",
        Given("name", "None"),
        (f"{_SAMPLING}the_own_sampler_of_the_model_is_the_default",),
    ),
    Off(
        "images from LoRA files without training",
        "training.lora_sampling._add",
        Returns(),
        (
            f"{_SAMPLING}images_are_those_of_the_training",
            f"{_SAMPLING}a_grid_of_files_and_weights",
        ),
    ),
    Off(
        "images from LoRA files without training",
        "training.lora_reading._weights_of",
        Given("weights", "[1.0 for _ in weights]"),
        (f"{_SAMPLING}files_together_are_their_sum",),
    ),
    Off(
        "settings in samples for A1111 and Forge",
        "training.png_parameters.png_parameters",
        Returns('""'),
        (f"{_SAMPLING}settings_are_stored_as_forge_reads_them",),
    ),
    Off(
        "validation loss",
        "training.logging.monitor.Monitor.validate",
        Returns(),
        (f"{_TRAINING}train_run.py::test_validation_loss_is_measured_first_and_last",),
    ),
    Off(
        "validation split",
        "data.split._part",
        Returns("scan"),
        (f"{_DATA}split.py::test_a_share_of_each_concept_is_set_aside_and_reported",),
    ),
    Off(
        "validation loss",
        "training.early_stop.EarlyStop.wanted",
        Returns("False"),
        (
            f"{_TRAINING}early_stop.py::test_run_ends_early_keeps_the_best_and_reports_it",
        ),
    ),
    Off(
        "TensorBoard",
        "training.trainer.Run._add",
        Call("sink.add"),
        (f"{_TRAINING}train_run.py::test_tensorboard_can_be_read_back",),
    ),
    Off(
        "min-SNR",
        "training.loss.level_weights.min_snr_gamma",
        Returns("torch.ones_like(ratio)"),
        (
            f"{_TRAINING}objective.py::"
            f"test_min_snr_has_its_own_form_for_each_prediction",
        ),
    ),
    Off(
        "min-SNR",
        "training.loss.denoising_loss.make_objective",
        Value("config.loss_weight_fn", "'constant'"),
        (f"{_REACHES}[loss_weight_fn]",),
    ),
    Off(
        "noise offset",
        "training.loss.noise.NoiseSource.draw",
        Value("settings.offset_weight", "0.0"),
        (f"{_TRAINING}noise.py::test_offset_noise_is_one_number_a_channel",),
    ),
    Off(
        "noise offset",
        "training.loss.noise.make_noise_source",
        Value("config.offset_noise_weight", "0.0"),
        (f"{_REACHES}[offset_noise_weight]",),
    ),
    Off(
        "adaptive and random offset",
        "training.loss.noise.NoiseSource._offset_strength",
        Value("self._settings.adaptive_scale", "0.0"),
        (f"{_NOISE}test_the_offset_depends_on_the_mean_of_each_channel",),
    ),
    Off(
        "adaptive and random offset",
        "training.loss.noise.NoiseSource._offset_strength",
        Value("self._settings.offset_random_strength", "False"),
        (f"{_NOISE}test_a_random_strength_is_one_number_a_batch",),
    ),
    Off(
        "multires noise",
        "training.loss.noise.NoiseSource._with_coarse_noise",
        Returns("noise"),
        (f"{_NOISE}test_multires_noise_is_a_normalized_sum_of_resolutions",),
    ),
    Off(
        "multires noise",
        "training.loss.noise.make_noise_source",
        Value("config.multires_noise_iterations", "0"),
        (f"{_REACHES}[multires_noise_iterations]",),
    ),
    Off(
        "perturbation noise",
        "training.loss.noise.NoiseSource.draw",
        Value("settings.perturbation_weight", "0.0"),
        (
            f"{_NOISE}test_perturbation_noise_is_part_of_the_noise",
            f"{_REACHES}[perturbation_noise_weight]",
        ),
    ),
    Off(
        "perturbation noise",
        "training.loss.noise.NoiseSource.perturbed",
        Returns(),
        (f"{_REACHES}[ip_noise_gamma]",),
    ),
    Off(
        "perturbation noise",
        "families.unet.UNetFamily.predict",
        Given("input_noise", "None"),
        (f"{_NOISE}test_input_perturbation_changes_the_input_and_not_the_target",),
    ),
    Off(
        "perturbation noise",
        "families.flux.Flux.predict",
        Given("input_noise", "None"),
        (f"{_NOISE}test_so_does_that_of_flux",),
    ),
    Off(
        "schedules: restarts, polynomial, REX",
        "training.schedule.learning_rate_factor",
        Given("shape", "'cosine'"),
        (
            f"{_SCHEDULE}test_restarts_agree_with_transformers[3-31]",
            f"{_SCHEDULE}test_polynomial_agrees_with_transformers",
            f"{_SCHEDULE}test_rex_has_the_values_of_its_paper",
        ),
    ),
    Off(
        "schedules: restarts, polynomial, REX",
        "training.build._make_scheduler",
        Value("config.learning_rate_cycles", "1"),
        (
            f"{_SCHEDULE}test_the_settings_reach_the_run[cosine_with_restarts-expected0]",
        ),
    ),
    Off(
        "warmup in steps, percent or epochs",
        "config.resolved.Settings.resolved_warmup_steps",
        Returns("0"),
        (
            "tests/config/test_epochs.py::test_a_warmup_is_steps_a_share_or_epochs",
            f"{_SCHEDULE}test_a_warmup_in_percent_reaches_the_run",
        ),
    ),
    Off(
        "learning rates of layers",
        "training.build.make_optimizer",
        Value("config.learning_rate_pattern", "{}"),
        (
            f"{_RATES}test_the_first_step_of_adam_has_the_length_of_each_rate",
            f"{_RATES}test_a_run_logs_all_rates_and_resumes_to_the_bit",
        ),
    ),
    Off(
        "zero-terminal SNR",
        "checkpoints.find._scheduler",
        Value("config.zero_terminal_snr", "False"),
        (
            f"{_ZERO}test_the_schedule_of_training_is_rescaled",
            f"{_ZERO}test_so_is_that_of_samples",
        ),
    ),
    Off(
        "zero-terminal SNR",
        "families.unet.v_prediction_marks",
        Call("has", "False"),
        ("tests/families/test_single_file.py::test_a_file_marks_velocity_prediction",),
    ),
    Off(
        "LoRA, rank and module dropout",
        "adapters.lora_dropout.LoraDropout._mask",
        Returns("output"),
        (
            f"{_DROPOUT}test_masks_are_0_or_1_over_the_rest",
            f"{_REACHES}[rank_dropout]",
        ),
    ),
    Off(
        "LoRA, rank and module dropout",
        "adapters.lora_dropout.LoraDropout.begin",
        Value("self._modules", "0.0"),
        (
            f"{_DROPOUT}test_a_dropped_module_is_skipped_and_has_no_gradient",
            f"{_REACHES}[module_dropout]",
        ),
    ),
    Off(
        "LoRA, rank and module dropout",
        "training.build._make_dropout",
        Value("config.lora_dropout", "0.0"),
        (f"{_REACHES}[lora_dropout]",),
    ),
    Off(
        "LoRA, rank and module dropout",
        "adapters.lora_dropout.LoraDropout.end",
        Returns(),
        (f"{_DROPOUT}test_validation_uses_all_of_the_lora",),
    ),
    Off(
        "weight decay of B and A apart",
        "methods._factor_decay.decay_of",
        Value("own", "None"),
        (
            "tests/optim/test_factor_decay.py::test_one_factor_decays_alone",
            f"{_TRAINING}packaged_optimizers.py::test_each_factor_has_its_own_decay",
        ),
    ),
    Off(
        "norms of the weights limited",
        "training.build._make_norm_limit",
        Value("config.scale_weight_norms", "0.0"),
        (f"{_TRAINING}norm_limit.py::test_updates_are_scaled_and_the_numbers_logged",),
    ),
    Off(
        "norms of the weights limited",
        "optim.pair_optimizer.PairOptimizer.scale_down",
        Value("self.rule.scale_powers", "{}"),
        (f"{_NORMS}test_the_state_is_as_if_a_had_always_been_smaller",),
    ),
    Off(
        "norms of the weights limited",
        "optim.product_norms.scale_products",
        Value("factor**0.5", "factor"),
        (f"{_NORMS}test_other_methods_share_the_factor",),
    ),
    Off(
        "timestep distribution",
        "training.loss.timesteps.PlaceDraw.draw",
        Value("self.distribution", "'uniform'"),
        (f"{_TRAINING}noise.py::test_distributions_have_their_quantiles",),
    ),
    Off(
        "timestep distribution",
        "training.loss.timesteps.make_draw",
        Value("config.resolved_timestep_distribution", "'uniform'"),
        (f"{_REACHES}[timestep_distribution]",),
    ),
    Off(
        "latents and text cached",
        "data.encoder.Encoder.prepare_image",
        Call("holds", "False"),
        (
            f"{_TRAINING}settings_reach_the_blocks.py::"
            f"test_a_second_run_encodes_no_image_and_no_caption",
        ),
    ),
    Off(
        "latents and text cached",
        "data.encoder.encode_caption",
        Call("holds", "False"),
        (
            f"{_TRAINING}settings_reach_the_blocks.py::"
            f"test_a_second_run_encodes_no_image_and_no_caption",
        ),
    ),
    Off(
        "gradient checkpointing",
        "training.build._load_with_lora",
        Value("config.gradient_checkpointing", "False"),
        (
            f"{_TRAINING}settings_reach_the_blocks.py::"
            f"test_gradient_checkpointing_computes_blocks_twice",
        ),
    ),
    Off(
        "quantized base model",
        "families.opening.open_family",
        Value("config.weight_dtype", "config.plain_weight_dtype"),
        (
            f"{_TRAINING}quantised.py::test_base_stays_and_factors_move",
            f"{_TRAINING}quantised.py::test_layers_hold_a_quarter_of_the_bytes",
        ),
    ),
    Off(
        "SDPA, flash, xformers",
        "training.backend.check_attention",
        Call("find_spec", "True"),
        (
            f"{_TRAINING}attention_and_compile.py::"
            f"test_missing_xformers_are_reported_before_anything_is_loaded",
        ),
    ),
    Off(
        "text encoders trained",
        "training.build.add_text_loras",
        Given("targets", "{}"),
        (
            f"{_TRAINING}text_encoders.py::"
            f"test_files_hold_the_encoders_under_the_names_of_all_tools",
        ),
    ),
    Off(
        "text encoders trained",
        "training.build.make_optimizer",
        Value(
            "config.text_encoder_rates",
            "dict.fromkeys(config.text_encoder_rates, config.learning_rate)",
        ),
        (
            f"{_TRAINING}text_encoders.py::test_groups_have_rates_and_names_of_their_own",
        ),
    ),
    Off(
        "text encoder stop after steps or epochs",
        "training.state.TrainingState.stop_text_encoders",
        Returns("[]"),
        (
            f"{_STOP}test_the_factors_stay_and_the_rates_are_0",
            f"{_STOP}test_a_run_resumes_to_the_bit",
        ),
    ),
    Off(
        "DoRA",
        "training.build._load_with_lora",
        Value("config.use_dora", "False"),
        (
            f"{_TRAINING}dora_run.py::test_a_stock_pipeline_shows_the_trainers_own_image",
        ),
    ),
    Off(
        "start from LoRA files",
        "training.build.build_state",
        Given("given", "None"),
        (f"{_TRAINING}lora_start.py::test_step_0_is_the_weighted_sum_of_the_files",),
    ),
    Off(
        "optimizers by import path",
        "training.build.make_optimizer",
        Call("chosen.load", "torch.optim.AdamW"),
        (f"{_TRAINING}every_method.py::test_so_does_any_optimizer_by_its_class",),
    ),
    Off(
        _SAVED,
        "training.export.LoraWriter.write_at_interval",
        Returns(),
        (
            f"{_SAVED_TESTS}test_files_are_saved_at_the_interval_and_the_oldest_removed",
            f"{_SAVED_TESTS}test_saved_files_are_those_of_a_run_that_ends_there",
        ),
    ),
    Off(
        _SAVED,
        "training.kept_files.KeptFiles._remove",
        Returns(),
        (f"{_SAVED_TESTS}test_files_are_saved_at_the_interval_and_the_oldest_removed",),
    ),
    Off(
        _SAVED,
        "training.kept_files.KeptFiles.leave_out",
        Returns(),
        (f"{_SAVED_TESTS}test_files_saved_on_request_are_never_removed",),
    ),
    Off(
        _SAVED,
        "config.importing.ai_toolkit_rules._saves",
        Returns("left('')"),
        (f"{_IMPORTING}ai_toolkit.py::test_saved_files_have_the_state_beside_them",),
    ),
    Off(
        "checkpoints by the clock",
        "training.due.DueEvents._intervals",
        Returns("0"),
        (f"{_TRAINING}epochs_and_minutes.py::test_minutes_are_due_at_the_next_step",),
    ),
    Off(
        "LoRA files in several dtypes at once",
        "training.export.write_lora_files",
        Value("config.extra_output_dtypes", "()"),
        (f"{_SAVED_TESTS}test_each_data_type_is_a_file",),
    ),
    Off(
        "hashes of A1111 and CivitAI",
        "files.peft.save_peft",
        Call("legacy_hash", "''"),
        (f"{_SAVED_TESTS}test_both_formats_have_them_and_inspect_shows_them",),
    ),
    Off(
        "hashes of A1111 and CivitAI",
        "files.file_hashes._header_length",
        Returns("0"),
        (
            "tests/files/test_file_hashes.py::"
            "test_they_are_those_of_sd_scripts[notes0-400000]",
        ),
    ),
    Off(
        _PACKAGED,
        "training.loop.Loop._estimates",
        Returns("{}"),
        (f"{_PACKAGED_TESTS}test_the_estimate_of_prodigy_is_logged",),
    ),
    Off(
        _PACKAGED,
        "optim.foreign._has_modes",
        Returns("False"),
        (f"{_PACKAGED_TESTS}test_files_of_schedule_free_runs_have_the_average",),
    ),
    Off(
        _PACKAGED,
        "methods._types.PackagedMethod.keywords",
        Returns("{}"),
        (f"{_PACKAGED_TESTS}test_options_reach_the_class_under_its_names",),
    ),
    Off(
        _PACKAGED,
        "config.importing.optimizer_names._packaged_name",
        Returns(),
        tuple(
            f"{_IMPORTING}{name}"
            for name in (
                "onetrainer.py::test_optimizers_and_their_options",
                "sd_scripts.py::test_optimizers_keep_their_unit_or_say_that_it_changes",
                "ai_toolkit.py::test_prodigy_has_a_rate_of_at_least_a_tenth[0.5-0.5]",
            )
        ),
    ),
    Off(
        "LoRA+",
        "optim.lora_plus.LoRAPlusRule.adamw_roles",
        Value("group['lr_ratio']", "1.0"),
        (
            "tests/optim/test_field_methods.py::"
            "test_lora_plus_moves_b_that_many_times_as_far",
        ),
    ),
    Off(
        "effective rank, spectrum",
        "training.logging.monitor.Monitor.measure_ranks",
        Call("_sink.scalars"),
        (f"{_TRAINING}train_run.py::test_every_block_has_its_ranks",),
    ),
    Off(
        "effective rank, spectrum",
        "geometry.spectrum.spectrum_summary",
        Result("dataclasses.replace(result, effective=result.stable)"),
        ("tests/geometry/test_spectrum.py::test_known_spectra",),
    ),
    Off(
        "metadata for other programs",
        "files.metadata.training_metadata",
        Call("network_metadata", "{}"),
        ("tests/files/test_metadata.py::test_what_sd_scripts_and_a1111_read",),
    ),
    Off(
        "metadata for other programs",
        "files.metadata.training_metadata",
        Result('{**result, "modelspec.title": ""}'),
        ("tests/files/test_metadata.py::test_modelspec",),
    ),
    Off(
        "metadata for other programs",
        "training.export.write_lora_files",
        Given("notes", "{}"),
        (
            f"{_TRAINING}run_notes.py::"
            f"test_files_tell_of_folders_buckets_tags_and_settings",
        ),
    ),
    Off(
        "memory estimate before a run",
        "memory.activations.activation_bytes",
        Returns("1"),
        ("tests/memory/test_measured_peak.py::test_a_process_grows_as_estimated",),
    ),
    Off(
        "memory estimate before a run",
        "_commands.validate._show",
        Call("_show_memory"),
        (f"{_TRAINING}preflight.py::test_the_command",),
    ),
)
