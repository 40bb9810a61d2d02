"""What templates read by name is what transformers' tokenizer gives them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from export.language.special_tokens import special_tokens
from runtime.errors import GemmaError

WHOLE = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
ADDED = {"__type": "AddedToken", **WHOLE}
CASES: dict[str, tuple[Any, Any]] = {  # tokenizer_config.json and special_tokens_map.json
    "no files": (None, None),
    "nothing said": ({}, None),
    "a text": ({"eos_token": "<unused50>", "pad_token": "<eos>"}, None),
    "a token": ({"eos_token": {"content": "<unused50>", **ADDED}}, None),
    "of the model": ({"boi_token": "<unused51>", "y_token": {"content": "<unused54>", **ADDED}, "n_token": None}, None),
    "switches": ({"add_bos_token": True, "add_eos_token": False, "bos_token": "<bos>"}, None),
    "none": ({"tokenizer_class": "GemmaTokenizer", "eos_token": None, "pad_token": None}, None),
    "more by name": ({"extra_special_tokens": {"image_token": "<unused55>", "audio": "<unused56>"}}, None),
    "more without names": ({"extra_special_tokens": ["<unused57>"], "image_token": "<unused62>"}, None),
    "as saved": ({"boi_token": "<unused51>", "model_specific_special_tokens": {"boi_token": "<unused51>"}}, None),
    "a map": ({}, {"eos_token": "<unused58>", "pad_token": {"content": "<unused59>", **WHOLE}, "boi_token": "<eos>"}),
    "a map alone": (None, {"eos_token": "<unused58>"}),
    "a map comes second": ({"eos_token": "<eos>"}, {"eos_token": "<unused58>"}),
    "a map that is not read": ({"eos_token": "<eos>", "added_tokens_decoder": {}}, {"eos_token": "<unused58>"}),
    "the class of Gemma": ({"tokenizer_class": "GemmaTokenizer"}, None),
    "its older name": ({"tokenizer_class": "GemmaTokenizerFast"}, None),
    "another class": ({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>"}, None),
    "a class without names": ({"tokenizer_class": "TokenizersBackend"}, None),
    "no token of the vocabulary": ({"eos_token": "<not there>"}, None),
}


@pytest.fixture
def folder(checkpoint, tmp_path: Path, request) -> Path:
    return shutil.copytree(checkpoint(request.param), tmp_path / "folder")


def write(folder: Path, config: Any, names: Any) -> None:
    for file, said in (("tokenizer_config.json", config), ("special_tokens_map.json", names)):
        if said is not None:
            (folder / file).write_text(json.dumps(said))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("folder", ["e2b", "gemma3"], indirect=True)
def test_special_tokens_are_those_of_transformers(folder, case):
    write(folder, *CASES[case])
    assert special_tokens(folder) == AutoTokenizer.from_pretrained(folder).special_tokens_map


@pytest.mark.parametrize("folder", ["e2b"], indirect=True)
def test_an_object_without_its_type_is_read_as_older_versions_wrote_it(folder):
    write(folder, {"eos_token": {"content": "<unused50>", **WHOLE}}, None)
    assert special_tokens(folder) == {"eos_token": "<unused50>"}


@pytest.mark.parametrize("value", [3, ["<eos>"], {"text": "<eos>"}])
@pytest.mark.parametrize("folder", ["e2b"], indirect=True)
def test_what_is_no_text_is_refused(folder, value):
    write(folder, {"eos_token": value}, None)
    with pytest.raises(GemmaError, match="eos_token is no text"):
        special_tokens(folder)
