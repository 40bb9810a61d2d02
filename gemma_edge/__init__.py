"""gemma-edge for Python programs: open a bundle, ask it, chat with it, make one.

What `__all__` lists is the stable surface; the packages beneath (`runtime`, `export`, `quantize`) may change.
Importing this package loads no engine: that is done when a model is opened.
"""

from __future__ import annotations

from importlib.metadata import version

from runtime.errors import BundleError, ContextFull, GateMissed, GemmaError, NotInstalled, RequestError
from runtime.language.answer_forms import Choice, JsonSchema, Regex, ResponseFormat
from runtime.language.events import End, Text, Thought, ToolCall

from .answer import Answer
from .conversation import Session
from .model import Model
from .new_bundle import export_bundle
from .options import Options
from .tools import Event, Function, ToolResult
from .turn import Message

__version__ = version("gemma-edge")

__all__ = [
    "Answer",
    "BundleError",
    "Choice",
    "ContextFull",
    "End",
    "Event",
    "Function",
    "GateMissed",
    "GemmaError",
    "JsonSchema",
    "Message",
    "Model",
    "NotInstalled",
    "Options",
    "Regex",
    "RequestError",
    "ResponseFormat",
    "Session",
    "Text",
    "Thought",
    "ToolCall",
    "ToolResult",
    "__version__",
    "export_bundle",
]
