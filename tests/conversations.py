"""Conversations that templates render, and small templates: read by Python's tests and by the applications'."""

from __future__ import annotations

from typing import Any

LOOKUP: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Look up a fact",
        "parameters": {
            "type": "object",
            "properties": {
                "country": {"type": "string", "description": "Its name"},
                "unit": {"type": "string", "enum": ["km", "miles"]},
            },
            "required": ["country"],
        },
    },
}
CALL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "lookup", "arguments": {"country": "Chad", "n": None, "ok": True}},
}
ASKED: dict[str, Any] = {"role": "user", "content": " Where is Chad? "}
CONVERSATIONS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "question": ([ASKED], {}),
    "system": ([{"role": "system", "content": "Be brief."}, ASKED], {}),
    "turns": ([ASKED, {"role": "assistant", "content": "In Africa."}, ASKED], {}),
    "thinking": ([ASKED], {"enable_thinking": True}),
    "old thought": ([ASKED, {"role": "assistant", "content": "<|channel>thought\nx<channel|>Hm."}, ASKED], {}),
    "tools": ([ASKED], {"tools": [LOOKUP]}),
    "call": ([ASKED, {"role": "assistant", "content": "", "tool_calls": [CALL]}], {"tools": [LOOKUP]}),
    "response": (
        [
            ASKED,
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "name": "lookup", "content": {"value": "Africa", "list": [1, "two"]}},
        ],
        {"tools": [LOOKUP], "enable_thinking": True},
    ),
}


