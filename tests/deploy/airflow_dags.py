"""Load a folder of DAGs as Airflow does and print what it holds, as JSON. Run by test_airflow.py."""

from __future__ import annotations

import json
import sys
from typing import Any

from airflow.dag_processing.dagbag import DagBag

FIELDS = ("body", "location", "pipeline_options", "py_options", "py_file", "runner", "deferrable")


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def main(folder: str) -> None:
    sys.path.insert(0, folder)
    bag = DagBag(folder)
    dags = {
        dag.dag_id: {
            "catchup": dag.catchup,
            "max_active_runs": dag.max_active_runs,
            "tasks": {
                task.task_id: {
                    "type": type(task).__name__,
                    "downstream": sorted(task.downstream_task_ids),
                    "retries": task.retries,
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
