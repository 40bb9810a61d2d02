"""Calls of a bundle against those of its checkpoint; transformers says what the checkpoint calls."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma4ForCausalLM, PreTrainedTokenizerFast

from export.checkpoint.checkpoint import Checkpoint
from export.draft_process import export_apart
from export.pipeline import prepare, write_language_files
from export.prove import call_fidelity
from export.prove.call_fidelity import compare_calls, continued
from export.prove.call_scripts import answered, calls_in, read_scripts
from export.reference import FloatSource
from export.request import Request
from export.targets import find_target, load_targets
from quantize.recipe import RECIPES
from runtime.bundle.parity import CallReport
from runtime.bundle.proof_facts import call_facts
from runtime.cli.main import main
from runtime.errors import ContextFull, GemmaError
from runtime.session.model import Model
from tests import tiny
from tests.conftest import SAMPLE

SCRIPTS = SAMPLE.parent / "calls.jsonl"
STOP = frozenset((1, 106, 50))
Tools = list[dict[Any, Any] | Callable[..., Any]]  # as transformers takes them
LOOKUP = {
    "name": "lookup",
    "description": "Look up a fact",
    "parameters": {"type": "object", "properties": {"country": {"type": "string", "description": "Its name"}}},
}


@pytest.fixture(scope="module")
def source():
    return FloatSource(Checkpoint.open(SAMPLE))


@pytest.fixture(scope="module")
def session(bundle):
    return Model.open(bundle("sample", "int8")).session()


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
        mine = continued(source, answer.prompt, [], expected[0], STOP)
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
def test_answers_read_together_are_as_answers_read_alone(source, answers):
    some = answers[:5]
    together = list(call_fidelity.choices(source, some))
    alone = [next(call_fidelity.choices(source, [answer])) for answer in some]
    assert together == alone
    two = 2 * max(answer.length for answer in answers)
    assert [answer for batch in call_fidelity.batches(answers, two) for answer in batch] == answers
    assert max(map(len, call_fidelity.batches(answers, two))) >= 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "no conversations"),
        ("{", "line 1 is not JSON"),
        ("[]", "line 1: the object needs the fields messages and tools"),
        ('{"messages": [], "tools": [{"name": "f"}]}', "line 1: there are no messages"),
        (
            '{"messages": [{"role": "user", "content": "x"}], "tools": []}',
            "line 1: the object needs the fields messages and tools",
        ),
        ('{"messages": [{"role": "bard", "content": "x"}], "tools": [{"name": "f"}]}', "line 1: message 0: the role"),
        ('\n{"messages": [{"role": "user", "content": "x"}], "tools": [{"name": ""}]}', "line 2: .* is not a tool"),
        ('{"messages": "hi", "tools": [{"name": "f"}]}', "line 1: the object needs the fields messages and tools"),
        (
            '{"messages": [{"role": "user", "content": "x"}], "tools": {"name": "f"}}',
            "line 1: the object needs the fields messages and tools",
        ),
        ('{"messages": ["hi"], "tools": [{"name": "f"}]}', "line 1: message 0: 'hi' is not an object"),
        ('{"messages": [5], "tools": [{"name": "f"}]}', "line 1: message 0 must be an object, not 5"),
        ('{"messages": [{"content": "x"}], "tools": [{"name": "f"}]}', "line 1: message 0: the role None"),
        ('{"messages": [{"role": "user", "content": "x"}], "tools": ["lookup"]}', "line 1: 'lookup' is not a tool"),
        ('{"messages": [{"role": "user", "content": "x"}], "tools": [7]}', "line 1: 7 is not a tool"),
        (
            '{"messages": [{"role": "user", "content": "\\ud800"}], "tools": [{"name": "f"}]}',
            "line 1: message 0: .*half",
        ),
        (
            '{"messages": [{"role": "user", "content": "x"}], "tools": [{"name": "f", "parameters":'
            ' {"properties": {"a": {"description": "\\udc00"}}}}]}',
            "line 1: tool 0: .*half",
        ),
        ("\u2028", "line 1 is not JSON"),
    ],
)
def test_a_file_that_has_no_conversations_is_refused_by_its_line(lines, message, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(GemmaError, match=rf"{re.escape(str(path))}[:,] {message}"):
        read_scripts(path)


BREAKS = "\u2028 \u2029 \x85 \x1c \x1d \x1e \v \f \r"  # where Python's splitlines would cut


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_end_at_line_feeds_only(end, tmp_path):
    """A file as other programs write it: a mark of its encoding, texts that are not escaped, empty lines."""
    lines = [json.dumps(one, ensure_ascii=False) for one in (said(BREAKS), said("two"))]
    (tmp_path / "x.jsonl").write_bytes("\ufeff".encode() + end.join([lines[0], "", lines[1], ""]).encode())
    scripts = read_scripts(tmp_path / "x.jsonl")
    assert [script.messages[0]["content"] for script in scripts] == [BREAKS, "two"]
    assert [script.place.rpartition(", ")[2] for script in scripts] == ["line 1", "line 3"]


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "tools": [LOOKUP]}


def written(path: Path, *given: object) -> Path:
    path.write_text("\n".join(json.dumps(one) for one in given))
    return path


def length_in_transformers(text: str) -> int:
    """Tokens of a prompt that asks it, with the tool."""
    speaker = PreTrainedTokenizerFast(tokenizer_file=str(SAMPLE / "tokenizer.json"), bos_token="<bos>")
    template = (SAMPLE / "chat_template.jinja").read_text()
    tools: Tools = [{"type": "function", "function": LOOKUP}]
    messages = said(text)["messages"]
    prompt = speaker.apply_chat_template(
        messages, tools=tools, chat_template=template, add_generation_prompt=True, tokenize=False
    )
    assert isinstance(prompt, str)
    return len(speaker(prompt, add_special_tokens=False)["input_ids"])


@pytest.fixture(scope="module")
def longest_text() -> str:
    """Of which the prompt has as many tokens as the sample's context, 4,096."""
    text = "." + " 7" * (4096 - length_in_transformers("."))
    assert (length_in_transformers(text), length_in_transformers(f"{text} 7")) == (4096, 4097)
    return text


