"""Is a finished run as it should be? Its ratios are held against bounds; every schedule calls this after the job.

    python check_run.py OUT --max failed=0.2 --min kept=0.1 --min qa_per_kept=20 --max reason.timeout=0.05

OUT is the output folder, local or gs://. Exit code 0: all within bounds; 1: some are not, a line for each; 2: no
complete run there, or a bound that makes no sense. Only the standard library is needed, and apache-beam for gs://.

Ratios: `kept`, `filtered`, `duplicate`, `failed` and `reason.NAME` are shares of the rows read; `stage.NAME` is the
share of the rows that came to a stage that it let pass; `qa_per_kept` is questions for each picture kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Mistake(Exception):
    """A bound or a place that the caller has to mend."""


def ratios(record: Record) -> dict[str, float]:
    """All ratios of a `run.json` by name. A stage that no row came to has none."""
    rows, read = record["rows"], record["rows"]["read"]
    found = {name: rows[name] / read for name in ("kept", "filtered", "duplicate", "failed")}
    found |= {f"reason.{name}": count / read for name, count in record["reasons"].items()}
    found |= {
        f"stage.{stage['name']}": stage["rows_out"] / stage["rows_in"] for stage in record["stages"] if stage["rows_in"]
    }
    return found | {"qa_per_kept": rows["qa"] / rows["kept"] if rows["kept"] else 0.0}


def problems(record: Record, *, at_least: dict[str, float], at_most: dict[str, float]) -> list[str]:
    """A sentence for each ratio out of its bounds.

    A reason that no row had counts as 0, a stage that no row came to as 0 rows let pass.

    Raises:
        Mistake: a bound on something that is no ratio.
    """
    found = ratios(record)
    stages = {stage["name"] for stage in record["stages"]}
    sentences = []
    for bounds, word, broken in ((at_least, "less", float.__lt__), (at_most, "more", float.__gt__)):
        for name, bound in bounds.items():
            kind, _, rest = name.partition(".")
            if name not in found and not (kind == "reason" and rest) and not (kind == "stage" and rest in stages):
                raise Mistake(f"{name} is no ratio of this run; it has {', '.join(found)}")
            value = found.get(name, 0.0)
            if broken(value, bound):
                sentences.append(f"{name} is {value:.4g}, {word} than {bound:.4g}")
    return sentences


def read_record(output: str) -> Record:
    """The `run.json` of an output folder.

    Raises:
        Mistake: there is none, so the run is not complete, or it is not one.
    """
    place = output.rstrip("/") + "/run.json"
    try:
        text = _read_from_bucket(place) if "://" in place else Path(place).read_bytes()
        record = json.loads(text)
        read = record["rows"]["read"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise Mistake(f"{place}: no record of a complete run ({type(error).__name__})") from error
    if not read:
        raise Mistake(f"{place}: the run read no rows")
    return dict(record)


def _read_from_bucket(place: str) -> bytes:
    from apache_beam.io.filesystems import FileSystems

    with FileSystems.open(place) as handle:
        return bytes(handle.read())


def _bounds(texts: Sequence[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            equals = ""
        if not (name and equals):
            raise Mistake(f"{text!r} is not of the form failed=0.2")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="output folder of the run, local or gs://")
    parser.add_argument("--min", action="append", default=[], metavar="RATIO=VALUE", help="lower bound; repeatable")
    parser.add_argument("--max", action="append", default=[], metavar="RATIO=VALUE", help="upper bound; repeatable")
    given = parser.parse_args(arguments)
    try:
        record = read_record(given.output)
        sentences = problems(record, at_least=_bounds(given.min), at_most=_bounds(given.max))
    except Mistake as mistake:
        print(f"check_run: {mistake}", file=sys.stderr)
        return 2
    for sentence in sentences:
        print(f"check_run: {given.output}: {sentence}", file=sys.stderr)
    if not sentences:
        rows = record["rows"]
        print(
            f"{given.output}: {rows['kept']:,} of {rows['read']:,} rows kept, {rows['qa']:,} questions; within bounds"
        )
    return 1 if sentences else 0


if __name__ == "__main__":
    sys.exit(main())
