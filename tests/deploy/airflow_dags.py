"""Import the DAGs with the Airflow that runs this file and print what they hold, as JSON. Run by test_airflow.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airflow.sdk import DAG


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def main(folder: Path) -> None:
    sys.path.insert(0, str(folder))
    sys.path.insert(0, str(folder.parent))
    import spatialvlm_daily

    dags = {}
    # The module's own names were taken by the second DAG; DAGs are known by their tasks.
    for value in DAG_REGISTRY:
        tasks = {
            task.task_id: {
                "type": type(task).__name__,
                "downstream": sorted(task.downstream_task_ids),
                "retries": task.retries,
                "fields": {
                    name: plain(getattr(task, name))
                    for name in (
                        "body",
                        "location",
                        "pipeline_options",
                        "py_options",
                        "py_file",
                        "runner",
                        "deferrable",
                    )
                    if hasattr(task, name)
                },
            }
            for task in value.tasks
        }
        dags[value.dag_id] = {"tasks": tasks, "catchup": value.catchup, "max_active_runs": value.max_active_runs}
    print(json.dumps({"file": spatialvlm_daily.__file__, "dags": dags}))


DAG_REGISTRY: list[DAG] = []
_enter = DAG.__enter__


def _remember(dag: DAG) -> DAG:
    DAG_REGISTRY.append(dag)
    return _enter(dag)


DAG.__enter__ = _remember

if __name__ == "__main__":
    main(Path(sys.argv[1]))
