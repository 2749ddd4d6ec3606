"""Every row of the fault table of RELIABILITY has a test, and every test named here exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NUMBERED = ()
"""For rows of store and engine: their tests carry the row's number in their names."""

ROWS = {
    1: NUMBERED,
    2: NUMBERED,
    3: NUMBERED,
    4: NUMBERED,
    5: NUMBERED,
    6: (
        "test_models_weights.py::test_damaged_files_are_refused_before_any_forward",
        "test_models_weights.py::test_one_flipped_byte_is_told_by_the_card",
        "test_models_weights.py::test_a_damaged_card_is_refused",
        "test_models_weights.py::test_wrong_bytes_in_the_package_are_refused",
        "faults/test_inputs.py::test_f6_a_pth_is_held_against_its_sha256_before_it_is_opened",
        "faults/test_inputs.py::test_f6_a_pth_cut_anywhere_is_refused_before_any_forward",
    ),
    7: (
        "test_data_files.py::test_every_mode_becomes_rgb",
        "test_data_files.py::test_exif_rotation_is_applied",
        "test_data_files.py::test_one_pixel_fills_the_square",
        "test_data_files.py::test_damaged_picture_is_an_error_that_names_it",
        "test_data_files.py::test_picture_above_the_limit_is_refused",
        "test_data_imagenet.py::test_damaged_pictures_are_counted_and_the_others_still_load",
        "test_grid.py::test_unreadable_pictures_are_left_out_of_a_case",
        "faults/test_files.py::test_f7_bad_pictures_are_left_out_with_their_reason_and_the_others_are_right",
        "faults/test_files.py::test_f7_a_case_leaves_bad_pictures_out_and_its_record_says_so",
        "faults/test_files.py::test_f7_nothing_but_bad_pictures_is_an_error",
        "faults/test_files.py::test_f7_a_picture_that_breaks_while_the_run_goes_on_is_left_out_alone",
        "faults/test_files.py::test_f7_a_run_with_a_bad_picture_ends_with_3_and_names_it",
        "faults/test_files.py::test_f7_computing_ahead_with_a_bad_picture_ends_with_3",
    ),
    8: ("faults/test_runs.py::test_f8_a_dead_kernel_is_noticed",),
    9: ("faults/test_runs.py::test_f9_a_cell_that_hangs_and_ignores_sigint_is_stopped",),
    10: NUMBERED,
    11: (
        "test_compute.py::test_out_of_memory_halves_until_it_fits",
        "test_compute.py::test_out_of_memory_at_one_row_is_an_error_and_others_pass_through",
        "faults/test_files.py::test_f11_the_batch_is_halved_and_the_maps_are_those_of_the_small_batch",
        "faults/test_files.py::test_f11_what_does_not_fit_row_by_row_is_left_out_with_its_reason",
        "faults/test_files.py::test_f11_what_did_not_fit_is_not_stored_but_tried_again",
    ),
    12: NUMBERED,
    13: NUMBERED,
    14: NUMBERED,
    15: NUMBERED,
    16: (
        "test_cli.py::test_f16_missing_data_of_a_profile_exits_4_before_anything_starts",
        "test_data.py::test_missing_set_says_where_how_and_what_instead",
        "test_models.py::test_torchvision_nets_are_as_their_traits_say",
        "test_models_weights.py::test_downloads_only_when_allowed",
        "faults/test_runs.py::test_f16_an_error_of_the_data_has_its_own_exit_code",
        "faults/test_files.py::test_f16_a_missing_set_says_where_it_looked_how_to_get_it_and_what_works",
        "faults/test_files.py::test_f16_missing_weights_say_the_same_and_end_a_grid_before_it_starts",
        "faults/test_files.py::test_f16_an_error_in_a_notebook_keeps_its_exit_code",
    ),
    17: (
        "test_data_imagenet.py::test_fingerprint_changes_with_one_picture",
        "test_grid.py::test_changed_images_or_weights_are_never_mixed_with_old_results",
        "faults/test_files.py::test_f17_a_picture_that_changed_between_two_runs_has_a_key_of_its_own",
        "faults/test_files.py::test_f17_weights_that_changed_between_two_runs_have_keys_of_their_own",
        "faults/test_files.py::test_f17_what_changes_while_the_run_goes_on_ends_it_with_5",
        "faults/test_files.py::test_f17_boxes_that_changed_between_two_runs_are_not_judged_by_the_old_ones",
    ),
    18: (
        "test_compute.py::test_bad_inputs_are_refused_before_any_forward",
        "test_compute.py::test_shape_dtype_and_mode_must_fit_the_model",
        "test_compute.py::test_inputs_are_untouched",
        "faults/test_inputs.py::test_f18_odd_inputs_are_refused_before_the_forward_with_expected_and_got",
        "faults/test_inputs.py::test_f18_every_layout_gives_the_same_map_and_stays_as_it_was",
        "faults/test_inputs.py::test_f18_a_map_of_inputs_with_a_graph_has_none",
        "faults/test_inputs.py::test_f18_a_read_only_memory_map_is_never_written_to",
    ),
    19: (
        "test_conformance.py::test_bad_input_and_training_mode_are_refused",
        "test_maps.py::test_flags",
        "test_grid.py::test_a_map_that_is_not_finite_is_left_out_alone",
        "faults/test_inputs.py::test_f19_one_pixel_that_is_not_finite_is_refused_before_the_forward",
        "faults/test_inputs.py::test_f19_weights_that_are_not_finite_are_refused",
        "faults/test_inputs.py::test_f19_an_infinite_gradient_is_flagged_and_its_neighbours_are_right",
        "faults/test_files.py::test_f19_a_map_that_is_not_finite_is_left_out_and_its_neighbours_are_right",
        "faults/test_files.py::test_f19_what_was_left_out_is_told_again_when_all_is_known",
    ),
    20: (
        "test_compute.py::test_bad_targets_are_refused",
        "test_compute.py::test_a_class_the_model_lacks_is_refused",
        "faults/test_inputs.py::test_f20_targets_that_are_no_classes_are_refused_before_the_forward",
        "faults/test_inputs.py::test_f20_a_class_the_model_lacks_is_refused_before_it_is_looked_up",
    ),
    21: (
        "test_compute.py::test_a_hidden_gradient_is_an_error_not_zeros",
        "test_compute.py::test_a_constant_model_gives_zeros",
        "test_conformance.py::test_gradient_methods",
        "faults/test_inputs.py::test_f21_a_hidden_gradient_is_refused_by_every_gradient_method_and_no_other",
        "faults/test_inputs.py::test_f21_what_only_perturbs_judges_a_hidden_model_as_its_open_twin",
        "faults/test_inputs.py::test_f21_class_numbers_instead_of_logits_are_refused",
        "faults/test_inputs.py::test_f21_a_constant_model_gives_zeros_that_are_flagged_and_undefined",
    ),
    22: (
        "test_models.py::test_a_model_of_ones_own_becomes_a_pixel_model",
        "test_hooks.py::test_probe_captures_the_layers_own_output_despite_in_place_layers",
        "faults/test_inputs.py::test_f22_every_spelling_of_an_activation_has_the_gradient_computed_by_hand",
        "faults/test_inputs.py::test_f22_integrated_gradients_of_every_spelling_are_those_by_hand",
        "faults/test_inputs.py::test_f22_a_model_that_starts_in_place_is_explained_or_refused",
        "faults/test_inputs.py::test_f22_methods_that_replace_activations_must_prove_themselves_here",
    ),
    23: (
        "test_conformance.py::test_bad_input_and_training_mode_are_refused",
        "test_models.py::test_frozen_and_always_in_eval_mode",
        "faults/test_inputs.py::test_f23_training_mode_of_any_layer_is_refused_before_the_forward",
        "faults/test_inputs.py::test_f23_dropout_and_batch_norm_at_rest_give_the_same_map_twice_and_alone",
    ),
    24: (
        "test_cli.py::test_refusals_are_one_line_and_exit_2",
        "test_study.py::test_f24_unknown_parameter_and_profile",
        "test_runner.py::test_requests_are_refused_before_anything_is_written",
        "test_runner.py::test_a_notebook_that_disagrees_with_its_study_is_refused",
        "faults/test_security.py::test_f24_an_unknown_parameter_is_refused_by_every_command",
        "faults/test_security.py::test_f24_in_a_file_of_parameters_too",
    ),
    25: (
        "test_study.py::test_f25_wrong_types_are_refused_with_what_was_expected",
        "test_study.py::test_f25_range_is_inclusive_and_checked",
        "faults/test_security.py::test_f25_a_value_that_does_not_fit_is_refused",
        "faults/test_security.py::test_f25_in_a_file_of_parameters_too",
    ),
    26: (
        "test_study.py::test_f26_choices_and_registered_names_show_the_closest",
        "test_registry.py::test_messages_name_the_closest_and_the_known",
        "test_grid.py::test_a_bad_request_is_refused_before_anything_is_computed",
        "faults/test_security.py::test_f26_an_unknown_name_is_refused_with_the_closest_and_the_list",
        "faults/test_security.py::test_f26_an_unknown_profile_or_study_is_refused_with_the_closest_and_the_list",
    ),
    27: ("faults/test_runs.py::test_f27_two_runs_at_once_do_not_meet",),
    28: (
        "test_data_imagenet.py::test_read_only_folder_works_and_is_left_alone",
        "test_runner.py::test_f28_a_place_that_cannot_be_written_is_refused_at_the_start",
    ),
    29: (
        "test_study.py::test_f29_paths_stay_under_the_root",
        "test_study.py::test_f29_whatever_is_accepted_lies_under_the_root",
        "test_data.py::test_bad_requests_are_refused",
        "test_data_imagenet.py::test_damaged_metadata_is_refused",
        "test_data_imagenet.py::test_linked_folder_works_and_linked_file_outside_does_not",
        "test_data_imagenet.py::test_paths_stay_inside",
        "test_cli.py::test_f29_f31_texts_are_never_evaluated",
        "faults/test_security.py::test_f29_a_path_out_of_the_repository_is_refused",
        "faults/test_security.py::test_f29_odd_names_are_names_and_nothing_is_filled_in",
        "faults/test_security.py::test_f29_a_study_out_of_the_repository_is_not_read",
    ),
    30: (
        "test_data_download.py::test_malicious_archives_are_refused_before_any_write",
        "test_data_download.py::test_good_archive_is_unpacked_without_special_bits",
        "test_data_download.py::test_gzip_is_unpacked_and_bounded",
        "faults/test_security.py::test_f30_odd_archives_are_refused_and_nothing_is_left",
        "faults/test_security.py::test_f30_archives_are_opened_in_one_module_and_only_tar_and_gzip",
    ),
    31: (
        "test_models_weights.py::test_a_malicious_pickle_is_not_executed",
        "test_models_weights.py::test_weights_are_unpickled_in_one_place_only",
        "test_study.py::test_f31_yaml_is_data_only",
        "test_study.py::test_f31_parameters_cells_hold_literals_only",
        "test_hooks.py::test_unknown_layers_name_the_closest",
        "test_setup.py::test_data_never_becomes_code",
        "test_setup.py::test_the_yaml_loader_is_a_safe_one",
        "faults/test_security.py::test_f31_no_data_becomes_code_anywhere_in_the_repository",
        "faults/test_security.py::test_f31_the_metadata_of_a_notebook_starts_nothing",
        "faults/test_security.py::test_f31_a_module_of_tasks_is_imported_in_tests_only",
        "faults/test_security.py::test_f31_nesting_without_end_is_refused_in_one_line",
        "faults/test_security.py::test_f31_many_references_to_one_list_do_not_fill_the_memory",
    ),
    32: ("faults/test_runs.py::test_f32_a_signal_ends_everything_and_leaves_nothing", "test_cli.py::test_ctrl_c_exits_130"),
    33: NUMBERED,
    34: NUMBERED,
    35: NUMBERED,
    36: NUMBERED,
    37: (
        "test_cli.py::test_f37_closed_output_in_a_plain_locale_is_no_error",
        "test_runner.py::test_progress_is_plain_lines_without_a_terminal",
        "test_runner.py::test_progress_on_a_dumb_terminal_is_plain",
        "test_runner.py::test_progress_survives_a_closed_stream",
        "faults/test_security.py::test_f37_progress_without_a_terminal_is_plain_lines_now_and_then",
        "faults/test_security.py::test_f37_a_computation_goes_on_when_its_progress_cannot_be_written",
        "faults/test_security.py::test_f37_answers_to_no_stream_or_to_one_without_the_letters_are_no_error",
    ),
}