def test_a_prompt_is_checked_before_the_long_part(longest_text, tmp_path):
    """One that fills the context is taken."""
    checkpoint, loaded = Checkpoint.open(SAMPLE), load_targets(["onnx"])
    for text, refusal in ((longest_text, nullcontext()), (f"{longest_text} 7", pytest.raises(ContextFull))):
        scripts = read_scripts(written(tmp_path / "x.jsonl", said(text)))
        prepared = prepare(checkpoint, loaded, RECIPES["int8"], scripts=scripts)
        with refusal:
            write_language_files(prepared, tmp_path)


@pytest.mark.parametrize("recipe", ["int8", "int4-quick"])
def test_a_prompt_over_the_context_is_refused_before_the_long_part(recipe, longest_text, tmp_path, capsys):
    path = written(tmp_path / "x.jsonl", said("short"), said(longest_text), said(f"{longest_text} 7"))
    words = ["export", str(SAMPLE), "-o", str(tmp_path / "x.bundle"), "--recipe", recipe, "--calls", str(path)]
    sentence = f"error: {path}, line 3: the prompt has 4097 tokens, but the context is 4096\n"
    for more in ([], ["--dry-run"]):
        assert main([*words, *more]) == 1
        errors = capsys.readouterr().err
        assert sentence in errors
        assert "calibrating" not in errors
    assert [one.name for one in tmp_path.iterdir()] == ["x.jsonl"]


@pytest.mark.slow
def test_a_prompt_over_the_context_is_refused_by_the_other_process(longest_text, tmp_path, capfd):
    path = written(tmp_path / "x.jsonl", said(f"{longest_text} 7"))
    request = Request(str(SAMPLE), ("onnx",), "int4-quick", None)
    with pytest.raises(ContextFull, match="line 1: the prompt has 4097 tokens, but the context is 4096"):
        export_apart(request, tmp_path / "x.bundle", replace=False, scripts=read_scripts(path))
    assert "calibrating" not in capfd.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["x.jsonl"]


