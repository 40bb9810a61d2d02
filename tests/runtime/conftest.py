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
