"""A chat in the terminal: what is typed, what is printed, and where."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from runtime.cli import main as cli
from runtime.cli import terminal_chat
from runtime.session.session import Session

NORWAY, PERU = "What is the capital of Norway?", "What is the capital of Peru?"
LOOKUP: dict[str, Any] = {
    "name": "lookup",
    "description": "Look up a fact",
    "parameters": {"type": "object", "properties": {"country": {"type": "string"}, "field": {"type": "string"}}},
}


@pytest.fixture
def chat(bundle, capsys, monkeypatch):
    """Standard output and standard error of a chat of these lines; `prompts` collects the messages."""

    def run(*lines: str, words: tuple[str, ...] = ()) -> tuple[str, str]:
        rest = iter(lines)

        def typed(mark: str) -> str:
            try:
                return next(rest)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", typed)
        folder = str(bundle("sample", "int4-datafree"))
        assert cli.main(["run", folder, "--chat", "--temperature", "0", "--threads", "1", *words]) == 0
        out, err = capsys.readouterr()
        return out, err

    return run


@pytest.fixture
def asked(monkeypatch):
    """The messages of every answer."""
    found, answer = [], Session.chat

    def remembering(session, messages, *rest, **options):
        found.append([dict(message) for message in messages])
        return answer(session, messages, *rest, **options)

    monkeypatch.setattr(Session, "chat", remembering)
    return found


def test_history(chat, asked):
    out, _ = chat(NORWAY, PERU, words=("--system", "Be brief."))
    assert out == "The capital of Norway is Oslo.\nThe capital of Peru is Lima.\n"
    assert [message["role"] for message in asked[1]] == ["system", "user", "assistant", "user"]
    assert asked[1][0]["content"] == "Be brief."
    assert asked[1][2]["content"] == "The capital of Norway is Oslo."


def test_think_turns_thoughts_on_and_off(chat):
    out, err = chat("/think", NORWAY, "/think", NORWAY)
    assert out == "The capital of Norway is Oslo.\n" * 2
    assert err.count("A question about Norway: capital.") == 1
    assert err.index("thoughts on") < err.index("A question") < err.index("thoughts off")


def test_thoughts_of_so_many_tokens(chat):
    out, err = chat("/think 2", NORWAY)
    assert out == "The capital of Norway is Oslo.\n"
    assert "A question" in err
    assert "A question about" not in err


def test_a_tool_is_answered_by_hand(chat, asked, tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps([LOOKUP]))
    out, err = chat("/tools", f"/tools {tmp_path / 'tools.json'}", NORWAY, "Oslo")
    assert "tools: none\ntools: lookup\n" in err
    assert '[lookup {"country": "Norway", "field": "capital"}]' in err
    assert asked[1][-1] == {"role": "tool", "tool_call_id": "call_1", "name": "lookup", "content": "Oslo"}
    assert "The capital of Norway" in out


def test_a_call_with_a_problem_is_answered_with_it(chat, asked, tmp_path):
    strict = {**LOOKUP, "parameters": {**LOOKUP["parameters"], "required": ["year"]}}
    (tmp_path / "tools.json").write_text(json.dumps([strict]))
    _, err = chat(f"/tools {tmp_path / 'tools.json'}", NORWAY, words=("--max-new-tokens", "30"))
    assert "[lookup year is missing]" in err
    assert asked[1][-1]["content"] == {"error": "year is missing"}


def test_control_c_stops_the_answer_and_keeps_the_chat(chat, asked, monkeypatch):
    show, printed = terminal_chat.print_part, []

    def interrupting(event):
        show(event)
        printed.append(event)
        if len(printed) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(terminal_chat, "print_part", interrupting)
    before = signal.getsignal(signal.SIGINT)
    out, err = chat(NORWAY, PERU)
    assert "[ended: cancelled]" in err
    assert out.endswith("The capital of Peru is Lima.\n")
    assert asked[1][1]["role"] == "assistant"
    assert "The capital of Norway is Oslo.".startswith(asked[1][1]["content"])
    assert signal.getsignal(signal.SIGINT) == before


def test_an_answer_in_json(chat, tmp_path):
    schema = {
        "type": "object",
        "properties": {"c": {"enum": ["Oslo"]}},
        "required": ["c"],
        "additionalProperties": False,
    }
    (tmp_path / "s.json").write_text(json.dumps(schema))
    out, _ = chat(NORWAY, words=("--json-schema", str(tmp_path / "s.json")))
    assert json.loads(out) == {"c": "Oslo"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/fly", "error: /fly is not a command"),
        ("/think lots", "error: /think takes a number of tokens, 0 or more, not lots"),
        ("/tools missing.json", "error: missing.json: No such file"),
        ("/help", "/tools FILE.json"),
        ("x " * 5000, "the context is"),
    ],
)
def test_what_can_not_be_done_is_said_and_the_chat_goes_on(chat, line, said):
    out, err = chat(line, NORWAY)
    assert said in err
    assert out == "The capital of Norway is Oslo.\n"


@pytest.mark.parametrize(
    ("held", "said"), [("{", "not JSON"), ("{}", "not a list of tools"), ("[{}]", "is not a tool")]
)
def test_files_of_tools_that_are_refused(chat, tmp_path, held, said):
    (tmp_path / "tools.json").write_text(held)
    assert said in chat(f"/tools {tmp_path / 'tools.json'}")[1]
