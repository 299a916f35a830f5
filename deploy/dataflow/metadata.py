"""Write metadata.json, which tells Dataflow the parameters of the Flex Template.

    python -m deploy.dataflow.metadata

It is read off the command's flags and schemas/config.py; a test fails where the file is older than they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from beam_pipeline.parameters import Parameter, parameters

PLACE = Path(__file__).with_name("metadata.json")
# Options of Beam's that only a parameter can set, since Dataflow's own request has no field for them.
BEAM = (
    Parameter(
        name="sdk_container_image",
        kind="flag",
        target="--sdk_container_image",
        help="The image that the workers run: the one that the template was built from.",
        regex="^[a-z0-9.:/_@-]+$",
        required=True,
    ),
    Parameter(
        name="dataflow_service_options",
        kind="flag",
        target="--dataflow_service_options",
        help="A service option, e.g. enable_prime, or worker_accelerator=type:nvidia-tesla-t4;count:1;"
        "install-nvidia-driver where models.resource_hints is not set.",
        regex="^[a-z_]+(=.+)?$",
    ),
    Parameter(
        name="number_of_worker_harness_threads",
        kind="flag",
        target="--number_of_worker_harness_threads",
        help="Threads in each worker process; 1 where a model is loaded in each thread.",
        regex="^[1-9][0-9]*$",
    ),
)


def metadata() -> dict[str, Any]:
    """The content of metadata.json."""
    return {
        "name": "spatialvlm",
        "description": "Spatial question-answer data from pictures: a Parquet manifest of URLs in, scenes, questions "
        "and a ledger out.",
        "streaming": False,
        "parameters": [_entry(parameter) for parameter in (*parameters(), *BEAM)],
    }


def _entry(parameter: Parameter) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": parameter.name,
        "label": parameter.target.removeprefix("--"),
        "helpText": parameter.help,
        "paramType": "TEXT",
        "isOptional": not parameter.required,
        "regexes": [parameter.regex],
    }
    if parameter.default:
        entry["helpText"] += f" Default: {parameter.default}."
    return entry


if __name__ == "__main__":
    PLACE.write_text(json.dumps(metadata(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{PLACE}: {len(metadata()['parameters'])} parameters")
