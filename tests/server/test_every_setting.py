"""Every setting has a test that it is enforced: this table says where, so that none is added without."""

import re
from pathlib import Path

import pytest

from server.settings import Settings

_TESTS = Path(__file__).parent

ENFORCED_BY = {
    "host": "test_command.py::test_a_host_that_is_none_of_ours_is_one_line",
    "port": "test_command.py::test_a_port_in_use_is_one_line",
    "engine": "test_engine_choice.py::test_without_a_gpu_auto_is_torch",
    "policy_model": "test_command.py::test_a_missing_model_folder_is_one_line",
    "ppm_model": "test_main.py::test_a_ppm_of_another_policy_is_refused",
    "trajectories": "test_orders.py::test_what_a_request_leaves_out_is_the_operators_default",
    "max_trajectories": "test_orders.py::test_a_limit_error_names_field_limit_and_value",
    "low_effort_trajectories": "test_orders.py::test_effort_stands_for_a_budget_up_to_the_limit",
    "medium_effort_trajectories": "test_orders.py::test_effort_stands_for_a_budget_up_to_the_limit",
    "high_effort_trajectories": "test_orders.py::test_effort_stands_for_a_budget_up_to_the_limit",
    "policy_url": "test_engine_choice.py::test_each_remote_server_gets_its_own_key",
    "ppm_url": "test_engine_choice.py::test_each_remote_server_gets_its_own_key",
    "policy_api_key": "test_engine_choice.py::test_each_remote_server_gets_its_own_key",
    "ppm_api_key": "test_engine_choice.py::test_each_remote_server_gets_its_own_key",
    "remote_timeout_s": "test_engine_choice.py::test_a_remote_server_is_waited_for_no_longer_than_allowed",
    "max_step_tokens": "test_local_parts.py::test_steps_are_cut_at_the_step_limit",
    "record_folder": "test_records.py::test_a_served_search_is_run_again_to_the_same_tree",
    "max_body_bytes": "test_app.py::test_a_body_over_the_limit_is_too_large",
    "body_timeout_s": "test_request_body.py::test_the_operator_says_how_long_a_body_may_take",
    "max_problem_chars": "test_orders.py::test_a_limit_error_names_field_limit_and_value",
    "concurrent_searches": "test_solver.py::test_one_cancelled_in_the_queue_leaves_it_at_once",
    "queued_searches": "test_solver.py::test_what_does_not_fit_in_slots_and_queue_is_refused_with_a_time_to_come_back",
    "max_searches_per_key": "test_solver.py::test_a_client_above_its_share_gets_429_and_others_are_served",
    "heartbeat_s": "test_event_stream.py::test_the_operator_says_how_often_a_silent_stream_gives_a_heartbeat",
    "drain_s": "test_main.py::test_a_search_that_ends_within_the_drain_gives_its_whole_answer",
    "sandbox_workers": "test_local_parts.py::test_all_parts_report_and_the_sandbox_runs_as_many_steps_as_it_may",
    "sandbox_min_level": "test_local_parts.py::test_the_least_level_reaches_the_sandbox",
    "api_keys": "test_authentication.py::test_a_key_opens_the_server_as_bearer_token_or_header",
    "cors_origins": "test_security_headers.py::test_a_page_of_an_allowed_origin_reads_answers_streams_and_refusals",
    "log_level": "test_main.py::test_the_command_logs_from_the_level_on_that_it_is_told",
    "log_format": "test_main.py::test_the_command_logs_in_the_format_that_it_is_told",
    "access_log": "test_access_log.py::test_the_access_log_can_be_turned_off",
    "otlp_endpoint": "test_main.py::test_the_command_sends_its_spans_to_the_collector_that_it_is_told",
    "tokens": "test_orders.py::test_what_a_request_leaves_out_is_the_operators_default",
    "timeout_s": "test_orders.py::test_what_a_request_leaves_out_is_the_operators_default",
    "candidates": "test_orders.py::test_what_a_request_leaves_out_is_the_operators_default",
    "depth": "test_orders.py::test_what_a_request_leaves_out_is_the_operators_default",
    "exploration": "test_orders.py::test_what_a_request_leaves_out_is_the_operators_default",
    "parallel_rollouts": "test_orders.py::test_what_a_request_leaves_out_is_the_operators_default",
    "beam_width": "test_orders.py::test_what_a_request_leaves_out_is_the_operators_default",
    "stop_when_decided": "test_orders.py::test_what_a_request_leaves_out_is_the_operators_default",
    "temperature": "test_app.py::test_candidates_are_drawn_as_the_request_or_the_operator_says",
    "top_p": "test_app.py::test_candidates_are_drawn_as_the_request_or_the_operator_says",
    "max_tokens": "test_orders.py::test_a_limit_error_names_field_limit_and_value",
    "max_timeout_s": "test_orders.py::test_a_limit_error_names_field_limit_and_value",
    "max_candidates": "test_orders.py::test_a_limit_error_names_field_limit_and_value",
    "max_depth": "test_orders.py::test_a_limit_error_names_field_limit_and_value",
    "max_parallel_rollouts": "test_orders.py::test_a_limit_error_names_field_limit_and_value",
    "max_exploration": "test_orders.py::test_a_limit_error_names_field_limit_and_value",
    "max_beam_width": "test_orders.py::test_a_limit_error_names_field_limit_and_value",
    "max_temperature": "test_orders.py::test_a_limit_error_names_field_limit_and_value",
    "vllm_policy_gpu_fraction": "test_engine_choice.py::test_the_shares_of_memory_are_those_of_the_settings",
    "vllm_ppm_gpu_fraction": "test_engine_choice.py::test_the_shares_of_memory_are_those_of_the_settings",
    "vllm_policy_kv_gb": "test_engine_choice.py::test_the_shares_of_memory_are_those_of_the_settings",
    "vllm_ppm_kv_gb": "test_engine_choice.py::test_the_shares_of_memory_are_those_of_the_settings",
    "vllm_ppm_dtype": "test_engine_choice.py::test_the_shares_of_memory_are_those_of_the_settings",
    "vllm_tensor_parallel": "test_engine_choice.py::test_the_shares_of_memory_are_those_of_the_settings",
}


def test_every_setting_is_in_the_table() -> None:
    assert set(ENFORCED_BY) == set(Settings.model_fields)


@pytest.mark.parametrize("setting", sorted(ENFORCED_BY))
def test_the_test_named_for_a_setting_is_there(setting: str) -> None:
    file, _, function = ENFORCED_BY[setting].partition("::")
    assert re.search(rf"def {function}\(", (_TESTS / file).read_text(encoding="utf-8"))
