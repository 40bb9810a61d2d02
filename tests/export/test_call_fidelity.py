"""Calls of a bundle against those of its checkpoint; transformers says what the checkpoint calls."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from conftest import SAMPLE
from transformers import Gemma4ForCausalLM

from export import call_fidelity
from export.call_fidelity import compare_calls, gone_on
from export.call_scripts import answered, calls_in, read_scripts
from export.checkpoint import Checkpoint
from export.reference import FloatSource
from runtime.bundle import Bundle
from runtime.cli import main
from runtime.errors import GemmaError
from runtime.session import Session

SCRIPTS = SAMPLE.parent / "calls.jsonl"
STOP = frozenset((1, 106, 50))


@pytest.fixture(scope="module")
def source():
    return FloatSource(Checkpoint.open(SAMPLE))


@pytest.fixture(scope="module")
def session(bundle):
    return Session(Bundle.open(bundle("sample", "int8")))


@pytest.fixture(scope="module")
def answers(session):
    return list(answered(session, read_scripts(SCRIPTS)))


@pytest.mark.slow
def test_the_sample_makes_the_calls_of_its_checkpoint(source, session, answers):
    report = compare_calls(source, session.tokenizer, STOP, answers)
    assert report.conversations >= 100
    assert report.calling >= 50
    assert report.share >= 0.98


@pytest.mark.slow
def test_what_the_checkpoint_says_by_itself_is_what_transformers_says(source, answers):
    model = Gemma4ForCausalLM.from_pretrained(SAMPLE, dtype=torch.float32).eval()
    for answer in answers[:6]:
        expected = model.generate(
            torch.tensor([answer.prompt]), max_new_tokens=40, do_sample=False, eos_token_id=sorted(STOP)
        )[0, len(answer.prompt) :].tolist()
        mine = gone_on(source, answer.prompt, [], expected[0], STOP)
        assert mine == [token for token in expected if token not in STOP]


@pytest.mark.slow
def test_an_answer_that_differs_is_told_with_both_calls(source, session, answers):
    """A bundle that says another country's name: the checkpoint's own call is found from there on."""
    calling = next(answer for answer in answers if calls_in(session.tokenizer, answer, answer.said))
    [right] = calls_in(session.tokenizer, calling, calling.said)
    country = json.loads(right.partition(" ")[2])["country"]
    text = session.tokenizer.pieces.decode(calling.said, skip_special_tokens=False).replace(country, "Atlantis")
    changed = dataclasses.replace(calling, said=session.tokenizer.encode(text, bos=False))
    report = compare_calls(source, session.tokenizer, STOP, [changed, calling])
    assert (report.conversations, report.same) == (2, 1)
    [difference] = report.differences
    assert difference.line == 1
    assert difference.checkpoint == [right]
    assert "Atlantis" in difference.bundle[0]


@pytest.mark.slow
def test_answers_read_together_are_as_answers_read_alone(source, answers, monkeypatch):
    some = answers[:5]
    together = list(call_fidelity.choices(source, some))
    alone = [next(call_fidelity.choices(source, [answer])) for answer in some]
    assert together == alone
    monkeypatch.setattr(call_fidelity, "TOGETHER", 2 * max(answer.length for answer in answers))
    assert [answer for part in call_fidelity.together(answers) for answer in part] == answers
    assert max(map(len, call_fidelity.together(answers))) >= 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "no conversations"),
        ("{", "line 1: not JSON"),
        ("[]", "line 1: no messages and tools"),
        ('{"messages": [], "tools": [{"name": "f"}]}', "line 1: no messages"),
        ('{"messages": [{"role": "user", "content": "x"}], "tools": []}', "line 1: no messages and tools"),
        ('{"messages": [{"role": "bard", "content": "x"}], "tools": [{"name": "f"}]}', "line 1: message 0: the role"),
        ('\n{"messages": [{"role": "user", "content": "x"}], "tools": [{"name": ""}]}', "line 2: .* is not a tool"),
    ],
)
def test_a_file_that_has_no_conversations_is_refused_by_its_line(lines, message, tmp_path):
    (tmp_path / "x.jsonl").write_text(lines)
    with pytest.raises(GemmaError, match=message):
        read_scripts(tmp_path / "x.jsonl")


@pytest.mark.slow
def test_export_and_eval_report_the_calls(tmp_path, capsys):
    script = tmp_path / "few.jsonl"
    script.write_text("\n".join(SCRIPTS.read_text().splitlines()[:3]))
    folder = tmp_path / "x.bundle"
    assert main(["export", str(SAMPLE), "-o", str(folder), "--recipe", "int8", "--calls", str(script)]) == 0
    assert "the same in 3 of 3 conversations" in capsys.readouterr().err
    assert json.loads((folder / "parity.json").read_text())["calls"]["same"] == 3
    assert main(["eval", str(folder), "--against", str(SAMPLE), "--calls", str(script)]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["calls"]["x.bundle"]["conversations"] == 3


def test_calls_need_an_engine_that_runs_here(tmp_path, capsys):
    words = ["export", str(SAMPLE), "-o", str(tmp_path / "x"), "--to", "coreml", "--calls", str(SCRIPTS)]
    assert main(words) == 1
    assert "nothing here runs coreml" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--text", "a", "--calls", "b"], ["--calls", "b"]])
def test_eval_reads_a_text_or_calls(words, bundle, capsys):
    assert main(["eval", str(bundle("e2b")), *words]) == 1
    assert "hint:" in capsys.readouterr().err
