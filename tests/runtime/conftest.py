"""What tests of the runtime share."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from runtime.bundle.bundle import Bundle
from runtime.language.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def ours(bundle):
    """The tokenizer of the sample's bundle."""
    return Tokenizer.of(Bundle.open(bundle("sample", "int8")))


@pytest.fixture(scope="module")
def theirs(bundle):
    """transformers' own, of the same files."""
    folder = bundle("sample", "int8")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), bos_token="<bos>")
    tokenizer.chat_template = (folder / "chat_template.jinja").read_text()
    return tokenizer


@pytest.fixture
def templated(ours, tmp_path):
    """`templated(text)`: the same tokenizer with another chat template."""

    def read(template: str) -> Tokenizer:
        path = tmp_path / "chat_template.jinja"
        path.write_text(template, encoding="utf-8")
        return Tokenizer(ours.folder / "tokenizer.json", ours.bos, path)

    return read
