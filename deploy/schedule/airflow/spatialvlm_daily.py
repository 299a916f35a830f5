"""Two Airflow DAGs: every night the manifest of the day before, on Dataflow or on Flink, then a look at its ratios.

Put this file, check_run.py and the folder deploy/training, as `training`, into the folder of DAGs. The Variables
`spatialvlm_project`, `spatialvlm_region`, `spatialvlm_bucket`, `spatialvlm_image`, `spatialvlm_training_image` and
`spatialvlm_trainer` (an account) are read when a task runs. The Flink variant needs this project installed beside
Airflow in an environment of its own, `spatialvlm_python` being its interpreter (the Beam provider calls it).

Input is gs://BUCKET/manifests/day=2026-01-31/, output gs://BUCKET/runs/day=2026-01-31/. A try after a failure does what
is missing (`resume`). A task that fails for good calls `on_failure_callback`: put your pager there.

With the parameter `train` a run goes on: a model is trained on its questions and then evaluated, on Vertex AI, or as
Jobs of Kubernetes after Flink. TRAIN says whether every night's run does.
"""

from __future__ import annotations

import logging
import re
from datetime import datetime, timedelta
from pathlib import Path
from string import Template
from typing import Any

import yaml
from airflow.providers.apache.beam.operators.beam import BeamRunPythonPipelineOperator
from airflow.providers.cncf.kubernetes.operators.job import KubernetesJobOperator
from airflow.providers.google.cloud.hooks.gcs import GCSHook
from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.providers.google.cloud.operators.vertex_ai.custom_job import CreateCustomJobOperator
from airflow.sdk import DAG, Param, task
from check_run import problems

BUCKET = "{{ var.value.spatialvlm_bucket }}"
INPUT = f"gs://{BUCKET}/manifests/day={{{{ ds }}}}/"
OUTPUT = f"gs://{BUCKET}/runs/day={{{{ ds }}}}"
TRAINING = Path(__file__).with_name("training")
# For every night. It cannot be changed for a day that was begun, because the pictures are then kept or not.
TRAIN = False
STORE_IMAGES = "{{ params.train | lower }}"
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


@task.short_circuit(retries=0)
def wanted(params: dict[str, Any]) -> bool:
    """Whether this run goes on with the training."""
    return bool(params["train"])


def vertex(what: str) -> CreateCustomJobOperator:
    """A task that runs a job of training/vertex for this day's run and waits for it, without holding a slot."""
    spec = yaml.safe_load((TRAINING / "vertex" / f"{what}.yaml").read_text(encoding="utf-8"))
    return CreateCustomJobOperator(
        task_id=what,
        project_id="{{ var.value.spatialvlm_project }}",
        region="{{ var.value.spatialvlm_region }}",
        custom_job={"display_name": f"spatialvlm-{what}-{{{{ ds_nodash }}}}", "job_spec": filled(spec)},
        deferrable=True,
        poll_interval=60,
    )


def filled(value: Any) -> Any:
    """A job of training/vertex with what Airflow knows, its fields named as Google's client names them.

    `machineSpec` becomes `machine_spec`, and `${IMAGE}` the Variable, rendered when the task runs.
    """
    if isinstance(value, list):
        return [filled(part) for part in value]
    if isinstance(value, dict):
        named = {re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name): part for name, part in value.items()}
        return {name: filled(part) for name, part in named.items()}
    if isinstance(value, str):
        return Template(value).substitute(
            IMAGE="{{ var.value.spatialvlm_training_image }}",
            TRAINER="{{ var.value.spatialvlm_trainer }}",
            BUCKET=BUCKET,
            RUN="day={{ ds }}",
        )
    return value


def kubernetes(what: str) -> KubernetesJobOperator:
    """A task that runs a Job of training/kubernetes, for this day's run, and waits for it without holding a slot."""
    template = TRAINING / "kubernetes" / f"{what}.yaml"
    job = yaml.safe_load(template.read_text(encoding="utf-8"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    places = {
        "--data": f"gs://{BUCKET}/runs/day={{{{ ds }}}}",
        "--model": "/data/checkpoints/day={{ ds }}",
        "--output": "/data/{}/day={{{{ ds }}}}".format("checkpoints" if what == "train" else "evaluations"),
    }
    arguments = []
    for argument in container["args"]:
        name = argument.partition("=")[0]
        arguments.append(f"{name}={places[name]}" if name in places else argument)
    return KubernetesJobOperator(
        task_id=what,
        name=job["metadata"]["name"],
        namespace="default",
        job_template_file=str(template),
        base_container_name=container["name"],
        arguments=arguments,
        wait_until_job_complete=True,
        deferrable=True,
        job_poll_interval=60,
        # The pod of a try that failed is followed by another; what the last one wrote is in the cluster's logs.
        get_logs=False,
    )


def daily(name: str, description: str) -> DAG:
    """A DAG that runs once for each day, one day at a time."""
    return DAG(
        dag_id=name,
        description=description,
        schedule="30 2 * * *",
        start_date=datetime(2026, 1, 1),
        catchup=False,
        max_active_runs=1,
        params={
            "train": Param(TRAIN, type="boolean", description="Train a model on the run's questions and evaluate it.")
        },
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
                    "store_images": STORE_IMAGES,
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
    checked = generate >> check_ratios(BUCKET, "runs/day={{ ds }}/run.json")
    checked >> wanted() >> vertex("train") >> vertex("evaluate")

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
            "store_images": STORE_IMAGES,
            "job_endpoint": "beam-job-server:8099",
            "artifact_endpoint": "beam-job-server:8098",
            "environment_type": "EXTERNAL",
            "environment_config": "localhost:50000",
            "parallelism": 4,
        },
    )
    checked = generate >> check_ratios(BUCKET, "runs/day={{ ds }}/run.json")
    checked >> wanted() >> kubernetes("train") >> kubernetes("evaluate")
