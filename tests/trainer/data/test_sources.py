from __future__ import annotations

import hashlib
import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.answers import parse_label
from schemas.ids import image_id_of
from tests.conftest import SAMPLES
from tests.trainer.data.runs import TYPES, chats, data, make_run, picture
from trainer.answers import exactly
from trainer.data import open_stream
from trainer.examples import Example, Turn

SIDES = 0.999_999


def everything(*sources: dict[str, Any], **options: Any) -> list[Example]:
    """All examples of some sources, in order, every question of each."""
    return list(open_stream(data(*sources, **({"held_out": SIDES, "turns": 0} | options)), "held_out"))


def rows_of(run: Path, table: str) -> list[dict[str, Any]]:
    return [row for path in sorted((run / table).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def turns_of(run: Path) -> dict[str, Counter[Turn]]:
    turns: dict[str, Counter[Turn]] = {}
    for row in rows_of(run, "qa"):
        turn = Turn(row["question"], row["answer"], row["question_type"], row["value_m"])
        turns.setdefault(row["image_id"], Counter())[turn] += 1
    return turns


def test_a_run_is_read_whole(stored_run: Path) -> None:
    found = everything({"kind": "spatial", "path": str(stored_run)})
    assert {example.image_id: Counter(example.turns) for example in found} == turns_of(stored_run)
    stored = {row["image_id"]: row["image"]["bytes"] for row in rows_of(stored_run, "scenes")}
    assert {example.image_id: example.image for example in found} == stored
    assert len(found) == 8


@pytest.mark.parametrize("folder", ["", "qa_tfrecord", "qa_tfrecord/"])
def test_tfrecords_say_the_same_as_the_tables(stored_run: Path, folder: str) -> None:
    found = everything({"kind": "tfrecord", "path": f"{stored_run}/{folder}"})
    tables = everything({"kind": "spatial", "path": str(stored_run)})
    assert {example.image_id: example.image for example in found} == {
        example.image_id: example.image for example in tables
    }
    for mine, other in zip(found, tables, strict=True):
        assert mine.image_id == other.image_id
        texts = [Counter((turn.question, turn.answer, turn.kind) for turn in one.turns) for one in (mine, other)]
        assert texts[0] == texts[1]
        # These files have lengths in 32 bits.
        lengths = [sorted(turn.value_m for turn in one.turns if turn.value_m is not None) for one in (mine, other)]
        assert lengths[0] == pytest.approx(lengths[1], rel=1e-6)


@pytest.mark.parametrize(("kind", "folder"), [("llava", "qa_llava"), ("messages", "qa_messages")])
def test_the_formats_that_a_run_writes_are_read_back(stored_run: Path, kind: str, folder: str) -> None:
    found = everything({"kind": kind, "path": str(stored_run / folder), "pictures": str(SAMPLES)})
    asked: dict[str, Counter[tuple[str, str]]] = {}
    for example in found:
        assert 1 <= len(example.turns) <= 3
        asked.setdefault(example.image_id, Counter()).update((turn.question, turn.answer) for turn in example.turns)
        assert example.image == (SAMPLES / "images" / f"{example.image_id}.jpg").read_bytes()
    # File names are the rooms' ids, so that the split is that of the tables.
    assert asked == {
        image_id: Counter({(turn.question, turn.answer): count for turn, count in turns.items()})
        for image_id, turns in turns_of(stored_run).items()
    }
    assert not any("<image>" in turn.question for example in found for turn in example.turns)


@pytest.mark.parametrize("kind", ["spatial", "tfrecord"])
def test_question_types_and_categories_are_kept_as_asked(stored_run: Path, kind: str) -> None:
    source = {"kind": kind, "path": str(stored_run)}
    some = everything(source | {"question_types": ("distance", "left_choice")})
    assert {turn.kind for example in some for turn in example.turns} == {"distance", "left_choice"}
    assert everything(source, question_types=["distance", "left_choice"]) == some
    assert everything(source | {"question_types": ("distance", "left_choice")}, question_types={"gap": 1}) == some
    lengths = everything(source | {"categories": ("quantitative",)})
    assert all(turn.value_m is not None for example in lengths for turn in example.turns)
    assert sum(len(example.turns) for example in lengths) == sum(
        row["category"] == "quantitative" for row in rows_of(stored_run, "qa")
    )


def test_short_answers_are_what_the_written_ones_come_down_to(stored_run: Path) -> None:
    found = everything({"kind": "spatial", "path": str(stored_run)}, answers="short")
    rows = {(row["image_id"], row["question"]): row for row in rows_of(stored_run, "qa")}
    said: dict[str, set[str]] = {}
    for example in found:
        for turn in example.turns:
            row = rows[example.image_id, turn.question]
            if row["label"] is None:
                assert turn.answer == exactly(row["value_m"])
            else:
                assert parse_label(turn.kind, turn.answer, row["caption_a"], row["caption_b"]) == row["label"]
                said.setdefault(turn.kind, set()).add(turn.answer)
                assert len(turn.answer.split()) <= max(
                    len(str(row[name]).split()) for name in ("caption_a", "caption_b")
                )
    assert said["left_predicate"] == {"yes", "no"}
    assert said["tall_short_classify"] == {"tall", "short"}


@pytest.mark.parametrize("kind", ["spatial", "tfrecord"])
def test_weights_of_question_types(stored_run: Path, kind: str) -> None:
    source = {"kind": kind, "path": str(stored_run), "question_types": {"distance": 9.0, "gap": 1.0, "width": 0.0}}
    stream = open_stream(data(source, turns=1), "train")
    kinds = Counter(turn.kind for example in islice(stream, 800) for turn in example.turns)
    assert set(kinds) == {"distance", "gap"}
    there = Counter(row["question_type"] for row in rows_of(stored_run, "qa"))
    # The chance of a type in a picture is its weight times its number; in these rooms those differ little.
    odds = 9 * there["distance"] / (9 * there["distance"] + there["gap"])
    assert kinds["distance"] / 800 == pytest.approx(odds, abs=0.06)


def test_pictures_of_another_run(tmp_path: Path) -> None:
    ids = [f"p{number}" for number in range(12)]
    with_pictures = make_run(tmp_path / "scenes", ids)
    again = make_run(tmp_path / "qa", ids, questions=2)
    record = json.loads((again / "run.json").read_text())
    record["files"] = [file for file in record["files"] if file["table"] == "qa"]
    (again / "run.json").write_text(json.dumps(record))
    found = everything({"kind": "spatial", "path": str(again), "pictures": str(with_pictures)})
    assert {example.image_id: example.image for example in found} == {
        image_id: picture(number) for number, image_id in enumerate(ids)
    }
    assert {len(example.turns) for example in found} == {2}


def test_pictures_without_questions_are_no_examples(tmp_path: Path) -> None:
    run = make_run(tmp_path, [f"p{number}" for number in range(12)], questions=1)
    # The first question of each picture is of the first type.
    assert len(everything({"kind": "spatial", "path": str(run), "question_types": TYPES[:1]})) == 12
    path = next((run / "qa").glob("*.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    assert len(everything({"kind": "spatial", "path": str(run)})) == 11


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("kind", ["llava", "messages"])
def test_json_in_either_layout_under_either_kind(tmp_path: Path, kind: str, lines: bool) -> None:
    path = chats(tmp_path, ["a", "b", "ü", "c"], lines=lines, answer='A "thing", {ß} [椅子].')
    found = everything({"kind": kind, "path": str(path)})
    assert [example.image_id for example in found] == ["a", "b", "ü", "c"]
    assert [example.image for example in found] == [picture(number) for number in range(4)]
    assert found[2].turns == (Turn("What is in ü?", 'A "thing", {ß} [椅子].'),)


def test_json_is_read_from_folders_and_globs(tmp_path: Path) -> None:
    chats(tmp_path / "one", ["a"])
    chats(tmp_path / "two", ["b"])
    for path in (tmp_path, tmp_path / "*" / "chats.json"):
        found = everything({"kind": "llava", "path": str(path)})
        assert [example.image_id for example in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("stem", "a"), ("path", "pictures/a.png"), ("url", image_id_of("pictures/a.png"))],
)
def test_what_a_picture_is_called(tmp_path: Path, rule: str, expected: str) -> None:
    path = chats(tmp_path, ["a"])
    assert everything({"kind": "llava", "path": str(path), "image_ids": rule})[0].image_id == expected
    record = json.loads(path.read_text())
    path.write_text(json.dumps([record[0] | {"image_id": "mine", "kind": "colour"}]))
    example = everything({"kind": "llava", "path": str(path), "image_ids": rule})[0]
    assert (example.image_id, example.turns[0].kind) == ("mine", "colour")


def test_records_without_one_picture_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = chats(tmp_path, ["a", "b", "c"])
    records = json.loads(path.read_text())
    del records[0]["image"]
    records[1]["image"] = ["pictures/a.png", "pictures/b.png"]
    path.write_text(json.dumps(records))
    assert [example.image_id for example in everything({"kind": "llava", "path": str(path)})] == ["c"]
    assert "1 records with no picture are left out" in caplog.text
    assert "1 records with several pictures are left out" in caplog.text


def test_a_long_chat_is_cut_into_turns_that_follow_each_other(tmp_path: Path) -> None:
    path = chats(tmp_path, ["a"])
    record = json.loads(path.read_text())[0]
    texts = [f"{speaker} {number}" for number in range(9) for speaker in ("question", "answer")]
    record["conversations"] = [{"from": "system", "value": "Be kind."}] + [
        {"from": text.replace("question", "human").replace("answer", "gpt").split()[0], "value": text} for text in texts
    ]
    path.write_text(json.dumps([record]))
    starts = set()
    for example in islice(open_stream(data({"kind": "llava", "path": str(path)}, turns=4), "train"), 60):
        numbers = [int(turn.question.split()[1]) for turn in example.turns]
        assert numbers == list(range(numbers[0], numbers[0] + 4))
        assert [turn.answer for turn in example.turns] == [f"answer {number}" for number in numbers]
        starts.add(numbers[0])
    assert starts == set(range(6))


def chat(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"<image>{text}?"}, {"role": "assistant", "content": f"{text}."}]


def test_parquet_with_messages(tmp_path: Path) -> None:
    rows = [
        {"messages": chat(f"t{number}"), "image": {"bytes": picture(number), "path": f"x/n{number}.png"}}
        for number in range(10)
    ]
    for half in range(2):
        table = pa.Table.from_pylist(rows[5 * half : 5 * half + 5])
        pq.write_table(table, tmp_path / f"{half}.parquet", row_group_size=2)
    found = everything({"kind": "messages", "path": str(tmp_path)})
    assert [(example.image_id, example.image) for example in found] == [
        (f"n{number}", picture(number)) for number in range(10)
    ]
    assert [example.turns for example in found] == [(Turn(f"t{number}?", f"t{number}."),) for number in range(10)]


def test_parquet_with_content_in_pieces_lists_of_images_and_no_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pieces = [
        {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "That."}]},
    ]
    images = [[{"bytes": picture(0), "path": None}], [], [{"bytes": picture(1), "path": None}] * 2]
    table = pa.Table.from_pylist([{"messages": pieces, "images": listed} for listed in images])
    pq.write_table(table, tmp_path / "x.parquet")
    (example,) = everything({"kind": "messages", "path": str(tmp_path), "name": "pieces"})
    assert "source pieces: rows with no picture are left out" in caplog.text
    assert "source pieces: rows with several pictures are left out" in caplog.text
    assert example.turns == (Turn("What?", "That."),)
    assert example.image_id == hashlib.sha256(picture(0)).hexdigest()[:32]


