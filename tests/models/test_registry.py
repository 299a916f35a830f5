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
def test_every_backend_without_weights_loads(part: str, backend: str) -> None:
    others = {"regions": {"backend": "sam3"}} if backend == "keep" else {}
    config = JobConfig.model_validate(others | {part: {"backend": backend}})
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


def test_every_backend_with_weights_states_their_licence() -> None:
    assert all(backend.licence for names in BACKENDS.values() for backend in names.values() if backend.weights)


def test_masks_can_be_kept_only_where_some_were_made() -> None:
    config = JobConfig.model_validate({"regions": {"backend": "owlv2"}, "masks": {"backend": "keep"}})
    with pytest.raises(UserError, match=r"masks\.backend: keep goes with regions\.backend=sam3, not 'owlv2'"):
        handler("masks", config)


def test_options_are_checked_before_a_run() -> None:
    config = JobConfig.model_validate({"regions": {"backend": "owlv2", "options": {"nms_iou": 50}}})
    with pytest.raises(UserError, match=r"regions\.options\.nms_iou: must be less than or equal to 1, not 50"):
        handler("regions", config)
