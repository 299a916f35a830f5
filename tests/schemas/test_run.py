from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.books import Books
from schemas.dataset import open_run
from schemas.errors import UserError
from schemas.layout import Layout
from schemas.reasons import Reason, Rejected, Status
from schemas.records import LedgerRow
from schemas.run import FileEntry, RunPlan, SliceRecord, is_whole, only_slice, run_record, slice_record


def plan(**changes: Any) -> RunPlan:
    fields: dict[str, Any] = {
        "version": "1",
        "command": "generate",
        "config": {"seed": 0},
        "input": "m.parquet",
        "input_fingerprint": "f",
        "input_rows": 8,
        "num_slices": 2,
        "line": (("ReadManifest", ""), ("FetchImages", ""), ("EstimateDepth", "sensor")),
        "tables": ("scenes", "ledger"),
        "packages": {"numpy": "2"},
    }
    return RunPlan(**(fields | changes))


def record(index: int, whole: RunPlan | None = None) -> SliceRecord:
    books = Books()
    for _ in range(2):
        books.add(LedgerRow("a", None, Status.KEPT, "EstimateDepth", None, None, True, 5, {"FetchImages": 0.5}))
    books.add(LedgerRow.rejected("b", None, "FetchImages", Rejected(Reason.TIMEOUT, "x"), {"FetchImages": 1.0}))
    books.add(LedgerRow.rejected("c", None, "ReadManifest", Rejected(Reason.DUPLICATE, "x")))
    files = [FileEntry(table="scenes", path=f"scenes/{index}.parquet", rows=2, bytes=9, sha256="0")]
    return slice_record(whole or plan(), index, books, 4, files, f"t{index}", f"u{index}")


def test_a_slice() -> None:
    made = record(0)
    assert made.rows.model_dump() == {"read": 4, "kept": 2, "filtered": 0, "duplicate": 1, "failed": 1, "qa": 10}
    assert [(stage.name, stage.rows_in, stage.rows_out, stage.seconds) for stage in made.stages] == [
        ("ReadManifest", 4, 3, 0.0),
        ("FetchImages", 3, 2, 2.0),
        ("EstimateDepth", 2, 2, 0.0),
    ]


def test_a_run_is_the_sum_of_its_slices() -> None:
    run = run_record([record(1), record(0)])
    assert run.rows.model_dump() == {"read": 8, "kept": 4, "filtered": 0, "duplicate": 2, "failed": 2, "qa": 20}
    assert run.funnel == (("input", 8), ("ReadManifest", 6), ("FetchImages", 4), ("EstimateDepth", 4))
    assert run.reasons == {"duplicate": 2, "timeout": 2}
    assert [(stage.name, stage.rows_in, stage.seconds) for stage in run.stages][1] == ("FetchImages", 6, 4.0)
    assert [file.path for file in run.files] == ["scenes/0.parquet", "scenes/1.parquet"]
    assert (run.started_at, run.finished_at) == ("t0", "u1")


def test_slices_that_do_not_make_a_run() -> None:
    with pytest.raises(ValueError, match="1 of 2 slices are finished"):
        run_record([record(0)])
    with pytest.raises(ValueError, match="different configs, inputs or versions"):
        run_record([record(0), record(1, plan(config={"seed": 1}))])


def test_a_run_that_was_added_to() -> None:
    added = plan(addition=1, num_slices=1, input_rows=12, input_fingerprint="g")
    run = run_record([record(0), record(1), record(0, added)])
    assert (run.addition, run.input_rows, run.num_slices, run.rows.read) == (1, 12, 1, 12)
    assert [(part.addition, part.input_rows, part.rows.read) for part in run.additions] == [(0, 8, 8), (1, 12, 4)]
    # The rows of what was cut off are in the addition that came after it.
    assert run_record([record(0), record(0, added)]).rows.read == 8
    assert not is_whole([record(0), record(1), record(0, plan(addition=1))])
    with pytest.raises(ValueError, match="1 of 2 slices are finished"):
        run_record([record(0), record(1), record(0, plan(addition=1))])


def test_the_hosts_that_fail_most() -> None:
    books = Books()
    for host, reason in [("b.test", Reason.TIMEOUT)] * 2 + [("a.test", Reason.TIMEOUT), ("a.test", Reason.NOT_FOUND)]:
        books.add(LedgerRow.rejected("x", f"https://{host}:8/x.jpg", "FetchImages", Rejected(reason, "x")))
    books.add(LedgerRow.rejected("x", "https://c.test/x", "DecodeImages", Rejected(Reason.NOT_AN_IMAGE, "x")))
    books.add(LedgerRow.rejected("x", "https://c.test/x", "FetchImages", Rejected(Reason.OPTED_OUT, "x")))
    books.add(LedgerRow.rejected("x", "x.jpg", "FetchImages", Rejected(Reason.NOT_FOUND, "x")))
    both = [slice_record(plan(), index, books, 7, [], "t", "u") for index in range(2)]
    assert [failures.model_dump() for failures in run_record(both).hosts] == [
        {"host": "a.test", "rows": 4, "reasons": {"not_found": 2, "timeout": 2}},
        {"host": "b.test", "rows": 4, "reasons": {"timeout": 4}},
    ]
    many = Books()
    for number in range(300):
        many.add(LedgerRow.rejected("x", f"http://{number:03}.test/", "FetchImages", Rejected(Reason.TIMEOUT, "x")))
    whole = slice_record(plan(num_slices=1), 0, many, 300, [], "t", "u")
    assert len(whole.hosts) == 200
    assert [failures.host for failures in run_record([whole]).hosts] == [f"{number:03}.test" for number in range(20)]


def test_a_run_of_one_slice_is_that_slice() -> None:
    whole = record(0, plan(num_slices=1))
    assert only_slice(run_record([whole])) == whole


def test_the_names_of_files() -> None:
    alone, third = Layout("/o", 4), Layout("gs://b/o", 4, 3, 10)
    assert alone.part("qa", 0, "parquet") == "qa/part-00000-of-00004.parquet"
    assert third.part("qa", 2, "parquet") == "qa/slice-00003-of-00010-part-00002-of-00004.parquet"
    assert third.slice_record == "slices/00003-of-00010.json"
    assert third.temporary == "gs://b/o/_unfinished"
    added = Layout("gs://b/o", 4, addition=2)
    assert added.part("qa", 2, "parquet") == "qa/add-00002-slice-00000-of-00001-part-00002-of-00004.parquet"
    assert added.slice_record == "slices/add-00002-00000-of-00001.json"
    assert Layout("/o", 4, staging="x/1").destination == "/o/_unfinished/x/1"
    assert alone.destination == "/o"


def test_opening_a_folder(tmp_path: Path) -> None:
    assert open_run(str(tmp_path / "none")).slices == ()
    slices = tmp_path / "slices"
    slices.mkdir()
    (slices / "00000-of-00002.json").write_text(record(0).model_dump_json())
    run = open_run(str(tmp_path))
    assert run.record is None
    assert run.files("scenes") == [f"{tmp_path}/scenes/0.parquet"]
    (tmp_path / "run.json").write_text(run_record([record(0), record(1)]).model_dump_json())
    assert len(open_run(str(tmp_path)).files("scenes")) == 2
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match=r"run\.json is not a record of this project"):
        open_run(str(tmp_path))
