"""The blocks world: its truth against its own geometry, and what the job makes of it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from samples.blocks import COLOURS, SIZES_M, Picture, Solid, make_picture, write_blocks
from samples.blocks_questions import KINDS, PLURALS, ask
from tests.trainer.worlds import run_blocks

PICTURES = 40


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return [make_picture(3, number) for number in range(PICTURES)]


def points_of(picture: Picture, instance: int) -> NDArray[np.float64]:
    """The points (n, 3) of an instance in the world, from the depth map alone."""
    v, u = np.nonzero(picture.instances == instance)
    depth = picture.depth[v, u].astype(np.float64)
    camera = picture.camera
    middle = (camera.size - 1) / 2
    local = np.stack([(u - middle) / camera.focal_px, (v - middle) / camera.focal_px, np.ones(len(u))], axis=-1)
    return (local * depth[:, None]) @ camera.world_from_camera.T + (0, 0, camera.height)


def off_surface(solid: Solid, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far points lie from the surface of a solid, in metres."""
    local = points - solid.at
    along, across, height = solid.size
    if solid.shape == "ball":
        return np.abs(np.linalg.norm(local - (0, 0, along / 2), axis=1) - along / 2)
    level = np.abs(local[:, 2] - height / 2) - height / 2
    if solid.shape == "cylinder":
        flat = np.hypot(local[:, 0], local[:, 1]) - along / 2
        return np.abs(np.maximum(flat, level))
    x = local[:, 0] * np.cos(solid.yaw) + local[:, 1] * np.sin(solid.yaw)
    y = -local[:, 0] * np.sin(solid.yaw) + local[:, 1] * np.cos(solid.yaw)
    return np.abs(np.max([np.abs(x) - along / 2, np.abs(y) - across / 2, level], axis=0))


def test_a_picture_depends_on_its_seed_and_number_only(pictures: list[Picture]) -> None:
    again = make_picture(3, 7)
    assert np.array_equal(again.pixels, pictures[7].pixels)
    assert np.array_equal(again.depth, pictures[7].depth)
    assert not np.array_equal(make_picture(4, 7).pixels, again.pixels)


def test_every_seen_point_lies_on_its_solid(pictures: list[Picture]) -> None:
    for picture in pictures:
        for seen in picture.objects:
            assert off_surface(seen.solid, points_of(picture, seen.instance)).max() < 1e-3


def test_the_floor_is_level(pictures: list[Picture]) -> None:
    for picture in pictures:
        assert np.abs(points_of(picture, 1)[:, 2]).max() < 1e-3


def test_the_nearer_one_is_seen(pictures: list[Picture]) -> None:
    """Through each pixel of an object no other object is met before it."""
    for picture in pictures:
        for seen in picture.objects:
            for other in picture.objects:
                if other.instance != seen.instance:
                    points = points_of(picture, seen.instance)
                    eye = np.array((0, 0, picture.camera.height))
                    middle = np.add(other.solid.at, (0, 0, other.solid.size[2] / 2))
                    ray = points - eye
                    share = np.clip(((middle - eye) * ray).sum(1) / (ray**2).sum(1), 0, 0.999)
                    gap = np.linalg.norm(eye + share[:, None] * ray - middle, axis=1)
                    # Well inside the other one, and well before this one: it would have been hit.
                    inside = gap < 0.45 * min(other.solid.size)
                    assert not (inside & ((1 - share) * np.linalg.norm(ray, axis=1) > max(other.solid.size))).any()


def test_three_to_five_objects_of_different_colours_nearly_whole(pictures: list[Picture]) -> None:
    assert {len(picture.objects) for picture in pictures} == {3, 4, 5}
    for picture in pictures:
        colours = [seen.solid.colour for seen in picture.objects]
        assert len(set(colours)) == len(colours)
        assert set(colours) <= set(COLOURS)
        for seen in picture.objects:
            assert 0.97 * min(SIZES_M) <= min(seen.solid.size[0], seen.solid.size[2])
            assert max(seen.solid.size) <= 1.03 * max(SIZES_M)
            left, top, right, bottom = seen.frame
            assert 0 < left < right < picture.camera.size
            assert 0 < top < bottom < picture.camera.size
    assert any(seen.solid.at[2] > 0 for picture in pictures for seen in picture.objects)


