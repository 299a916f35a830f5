"""docs/contracts.md must know every name that the code makes public."""

from __future__ import annotations

import pytest

from evaluation.metrics import LABEL_METRICS, LENGTH_METRICS
from evaluation.tables import ANSWERS
from schemas.arrow import LEDGER, QA, REGION, SCENES, SEEN
from schemas.manifest import COLUMNS
from schemas.reasons import Reason, RegionReason, Status
from schemas.run import RunRecord
from tests.conftest import ROOT

CONTRACTS = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")
NAMES = {
    "reasons": [reason.value for reason in Reason],
    "region reasons": [reason.value for reason in RegionReason],
    "statuses": [status.value for status in Status],
    "manifest columns": list(COLUMNS),
    "columns": [*SCENES.names, *QA.names, *LEDGER.names, *SEEN.names, *(field.name for field in REGION)],
    "metrics": [name for name in (*LABEL_METRICS, *LENGTH_METRICS) if not name.startswith(("within_67", "within_90"))],
    "answers": ANSWERS.names,
    "run.json": [name for name in RunRecord.model_fields if name != "project"],
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in NAMES.items() for name in names])
def test_every_public_name_is_documented(kind: str, name: str) -> None:
    assert name in CONTRACTS
