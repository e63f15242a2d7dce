"""Who trains what, where several coordinators write to one store: a lease on each training, in a database of theirs.

The database's clock decides when a lease has run out, so that no coordinator's own matters. A lease is renewed while
its holder lives; that of one that died is anybody's once it has run out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC
from typing import TypeVar

import sqlalchemy as sa

from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.ablations.stores import StoreError

LEASE_SECONDS = 120.0
RENEWALS = 4
"""Of a lease, before it runs out."""
PATIENCE_SECONDS = 60.0
"""How long a database may not answer, as while it is started again, before a coordinator that needs it gives up."""
AGAIN_SECONDS = 1.0
AT_ONCE = 500
"""Trainings that are asked for in one statement."""

_TABLES = sa.MetaData()
_CLAIMS = sa.Table(
    "cifar_ablations_claims",
    _TABLES,
    sa.Column("training", sa.String(250), primary_key=True),
    sa.Column("holder", sa.String(250), nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)
_RELEASES = sa.Table(
    "cifar_ablations_releases",
    _TABLES,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("holder", sa.String(250), nullable=False),
)
WITHIN = {"connect_timeout": 10, "keepalives_idle": 20, "options": "-c statement_timeout=30000"}
"""Of connections to PostgreSQL: a machine that vanishes must not hold up training for as long as TCP would wait."""

T = TypeVar("T")


class Claims:
    """The leases of one coordinator. As a context it renews them, and gives them back at the end."""

    def __init__(self, url: str, holder: str, lease_seconds: float | None = None):
        """url: of the database, as SQLAlchemy has it; holder: what tells this coordinator from all others.

        Raises StoreError, in a sentence, where the database cannot be opened.
        """
        self._url, self._me, self._lease = without_password(url), holder, lease_seconds or LEASE_SECONDS
        self._held: set[str] = set()
        self._lost: set[str] = set()
        self._renewed = _seconds()
        self._gives_back = True
        self._seen = 0
        self._left = threading.Event()
        self.taken_over: dict[str, str] = {}
        """By trainings whose leases had run out and that were taken over here, who had them."""
        try:
            within = WITHIN if sa.make_url(url).get_backend_name() == "postgresql" else {}
            self._engine = sa.create_engine(url, pool_pre_ping=True, connect_args=within)
        except Exception as error:  # each database's driver has exceptions of its own
            raise StoreError(f"the claims at {self._url} cannot be opened: {_reason(error)}") from None
        try:
            self._make_tables()
            self.has_news()
        except StoreError:
            self._engine.dispose()
            raise

    def __enter__(self) -> Claims:
        self._thread = threading.Thread(target=self._keep, daemon=True, name="leases")
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        self._thread.join(AGAIN_SECONDS)
        if self._gives_back:
            with suppress(StoreError):  # they run out
                self.release(patience=0)
        self._engine.dispose()

    def let_run_out(self) -> None:
        """Do not give the leases back at the end: what became of them is not in the store yet."""
        self._gives_back = False

    def take(self, trainings: Collection[str]) -> set[str]:
        """Take a lease on each of these that nobody else has; returns those that are held here now."""

        def work(connection: sa.Connection) -> tuple[set[str], dict[str, str]]:
            now, ours, gone = _now(connection), set[str](), dict[str, str]()
            for name in sorted(trainings):  # in one order everywhere: nobody waits for one that waits for it
                row = {"training": name, "holder": self._me, "until": now + self._lease}
                where = _CLAIMS.c.training == name
                try:
                    with connection.begin_nested():
                        connection.execute(_CLAIMS.insert().values(row))
                    ours.add(name)
                    continue
                except sa.exc.IntegrityError:
                    pass
                holder = connection.scalar(sa.select(_CLAIMS.c.holder).where(where))
                free = sa.or_(_CLAIMS.c.until < now, _CLAIMS.c.holder == self._me)
                if connection.execute(_CLAIMS.update().where(where, free).values(row)).rowcount == 1:
                    ours.add(name)
                    gone |= {name: str(holder)} if holder not in (None, self._me) else {}
            return ours, gone

        ours, gone = self._in_transaction(work)
        self._held |= ours
        self._lost -= ours
        self.taken_over |= gone
        return ours

    def holds(self, training: str) -> bool:
        """Whether a lease that was taken has not run out since, as far as can be known here."""
        return training not in self._lost and _seconds() - self._renewed < self._lease

    def holders(self, trainings: Collection[str]) -> dict[str, str]:
        """By those of these trainings on which others have leases, who does."""

        def work(connection: sa.Connection) -> dict[str, str]:
            valid = sa.and_(_CLAIMS.c.until >= _now(connection), _CLAIMS.c.holder != self._me)
            found, names = dict[str, str](), list(trainings)
            for begin in range(0, len(names), AT_ONCE):
                asked = valid & _CLAIMS.c.training.in_(names[begin : begin + AT_ONCE])
                rows = connection.execute(sa.select(_CLAIMS.c.training, _CLAIMS.c.holder).where(asked))
                found |= {row.training: row.holder for row in rows}
            return found

        return self._in_transaction(work)

    def has_news(self) -> bool:
        """Whether another coordinator has given leases back since this was last asked: the store may have more."""

        def work(connection: sa.Connection) -> int:
            asked = sa.select(sa.func.max(_RELEASES.c.number)).where(_RELEASES.c.holder != self._me)
            return int(connection.scalar(asked) or 0)

        latest = self._in_transaction(work)
        news, self._seen = latest > self._seen, latest
        return news

    def release(self, patience: float | None = None) -> None:
        """Give all leases back. What became of them must be in the store by then. patience: in seconds."""

        def work(connection: sa.Connection) -> None:
            if connection.execute(_CLAIMS.delete().where(_CLAIMS.c.holder == self._me)).rowcount:
                connection.execute(_RELEASES.insert().values(holder=self._me))

        self._in_transaction(work, patience)
        self._held.clear()
        self._lost.clear()

    def _keep(self) -> None:
        """Renew the leases until they are given back."""
        while not self._left.wait(self._lease / RENEWALS):
            with suppress(Exception):  # the next time, if it is not too late then; `holds` will tell
                self.renew()

    def wait_for(self, name: str, say: Callable[[str], None], stopped: Callable[[], bool]) -> None:
        """Take a lease on something, once nobody else has it; says whom it waits for.

        Raises KeyboardInterrupt where the caller is to stop.
        """
        told = ""
        while not self.take([name]):
            holder = process_in_words(self.holders([name]).get(name, ""))
            if holder and holder != told:
                say(f"{holder[:1].upper()}{holder[1:]} is at work on the same; waiting for it to end (Ctrl-C to stop).")
                told = holder
            if stopped():
                raise KeyboardInterrupt
            time.sleep(AGAIN_SECONDS)

    def renew(self) -> None:
        """Renew the leases that are held; those that another has taken by now are lost."""

        def work(connection: sa.Connection) -> set[str]:
            mine = _CLAIMS.c.holder == self._me
            connection.execute(_CLAIMS.update().where(mine).values(until=_now(connection) + self._lease))
            return set(connection.scalars(sa.select(_CLAIMS.c.training).where(mine)))

        held, asked = set(self._held), _seconds()
        with self._engine.begin() as connection:
            still = work(connection)
        self._lost |= held - still
        self._renewed = asked

    def _make_tables(self) -> None:
        def work(connection: sa.Connection) -> None:
            _TABLES.create_all(connection)

        with suppress(sa.exc.SQLAlchemyError), self._engine.begin() as connection:
            work(connection)
            return
        # Another coordinator made them at the same moment, or the database cannot be reached, which is said at once.
        self._in_transaction(work, patience=0)

    def _in_transaction(self, work: Callable[[sa.Connection], T], patience: float | None = None) -> T:
        """What the work returns. Raises StoreError where the database does not answer for a while."""
        until = time.monotonic() + (PATIENCE_SECONDS if patience is None else patience)
        while True:
            try:
                with self._engine.begin() as connection:
                    return work(connection)
            except sa.exc.OperationalError as error:
                if time.monotonic() >= until:
                    raise StoreError(f"the claims at {self._url} cannot be read: {_reason(error)}") from None
            except sa.exc.SQLAlchemyError as error:
                raise StoreError(f"the claims at {self._url} cannot be read: {_reason(error)}") from None
            time.sleep(AGAIN_SECONDS)


def process_in_words(holder: str) -> str:
    """A holder that is a process, as a person looks for it; holder: `tracking.this_process` of it."""
    host, _, pid, *_ = [*holder.split("/"), "", "", ""]
    return f"process {pid} on {host}" if pid else holder


def _seconds() -> float:
    """Of a clock of this machine that goes on while it sleeps, where there is one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _now(connection: sa.Connection) -> float:
    """The database's time, in seconds."""
    now = connection.scalar(sa.select(sa.func.current_timestamp()))
    assert now is not None
    return (now if now.tzinfo else now.replace(tzinfo=UTC)).timestamp()


def _reason(error: Exception) -> str:
    said: Iterable[str] = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    return without_password(next(iter(said))).rstrip(".")
