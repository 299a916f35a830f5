from __future__ import annotations

import pytest

from schemas.books import Books, UnbalancedError, check_balance
from schemas.reasons import Reason, Rejected, Status
from schemas.records import LedgerRow

TABLES = ("scenes", "qa", "ledger")


def kept(qa: int) -> LedgerRow:
    return LedgerRow("a", "a.jpg", Status.KEPT, "SynthesizeQA", None, None, True, qa, {"FetchImages": 0.5})


def failed() -> LedgerRow:
    return LedgerRow.rejected("b", "b.jpg", "FetchImages", Rejected(Reason.NOT_FOUND, "x"), {"FetchImages": 0.25})


def books(*rows: LedgerRow) -> Books:
    result = Books()
    for row in rows:
        result.add(row)
    return result


def test_sums() -> None:
    book = books(kept(200), kept(100), failed())
    assert (book.rows, book.qa, book.count(Status.KEPT), book.count(Status.FAILED)) == (3, 300, 2, 1)
    assert book.refused_at("FetchImages") == 1
    assert book.refused_at("SynthesizeQA") == 0
    assert book.reasons() == {"not_found": 1}
    assert book.seconds == {"FetchImages": 1.25}


def test_the_sum_of_two_books_is_the_book_of_both() -> None:
    one, both = books(kept(1), failed()), books(kept(1), failed(), failed(), kept(5))
    one.merge(books(failed(), kept(5)))
    assert one == both


def test_balanced_books_pass() -> None:
    check_balance(
        books(kept(3), failed()), rows_read=2, rows_written={"scenes": 1, "qa": 3, "ledger": 2}, tables=TABLES
    )


@pytest.mark.parametrize(
    ("rows_read", "written", "complaint"),
    [
        (3, {"scenes": 1, "qa": 3, "ledger": 2}, "3 rows were read, but 2 entered the ledger"),
        (2, {"scenes": 0, "qa": 3, "ledger": 2}, "scenes has 0 rows, expected 1"),
        (2, {"scenes": 1, "qa": 4, "ledger": 2}, "qa has 4 rows, expected 3"),
        (2, {"scenes": 1, "qa": 3}, "ledger has 0 rows, expected 2"),
    ],
)
def test_unbalanced_books_are_an_error(rows_read: int, written: dict[str, int], complaint: str) -> None:
    with pytest.raises(UnbalancedError, match=complaint):
        check_balance(books(kept(3), failed()), rows_read=rows_read, rows_written=written, tables=TABLES)


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_status_and_a_permanence(reason: Reason) -> None:
    assert reason.status in (Status.FILTERED, Status.DUPLICATE, Status.FAILED)
    assert isinstance(reason.permanent, bool)


def test_what_may_pass_is_not_permanent() -> None:
    assert [reason.value for reason in Reason if not reason.permanent] == [
        "http_error",
        "timeout",
        "host_down",
        "out_of_memory",
        "model_error",
        "internal_error",
    ]
