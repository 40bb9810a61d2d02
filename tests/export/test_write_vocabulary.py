"""tokenizer.json to the compact vocabulary: which kinds there are, and what is refused or left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from export.language.vocabulary import NAME, other_kind, write_vocabulary
from export.synth.tokenizer import synth_tokenizer
from runtime.bundle.vocabulary import ADDED, BYTE, CONTROL, NORMAL, Vocabulary

SAMPLE = Path(__file__).parent.parent / "sample" / "checkpoint" / "tokenizer.json"


def sample() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(SAMPLE.read_text(encoding="utf-8"))
    return values


def put(folder: Path, tokenizer_json: dict[str, Any]) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json), encoding="utf-8")
    return folder


def test_the_sample_s_and_a_generated_tokenizer_are_written(tmp_path):
    for tokenizer_json in (sample(), json.loads(synth_tokenizer(2000).to_str())):
        assert write_vocabulary(put(tmp_path, tokenizer_json)) == NAME
        compact = Vocabulary.open(tmp_path / NAME)
        assert len(compact.types) == len(tokenizer_json["model"]["vocab"])
        assert len(compact.merges) == len(tokenizer_json["model"]["merges"])


def test_pieces_have_their_types(tmp_path):
    tokenizer_json = sample()
    tokenizer_json["added_tokens"][5]["special"] = False
    write_vocabulary(put(tmp_path, tokenizer_json))
    compact = Vocabulary.open(tmp_path / NAME)
    ids = {compact.piece(token): token for token in range(len(compact.types))}
    assert [compact.types[ids[name]] for name in ("<bos>", "<0x0A>", "▁the")] == [CONTROL, BYTE, NORMAL]
    assert compact.types[tokenizer_json["added_tokens"][5]["id"]] == ADDED


def test_spaces_of_gemma_3_are_not_split(tmp_path):
    tokenizer_json = sample() | {
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        }
    }
    assert write_vocabulary(put(tmp_path, tokenizer_json)) == NAME
    assert Vocabulary.open(tmp_path / NAME).splitting == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tokenizer_json: tokenizer_json["model"].update(type="Unigram"), "its model has another type"),
        (lambda tokenizer_json: tokenizer_json["model"].update(byte_fallback=False), "another byte_fallback"),
        (lambda tokenizer_json: tokenizer_json["model"].update(dropout=0.1), "another dropout"),
        (lambda tokenizer_json: tokenizer_json.update(normalizer={"type": "NFKC"}), "its normalizer or its decoder"),
        (lambda tokenizer_json: tokenizer_json.update(decoder=None), "its normalizer or its decoder"),
        (
            lambda tokenizer_json: tokenizer_json.update(pre_tokenizer={"type": "ByteLevel"}),
            "its pre-tokenizer is {'type'",
        ),
        (lambda tokenizer_json: tokenizer_json["model"]["vocab"].pop("<0x0A>"), "its ids are not"),
        (lambda tokenizer_json: tokenizer_json["added_tokens"][0].update(lstrip=True), "an added token strips"),
    ],
)
def test_another_kind_is_left_out_with_a_warning(tmp_path, capsys, change, reason):
    tokenizer_json = sample()
    change(tokenizer_json)
    assert reason in other_kind(tokenizer_json)
    assert write_vocabulary(put(tmp_path, tokenizer_json)) == ""
    assert not (tmp_path / NAME).exists()
    assert "applications can not read this bundle" in capsys.readouterr().err
