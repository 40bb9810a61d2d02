"""What langchain-openai gets from a server, as one line of JSON."""

from __future__ import annotations

import json
import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI

asked = json.loads(sys.argv[1])
model = ChatOpenAI(base_url=asked["url"], api_key="none", model=asked["model"], temperature=0, max_retries=0)

text = model.invoke(asked["question"]).content
pieces = [chunk.content for chunk in model.stream(asked["question"]) if chunk.content]

caller = model.bind_tools(asked["tools"])
message = caller.invoke(asked["tool_question"])
results = [ToolMessage(asked["told"], tool_call_id=call["id"]) for call in message.tool_calls]
answer = caller.invoke([HumanMessage(asked["tool_question"]), message, *results]).content

schema = {"title": "capital", "description": "A capital", **asked["schema"]}
structured = [
    json.dumps(model.with_structured_output(schema, method=method, strict=True).invoke(asked["question"]))
    for method in ("json_schema", "function_calling")
]

calls = [{"name": call["name"], "arguments": call["args"]} for call in message.tool_calls]
print(json.dumps({"text": text, "pieces": pieces, "calls": calls, "answer": answer, "structured": structured}))