def test_an_object_has_its_colour(pictures: list[Picture]) -> None:
    """The colour named is the one whose direction the pixels are nearest to."""
    names = list(COLOURS)
    palette = np.array([COLOURS[name] for name in names])
    palette /= np.linalg.norm(palette, axis=1, keepdims=True)
    for picture in pictures:
        for seen in picture.objects:
            mean = picture.pixels[picture.instances == seen.instance].mean(axis=0)
            assert names[int((palette @ mean).argmax())] == seen.solid.colour


def test_general_answers_agree_with_the_masks(pictures: list[Picture]) -> None:
    kinds = set()
    for number, picture in enumerate(pictures):
        masks = {seen.solid.caption: picture.instances == seen.instance for seen in picture.objects}
        asked = ask(picture, 30, np.random.default_rng(number))
        assert len({general.question for general in asked}) == len(asked)
        for general in asked:
            kinds.add(general.kind)
            check(general.kind, general.question, general.answer, masks, picture)
    assert kinds == set(KINDS)


def middle_of(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """x and y, pixels, of the middle of the smallest frame around a mask."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.min() + columns.max() + 1, rows.min() + rows.max() + 1]) / 2


def check(kind: str, question: str, answer: str, masks: dict[str, NDArray[np.bool_]], picture: Picture) -> None:
    """The answer, found anew from the masks."""
    named = [caption for caption in masks if caption in question]
    size = picture.camera.size
    if kind == "colour":
        assert [caption for caption in masks if caption.split()[1] in question] == [f"{answer} {shape_in(question)}"]
    elif kind == "shape":
        assert [caption for caption in masks if caption.split()[0] in question] == [f"{colour_in(question)} {answer}"]
    elif kind == "count":
        shapes = [shape for shape, plural in PLURALS.items() if plural in question]
        count = sum(not shapes or caption.endswith(shapes[0]) for caption in masks)
        assert answer == ("no", "one", "two", "three", "four", "five")[count]
    elif kind == "presence":
        assert (answer == "yes") == bool(named)
    elif kind in ("place", "frame", "region"):
        rows, columns = np.nonzero(masks[named[0]])
        frame = np.array([columns.min(), columns.max() + 1, rows.min(), rows.max() + 1]) * 100 / size
        told = [int(word) for word in answer.split() if word.isdigit()]
        if kind == "frame":
            assert np.abs(np.minimum(frame, 99) - told).max() <= 0.5
        elif kind == "place":
            assert np.abs(frame.reshape(2, 2).mean(axis=1) - told).max() <= 0.5
        else:
            row, column = (("top", "middle", "bottom"), ("left", "middle", "right"))
            x, y = frame.reshape(2, 2).mean(axis=1)
            words = answer.split()
            assert abs(row.index(words[0]) + 0.5 - y * 3 / 100) <= 0.52
            assert abs(column.index(words[1]) + 0.5 - x * 3 / 100) <= 0.52
    elif kind == "pointed":
        x, y = (int(word.strip("?.")) for word in question.split() if word.strip("?.").isdigit())
        near = picture.instances[
            max(y * size // 100 - 1, 0) : y * size // 100 + 2, max(x * size // 100 - 1, 0) : x * size // 100 + 2
        ]
        names = {0: "sky", 1: "floor"} | {seen.instance: seen.solid.caption for seen in picture.objects}
        assert answer in {names.get(int(number), "plinth") for number in near.flat}
    elif kind == "both":
        asked = sorted(named, key=question.index)
        middles = [middle_of(masks[caption]) * 100 / size for caption in asked]
        told = [int(word.strip(",")) for word in answer.split() if word.strip(",").isdigit()]
        assert np.abs(np.ravel(middles) - told).max() <= 0.5
    elif kind in ("which", "which_at", "alike"):
        shapes = {caption.split()[0]: caption.split()[1] for caption in masks}
        words = question.replace("?", " ").replace(":", " ").replace(",", " ").split()
        two = [word for word in words if word in shapes]
        assert len(two) == 2
        if kind == "alike":
            assert (answer == "yes") == (shapes[two[0]] == shapes[two[1]])
        elif kind == "which":
            assert [colour for colour in two if shapes[colour] == shape_in(question)] == [answer]
        else:
            x, y = (int(word) for word in words if word.isdigit())
            middle = middle_of(masks[f"{answer} {shapes[answer]}"]) * 100 / size
            assert np.abs(middle - (x, y)).max() <= 0.5
    elif kind == "part":
        x, y = middle_of(masks[named[0]]) * 3 / size
        thirds = {"column": (x, ("left", "middle", "right")), "row": (y, ("top", "middle", "bottom"))}
        part, cut = question.strip("?").split()[-2:]
        place, names = thirds[cut]
        distance = abs(names.index(part) + 0.5 - place)
        assert distance <= 0.52 if answer == "yes" else distance >= 0.48
    elif kind in ("list", "scan"):
        order = sorted(masks, key=lambda caption: np.nonzero(masks[caption].any(axis=0))[0][[0, -1]].sum())
        assert [" ".join(part.split()[:2]) for part in answer.split(", ")] == order
    else:
        assert kind == "fields"
        words = np.array(answer.split()).reshape(8, 8)
        for row, column in np.ndindex(8, 8):
            field = (slice(row * 12, row * 12 + 12), slice(column * 12, column * 12 + 12))
            large = {caption for caption, mask in masks.items() if mask[field].sum() >= 18}
            told = words[row, column]
            if told.isdigit():
                axis, last = ("left" in question or "right" in question), "right" in question or "bottom" in question
                edges = {
                    np.flatnonzero(masks[caption].any(axis=0 if axis else 1))[-1 if last else 0] for caption in large
                }
                assert int(told) in {min(round(100 * (edge + last) / size), 99) for edge in edges}
            elif told in ("sky", "floor", "plinth", "none"):
                assert not large
            else:
                assert told in {word for caption in large for word in caption.split()}


def colour_in(question: str) -> str:
    return next(colour for colour in COLOURS if colour in question)


def shape_in(question: str) -> str:
    return next(shape for shape in PLURALS if shape in question)


def test_the_job_measures_what_was_built(tmp_path: Path) -> None:
    run = run_blocks(tmp_path, 12, 3, questions=6, seed=3)
    scenes = pq.read_table(run / "scenes").to_pylist()
    assert len(scenes) == 12
    errors = []
    for scene in scenes:
        truth = {seen.solid.caption: seen.solid for seen in make_picture(3, int(scene["image_id"][-7:])).objects}
        assert scene["canonical"]
        for region in scene["regions"]:
            solid = truth[region["caption"]]
            # A pixel is 2 to 4 cm wide where objects stand, a plinth's top looks like the object's own foot, and
            # the underside of a ball is not seen.
            unsure = solid.at[2] > 0 or solid.shape == "ball"
            assert region["obb_size"][0] == pytest.approx(solid.size[0], abs=0.1)
            assert region["obb_size"][2] == pytest.approx(solid.size[2], abs=0.2 if unsure else 0.1)
            errors += [region["obb_size"][axis] / solid.size[axis] - 1 for axis in (0, 2)]
    assert len(errors) > 70
    assert np.median(np.abs(errors)) < 0.05


def test_general_questions_are_written_as_chats_with_pictures(tmp_path: Path) -> None:
    write_blocks(tmp_path, 0, 3, questions=6, seed=3, workers=1)
    rows = pq.read_table(tmp_path / "general").to_pylist()
    assert len(rows) == 3
    assert not (tmp_path / "manifest.parquet").exists()
    for number, row in enumerate(rows):
        picture = make_picture(3, number)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))), picture.pixels)
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * 6
        assert len(row["kinds"]) == 6
        assert [message["content"].startswith("<image>\n") for message in row["messages"]] == [True, *11 * [False]]
