from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipeline.configuration import load_config
from beam_pipeline.runner import beam_options, check_dataflow, check_detachable, is_local, make_runner, written_to
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


FLINK = ["--runner=FlinkRunner", "--flink_master=flink:8081"]
DATAFLOW = ["--runner=DataflowRunner", "--project=p-1", "--temp_location=gs://b/tmp", "--sdk_container_image=r/i:1"]
GPU = "{accelerator: 'type:nvidia-l4;count:1;install-nvidia-driver', min_ram: 16GB}"
SERVICE_OPTION = "--dataflow_service_options=worker_accelerator=type:nvidia-tesla-t4;count:1;install-nvidia-driver"


def check(arguments: list[str], *settings: str, input: str = "gs://b/in.parquet", output: str = "gs://b/out") -> None:
    config = load_config(None, None, {}, settings)
    check_dataflow(beam_options(arguments, OURS), config, input=input, output=output)


@pytest.mark.parametrize(
    ("more", "settings"),
    [
        ([], []),
        ([], [f"models.resource_hints={GPU}"]),
        ([], [f"depth={{backend: sensor, resource_hints: {GPU}}}"]),
        ([SERVICE_OPTION], []),
        (["--flexrs_goal=COST_OPTIMIZED"], []),
        (["--dataflow_service_options=enable_prime"], [f"models.resource_hints={GPU}"]),
    ],
)
def test_what_dataflow_takes(more: list[str], settings: list[str]) -> None:
    check(DATAFLOW + more, *settings)


@pytest.mark.parametrize(
    ("more", "setting"),
    [
        ([SERVICE_OPTION], f"models.resource_hints={GPU}"),
        ([SERVICE_OPTION], f"depth={{backend: sensor, resource_hints: {GPU}}}"),
        ([SERVICE_OPTION, "--resource_hints=min_ram=16GB"], "seed=1"),
        (
            ["--experiments=worker_accelerator=type:nvidia-l4;count:1"],
            f"captions={{backend: manifest, resource_hints: {GPU}}}",
        ),
    ],
)
def test_a_gpu_is_asked_for_in_one_way(more: list[str], setting: str) -> None:
    with pytest.raises(UserError, match=r"^worker_accelerator: .*resource_hints asks for right fitting"):
        check(DATAFLOW + more, setting)


def test_flexrs_has_no_right_fitting() -> None:
    with pytest.raises(UserError, match=r"^--flexrs_goal: models.resource_hints asks for right fitting"):
        check([*DATAFLOW, "--flexrs_goal=COST_OPTIMIZED"], f"models.resource_hints={GPU}")


@pytest.mark.parametrize("missing", ["--project", "--temp_location", "--sdk_container_image"])
def test_what_dataflow_lacks(missing: str) -> None:
    with pytest.raises(UserError, match=f"^{missing}: missing"):
        check([argument for argument in DATAFLOW if not argument.startswith(missing)])


def test_dataflow_reads_and_writes_buckets() -> None:
    with pytest.raises(UserError, match=r"--input: samples/manifest\.parquet is not in a bucket"):
        check(DATAFLOW, input="samples/manifest.parquet")
    with pytest.raises(UserError, match="--output: out is not in a bucket"):
        check(DATAFLOW, output="out")


def test_other_runners_are_not_held_to_dataflows_rules() -> None:
    check(["--runner=FlinkRunner"], f"models.resource_hints={GPU}", input="in.parquet", output="out")


@pytest.mark.parametrize(
    "arguments",
    [DATAFLOW, ["--runner=PortableRunner", "--job_endpoint=flink:8099", "--environment_type=EXTERNAL"]],
)
def test_a_job_that_goes_on_alone(arguments: list[str]) -> None:
    check_detachable(beam_options(arguments, OURS))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "what the local runner runs on would end"),
        (["--runner=FlinkRunner", "--flink_master=flink:8081"], "what FlinkRunner runs on would end"),
        (["--runner=PortableRunner"], "what PortableRunner runs on would end"),
        (["--runner=PortableRunner", "--job_endpoint=flink:8099", "--environment_type=LOOPBACK"], "LOOPBACK would end"),
    ],
)
def test_a_job_that_would_not(arguments: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        check_detachable(beam_options(arguments, OURS))


def test_the_launcher_of_a_template() -> None:
    assert written_to(beam_options([*DATAFLOW, "--template_location=gs://b/t"], OURS)) == "gs://b/t"
    assert written_to(beam_options([*FLINK, "--output_executable_path=job.jar"], OURS)) == "job.jar"
    assert written_to(beam_options(DATAFLOW, OURS)) is None
