"""The chat template of a bundle: one text of all that a checkpoint's folder has, which every reader renders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.errors import GemmaError
from runtime.language.tokenizer import environment, read_template

from ..read_json import optional_json
from .join_templates import joined
from .template_tags import without_generation

DEFAULT, TOOLS = "default", "tool_use"
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look up a fact.",
        "parameters": {"type": "object", "properties": {"of": {"type": "string", "description": "What."}}},
    },
}
QUESTIONS = ("Where is Oslo?", [{"type": "text", "text": "Where is Oslo?"}])  # templates take one form or both


def chat_template(folder: Path, special_tokens: Mapping[str, str]) -> str | None:
    """None for a base model.

    Raises GemmaError for one that does not parse, or that can not render a question with `special_tokens`.
    """
    named = named_templates(folder)
    if not named:
        return None
    if DEFAULT not in named:
        raise GemmaError(
            f"{folder} has the chat templates {', '.join(sorted(named))}, but none is called {DEFAULT}",
            f"name the template for plain conversations {DEFAULT}",
        )
    plain = sound(named[DEFAULT], DEFAULT, folder)
    check_renders(plain, folder, special_tokens, None)
    if TOOLS not in named:
        return plain
    with_tools = sound(named[TOOLS], TOOLS, folder)
    check_renders(with_tools, folder, special_tokens, [TOOL])
    return sound(joined(with_tools, plain), f"{TOOLS} or {DEFAULT}", folder)


def not_taken(folder: Path) -> list[str]:
    """Names of templates that a bundle has no place for."""
    return sorted(set(named_templates(folder)) - {DEFAULT, TOOLS})


def named_templates(folder: Path) -> dict[str, str]:
    """Read templates by name: files, else the field of tokenizer_config.json, else the old file of processors."""
    files = {DEFAULT: folder / "chat_template.jinja"}
    files |= {path.name.removesuffix(".jinja"): path for path in (folder / "additional_chat_templates").glob("*.jinja")}
    written = {name: read_template(path) for name, path in files.items() if path.is_file()}
    if written:
        return {name: template for name, template in written.items() if template.strip()}
    for name in ("tokenizer_config.json", "chat_template.json"):
        templates = optional_json(folder, name).get("chat_template")
        if templates:
            return by_name(templates, folder / name)
    return {}


def by_name(templates: Any, path: Path) -> dict[str, str]:
    """One text, or a list of named ones.  Raises GemmaError for anything else."""
    try:
        if isinstance(templates, str):
            return {DEFAULT: templates}
        if isinstance(templates, dict):
            pairs = list(templates.items())
        else:
            pairs = [(template["name"], template["template"]) for template in templates]
        if all(isinstance(part, str) for pair in pairs for part in pair):
            return dict(pairs)
    except (KeyError, TypeError):
        pass
    raise GemmaError(f"{path}: chat_template must be a text or a list of named texts", "download the file again")


def sound(template: str, name: str, folder: Path) -> str:
    """Remove the tags that only training reads.  Raises GemmaError for one that does not parse."""
    try:
        list(environment().lex(template))
        plain = without_generation(template)
        environment().from_string(plain)
    except Exception as error:  # jinja2's own, and those of Python for what it compiles to
        line = getattr(error, "lineno", None)
        raise GemmaError(
            f"{folder}: chat template {name}: {f'line {line}: ' if line else ''}{error}",
            "correct the template; transformers cannot read it either",
        ) from error
    return plain


def check_renders(template: str, folder: Path, special_tokens: Mapping[str, str], tools: list[Any] | None) -> None:
    """Raises GemmaError unless one question can be rendered, its content a text or a list of parts."""
    program = environment().from_string(template)
    failures = []
    for content in QUESTIONS:
        messages = [{"role": "user", "content": content}]
        try:
            program.render(messages=messages, tools=tools, add_generation_prompt=True, **special_tokens)
            return
        except Exception as error:  # a template is a program, and can fail like one
            failures.append(error)
    raise GemmaError(
        f"{folder}: the chat template cannot render a question: {failures[0]}",
        "correct the template: tokenizer.apply_chat_template of transformers fails too",
    ) from failures[0]
