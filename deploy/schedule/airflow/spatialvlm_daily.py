"""Two Airflow DAGs: every night the manifest of the day before, on Dataflow or on Flink, then a look at its ratios.

Put this file and check_run.py into the folder of DAGs. The Variables `spatialvlm_project`, `spatialvlm_region`,
`spatialvlm_bucket` and `spatialvlm_image` are read when a task runs. The Flink variant needs this project installed
beside Airflow in an environment of its own, `spatialvlm_python` being its interpreter (the Beam provider calls it).

Input is gs://BUCKET/manifests/day=2026-01-31/, output gs://BUCKET/runs/day=2026-01-31/. A try after a failure does what
is missing (`resume`). A task that fails for good calls `on_failure_callback`: put your pager there.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.apache.beam.operators.beam import BeamRunPythonPipelineOperator
from airflow.providers.google.cloud.hooks.gcs import GCSHook
from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.sdk import DAG, task
from check_run import problems

BUCKET = "{{ var.value.spatialvlm_bucket }}"
INPUT = f"gs://{BUCKET}/manifests/day={{{{ ds }}}}/"
OUTPUT = f"gs://{BUCKET}/runs/day={{{{ ds }}}}"
AT_LEAST = {"kept": 0.1, "qa_per_kept": 20.0}
AT_MOST = {"failed": 0.2}


def alert(context: dict[str, Any]) -> None:
    """Called when a task has failed for good."""
    logging.getLogger(__name__).error("spatialvlm: %s failed for %s", context["task_instance"], context["ds"])


@task(retries=0)
def check_ratios(bucket: str, name: str) -> None:
    """Fail when a ratio of the run is out of its bounds.

    Raises:
        ValueError: which, and by how much.
    """
    import json

    record = json.loads(GCSHook().download(bucket_name=bucket, object_name=name))
    found = problems(record, at_least=AT_LEAST, at_most=AT_MOST)
    if found:
        raise ValueError("; ".join(found))


def daily(name: str, description: str) -> DAG:
    """A DAG that runs once for each day, one day at a time."""
    return DAG(
        dag_id=name,
        description=description,
        schedule="30 2 * * *",
        start_date=datetime(2026, 1, 1),
        catchup=False,
        max_active_runs=1,
        default_args={
            "retries": 2,
            "retry_delay": timedelta(minutes=10),
            "on_failure_callback": alert,
        },
        tags=["spatialvlm"],
    )


with daily("spatialvlm_daily_dataflow", "Spatial questions from yesterday's pictures, on Dataflow"):
    generate = DataflowStartFlexTemplateOperator(
        task_id="generate",
        project_id="{{ var.value.spatialvlm_project }}",
        location="{{ var.value.spatialvlm_region }}",
        body={
            "launchParameter": {
                "jobName": "spatialvlm-{{ ds_nodash }}",
                "containerSpecGcsPath": f"gs://{BUCKET}/templates/spatialvlm.json",
                "parameters": {
                    "input": INPUT,
                    "output": OUTPUT,
                    "preset": "sample",
                    "resume": "true",
                    "sdk_container_image": "{{ var.value.spatialvlm_image }}",
                },
                "environment": {
                    "tempLocation": f"gs://{BUCKET}/tmp",
                    "stagingLocation": f"gs://{BUCKET}/staging",
                    "maxWorkers": 50,
                    "additionalUserLabels": {"app": "spatialvlm"},
                },
            }
        },
        # The template submits and ends; it is the operator that waits, without holding a slot.
        deferrable=True,
        append_job_name=False,
    )
    generate >> check_ratios(BUCKET, "runs/day={{ ds }}/run.json")

with daily("spatialvlm_daily_flink", "Spatial questions from yesterday's pictures, on Flink"):
    generate = BeamRunPythonPipelineOperator(
        task_id="generate",
        py_interpreter="{{ var.value.spatialvlm_python }}",
        py_options=["-m"],
        py_file="beam_pipeline",
        runner="PortableRunner",
        pipeline_options={
            "input": INPUT,
            "output": OUTPUT,
            "preset": "sample",
            "resume": True,
            "job_endpoint": "beam-job-server:8099",
            "artifact_endpoint": "beam-job-server:8098",
            "environment_type": "EXTERNAL",
            "environment_config": "localhost:50000",
            "parallelism": 4,
        },
    )
    generate >> check_ratios(BUCKET, "runs/day={{ ds }}/run.json")
