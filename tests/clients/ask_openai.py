"""What the package openai gets from a server, as one line of JSON."""

from __future__ import annotations

import json
import sys

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from openai.types.shared_params import ResponseFormatJSONSchema

asked = json.loads(sys.argv[1])
chat = OpenAI(base_url=asked["url"], api_key="none", max_retries=0).chat.completions
settings = {"model": asked["model"], "temperature": 0}
question: list[ChatCompletionMessageParam] = [{"role": "user", "content": asked["question"]}]

text = chat.create(**settings, messages=question).choices[0].message.content

with chat.stream(**settings, messages=question, stream_options={"include_usage": True}) as stream:
    pieces = [event.delta for event in stream if event.type == "content.delta" and event.delta]
    counted = stream.get_final_completion().usage

turns: list[ChatCompletionMessageParam] = [{"role": "user", "content": asked["tool_question"]}]
message = chat.create(**settings, messages=turns, tools=asked["tools"]).choices[0].message
called = [call for call in message.tool_calls or () if call.type == "function"]
turns.append(message)
for call in called:
    turns.append({"role": "tool", "tool_call_id": call.id, "content": asked["told"]})
answer = chat.create(**settings, messages=turns, tools=asked["tools"]).choices[0].message.content

schema: ResponseFormatJSONSchema = {
    "type": "json_schema",
    "json_schema": {"name": "capital", "schema": asked["schema"], "strict": True},
}
structured = chat.create(**settings, messages=question, response_format=schema).choices[0].message.content

calls = [{"name": call.function.name, "arguments": json.loads(call.function.arguments)} for call in called]
assert counted is not None
assert counted.completion_tokens > 0
print(json.dumps({"text": text, "pieces": pieces, "calls": calls, "answer": answer, "structured": [structured]}))