DEEP: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "deep",
        "description": "Every kind of parameter",
        "parameters": {
            "type": "object",
            "properties": {
                "rows": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"p": {"type": "string"}}, "required": ["p"]},
                },
                "mixed": {"type": "array", "items": {"type": ["string", "integer"], "minItems": 2, "default": None}},
                "Box": {"type": "object", "properties": {"q": {"type": "number", "description": "a 'quoted' <b>"}}},
                "free": {"type": "object", "z": {"type": "boolean"}},
            },
        },
        "response": {"type": "object", "description": "é & <tag>"},
    },
}
ARGUMENTS = {"B": 1.5e-07, "a": [{"k": "v", "J": None}, []], "é": "日本", "big": 10**30, "ok": False}
CALLS = [
    {"id": "1", "type": "function", "function": {"name": "deep", "arguments": ARGUMENTS}},
    {"id": "2", "type": "function", "function": {"name": "lookup", "arguments": {}}},
]
CALLING: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": CALLS, "reasoning": "Both."}
ANSWERS: list[dict[str, Any]] = [
    {"role": "tool", "tool_call_id": "2", "content": "late"},
    {"role": "tool", "tool_call_id": "1", "name": "else", "content": 7},
]
SAID: dict[str, Any] = {"role": "assistant", "content": "Hm."}
CONSTRUCTS = CONVERSATIONS | {
    "response": ([ASKED, {**CALLING, "tool_responses": [{"name": "f", "response": {"B": 1, "a": ["x"]}}]}], {}),
    "developer in parts": ([{"role": "developer", "content": [{"type": "text", "text": " a "}] * 2}, ASKED], {}),
    "deep tools": ([ASKED], {"tools": [DEEP, LOOKUP], "enable_thinking": True}),
    "parallel calls": ([ASKED, CALLING, *ANSWERS], {"tools": [DEEP], "enable_thinking": True}),
    "consecutive calls": ([ASKED, CALLING, *ANSWERS, CALLING, *ANSWERS, SAID, ASKED], {"tools": [DEEP]}),
    "thought kept": ([ASKED, {**SAID, "reasoning_content": "Well."}], {}),
    "no prompt": ([ASKED, SAID, SAID], {"add_generation_prompt": False}),
    "parts": ([{"role": "user", "content": [{"type": "text", "text": " a "}, {"type": "text", "text": "b"}]}], {}),
    "unanswered": ([ASKED, CALLING], {"tools": [LOOKUP]}),
}
# With x = {"b": 1, "A": [1, 2.5, None, True]} and s = " Ab ".
SNIPPETS = {
    "{{ 1 + 2 * 3 - 4 / 2 }} {{ 7 // 2 }} {{ -7 % 3 }} {{ 2 ** 3 }}": "5.0 3 2 8",
    "{{ 'a' ~ 1 ~ none ~ true ~ 1.5 }} {{ 'a' * 3 }} {{ [1] + [2] }}": "a1NoneTrue1.5 aaa [1, 2]",
    "{{ x }} {{ x.A }} {{ x['A'][0] }} {{ x.A[-1] }} {{ x.nothing }}|{{ nothing }}": (
        "{'b': 1, 'A': [1, 2.5, None, True]} [1, 2.5, None, True] 1 True |"
    ),
    "{{ x.A[1:] }} {{ x.A[:-1] }} {{ s[1:3] }} {{ s[::-1] }}": "[2.5, None, True] [1, 2.5, None] Ab  bA ",
    "{{ s | trim }}|{{ s.strip() }}|{{ s | upper }}|{{ s | lower }}|{{ s | length }}": "Ab|Ab| AB | ab |4",
    "{% for k, v in x | dictsort %}{{ k }}={{ v }};{% endfor %}": "A=[1, 2.5, None, True];b=1;",
    "{% for k, v in x.items() %}{{ k }}{{ loop.index }}{{ loop.first }}{% endfor %}": "b1TrueA2False",
    "{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% else %}none{% endfor %}": "02",
    "{% for i in range(9) %}{% if i > 1 %}{% break %}{% endif %}{{ i }}{% endfor %}": "01",
    "{% for i in [] %}{{ i }}{% else %}none{% endfor %}": "none",
    "{% for i in range(1, 9, 3) if i != 4 %}{{ i }}{{ ',' if not loop.last }}{% endfor %}": "1,7",
    "{% set n = 1 %}{% for i in range(3) %}{% set n = i %}{% endfor %}{{ n }}": "1",
    "{% set ns = namespace(n=1) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}": "4",
    "{% if x is mapping and s is string and x.A is sequence and x.c is not defined %}y{% endif %}": "y",
    "{{ none is none }} {{ true is boolean }} {{ 1 is number }} {{ 1.0 is integer }} {{ x.A is iterable }}": (
        "True True True False True"
    ),
    "{{ 'b' in x }} {{ 'A' not in s }} {{ 2.5 in x.A }} {{ not x }}": "True False True False",
    "{{ x.c or 'else' }} {{ 0 or '' or 'last' }} {{ 'a' and 'b' }} {{ x.c | default('d') }}": "else last b d",
    "{{ '' | default('d') }}|{{ '' | default('d', true) }}": "|d",
    "{{ x | tojson }} {{ [1, 'é<', none] | tojson }} {{ {'k': {}} | tojson(indent=2) }}": (
        '{"b": 1, "A": [1, 2.5, null, true]} [1, "é<", null] {\n  "k": {}\n}'
    ),
    "{{ ['a', 'b'] | join(', ') }} {{ ['a', 'b'] | map('upper') | list }} {{ x.A | first }} {{ x.A | last }}": (
        "a, b ['A', 'B'] 1 True"
    ),
    "{{ 'a-b-c'.split('-') }} {{ 'a b'.replace('a', 'c') }} {{ s.startswith(' A') }} {{ 'x y'.title() }}": (
        "['a', 'b', 'c'] c b True X Y"
    ),
    "{% macro m(a, b='d') %}<{{ a }}{{ b }}>{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(b=3, a=4) }}": "<1d><12><43>",
    "a  \n  {%- if true -%}  b  {%- endif %}\n c": "ab c",
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n": "a\n  b\nc",
    "{# a comment #}x{#- another -#} y": "xy",
    "{% set t %}a{{ 1 }}{% endset %}{{ t | length }}{{ t }}": "2a1",
    "{% raw %}{{ not read }}{% endraw %}": "{{ not read }}",
    "{{ 'it''s' }} {{ \"q\\n\" }}|{{ 'a' if false else 'b' }}|{{ 'a' if false }}|": "its q\n|b||",
    "{{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ 1 < 2 < 3 }} {{ [1, 2] == [1, 2] }} {{ 3 >= 4 }}": "True True True True False",
    "{{ 100000000000000000000 }} {{ 1e3 }} {{ 1.5e-07 }} {{ 1e16 }} {{ 0.1 + 0.2 }}": (
        "100000000000000000000 1000.0 1.5e-07 1e+16 0.30000000000000004"
    ),
    "{{ x.keys() | list }} {{ x.values() | list | length }} {{ x.get('b') }} {{ x.get('z', 5) }}": "['b', 'A'] 2 1 5",
    "{{ 5 | string + 'a' }} {{ '7' | int + 1 }} {{ x.A | length > 3 }}": "5a 8 True",
    "{{ ' a ' | trim ~ 'b' }} {{ 'abc' | reverse }} {{ [3, 1, 2] | sort }} {{ s | replace('A', 'x') }}": (
        "ab cba [1, 2, 3]  xb "
    ),
}
