"""Tools as the template declares them: from JSON schemas, or from Python functions."""

from __future__ import annotations

import contextlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import RequestError
from ..language.whole_text import check_whole
from ..schema.check import check_schema
from ..schema.json_schema import resolved, subschemas, violation
from .syntax import CallError, CallParser
from .values import arguments_of

Tool = Mapping[str, Any] | Callable[..., Any]
Declaration = dict[str, Any]

NAME = re.compile(r"\w[\w.:/-]*", re.ASCII)
TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}
ARGUMENT = re.compile(r"^\s*\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


def declarations(tools: Sequence[Tool]) -> list[Declaration]:
    """Every tool as {"type": "function", "function": {name, description, parameters}}.

    Raises GemmaError for a tool that has no name, a name that is taken, or no schema.
    """
    if not isinstance(tools, Sequence) or isinstance(tools, str):
        raise RequestError(f"tools must be a list, not {tools!r:.40}", 'give [{"name": ..., "parameters": {...}}]')
    declared = [declaration(index, tool) for index, tool in enumerate(tools)]
    names = [tool["function"]["name"] for tool in declared]
    for name in names:
        if names.count(name) > 1:
            raise RequestError(f"two tools are called {name!r}", "give each tool its own name")
    return declared


def chosen_tools(declared: Sequence[Declaration], choice: str) -> list[Declaration]:
    """Those that may be called: all for "auto" and "required", none for "none", or the one of that name."""
    names = [tool["function"]["name"] for tool in declared]
    if choice == "required" and not declared:
        raise RequestError('tool_choice "required" asks for a call, but there are no tools', "give tools")
    if choice in ("auto", "none", "required"):
        return [] if choice == "none" else list(declared)
    if choice not in names:
        raise RequestError(
            f"the tool to call, {choice!r}, is not declared; declared: {', '.join(names) or 'none'}", "declare it"
        )
    return [declared[names.index(choice)]]


def strict_tools(chosen: Sequence[Declaration], every: bool, must_call: bool) -> list[str]:
    """The tools whose calls have to fit their schemas: all, those that say so, the only one that may be called."""
    every = every or (must_call and len(chosen) == 1)
    return [tool["function"]["name"] for tool in chosen if every or tool["function"].get("strict")]


def declaration(index: int, tool: Tool) -> Declaration:
    described_tool = of_function(tool) if callable(tool) else tool
    check_whole(described_tool, f"tool {index}")
    return dict(described_tool) if callable(tool) else checked(of_mapping(described_tool))


def of_mapping(tool: Mapping[str, Any]) -> Declaration:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else tool
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RequestError(f"{tool!r:.80} is not a tool", 'give {"name": ..., "description": ..., "parameters": {...}}')
    if not isinstance(function.get("description") or "", str):
        raise RequestError(
            f"the description of {name} must be a string, not {function['description']!r:.40}", "give a string"
        )
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        raise RequestError(
            f"the parameters of {function['name']} must be the schema of an object", 'give "type": "object"'
        )
    described_function = {
        "description": "",
        **function,
        "parameters": {"type": "object", "properties": {}, **parameters},
    }
    return {"type": "function", "function": described_function}


def checked(declared: Declaration) -> Declaration:
    """A declaration from outside; those of functions have schemas that were made here."""
    check_schema(declared["function"]["parameters"], f"the schema of {declared['function']['name']}")
    return declared


def of_function(function: Callable[..., Any]) -> Declaration:
    """Name, docstring and annotations of a Python function; the docstring's `Args:` describe the arguments.

    Raises GemmaError for an argument whose annotation is missing or has no place in a JSON schema.
    """
    name = getattr(function, "__name__", "")
    if not NAME.fullmatch(name):
        raise RequestError(
            f"the tool {name or repr(function):.80} has no name a model can call", "give a function that def has named"
        )
    if inspect.isclass(function):
        raise RequestError(f"the tool {name} is a class", "give a function")
    summary, arguments = docstring_parts(inspect.getdoc(function) or "")
    hints, signature = types_of(function, name)
    properties, required = {}, []
    for argument in signature.parameters.values():
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD, argument.POSITIONAL_ONLY):
            raise RequestError(
                f"the tool {name} cannot take the argument {argument}", "give every argument a name and a type"
            )
        if argument.name not in hints:
            raise RequestError(f"the argument {argument.name} of {name} has no type", "annotate it")
        properties[argument.name] = schema_of(hints[argument.name], f"{name}.{argument.name}")
        if argument.name in arguments:
            properties[argument.name]["description"] = arguments[argument.name]
        if argument.default is argument.empty:
            required.append(argument.name)
    parameters = {"type": "object", "properties": properties, "required": required}
    return of_mapping({"name": name, "description": summary, "parameters": parameters})


