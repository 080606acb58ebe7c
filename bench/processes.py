"""What processes cost: processor time and peak memory out of /proc."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from psycopg2.extensions import connection as Connection

_TICK = os.sysconf("SC_CLK_TCK")
_SIZES = ("VmHWM", "RssAnon")


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor seconds (user and system, ended children included), peak resident megabytes, and
    what it holds now of its own: without memory that processes share, and without pages of files,
    which the kernel takes and gives back as it likes.
    """

    seconds: float
    peak: float
    own: float = 0.0


_NONE = Cost(0.0, 0.0)


def cost(pid: int) -> Cost:
    """What a process has cost so far, nothing for one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            sizes = dict(line.split(":", 1) for line in file if line.startswith(_SIZES))
    except (FileNotFoundError, ProcessLookupError):
        return _NONE
    peak, own = (int(sizes.get(name, "0 kB").split()[0]) / 1024 for name in _SIZES)
    return Cost(sum(map(int, fields[11:15])) / _TICK, peak, own)


def _children(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == pid:
                found.append(int(name))
    return found


def _with_children(pid: int) -> Cost:
    """What a program costs with the processes that it started: a worker has one that opens."""
    every = [cost(pid), *map(cost, _children(pid))]
    return Cost(
        sum(one.seconds for one in every),
        sum(one.peak for one in every),
        sum(one.own for one in every),
    )


def costs(programs: Mapping[str, int], connection: Connection) -> dict[str, Cost]:
    """The cost of each program so far; PostgreSQL's processes by what they do."""
    out = {name: _with_children(pid) for name, pid in programs.items() if name != "postgres"}
    out["load and receipts (bench)"] = cost(os.getpid())
    server = programs.get("postgres")
    if server is not None:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid, coalesce(nullif(application_name, ''), backend_type) "
                "FROM pg_stat_activity"
            )
            names = dict(cursor.fetchall())
        out["postgres: server"] = cost(server)
        for pid in _children(server):
            name = f"postgres: {names.get(pid, 'other')}"
            one, known = cost(pid), out.get(name, _NONE)
            out[name] = Cost(
                known.seconds + one.seconds, max(known.peak, one.peak), known.own + one.own
            )
    return out


def spent(before: Mapping[str, Cost], after: Mapping[str, Cost]) -> dict[str, Cost]:
    """What was spent in between; peaks as they are."""
    return {
        name: replace(cost, seconds=max(0.0, cost.seconds - before.get(name, _NONE).seconds))
        for name, cost in after.items()
    }
