"""What pydantic-ai gets from a server, as one line of JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai import Agent, NativeOutput, Tool, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

asked = json.loads(sys.argv[1])
model = OpenAIChatModel(asked["model"], provider=OpenAIProvider(base_url=asked["url"], api_key="none"))
settings = {"temperature": 0.0}
calls: list[dict[str, Any]] = []


class Capital(BaseModel):
    model_config = ConfigDict(extra="forbid")
    country: str = Field(max_length=20)
    capital: str = Field(max_length=20)


def lookup(**arguments: Any) -> str:
    calls.append({"name": "lookup", "arguments": arguments})
    return str(asked["told"])


plain = Agent(model, model_settings=settings)
text = plain.run_sync(asked["question"]).output
pieces = list(plain.run_stream_sync(asked["question"]).stream_text(delta=True, debounce_by=None))

function = asked["tools"][0]["function"]
tool = Tool.from_schema(lookup, function["name"], function["description"], function["parameters"])
answer = Agent(model, tools=[tool], model_settings=settings).run_sync(asked["tool_question"]).output

structured = [
    Agent(model, output_type=output(Capital), model_settings=settings)
    .run_sync(asked["question"])
    .output.model_dump_json()
    for output in (ToolOutput, NativeOutput)
]
print(json.dumps({"text": text, "pieces": pieces, "calls": calls, "answer": answer, "structured": structured}))
