"""`certledger outbox run`: what a department's own database says, published in its order.

Steps of a row: (1) it is read in the order of the commits, (2) it is *taken*, its event id written
beside it and committed, (3) the publisher spools and sends it, (4) its outcome is committed beside
it, before the spool lets go. A kill before (2) leaves nothing. After (2) and before (3) the next
start, once the spool is empty, takes it again: the same id. After (3) the spool sends it again and
hears the same receipt. After (4) there is nothing left to do. So a row is never judged twice: what
was refused could be possible by now.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from ledger.entry import ADMITTED
from ledger.errors import Conflict, Unavailable

from .closing import Closing
from .config import PublisherConfig
from .feeding import Progress
from .outbox_table import OutboxTable, Taken, is_refused
from .publisher import REPEAT, EventReceipt, Publisher

_POLL_SECONDS = 0.2
_MOST_PAUSE_SECONDS = 30.0  # before servers that do not answer are tried again

Answer = Callable[[OutboxTable, Sequence[EventReceipt]], None]


class Session(Closing):
    """One publisher and one outbox, until either fails; what is left then a new session takes up.

    Raises what `Publisher` and `OutboxTable` raise.
    """

    def __init__(
        self,
        config: PublisherConfig,
        kafka: str,
        url: str,
        answer: Answer,
        *,
        take_over: bool = False,
        linger_seconds: float = 0.05,
    ) -> None:
        self._write_down = answer
        self.table = OutboxTable(url, config.department)
        try:
            self.publisher = Publisher(
                config,
                kafka,
                take_over=take_over,
                linger_seconds=linger_seconds,
                on_outcome=self._answer,
            )
        except BaseException:
            self.table.close()
            raise

    def resume(self) -> None:
        """Return when all that earlier processes spooled has its outcome: only then is it known
        which rows were taken and never spooled.
        """
        while not self.publisher.wait(_POLL_SECONDS):
            self._check()
        self.table.forget_taken()

    def round(self) -> Taken:
        """Steps 1 to 3 for the next rows; waits while too many have no outcome yet."""
        self._check()
        taken = self.table.take(self.publisher.make)
        # A kill here: taken, not spooled; the next start takes them again.
        for line in taken.lines:
            self.publisher.publish_line(line)
        return taken

    def close(self) -> None:
        """Wait a little for outcomes, then stop; the rest stays in the spool."""
        try:
            self.publisher.close(5)
        except Unavailable:
            pass  # what has no receipt yet is spooled
        finally:
            self.table.close()

    def _check(self) -> None:
        self.publisher.wait(0)
        if self.publisher.rejected is not None:
            raise self.publisher.rejected

    def _answer(self, results: Sequence[EventReceipt]) -> None:
        # Step 4. A kill after it and before the spool lets go: written down again, in vain.
        self._write_down(self.table, results)


class OutboxRun:
    """Publishes what stands in the outbox; `published` and `codes` count the rows of this run.

    `held` rows of the table can be no event, `waiting` ones wait for them. `open_session` is told
    whether it is the first one.
    """

    def __init__(self, open_session: Callable[[Answer, bool], Session]) -> None:
        self._open = open_session
        self._progress = Progress("outbox", None)
        self._shown = 0
        self._unsure: set[str] = set()  # event ids whose outcomes may be written and not counted
        self.codes: Counter[str] = Counter()
        self.published = self.held = self.waiting = 0

    @property
    def answered(self) -> int:
        """Rows with an outcome."""
        return sum(self.codes.values())

    @property
    def admitted(self) -> int:
        """Rows whose events the ledger holds."""
        return self.codes[ADMITTED] + self.codes[REPEAT]

    @property
    def refused(self) -> dict[str, int]:
        """Row counts by the code with which the ledger refused them."""
        return {code: n for code, n in sorted(self.codes.items()) if is_refused(code)}

    def run(self, once: bool) -> None:
        """Until Ctrl-C or, `once`, until every row has its outcome; servers that went away are
        waited for.
        """
        pause = 1.0
        begun = False
        while True:
            try:
                with self._open(self._answer, not begun) as session:
                    if begun:
                        self._say("outbox: it goes on")
                    self._begin(session)
                    begun, pause = True, 1.0
                    if self._work(session, once):
                        return
            except (Unavailable, Conflict) as err:
                # The outbox is in use: by our own lost session, which the server will end.
                if not begun or (isinstance(err, Conflict) and err.code != "relay-moved"):
                    raise
                self._say(f"outbox: {err.message}; trying again in {pause:.0f} s")
                time.sleep(pause)
                pause = min(pause * 2, _MOST_PAUSE_SECONDS)
            finally:
                self._progress.end()

    def _begin(self, session: Session) -> None:
        if left := session.publisher.outstanding:
            self._say(f"outbox: {left:,} events of an earlier run wait for their receipts")
        session.resume()
        self.held, self.waiting = session.table.held()
        if self.held:
            self._say(
                f"outbox: {self.held:,} rows can be no event and {self.waiting:,} wait for them "
                "(certledger outbox run --help says how they are mended)"
            )

    def _work(self, session: Session, once: bool) -> bool:
        while True:
            taken = session.round()
            self.published += len(taken.lines)
            if taken:
                self.held, self.waiting = session.table.held()
            for row in taken.held:
                self._say(
                    f"row {row.id} ({row.change_id}) can be no event, {row.code}: {row.reason}; "
                    "later rows of its certificate wait"
                )
            self._show()
            if not taken:
                if once and session.publisher.wait(0):
                    return True
                time.sleep(_POLL_SECONDS)

    def _answer(self, table: OutboxTable, results: Sequence[EventReceipt]) -> None:
        events = {result.event_id for result in results}
        again = events & self._unsure
        self._unsure |= events
        rows = table.answer(results, again)
        # Where the reply to its COMMIT is lost, the next session hears the same receipt.
        self._unsure -= events
        self.codes.update(row.code for row in rows)
        for row in rows:
            if is_refused(row.code):
                self._say(f"row {row.id} ({row.change_id}) was refused, {row.code}: {row.reason}")

    def _show(self) -> None:
        count = self.published + self.answered
        if count != self._shown and self._progress.show(self):
            self._shown = count

    def _say(self, text: str) -> None:
        self._progress.end()
        print(text, file=sys.stderr, flush=True)
