"""What comes beside the weights: said where it is missing, refused where prompts would be wrong without a word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from runtime.cli.main import main
from tests.conftest import SAMPLE

DAMAGED = "{{ bos_token }}{% for m in messages %}<|turn>{{ m.role }}\n{{ m.content }}END{% endfor %}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(SAMPLE, tmp_path / "checkpoint")


@pytest.fixture
def dry_run(folder, capsys):
    """Exit code and standard error of a dry run, which reads the same files as an export."""

    def run() -> tuple[int, str]:
        code = main(["export", str(folder), "--dry-run"])
        return code, capsys.readouterr().err

    return run


@pytest.mark.parametrize("bos", [99999, 4096, 10**30, -2, -1])
def test_a_first_token_that_is_none_is_refused(folder, dry_run, bos):
    """Without, the word None stood before every prompt, and the proof's passage hid it."""
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bos_token_id": bos}))
    code, err = dry_run()
    assert code == 1
    assert f"bos_token_id {bos} is not a token of tokenizer.json" in err


@pytest.mark.parametrize("template", ["", " \n\n", None])
def test_a_folder_without_a_template_says_so(folder, dry_run, template):
    path = folder / "chat_template.jinja"
    path.unlink() if template is None else path.write_text(template)
    code, err = dry_run()
    assert code == 0
    assert "note: there is no chat template: " in err


@pytest.mark.parametrize("end", ["<|im_end|>", "</s>", "\n"])
def test_a_turn_that_ends_with_a_text_and_no_token_is_said(folder, dry_run, end):
    """As ChatML put on a tokenizer without its tokens: transformers would not stop there either."""
    (folder / "chat_template.jinja").write_text(DAMAGED.replace("<|turn>", "").replace("END", end))
    code, err = dry_run()
    assert code == 0
    assert f"the chat template ends an answer with the text {end!r}"[:-1] in err


def test_a_turn_that_ends_with_a_token_is_not(folder, dry_run):
    assert "ends an answer with the text" not in dry_run()[1]
