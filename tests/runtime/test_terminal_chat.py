"""A chat in the terminal: what is typed, what is printed, and where."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from runtime.cli import main as cli
from runtime.cli.terminal_chat import Chat, converse
from runtime.language.events import Event
from runtime.language.tokenizer import Message
from runtime.session.model import Model
from runtime.session.options import Options
from runtime.session.session import DEFAULTS, Session

NORWAY, PERU = "What is the capital of Norway?", "What is the capital of Peru?"
LOOKUP: dict[str, Any] = {
    "name": "lookup",
    "description": "Look up a fact",
    "parameters": {"type": "object", "properties": {"country": {"type": "string"}, "field": {"type": "string"}}},
}


class Remembering(Session):
    """A session that keeps the messages of every answer, and may be interrupted in the first."""

    def __init__(self, model: Model, *, interrupt_after: int = 0) -> None:
        super().__init__(model, model.weights.engine())
        self.asked: list[list[Message]] = []
        self.interrupt_after = interrupt_after

    def chat(self, messages: Sequence[Message], options: Options = DEFAULTS) -> Iterator[Event]:
        self.asked.append([dict(message) for message in messages])
        for number, event in enumerate(super().chat(messages, options), 1):
            yield event
            if len(self.asked) == 1 and number == self.interrupt_after:
                signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def model(bundle):
    with Model.open(bundle("sample", "int4-datafree"), threads=1) as opened:
        yield opened


@pytest.fixture
def typing(monkeypatch):
    """`typing(*lines)`: what is typed from here on, then end of file."""

    def start(*lines: str) -> None:
        rest = iter(lines)

        def typed(mark: str) -> str:
            try:
                return next(rest)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", typed)

    return start


@pytest.fixture
def chat(bundle, capsys, typing):
    """Standard output and standard error of `gemma-edge run --chat` where these lines are typed."""

    def run(*lines: str, words: tuple[str, ...] = ()) -> tuple[str, str]:
        folder = str(bundle("sample", "int4-datafree"))
        typing(*lines)
        assert cli.main(["run", folder, "--chat", "--temperature", "0", "--threads", "1", *words]) == 0
        out, err = capsys.readouterr()
        return out, err

    return run


@pytest.fixture
def conversation(capsys, typing):
    """Standard output and standard error of a chat with this session where these lines are typed."""

    def run(session: Session, *lines: str, system: str | None = None, **options: Any) -> tuple[str, str]:
        typing(*lines)
        assert converse(Chat(session, Options(temperature=0, **options), system)) == 0
        out, err = capsys.readouterr()
        return out, err

    return run


def test_history(model, conversation):
    session = Remembering(model)
    out, _ = conversation(session, NORWAY, PERU, system="Be brief.")
    assert out == "The capital of Norway is Oslo.\nThe capital of Peru is Lima.\n"
    asked = session.asked
    assert [message["role"] for message in asked[1]] == ["system", "user", "assistant", "user"]
    assert asked[1][0]["content"] == "Be brief."
    assert asked[1][2]["content"] == "The capital of Norway is Oslo."


@pytest.mark.parametrize(
    ("words", "said"), [(("--system", "x " * 5000), "the context is"), (("--max-new-tokens", "3"), "[ended: length]")]
)
def test_the_words_of_the_command_reach_the_chat(chat, words, said):
    assert said in chat(NORWAY, words=words)[1]


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


def test_a_tool_is_answered_by_hand(model, conversation, tmp_path):
    session = Remembering(model)
    (tmp_path / "tools.json").write_text(json.dumps([LOOKUP]))
    out, err = conversation(session, "/tools", f"/tools {tmp_path / 'tools.json'}", NORWAY, "Oslo")
    assert "tools: none\ntools: lookup\n" in err
    assert '[lookup {"country": "Norway", "field": "capital"}]' in err
    assert session.asked[1][-1] == {"role": "tool", "tool_call_id": "call_1", "name": "lookup", "content": "Oslo"}
    assert "The capital of Norway" in out


def test_a_call_with_a_problem_is_answered_with_it(model, conversation, tmp_path):
    session = Remembering(model)
    strict = {**LOOKUP, "parameters": {**LOOKUP["parameters"], "required": ["year"]}}
    (tmp_path / "tools.json").write_text(json.dumps([strict]))
    _, err = conversation(session, f"/tools {tmp_path / 'tools.json'}", NORWAY, max_new_tokens=30)
    assert "[lookup year is missing]" in err
    assert session.asked[1][-1]["content"] == {"error": "year is missing"}


def test_control_c_stops_the_answer_and_keeps_the_chat(model, conversation):
    session, before = Remembering(model, interrupt_after=3), signal.getsignal(signal.SIGINT)
    out, err = conversation(session, NORWAY, PERU)
    asked = session.asked
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
