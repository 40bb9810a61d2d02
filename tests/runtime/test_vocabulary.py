"""The compact vocabulary against the `tokenizers` library, and files that lie."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Pieces

from runtime.bundle.vocabulary import HEADER, WHOLE, WORDS, Vocabulary, split
from runtime.errors import GemmaError
from runtime.language.check_vocabulary import check_equal


@pytest.fixture(scope="module")
def path(bundle):
    return bundle("sample", "int8") / "vocabulary.bin"


@pytest.fixture(scope="module")
def ours(path):
    return Vocabulary.open(path)


@pytest.fixture(scope="module")
def theirs(path):
    return Pieces.from_file(str(path.with_name("tokenizer.json")))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.text(), st.sampled_from(["<bos>", "<|turn>", "the", " ", "\n", "▁", "<0x41>"]))))
def test_any_text_is_read_as_the_library_reads_it(ours, theirs, parts):
    text = "".join(parts)
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def test_check_equal_counts_its_lines(ours, theirs, path):
    assert check_equal(ours, theirs, path) > 300


def test_check_equal_finds_a_merge_of_another_rank(ours, theirs, path):
    swapped = ours.merges.copy()
    swapped[:, 1] = swapped[::-1, 1]
    changed = replace(ours, merges=swapped)
    with pytest.raises(GemmaError, match="gets other tokens than from tokenizer.json"):
        check_equal(changed, theirs, path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("a▁b", ["a", "▁b"]),
        ("▁▁a\n\n▁", ["▁▁", "a", "\n", "\n", "▁"]),
        ("▁\na", ["▁", "\n", "a"]),
    ],
)
def test_words_are_cut_as_the_pattern_does(text, words):
    assert list(split(text, WORDS)) == words
    assert list(split(text, WHOLE)) == ([text] if text else [])


def word(at: int, value: int):
    """Put a number at the `at`-th word of a part."""

    def change(raw: bytearray, start: int) -> None:
        struct.pack_into("<I", raw, start + 4 * at, value)

    return change


def parts(raw: bytes | bytearray) -> dict[str, int]:
    """Where each array begins."""
    _, _, pieces, characters, added, merges, *_ = HEADER.unpack_from(raw)
    sizes = {
        "offsets": 4 * (pieces + 1),
        "types": -(-pieces // 4) * 4,
        "characters": 8 * characters,
        "bytes": 1024,
        "added": 4 * added,
        "first": 4 * (pieces + 1),
        "merges": 12 * merges,
    }
    places, at = {}, HEADER.size
    for name, size in sizes.items():
        places[name] = at
        at += size
    return places | {"text": at}


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("offsets", word(0, 1)),
        ("offsets", word(5, 2**31)),
        ("types", word(0, 0x09090909)),
        ("characters", word(1, 2**31)),
        ("characters", word(0, 2**31)),
        ("bytes", word(7, 4096)),
        ("added", word(0, 500)),
        ("first", word(3, 10**6)),
        ("merges", word(0, 4096)),
        ("merges", word(2, 4096)),
        ("text", word(0, 0xFFFFFFFF)),
    ],
)
def test_a_vocabulary_that_leads_nowhere_is_refused(path, tmp_path, part, change):
    raw = bytearray(path.read_bytes())
    change(raw, parts(raw)[part])
    (tmp_path / "v.bin").write_bytes(raw)
    with pytest.raises(GemmaError, match="corrupt vocabulary"):
        Vocabulary.open(tmp_path / "v.bin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-1], "which is wrong for"),
        (lambda raw: raw[:20], "not a compact vocabulary"),
        (lambda raw: b"GEMROWS1" + raw[8:], "not a compact vocabulary"),
        (lambda raw: raw[:8] + b"\x02" + raw[9:], "version 2"),
        (lambda raw: raw[:12] + b"\xff\xff\xff\xff" + raw[16:], "which is wrong for"),
        (lambda raw: raw[:32] + b"\x09" + raw[33:], "which is wrong for"),
    ],
)
def test_a_file_of_another_size_or_kind_is_refused(path, tmp_path, change, message):
    (tmp_path / "v.bin").write_bytes(change(path.read_bytes()))
    with pytest.raises(GemmaError, match=message):
        Vocabulary.open(tmp_path / "v.bin")