def test_eval_refuses_a_prompt_over_the_context_before_any_answer(longest_text, bundle, tmp_path, capsys):
    path = written(tmp_path / "x.jsonl", said("short"), said(f"{longest_text} 7"))
    assert main(["eval", str(bundle("sample", "int8")), "--against", str(SAMPLE), "--calls", str(path)]) == 1
    assert f"error: {path}, line 2: the prompt has 4097 tokens" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["executorch", "coreml"])
def test_other_artifacts_have_a_context_of_their_own(target):
    assert find_target(target).longest(131_072) == 4096
    assert find_target(target).longest(2048) == 2048
    assert find_target("onnx").longest(131_072) == 131_072


def test_what_the_template_refuses_is_told_by_its_line(tmp_path, capsys):
    folder = shutil.copytree(SAMPLE, tmp_path / "checkpoint")
    template = (folder / "chat_template.jinja").read_text()
    loud = "{% if 'SHOUT' in messages[0].content %}{{ raise_exception('no shouting') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(loud + template)
    path = written(tmp_path / "x.jsonl", said("hi"), said("SHOUT"))
    assert main(["export", str(folder), "--dry-run", "--calls", str(path)]) == 1
    assert f"error: {path}, line 2: chat template: no shouting\n" in capsys.readouterr().err


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file or directory"),
        ("", "no conversations"),
        ('{"messages": ["hi"], "tools": [{"name": "f"}]}', "line 1: message 0: 'hi' is not an object"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}], "tools": [{"name": "f"}]}', "is half of a character"),
    ],
)
def test_a_dry_run_refuses_what_an_export_refuses(text, message, dry, tmp_path, capsys):
    path = tmp_path / "x.jsonl"
    if text is not None:
        path.write_text(text)
    assert main(["export", str(SAMPLE), "-o", str(tmp_path / "x.bundle"), "--calls", str(path), *dry]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {path}")  # before it says how long a calibration takes
    assert message in errors


@pytest.mark.parametrize("what", ["no word of tools", "no tokens for calls", "no template"])
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_model_that_knows_no_calls_is_refused_at_the_door(what, dry, tmp_path, capsys):
    folder = shutil.copytree(SAMPLE, tmp_path / "checkpoint")
    template, tokens = folder / "chat_template.jinja", folder / "tokenizer.json"
    if what == "no word of tools":
        template.write_text(tiny.TEMPLATE)
    elif what == "no template":
        template.unlink()
    else:
        tokens.write_text(tokens.read_text().replace("<|tool_call>", "<unused48>"))
    words = ["export", str(folder), "-o", str(tmp_path / "x.bundle"), "--calls", str(SCRIPTS), *dry]
    assert main(words) == 1
    errors = capsys.readouterr().err
    assert f"error: {folder} cannot call tools" in errors
    assert "calibrating" not in errors
    assert not (tmp_path / "x.bundle").exists()


def test_eval_refuses_a_bundle_that_knows_no_calls(bundle, checkpoint, capsys):
    words = ["eval", str(bundle("e2b")), "--against", str(checkpoint("e2b")), "--calls", str(SCRIPTS)]
    assert main(words) == 1
    assert f"error: {bundle('e2b')} cannot call tools" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("conversations", "calling", "same", "line", "fact"),
    [
        (4, 2, 3, "the same in 3 of 4 conversations (75.0%); the checkpoint calls in 2",
         "as the checkpoint's in 3 of 4 conversations; the checkpoint calls in 2"),
        (4, 0, 4, "nothing was compared: the checkpoint calls in 0 of 4 conversations", None),
        (4, 0, 3, "nothing was compared: the checkpoint calls in 0 of 4 conversations; the bundle calls in 1", None),
    ],
)  # fmt: skip
def test_a_report_says_in_how_many_the_checkpoint_calls(conversations, calling, same, line, fact):
    report = CallReport(conversations=conversations, calling=calling, same=same, differences=[])
    assert report.line() == f"calls           {line}"
    assert call_facts(report) == (fact or line)


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
    for more in ([], ["--dry-run"]):
        assert main([*words, *more]) == 1
        assert "a bundle answers: nothing here runs coreml\n" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--text", "a", "--calls", "b"], ["--calls", "b"]])
def test_eval_reads_a_text_or_calls(words, bundle, capsys):
    assert main(["eval", str(bundle("e2b")), *words]) == 1
    assert "hint:" in capsys.readouterr().err
