from __future__ import annotations

import pytest

from models.registry import BACKENDS, handler
from schemas.config import JobConfig
from schemas.errors import UserError

# Those with weights are loaded in the tests of their part.
WITHOUT_WEIGHTS = [
    (part, name) for part, backends in BACKENDS.items() for name, backend in backends.items() if not backend.weights
]


@pytest.mark.parametrize(("part", "backend"), WITHOUT_WEIGHTS)
def test_every_backend_loads(part: str, backend: str) -> None:
    config = JobConfig.model_validate({part: {"backend": backend}})
    assert handler(part, config).load_model().predict([]).parts == []


def test_an_unknown_backend_is_named_with_the_choices() -> None:
    config = JobConfig.model_validate({"depth": {"backend": "sonar"}})
    with pytest.raises(UserError, match=r"depth.backend: 'sonar' is not known; choose from .*sensor"):
        handler("depth", config)


def test_an_unknown_option_is_named() -> None:
    config = JobConfig.model_validate({"depth": {"backend": "sensor", "options": {"scale": 2}}})
    with pytest.raises(UserError, match=r"depth.options: 'sensor' has no option 'scale'; it takes none"):
        handler("depth", config)


def test_instances_without_a_caption_wait_for_a_captioner() -> None:
    config = JobConfig.model_validate({"regions": {"backend": "instances", "options": {"captioned_only": False}}})
    assert handler("regions", config).load_model() is not None
