"""The books of a run: every row that came in, and how each ended. They must balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from schemas.reasons import Status
from schemas.records import LedgerRow

# The stage whose failures are told by host.
FETCHING = "FetchImages"


class UnbalancedError(Exception):
    """Rows were lost or doubled. The run's output cannot be trusted."""


@dataclass(slots=True)
class Books:
    """Sums over ledger rows; the sum of two books is the book of both.

    `outcomes` counts (status, stage, reason) with reason "" for kept rows; `seen` and `seconds` are, for
    each stage, how many rows it worked on and for how long, summed over workers; `hosts` counts the rows that could
    not be fetched by (host, reason).
    """

    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    qa: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    hosts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, row: LedgerRow) -> None:
        """Enter one row."""
        self.outcomes[row.status.value, row.stage, row.reason.value if row.reason else ""] += 1
        self.qa += row.qa_count
        if row.status is Status.FAILED and row.stage == FETCHING and row.reason and (host := _host(row.image_url)):
            self.hosts[host, row.reason.value] += 1
        for stage, seconds in row.seconds.items():
            self.seen[stage] += 1
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def merge(self, other: Books) -> None:
        """Enter all that another book holds."""
        self.outcomes.update(other.outcomes)
        self.qa += other.qa
        self.hosts.update(other.hosts)
        self.seen.update(other.seen)
        for stage, seconds in other.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @property
    def rows(self) -> int:
        """Rows in the ledger."""
        return sum(self.outcomes.values())

    def count(self, status: Status) -> int:
        """Rows that ended as `status`."""
        return sum(number for (ended, _, _), number in self.outcomes.items() if ended == status.value)

    def refused_at(self, stage: str) -> int:
        """Rows that ended at `stage` without being kept."""
        return sum(
            number
            for (status, where, _), number in self.outcomes.items()
            if where == stage and status != Status.KEPT.value
        )

    def reasons(self) -> dict[str, int]:
        """How many rows each reason cost, most first."""
        counts: Counter[str] = Counter()
        for (_, _, reason), number in self.outcomes.items():
            if reason:
                counts[reason] += number
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _host(url: str | None) -> str | None:
    try:
        return urlsplit(url or "").hostname
    except ValueError:
        return None


def check_balance(books: Books, *, rows_read: int, rows_written: Mapping[str, int], tables: Iterable[str]) -> None:
    """The law of the ledger: one row out for every row in, and tables that hold what it says.

    Args:
        books: sums over the ledger.
        rows_read: rows read from the input, counted where they were read.
        rows_written: table → rows in its files, counted where they were written.
        tables: the tables that were to be written; those of conversations follow from `qa` and are not checked.

    Raises:
        UnbalancedError: naming the sums that differ.
    """
    kept = books.count(Status.KEPT)
    expected = {"ledger": rows_read, "scenes": kept, "qa": books.qa, "qa_tfrecord": kept}
    faults = [
        f"{table} has {rows_written.get(table, 0)} rows, expected {expected[table]}"
        for table in tables
        if table in expected and rows_written.get(table, 0) != expected[table]
    ]
    if books.rows != rows_read:
        faults.insert(0, f"{rows_read} rows were read, but {books.rows} entered the ledger")
    if faults:
        raise UnbalancedError("the books do not balance: " + "; ".join(faults))
