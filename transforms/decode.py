"""DecodeImages: bytes → an upright picture of known size, with the camera's intrinsics where they are known."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from schemas.config import DecodeConfig
from schemas.records import Scene
from transforms.decoding import decode
from transforms.stage import SceneStage


class DecodeImages(SceneStage):
    """Fills `Scene.picture`. Refuses what is no picture, is cut short or is too large."""

    def __init__(self, config: DecodeConfig) -> None:
        super().__init__(partial(_decode, config=config))


def _decode(scene: Scene, config: DecodeConfig) -> Scene:
    if scene.files is None:
        raise ValueError("DecodeImages needs a scene that FetchImages has filled")
    picture = decode(scene.files, scene.row, config)
    # The picture carries its own bytes from here on; holding both would double every element.
    return replace(scene, picture=picture, files=replace(scene.files, image=b""))
