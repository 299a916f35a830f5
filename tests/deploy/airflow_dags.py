"""Load a folder of DAGs as Airflow does and print what it holds, as JSON. Run by test_airflow.py."""

from __future__ import annotations

import json
import sys
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from google.cloud.aiplatform_v1 import CustomJob

FIELDS = ("arguments", "body", "custom_job", "deferrable", "location", "pipeline_options", "py_file", "py_options")
FIELDS += ("region", "runner")


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def sent(task: Any) -> Any:
    """What the task would ask of the service: fields that Google's or Kubernetes' client does not know are errors."""
    if type(task).__name__ == "CreateCustomJobOperator":
        return CustomJob.to_dict(CustomJob(task.custom_job))
    if type(task).__name__ == "KubernetesJobOperator":
        from kubernetes.client import ApiClient

        return ApiClient().sanitize_for_serialization(task.build_job_request_obj({}))
    return None


def main(folder: str) -> None:
    sys.path.insert(0, folder)
    bag = DagBag(folder)
    dags = {
        dag.dag_id: {
            "catchup": dag.catchup,
            "max_active_runs": dag.max_active_runs,
            "params": dag.params.dump(),
            "tasks": {
                task.task_id: {
                    "type": type(task).__name__,
                    "downstream": sorted(task.downstream_task_ids),
                    "retries": task.retries,
                    "sent": plain(sent(task)),
                    "fields": {name: plain(getattr(task, name)) for name in FIELDS if hasattr(task, name)},
                }
                for task in dag.tasks
            },
        }
        for dag in bag.dags.values()
    }
    print(json.dumps({"errors": bag.import_errors, "dags": dags}))


if __name__ == "__main__":
    main(sys.argv[1])