def test_parquet_whose_pictures_lie_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(3))
    table = pa.Table.from_pylist([{"messages": chat("t"), "image": {"bytes": None, "path": "a.png"}}])
    pq.write_table(table, tmp_path / "x.parquet")
    (example,) = everything({"kind": "messages", "path": str(tmp_path / "x.parquet")})
    assert (example.image_id, example.image) == ("a", picture(3))


def test_a_folder_that_datasets_saved(tmp_path: Path) -> None:
    rows = [{"image_id": f"n{number}", "messages": chat(f"t{number}")} for number in range(600)]
    images = [{"bytes": picture(number), "path": None} for number in range(600)]
    saved = datasets.Dataset.from_list(rows).add_column("image", images).cast_column("image", datasets.Image())
    saved.save_to_disk(tmp_path / "saved")
    found = everything({"kind": "messages", "path": str(tmp_path / "saved")})
    assert [(example.image_id, example.image) for example in found] == [
        (f"n{number}", picture(number)) for number in range(600)
    ]
    stream = open_stream(data({"kind": "messages", "path": str(tmp_path / "saved")}), "train")
    batches = islice(stream.loader(100, num_workers=2), 6)
    assert {example.image_id for batch in batches for example in batch} == {f"n{number}" for number in range(600)}


@pytest.mark.parametrize(("lines", "table"), [(False, False), (True, False), (True, True)])
def test_kinds_of_turns_that_are_left_out(tmp_path: Path, lines: bool, table: bool) -> None:
    path = chats(tmp_path, ["a", "b", "c"], lines=lines)
    records = [json.loads(line) for line in path.read_text().splitlines()] if lines else json.loads(path.read_text())
    chat = "messages" if lines else "conversations"
    records[0] |= {chat: 3 * records[0][chat], "kinds": ["colour", "dense", "colour"]}
    records[1] |= {"kind": "dense"}
    if table:
        path.unlink()
        path = tmp_path / "chats.parquet"
        rows = [record | {"image": {"path": record["image"], "bytes": None}, "kind": None} for record in records]
        rows[1] |= {"kinds": ["dense"]}
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))
    source = {"kind": "messages" if lines else "llava", "path": str(path)}
    assert [[turn.kind for turn in one.turns] for one in everything(source)] == [
        ["colour", "dense", "colour"],
        ["dense"],
        [""],
    ]
    for without in (everything(source | {"without_kinds": ["dense"]}), everything(source, without_kinds=["dense"])):
        assert [(one.image_id, [turn.kind for turn in one.turns]) for one in without] == [
            ("a", ["colour", "colour"]),
            ("c", [""]),
        ]


def test_a_share_of_the_pictures(tmp_path: Path) -> None:
    ids = [f"p{number}" for number in range(200)]
    run = make_run(tmp_path, ids, questions=2)
    source = {"kind": "spatial", "path": str(run)}

    def drawn(share: float) -> set[str]:
        stream = open_stream(data(source | {"share": share}, held_out=0.1), "train")
        return {example.image_id for example in islice(stream, 600)}

    some, more, all_ = drawn(0.2), drawn(0.5), drawn(1.0)
    assert some < more < all_
    assert len(some) / len(all_) == pytest.approx(0.2, abs=0.1)
    # What is held out stays the same.
    held = [
        [example.image_id for example in open_stream(data(source | {"share": share}, held_out=0.1), "held_out")]
        for share in (0.2, 1.0)
    ]
    assert held[0] == held[1] == [image_id for image_id in held[0] if image_id not in all_]