def types_of(function: Callable[..., Any], name: str) -> tuple[dict[str, Any], inspect.Signature]:
    """The types of a function's arguments, and its signature.  Raises RequestError where Python can not say them."""
    try:
        return typing.get_type_hints(function), inspect.signature(function)
    except (NameError, AttributeError, TypeError, ValueError, SyntaxError) as error:
        raise RequestError(
            f"the arguments of the tool {name} can not be read: {error!s:.80}", "annotate it with types that are there"
        ) from error


def docstring_parts(text: str) -> tuple[str, dict[str, str]]:
    """What stands before the sections, and the lines of `Args:` by argument."""
    descriptions, section, last = dict[str, str](), "", ""
    summary = []
    for line in text.splitlines():
        if re.fullmatch(r"(Args|Arguments|Returns|Raises|Yields|Examples?):", line):
            section = line.rstrip(":")
        elif not section:
            summary.append(line)
        elif section in ("Args", "Arguments") and line.strip():
            if argument := ARGUMENT.match(line):
                last = argument[1]
                descriptions[last] = argument[2].strip()
            elif last:
                descriptions[last] += f" {line.strip()}"
    return "\n".join(summary).strip(), descriptions


def schema_of(hint: Any, where: str) -> dict[str, Any]:
    """The JSON schema of an annotation: plain types, list, dict, Literal, None, unions."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in TYPES:
        return {"type": TYPES[hint]}
    if origin is typing.Annotated:
        return {**schema_of(inner[0], where), **described(inner[1:])}
    if origin is typing.Literal:
        return schema_of_literal(inner, where)
    if origin is list:
        return {"type": "array", "items": schema_of(inner[0], where)}
    if origin is dict and inner[0] is str:
        return {"type": "object", "additionalProperties": schema_of(inner[1], where)}
    if origin in (typing.Union, types.UnionType):
        kinds = [schema_of(kind, where) for kind in inner if kind is not type(None)]
        schema = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        return {**schema, "nullable": True} if type(None) in inner else schema
    raise RequestError(
        f"{where}: {hint!r} has no JSON schema", "use str, int, float, bool, list, dict, Literal or None"
    )


def schema_of_literal(values: Sequence[Any], where: str) -> dict[str, Any]:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) != 1 or not kinds <= {str, int, bool}:
        raise RequestError(
            f"{where}: the values {list(values)!r:.40} have no JSON schema", "use texts, or whole numbers, or booleans"
        )
    nullable = {"nullable": True} if None in values else {}
    return {"type": TYPES[kinds.pop()], "enum": [value for value in values if value is not None], **nullable}


def described(words: Sequence[Any]) -> dict[str, str]:
    return {"description": words[0]} if words and isinstance(words[0], str) else {}


def for_template(declared: Declaration) -> Declaration:
    """The declaration in the few keywords that templates know: `nullable` for null, no references."""
    function = declared["function"]
    parameters = function["parameters"]
    return {**declared, "function": {**function, "parameters": plain(parameters, parameters, frozenset())}}


def plain(schema: Any, root: Mapping[str, Any], behind: frozenset[int]) -> Any:
    """`behind` are the targets of references on the way here: one that leads back is not written out again."""
    if not isinstance(schema, Mapping):
        return schema
    plain_schema, behind = merged(schema, root, behind)
    for keyword in [word for word in ("anyOf", "oneOf") if word in plain_schema]:
        kinds = [part for part in plain_schema.pop(keyword) if isinstance(part, Mapping)]
        first = next((part for part in kinds if part.get("type") != "null"), {})
        nullable = {"nullable": True} if any(part.get("type") == "null" for part in kinds) else {}
        plain_schema = {**plain(first, root, behind), **plain_schema, **nullable}
    if isinstance(plain_schema.get("type"), list):
        types = [kind for kind in plain_schema["type"] if kind != "null"] or ["null"]
        plain_schema |= {"type": types[0]} | ({"nullable": True} if "null" in plain_schema["type"] else {})
    if "properties" in plain_schema:
        plain_schema["properties"] = {
            name: plain(part, root, behind) for name, part in plain_schema["properties"].items()
        }
    if "items" in plain_schema:
        plain_schema["items"] = plain(plain_schema["items"], root, behind)
    return plain_schema


def merged(
    schema: Mapping[str, Any], root: Mapping[str, Any], behind: frozenset[int]
) -> tuple[dict[str, Any], frozenset[int]]:
    """A schema with what `$ref` and `allOf` add to it, its own words first; and the targets that lie behind now."""
    merged_schema = {name: part for name, part in schema.items() if name not in ("$ref", "allOf")}
    targets = [resolved(schema, root)] if "$ref" in schema else []
    if targets and id(targets[0]) in behind:
        targets = [{"type": targets[0]["type"]} if isinstance(targets[0], Mapping) and "type" in targets[0] else {}]
    behind |= {id(target) for target in targets}
    for target in [*targets, *schema.get("allOf", ())]:
        if isinstance(target, Mapping):
            more, behind = merged(target, root, behind)
            properties = {**more.get("properties", {}), **merged_schema.get("properties", {})}
            required = list(dict.fromkeys([*more.get("required", ()), *merged_schema.get("required", ())]))
            both = {"properties": properties, "required": required}
            merged_schema = {**more, **merged_schema, **{name: part for name, part in both.items() if part}}
    return merged_schema, behind


def read_call(declared: Sequence[Declaration], call: CallParser) -> tuple[dict[str, Any], str]:
    """The arguments of a call and what is wrong with it, as `call_problem` says it.

    Words that do not fit the tool's schema as they look are read as it has them: 01234 as a string's text.
    Raises CallError for a call that can not be read.
    """
    known = {tool["function"]["name"]: tool["function"]["parameters"] for tool in declared}
    schema = known.get(call.name, {})
    tree = call.tree(declared_names(schema))
    with contextlib.suppress(CallError):  # a word that looks like too large a number, and may be text
        arguments = arguments_of(tree, schema, by_look=True)
        if not call_problem(declared, call.name, arguments):
            return arguments, ""
    arguments = arguments_of(tree, schema)
    return arguments, call_problem(declared, call.name, arguments)


def declared_names(schema: Mapping[str, Any]) -> set[str]:
    """The names of all properties; none if an object may have others."""
    names, waiting = set[str](), [schema]
    while waiting:
        part = waiting.pop()
        if part.get("additionalProperties") or part.get("patternProperties"):
            return set()
        names |= part.get("properties", {}).keys()
        waiting += [inner for _, inner in subschemas(part) if isinstance(inner, Mapping)]
    return names


def call_problem(declared: Sequence[Declaration], name: str, arguments: dict[str, Any]) -> str:
    """What is wrong with a call of one of these tools, in a sentence for the model; "" if nothing is."""
    known = {tool["function"]["name"]: tool["function"]["parameters"] for tool in declared}
    if name not in known:
        return f"there is no tool {name!r}; there are {', '.join(known) or 'none'}"
    try:
        return violation(arguments, {"unevaluatedProperties": False, **known[name]}, root=known[name])
    except RecursionError:
        return "the arguments are too deep to be checked"
