from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipeline.runner import beam_options, is_local, make_runner
from schemas.errors import UserError

OURS = ("--input", "--output", "--preset", "--store-images")


def test_beams_options_pass_through() -> None:
    options = beam_options(["--direct_num_workers=2", "--direct_running_mode=multi_processing"], OURS)
    assert options.view_as(DirectOptions).direct_num_workers == 2


@pytest.mark.parametrize("arguments", [[], ["--runner=DirectRunner"], ["--runner=FnApiRunner"]])
def test_local_means_the_in_process_runner(arguments: list[str]) -> None:
    options = beam_options(arguments, OURS)
    assert is_local(options)
    assert isinstance(make_runner(options), FnApiRunner)


def test_other_runners_are_left_to_beam() -> None:
    options = beam_options(["--runner=FlinkRunner", "--flink_master=localhost:8081", "--parallelism=2"], OURS)
    assert not is_local(options)
    assert make_runner(options) == "FlinkRunner"


def test_the_runner_that_loses_data_is_refused() -> None:
    with pytest.raises(UserError, match="DaskRunner loses elements"):
        make_runner(beam_options(["--runner=DaskRunner"], OURS))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--ouput=x"], "--ouput: no such option; did you mean --output"),
        (["--store-image"], "--store-image: no such option; did you mean --store-images"),
        (["--direct_num_worker=2"], "--direct_num_worker: no such option; did you mean --direct_num_workers"),
        (["--quux"], "--quux: no such option"),
        (["stray"], "'stray': unexpected argument"),
        (["--direct_num_workers=two"], "invalid int value: 'two'"),
        (["--runner=FlinkRunner", "--ouput=x"], "did you mean --output"),
    ],
)
def test_typing_errors_are_told(arguments: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        beam_options(arguments, OURS)
