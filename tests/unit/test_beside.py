"""Statements that run beside a turn's rules: their order, and what is left of them at its end."""

from __future__ import annotations

import gc
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger.errors import Conflict, Refused
from ledger.postgres.turn_writing import PIECE, Beside


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def fail(err: Exception) -> None:
    raise err


def test_a_failure_is_raised_until_the_turn_ends(executor: ThreadPoolExecutor) -> None:
    """A rule that takes the first for the fault of a line must not have the turn go on."""

    def turn() -> None:
        with Beside(executor, PIECE + 1) as beside:
            number = beside.do(fail, Refused("key-taken"))
            beside.do(fail, Conflict("registry-conflict", "the transaction has failed"))
            with pytest.raises(Refused, match="key-taken"):
                beside.wait(number)

    with pytest.raises(Refused, match="key-taken"):
        turn()


def test_the_turn_ends_when_nothing_is_on_its_way(executor: ThreadPoolExecutor) -> None:
    """Also where waiting for it was broken off: the next statement is the rollback."""
    ran: list[str] = []
    waiting = threading.get_ident()

    def slow() -> None:
        time.sleep(0.2)
        signal.pthread_kill(waiting, signal.SIGALRM)
        time.sleep(0.2)
        ran.append("slow")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def turn() -> None:
        with Beside(executor, PIECE + 1) as beside:
            beside.do(slow)
            beside.do(ran.append, "what had not begun")
            beside.wait()

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            turn()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ran == ["slow"]
    assert executor.submit(ran.copy).result() == ["slow"]  # nothing came after


def test_waiting_up_to_a_number(executor: ThreadPoolExecutor) -> None:
    may_end, ran = threading.Event(), list[int]()
    with Beside(executor, PIECE + 1) as beside:
        numbers = [beside.do(ran.append, n) for n in range(3)]
        beside.do(may_end.wait, 10)
        beside.wait(numbers[1])
        beside.wait(numbers[1])
        beside.wait(numbers[2])
        assert ran == [0, 1, 2]
        may_end.set()


def test_a_small_turn_has_no_thread(executor: ThreadPoolExecutor) -> None:
    threads: list[threading.Thread] = []
    with Beside(executor, PIECE) as beside:
        beside.do(lambda: threads.append(threading.current_thread()))
        assert not beside.is_apart
    assert threads == [threading.current_thread()]


def test_what_failed_is_not_kept(executor: ThreadPoolExecutor) -> None:
    """A turn that is begun again must not leave all that it knew in a cycle."""

    class View:
        def read(self) -> None:
            raise Conflict("registry-conflict", "here")

    def turn() -> weakref.ref[View]:
        view = View()
        try:
            with Beside(executor, PIECE + 1) as beside:
                beside.wait(beside.do(view.read))
        except Conflict:
            pass
        return weakref.ref(view)

    gc.collect()
    gc.disable()
    try:
        known = turn()
        executor.submit(len, "").result()  # the thread has let go of its last work
        assert known() is None
    finally:
        gc.enable()
