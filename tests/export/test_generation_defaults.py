"""generation_config.json: what ends an answer, how it is drawn, and what is said of the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from export.checkpoint.checkpoint import Checkpoint
from export.language.generation_defaults import NOT_DONE, TOP_K, generation_defaults, not_done
from export.language.side_files import SideFiles, read_side_files
from runtime.cli.main import main
from runtime.errors import GemmaError
from tests import tiny


@pytest.fixture
def folder(checkpoint, tmp_path: Path) -> Path:
    folder = shutil.copytree(checkpoint("gemma3"), tmp_path / "folder")
    for name in ("generation_config.json", "chat_template.jinja"):
        (folder / name).unlink()
    return folder


def write(folder: Path, file: str, **said: Any) -> None:
    path = folder / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | said))


def side_files(folder: Path) -> SideFiles:
    return read_side_files(Checkpoint.open(folder))[0]


def stops(folder: Path) -> list[int]:
    return side_files(folder).generation.stop


GENERATION, CONFIG, TOKENIZER = "generation_config.json", "config.json", "tokenizer_config.json"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, [1]),
        ({GENERATION: {"eos_token_id": None}}, [1]),
        ({GENERATION: {"eos_token_id": [50, 106]}}, [50, 106, 1]),
        ({CONFIG: {"eos_token_id": [1, 50]}}, [1, 50]),
        ({CONFIG: {"eos_token_id": None}}, [1]),  # the tokenizer's
        ({CONFIG: {"eos_token_id": None}, TOKENIZER: {"eos_token": "<unused9>"}}, [9]),
        ({GENERATION: {"eos_token_id": 1}, TOKENIZER: {"eos_token": "<turn|>"}}, [1, 106]),
        ({GENERATION: {"eos_token_id": [1, 383, 384, 9999]}}, [1, 383]),
        ({TOKENIZER: {"eos_token": "<not there>"}}, [1]),
    ],
)
def test_stops_are_all_that_any_file_says(folder, files, expected):
    for file, said in files.items():
        write(folder, file, **said)
    assert stops(folder) == expected


def test_stops_of_a_whole_model_are_those_of_its_text_part_too(folder):
    text = json.loads((folder / CONFIG).read_text()) | {"eos_token_id": 50}
    (folder / CONFIG).write_text(json.dumps({"model_type": "gemma3", "text_config": text, "eos_token_id": [1, 106]}))
    assert stops(folder) == [1, 106, 50]


def test_a_model_that_never_stops_is_said(folder):
    write(folder, CONFIG, eos_token_id=None)
    write(folder, TOKENIZER, eos_token=None)
    assert side_files(folder).notes[0] == "no token ends an answer: say eos_token_id in generation_config.json"


def test_the_end_of_a_turn_stops_where_the_template_writes_it(folder):
    assert stops(folder) == [1]
    (folder / "chat_template.jinja").write_text(tiny.TEMPLATE)
    assert stops(folder) == [1, 106]
    (folder / "chat_template.jinja").write_text(tiny.TEMPLATE.replace("<turn|>", "<end_of_turn>"))
    assert stops(folder) == [1]  # which this vocabulary has not
    raw = json.loads((folder / "tokenizer.json").read_text().replace("<turn|>", "<end_of_turn>"))
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    assert stops(folder) == [1, 106]


def test_export_says_which_tokens_stop_and_who_says_so(folder, capsys):
    (folder / "chat_template.jinja").write_text(tiny.TEMPLATE)
    write(folder, GENERATION, eos_token_id=[1, 50])
    assert main(["export", str(folder), "--dry-run"]) == 0
    said = "answers end at <eos> (1: generation_config.json, config.json, tokenizer), "
    said += "<unused50> (50: generation_config.json), <turn|> (106: chat template)\n"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("eos", ["x", -1, [[1]], {"a": 1}])
@pytest.mark.parametrize("file", [GENERATION, CONFIG])
def test_a_stop_that_is_no_token_is_refused(folder, file, eos):
    write(folder, file, eos_token_id=eos)
    with pytest.raises(GemmaError, match=f"{file}: eos_token_id"):
        side_files(folder)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, (False, 1.0, TOP_K, 1.0)),
        ({"do_sample": True}, (True, 1.0, TOP_K, 1.0)),
        ({"do_sample": True, "temperature": 0.7, "top_k": 64, "top_p": 0.95}, (True, 0.7, 64, 0.95)),
        ({"do_sample": True, "temperature": None, "top_k": None, "top_p": None}, (True, 1.0, TOP_K, 1.0)),
        ({"do_sample": None, "temperature": 0.7}, (False, 0.7, TOP_K, 1.0)),
        ({"do_sample": True, "temperature": 0.0}, (False, 1.0, TOP_K, 1.0)),
        ({"do_sample": True, "temperature": 0}, (False, 1.0, TOP_K, 1.0)),
        ({"do_sample": True, "top_p": 0.0}, (False, 1.0, TOP_K, 1.0)),
        ({"do_sample": True, "top_k": 0}, (True, 1.0, 0, 1.0)),
        ({"do_sample": True, "top_k": -1}, (True, 1.0, 0, 1.0)),
    ],
)
def test_drawing(folder, said, expected):
    write(folder, GENERATION, **said)
    found = generation_defaults(folder, [1])
    assert (found.do_sample, found.temperature, found.top_k, found.top_p) == expected


@pytest.mark.parametrize("said", [{"temperature": -1}, {"temperature": 1e999}, {"top_p": 1.5}, {"top_k": "x"}])
def test_what_is_no_way_to_draw_is_refused(folder, said):
    write(folder, GENERATION, **said)
    with pytest.raises(GemmaError, match=GENERATION):
        generation_defaults(folder, [1])


def test_what_is_left_out_is_what_transformers_takes():
    defaults = GenerationConfig._get_default_generation_params()
    assert defaults["top_k"] == TOP_K
    assert (defaults["do_sample"], defaults["temperature"], defaults["top_p"]) == (False, 1.0, 1.0)


def test_what_the_runtime_has_not_is_known_to_transformers_with_its_neutral_value():
    defaults, fields = GenerationConfig._get_default_generation_params(), vars(GenerationConfig())
    for name, neutral in NOT_DONE.items():
        assert name in fields
        assert defaults.get(name) is None or defaults[name] in neutral


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"repetition_penalty": 1.1, "min_p": 0.05}, ["repetition_penalty 1.1", "min_p 0.05"]),
        ({"suppress_tokens": [7], "no_repeat_ngram_size": 3}, ["no_repeat_ngram_size 3", "suppress_tokens [7]"]),
        ({"repetition_penalty": 1, "min_p": 0.0, "suppress_tokens": [], "num_beams": 1, "guidance_scale": None}, []),
        ({"cache_implementation": "hybrid", "_from_model_config": True, "use_cache": True}, []),
    ],
)
def test_what_answers_will_be_without_is_said(folder, said, expected):
    write(folder, GENERATION, **said)
    assert not_done(folder) == expected
    line = f"generation_config.json asks for {', '.join(expected)}: answers will be without it"
    assert (line in side_files(folder).notes) is bool(expected)


@pytest.mark.parametrize(("said", "bos"), [({}, 2), ({"bos_token_id": None}, 2), ({"bos_token_id": 5}, 5)])
def test_the_first_token(folder, said, bos):
    write(folder, GENERATION, **said)
    assert generation_defaults(folder, [1]).bos == bos