@cache
def functions(path):
    """Names of the tests that pytest finds in a file."""
    body = ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []
    return [node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def numbers(name):
    """The rows in the name of a test: test_f29_f31_... is about 29 and 31."""
    return {int(number) for number in re.findall(r"f(\d+)_", re.match(r"test_((?:f\d+_)*)", name)[1])}


def carrying(row, files):
    return [name for path in files for name in functions(path) if row in numbers(name)]


def every_file(top=TESTS):
    return sorted(top.rglob("test_*.py"))


def problems(rows, top=TESTS):
    """What is wrong with a table, in words."""
    found = []
    for row, nodes in rows.items():
        if nodes is NUMBERED and not carrying(row, every_file(top)):
            found.append(f"F{row}: no test is named test_f{row}_...")
        for node in nodes:
            file, _, name = node.partition("::")
            if name not in functions(top / file):
                found.append(f"F{row}: {node} does not exist")
    return found


def test_every_row_has_tests_that_exist():
    assert list(ROWS) == list(range(1, 38))
    assert problems(ROWS) == []


def test_every_number_in_a_name_is_a_row():
    assert {name for path in every_file() for name in functions(path) if not numbers(name) <= set(ROWS)} == set()


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({6: ("test_a.py::test_there",)}, []),
        ({6: ("test_a.py::test_renamed",)}, ["F6: test_a.py::test_renamed does not exist"]),
        ({6: ("test_b.py::test_there",)}, ["F6: test_b.py::test_there does not exist"]),
        ({6: ("test_a.py::helper",)}, ["F6: test_a.py::helper does not exist"]),
        ({6: ("test_a.py::test_inside",)}, ["F6: test_a.py::test_inside does not exist"]),
        ({1: NUMBERED, 2: NUMBERED}, []),
        ({12: NUMBERED, 3: NUMBERED}, ["F12: no test is named test_f12_...", "F3: no test is named test_f3_..."]),
    ],
)
def test_a_table_that_names_what_is_not_there_is_noticed(tmp_path, rows, told):
    source = (
        "def test_there():\n    def test_inside(): ...\ndef helper(): ...\ndef test_f1_f2_both(): ...\ndef test_if12_x(): ...\n"
    )
    (tmp_path / "test_a.py").write_text(source)
    assert problems(rows, tmp_path) == told
