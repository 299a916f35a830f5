from __future__ import annotations

import apache_beam as beam
import pytest

from tests.conftest import run_pipeline
from transforms.fetching.health import NetworkDownError
from transforms.stop import FailureShare, TooManyDownError, stop_message


def test_the_share_of_the_latest_rows() -> None:
    share = FailureShare(0.5, 10)
    for failed in [True] * 5 + [False] * 5 + [True] * 5:
        share.add(failed)
    message = "6 of the latest 10 rows failed for reasons that may pass, more than max_failed 50%"
    with pytest.raises(TooManyDownError, match=message):
        share.add(True)


def test_too_few_rows_say_nothing() -> None:
    share = FailureShare(0.0, 10)
    for _ in range(9):
        share.add(True)
    for endless in (FailureShare(0.0, 0), FailureShare(1.0, 1)):
        for _ in range(100):
            endless.add(True)


def _stop(_: int) -> None:
    raise NetworkDownError("nothing answers")


def test_the_message_is_found_in_what_a_runner_raises() -> None:
    with pytest.raises(Exception, match="nothing answers") as raised, run_pipeline() as pipeline:
        _ = pipeline | beam.Create([1]) | "Fetch" >> beam.Map(_stop)
    assert stop_message(raised.value) == "nothing answers"
    text = "…\ntransforms.fetching.health.NetworkDownError: nothing answers [while running 'Fetch']\n"
    assert stop_message(RuntimeError(text)) == "nothing answers"
    assert stop_message(NetworkDownError("nothing answers")) == "nothing answers"
    assert stop_message(RuntimeError("something else")) is None
