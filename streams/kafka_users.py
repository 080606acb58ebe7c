"""Accounts in Kafka, departments' and our programs': SCRAM credentials, what they may do, how much.

The broker's word is never trusted, signatures are: this keeps a department's load and curiosity
within bounds, and strangers out.
"""

from __future__ import annotations

from collections.abc import Mapping

from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)
from kafka.errors import KafkaError, for_code
from kafka.protocol.admin.client_quotas import AlterClientQuotasRequest

from ledger import topics
from ledger.errors import Unavailable
from ledger.kafka_address import SCRAM, open_admin

DEFAULT_BYTES_PER_SECOND = 32 * 1024 * 1024  # each way: more than the SDK publishes on two cores
REQUEST_PERCENT = 200.0  # of one broker thread's time

Grants = tuple[tuple[ResourceType, str, ACLOperation], ...]


def _on(operation: ACLOperation, *names: str) -> Grants:
    return tuple((ResourceType.TOPIC, name, operation) for name in names)


# Nothing else is allowed to anybody but the operator: StandardAuthorizer denies what no ACL grants.
# Idempotent producing needs no right of its own, transactions need one that nobody gets.
_DEPARTMENT = (
    *_on(ACLOperation.WRITE, topics.EVENTS),
    *_on(ACLOperation.READ, topics.RECEIPTS, topics.LANES, topics.RECALLS),
)
# What each of our programs does in Kafka; the follower does nothing there.
PROGRAMS: Mapping[str, Grants] = {
    "worker": _on(ACLOperation.READ, topics.EVENTS),  # and its consumer group
    "sequencer": (*_on(ACLOperation.READ, topics.LOG), *_on(ACLOperation.WRITE, topics.LOG)),
    "relay": _on(
        ACLOperation.WRITE,
        *(topics.RECEIPTS, topics.LANES, topics.DEAD_LETTERS, topics.EXPIRY, topics.RECALLS),
    ),
    "follower": (),
    "http": _on(ACLOperation.WRITE, topics.EVENTS),  # what takes bundles in from outside
}


def department_user(department: str) -> str:
    """The name of a department's account."""
    return f"department-{department}"


def set_department_user(
    kafka: str, department: str, password: str, bytes_per_second: int | None = None
) -> None:
    """Make a department's account, or give it another password: from now on, only that is taken
    for new connections, and within an hour for those that are open.

    `bytes_per_second` limits what it sends and what it reads; None keeps the present limit.
    Unavailable `unreachable` where `kafka` (`ledger.kafka_address`) does not do it.
    """
    user = department_user(department)
    _set_user(kafka, user, password, _DEPARTMENT, bytes_per_second)


def program_user(program: str) -> str:
    """The name of the account of one of our programs."""
    return f"certledger-{program}"


def set_program_user(kafka: str, program: str, password: str, group: str) -> None:
    """Make or renew the account of one of PROGRAMS; `group` is the workers' consumer group."""
    grants = PROGRAMS[program]
    if program == "worker":
        grants = (*grants, (ResourceType.GROUP, group, ACLOperation.READ))
    _set_user(kafka, program_user(program), password, grants, None)


def _set_user(
    kafka: str, user: str, password: str, grants: Grants, bytes_per_second: int | None
) -> None:
    try:
        admin = open_admin(KafkaAdminClient, kafka)
        try:
            _allow(admin, user, grants)
            _limit(admin, user, bytes_per_second)
            change = UserScramCredentialUpsertion(user, SCRAM, password)
            problem = admin.alter_user_scram_credentials([change])[user]
            if problem is not None:
                raise Unavailable("unreachable", f"Kafka gives {user} no credentials: {problem}")
        finally:
            admin.close()
    except KafkaError as err:
        raise Unavailable("unreachable", f"Kafka at {kafka}: {err}") from err


def _allow(admin: KafkaAdminClient, user: str, grants: Grants) -> None:
    acls = [
        ACL(
            principal=f"User:{user}",
            host="*",
            operation=operation,
            permission_type=ACLPermissionType.ALLOW,
            resource_pattern=ResourcePattern(kind, name),
        )
        for kind, name, operation in grants
    ]
    if not acls:
        return
    failed = admin.create_acls(acls)["failed"]
    if failed:
        raise Unavailable("unreachable", f"Kafka grants {user} nothing: {failed[0]}")


def _limit(admin: KafkaAdminClient, user: str, bytes_per_second: int | None) -> None:
    # kafka-python has the request and no method for it.
    if bytes_per_second is None:
        return
    limits = {
        "producer_byte_rate": float(bytes_per_second),
        "consumer_byte_rate": float(bytes_per_second),
        "request_percentage": REQUEST_PERCENT,
    }
    request = AlterClientQuotasRequest(
        entries=[([("user", user)], [(name, value, False) for name, value in limits.items()])],
        validate_only=False,
    )
    for entry in admin._manager.run(admin._manager.send, request).entries:
        if entry.error_code:
            raise for_code(entry.error_code)(entry.error_message)
