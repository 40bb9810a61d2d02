"""What instructor gets from a server, as one line of JSON: a call is a value, and a stream a value that grows."""

from __future__ import annotations

import json
import sys

import instructor
from openai import OpenAI
from pydantic import BaseModel, ConfigDict, Field

asked = json.loads(sys.argv[1])


class Capital(BaseModel):
    model_config = ConfigDict(extra="forbid")
    country: str = Field(max_length=20)
    capital: str = Field(max_length=20)


class lookup(BaseModel):  # noqa: N801 (its name is that of the tool)
    """Look up a fact about a country"""

    country: str = Field(description="Name of the country")
    field: str = Field(description="Name of the fact")


server = OpenAI(base_url=asked["url"], api_key="none", max_retries=0)
settings = {"model": asked["model"], "temperature": 0, "max_retries": 0}
question = [{"role": "user", "content": asked["question"]}]

plain = instructor.from_openai(server).create(**settings, messages=question, response_model=None)
text = plain.choices[0].message.content

by_call, by_schema = (
    instructor.from_openai(server, mode=mode) for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA)
)
values = [client.create(**settings, messages=question, response_model=Capital) for client in (by_call, by_schema)]
growing = by_schema.create_partial(**settings, messages=question, response_model=Capital)
grown = [partial.model_dump_json(exclude_none=True) for partial in growing]

turns = [{"role": "user", "content": asked["tool_question"]}]
value, completion = by_call.create_with_completion(**settings, messages=turns, response_model=lookup)
name = completion.choices[0].message.tool_calls[0].function.name

structured = [capital.model_dump_json() for capital in values]
calls = [{"name": name, "arguments": value.model_dump()}]
print(json.dumps({"text": text, "grown": grown, "calls": calls, "structured": [*structured, grown[-1]]}))
