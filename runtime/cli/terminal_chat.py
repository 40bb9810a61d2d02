"""A chat in a terminal: history, tools whose responses the user types, thoughts, stop with control-C."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..calls.tool_schema import declarations
from ..errors import GemmaError
from ..language.events import End, Event, Text, Thought, ToolCall, assistant_message, tool_message
from ..session.options import Options
from ..session.session import Session
from .flags import explained

HELP = """\
/think            thoughts on, or off again
/think N          thoughts of N tokens at most
/tools FILE.json  tools that the model may call: a list of {"name", "description", "parameters"}
/tools            which tools there are
/help             this
control-C stops an answer, control-D ends the chat"""
DIM, PLAIN = "\033[2m", "\033[0m"


@dataclass
class Chat:
    """What was said so far, and how the next answer is made."""

    session: Session
    options: Options = field(default_factory=Options)
    system: str | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.system is not None:
            self.messages.append({"role": "system", "content": self.system})

    def set(self, **options: Any) -> None:
        """Change some options of the answers to come."""
        self.options = replace(self.options, **options)


def converse(chat: Chat) -> int:
    """Turns until end of file; what can not be done is said, and the chat goes on."""
    print("Type a message, or /help; control-D ends the chat.", file=sys.stderr)
    while True:
        try:
            said = input("> ").strip()
        except EOFError:
            print(file=sys.stderr)
            return 0
        except UnicodeDecodeError as error:
            print(f"error: the message is not UTF-8: {error}", file=sys.stderr)
            continue
        try:
            if said.startswith("/"):
                command(chat, *said.split(maxsplit=1))
            elif said:
                turn(chat, said)
        except GemmaError as error:
            print(f"error: {explained(error)}", file=sys.stderr)


def command(chat: Chat, name: str, argument: str = "") -> None:
    """Raises GemmaError for a command that there is not, or that can not be carried out."""
    if name == "/think":
        budget = thought_budget(argument) if argument else None
        chat.set(thinking=bool(argument) or not chat.options.thinking, thinking_budget=budget)
        print(f"thoughts {'on' if chat.options.thinking else 'off'}", file=sys.stderr)
    elif name == "/tools":
        if argument:
            chat.set(tools=read_tools(Path(argument)))
        names = [tool["function"]["name"] for tool in declarations(chat.options.tools)]
        print("tools:", ", ".join(names) or "none", file=sys.stderr)
    elif name == "/help":
        print(HELP, file=sys.stderr)
    else:
        raise GemmaError(f"{name} is not a command", "/help lists the commands")


def thought_budget(argument: str) -> int:
    if not argument.isascii() or not argument.isdigit():
        raise GemmaError(
            f"/think takes a number of tokens, 0 or more, not {argument}", "/think alone turns thoughts on and off"
        )
    return int(argument)


def read_tools(path: Path) -> list[dict[str, Any]]:
    """Raises GemmaError unless the file holds a list of tools."""
    try:
        tools = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GemmaError(f"{path}: {error.strerror}", "give the path of a file") from error
    except (ValueError, RecursionError) as error:
        raise GemmaError(f"{path} is not JSON: {error}", "give a list of tools") from error
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise GemmaError(f"{path} is not a list of tools", 'give [{"name": ..., "parameters": {...}}]')
    return declarations(tools)


def turn(chat: Chat, said: str) -> None:
    """One message and its answer, with the responses of tools in between; all of it is undone if it is refused."""
    before = len(chat.messages)
    chat.messages.append({"role": "user", "content": said})
    try:
        while True:
            events = shown(chat)
            calls = [event for event in events if isinstance(event, ToolCall)]
            if not called(events):
                keep_answer(chat, [event for event in events if event not in calls])
                return
            chat.messages.append(assistant_message(events))
            chat.messages += [tool_message(call, response(call)) for call in calls]
    except (GemmaError, EOFError):
        del chat.messages[before:]
        raise


def called(events: list[Event]) -> bool:
    return any(isinstance(event, End) and event.stop == "tool_calls" for event in events)


def keep_answer(chat: Chat, events: list[Event]) -> None:
    """What was said stays; of an answer that was stopped before its first word the question goes too."""
    message = assistant_message(events)
    if message["content"]:
        chat.messages.append(message)
    elif chat.messages[-1]["role"] == "user":
        chat.messages.pop()


def response(call: ToolCall) -> Any:
    """What the user gives in a tool's place; a call that can not be made is answered with what is wrong."""
    return {"error": call.problem} if call.problem else input(f"response of {call.name}> ")


def shown(chat: Chat) -> list[Event]:
    """The events of an answer, printed as they come."""
    events = []
    with stoppable(chat.session):
        for event in chat.session.chat(chat.messages, chat.options):
            print_part(event)
            events.append(event)
    print()
    return events


def print_part(event: Event) -> None:
    """Answers go to standard output; thoughts, calls and reasons to standard error."""
    if isinstance(event, Text):
        print(event.text, end="", flush=True)
    elif isinstance(event, Thought):
        dim = sys.stderr.isatty()
        print(f"{DIM}{event.text}{PLAIN}" if dim else event.text, end="", file=sys.stderr, flush=True)
    elif isinstance(event, ToolCall):
        arguments = json.dumps(event.arguments, ensure_ascii=False)
        print(f"\n[{event.name} {event.problem or arguments}]", file=sys.stderr)
    elif isinstance(event, End) and event.stop not in ("stop", "tool_calls"):
        print(f"\n[ended: {event.stop}]", file=sys.stderr)


@contextmanager
def stoppable(session: Session) -> Iterator[None]:
    """Control-C ends the answer, not the program."""
    before = signal.signal(signal.SIGINT, lambda *_: session.cancel())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
