"""What litellm gets from a server, as one line of JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import litellm

asked = json.loads(sys.argv[1])


def complete(messages: list[Any], **fields: Any) -> Any:
    return litellm.completion(
        f"openai/{asked['model']}", messages, api_base=asked["url"], api_key="none", temperature=0, **fields
    )


question = [{"role": "user", "content": asked["question"]}]
text = complete(question).choices[0].message.content
pieces = [chunk.choices[0].delta.content for chunk in complete(question, stream=True)]

turns = [{"role": "user", "content": asked["tool_question"]}]
message = complete(turns, tools=asked["tools"]).choices[0].message
turns += [
    message.model_dump(),
    *({"role": "tool", "tool_call_id": call.id, "content": asked["told"]} for call in message.tool_calls),
]
answer = complete(turns, tools=asked["tools"]).choices[0].message.content

schema = {"type": "json_schema", "json_schema": {"name": "capital", "schema": asked["schema"], "strict": True}}
structured = complete(question, response_format=schema).choices[0].message.content

calls = [{"name": call.function.name, "arguments": json.loads(call.function.arguments)} for call in message.tool_calls]
pieces = [piece for piece in pieces if piece]
print(json.dumps({"text": text, "pieces": pieces, "calls": calls, "answer": answer, "structured": [structured]}))
