"""`python -m tests.fault.table`: the tests of every fault that the ledger has to stand, for
`make fault`. A fault's name leads to the tests that produce it, wherever they stand.
"""

from __future__ import annotations

_PUBLISHER = "tests/integration/test_publisher.py::"
_SEQUENCING = "tests/integration/test_sequencing.py::"
_STORE = "tests/integration/test_store.py::"
_STREAMS = "tests/integration/test_streams.py::"
_WITNESSES = "tests/integration/test_witnesses.py::"
_AUDIT = "tests/integration/test_audit.py::"
_ACTS = "tests/integration/test_registry_acts.py::"
_ADMISSION = "tests/unit/test_admission.py::"
_EVIDENCE = "tests/unit/test_evidence.py::"
_KILLS = "tests/fault/test_kills.py::"
_FROZEN = "tests/fault/test_frozen.py::"
_BROKERS = "tests/fault/test_brokers.py::"
_DISKS = "tests/fault/test_disks.py::"
_LOSSES = "tests/fault/test_losses.py::"
_SWITCHES = "tests/fault/test_switches.py"

FAULTS: dict[str, tuple[str, ...]] = {
    "a step fails, done or not, and is tried again": (
        _SWITCHES,
        "tests/fault/test_publisher_switches.py",
    ),
    "broker killed while sending, away for a minute, standing still": (
        f"{_BROKERS}test_the_broker_is_away_for_a_minute",
        f"{_BROKERS}test_a_server_stands_still",
        f"{_KILLS}test_a_killed_part_comes_back",
        f"{_PUBLISHER}test_a_lost_record_is_sent_again_in_order",
    ),
    "worker killed in mid-batch": (f"{_KILLS}test_a_crash_is_mended_by_the_next_start",),
    "process that opens records killed, frozen": (
        f"{_KILLS}test_a_worker_whose_opener_is_killed_starts_anew",
        "tests/integration/test_opener.py::test_a_frozen_one_is_not_waited_for_for_ever",
    ),
    "worker stopped, replaced and awake again": (
        f"{_FROZEN}test_a_frozen_worker_is_replaced_and_writes_nothing_when_it_wakes",
        f"{_STORE}test_a_zombie_doubles_nothing",
    ),
    "PostgreSQL killed in the middle of a commit, restarted, standing still": (
        f"{_KILLS}test_a_killed_part_comes_back",
        f"{_BROKERS}test_postgresql_is_restarted_in_the_middle_of_turns",
        f"{_BROKERS}test_a_server_stands_still",
    ),
    "reply lost after COMMIT": (
        f"{_DISKS}test_the_reply_to_a_commit_is_lost",
        f"{_DISKS}test_the_reply_to_the_new_head_is_lost",
    ),
    "worker frozen in the turn": (
        f"{_FROZEN}test_a_worker_frozen_in_the_turn_holds_nobody_up",
        f"{_STORE}test_a_frozen_holder_of_the_turn_is_ended",
    ),
    "two sequencers at once": (
        f"{_SEQUENCING}test_one_of_two_sequencers_wins",
        f"{_SEQUENCING}test_many_rounds_at_once_give_one_line_of_checkpoints",
    ),
    "sequencer frozen past its lead, awake after another signed": (
        f"{_FROZEN}test_a_frozen_sequencer_loses_the_lead_and_signs_nothing_when_it_wakes",
    ),
    "disk full or broken": (
        f"{_DISKS}test_a_disk_that_fails",
        f"{_PUBLISHER}test_a_full_disk_rejects_and_recovers",
        "tests/integration/test_doctor.py::test_intake_waits_for_room_on_the_disk",
    ),
    "clock jumps": (
        "tests/fault/test_clocks.py",
        f"{_SEQUENCING}test_the_ledger_time_never_goes_back",
        f"{_SEQUENCING}test_a_clock_behind_stops_signing_and_not_intake",
    ),
    "one bit flipped in what is stored": (
        f"{_SEQUENCING}test_one_flipped_bit_stops_signing",
        f"{_SEQUENCING}test_damage_stops_signing",
        f"{_SEQUENCING}test_a_damaged_tree_stops_signing",
        "tests/integration/test_fsck.py::test_damage_is_found_and_named",
        "tests/integration/test_api.py::test_what_was_damaged_is_not_answered",
    ),
    "database restored from an older backup": (
        f"{_STREAMS}test_an_older_database_is_not_signed_for",
        f"{_WITNESSES}test_an_older_database_does_not_sign_though_it_has_grown_since",
        "tests/integration/test_backup.py::test_backup_and_kafka_give_the_same_ledger_again",
    ),
    "old or incomplete state offered as current": (
        f"{_EVIDENCE}test_an_old_status_entry_under_todays_checkpoint",
        f"{_EVIDENCE}test_a_suspension_left_out_of_the_middle",
        f"{_EVIDENCE}test_a_bucket_with_one_record_left_out",
        f"{_EVIDENCE}test_another_k",
    ),
    "a revoked key's revocation left out of the evidence": (
        f"{_EVIDENCE}test_a_revocation_left_out",
    ),
    "a department's key by the operator alone": (
        f"{_EVIDENCE}test_a_registry_key_by_the_operator_alone_is_shown_in_the_answer",
        f"{_AUDIT}test_a_department_watches_its_keys",
    ),
    "what was signed for one purpose offered for another": (
        f"{_ADMISSION}test_dead_letters",
        f"{_PUBLISHER}test_receipts_of_another_ledger_prove_nothing",
        f"{_EVIDENCE}test_another_ledgers_file",
    ),
    "SDK killed, spool lost, two SDKs, one that wakes": (
        f"{_PUBLISHER}test_a_killed_publisher_goes_on_where_it_was",
        f"{_PUBLISHER}test_a_lost_spool_needs_a_take_over",
        f"{_PUBLISHER}test_two_publishers_on_one_spool_are_refused",
        f"{_PUBLISHER}test_a_take_over_fences_the_old_producer",
    ),
    "outbox killed at each step": (
        "tests/integration/test_outbox.py::test_a_kill_at_each_step_loses_and_doubles_nothing",
    ),
    "two departments on one certificate, reliance and revocation, a move, at the same moment": (
        "tests/fault/test_recalls.py::test_where_reliance_and_revocation_cross_nobody_is_missed",
        "tests/fault/test_recalls.py::test_a_certificate_leaves_and_arrives_at_the_same_moment",
        f"{_STORE}test_two_departments_act_on_one_certificate",
        f"{_STORE}test_two_workers_apply_the_same_at_the_same_moment",
    ),
    "two departments on one holder, at the same moment": (
        "tests/fault/test_recalls.py::test_two_departments_bind_one_holder_at_the_same_moment",
    ),
    "topic's records lost, as after retention": (
        f"{_FROZEN}test_records_that_the_topic_lost_stop_the_worker_and_are_named",
        f"{_LOSSES}test_records_that_retention_took_are_declared_and_accounted_for",
    ),
    "topic deleted and made again": (
        f"{_STREAMS}test_another_log_topic_is_not_written_to",
        f"{_STREAMS}test_another_intake_topic_is_not_consumed",
        f"{_LOSSES}test_a_lost_log_topic_is_declared_and_written_again",
        f"{_LOSSES}test_an_intake_topic_that_is_gone_is_declared_and_another_taken",
        f"{_LOSSES}test_what_was_signed_is_never_given_up",
    ),
    "partition count of the intake topic changed": (
        f"{_BROKERS}test_the_intake_topic_gets_more_partitions",
    ),
    "bytes damaged in Kafka's own files": (
        f"{_BROKERS}test_a_damaged_record_of_the_intake_topic_is_not_taken",
        f"{_BROKERS}test_damage_in_the_log_topic_stops_signing_until_it_is_written_again",
    ),
    "transactions aborted or left open": (
        f"{_STREAMS}test_what_a_transaction_aborted_is_skipped",
        "tests/integration/test_doctor.py::test_a_transaction_left_open",
    ),
    "repeats, damaged copies, gaps, equivocation": (
        f"{_ADMISSION}test_lanes",
        f"{_ADMISSION}test_equivocation_is_kept_once_with_both_notes",
        f"{_STORE}test_every_outcome_has_one_row_and_its_message",
        f"{_PUBLISHER}test_a_forged_copy_does_not_stop_the_publisher",
    ),
    "forged signatures, others' keys, revoked keys": (
        f"{_ADMISSION}test_bad_signatures",
        f"{_ADMISSION}test_event_codes",
        f"{_STORE}test_a_key_revoked_meanwhile",
    ),
    "poison": (
        f"{_STREAMS}test_poison_does_not_stop_the_partition",
        f"{_STORE}test_hostile_bytes_are_all_accounted_for",
    ),
    "another codec, an unknown one, what bursts when it is decompressed": (
        "tests/fault/test_codecs.py",
        "tests/unit/test_kafka_batches.py",
    ),
    "admission attacked at full speed": ("tests/fault/test_attacks.py",),
    "reader storm": ("tests/fault/test_readers.py",),
    "operator shows two histories": (
        f"{_WITNESSES}test_a_witness_that_saw_another_history_is_heard",
        f"{_AUDIT}test_two_roots_of_one_size_are_a_fork",
    ),
    "department's key or ledger's key stolen": (
        f"{_EVIDENCE}test_an_event_by_a_revoked_key",
        f"{_EVIDENCE}test_a_retired_key_says_nothing_of_later_times",
        f"{_ACTS}test_a_key_revoked_from_earlier",
        "tests/integration/test_following_doubt.py",
        "tests/unit/test_doubt.py",
    ),
    "department's key lost": (
        f"{_ACTS}test_a_department_that_lost_its_keys",
        "tests/unit/test_recovery.py",
    ),
    "another number of lanes while events are under way": (
        f"{_ACTS}test_more_and_fewer_lanes",
        f"{_PUBLISHER}test_another_number_of_lanes",
        "tests/unit/test_lanes.py",
    ),
    "migration interrupted, another version's database": (
        f"{_STORE}test_every_migration_goes_on_where_it_was_interrupted",
        f"{_STORE}test_two_migrate_at_once",
        f"{_STORE}test_a_later_versions_database_is_left_alone",
        f"{_STREAMS}test_a_later_versions_database_is_written_to_by_none_of_ours",
        "tests/acceptance/test_upgrade.py",
    ),
}


def main() -> None:
    """Print the tests, each once."""
    named = {test for tests in FAULTS.values() for test in tests}
    print("\n".join(sorted(named)))


if __name__ == "__main__":
    main()
