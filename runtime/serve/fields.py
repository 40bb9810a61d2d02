"""Fields that clients send and that ask for nothing here: by their name, or with some values only.

A field that would change the answer is refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..schema.json_schema import same
from .refusal import Refusal

# They name who asks, where an answer is kept, or how it may be made sooner, and never change it.
LABELS = frozenset((
    "user", "metadata", "safety_identifier", "request_id", "store", "service_tier", "priority", "keep_alive",
    "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "cache_prompt", "cache_salt", "prediction",
))  # fmt: skip
# With these values they ask for nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "prompt_logprobs": (0, False),
    "return_token_ids": (False,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "repeat_penalty": (1,),
    "length_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "dry_multiplier": (0,),
    "xtc_probability": (0,),
    "min_p": (0,),
    "top_a": (0,),
    "typical_p": (1,),
    "tfs_z": (1,),
    "mirostat": (0,),
    "min_tokens": (0,),
    "logit_bias": ({}, []),
    "bad_words": ([],),
    "stop_token_ids": ([],),
    "ignore_eos": (False,),
    "use_beam_search": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True, False),
    "include_stop_str_in_output": (False,),
    "echo": (False,),
    "suffix": ("",),
    "grammar": ("",),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "documents": ([],),
    "functions": ([],),
    "function_call": ("auto", "none"),  # of `functions`, which are refused
    "modalities": (["text"],),
    "verbosity": ("low", "medium", "high"),  # a wish that no template here can pass on
}
# What clients note at a message of any role.  What an answer came with is no part of it either: of an
# assistant's message only these other fields are content, or ask for something.
NOTED = frozenset((
    "id", "index", "annotations", "cache_control", "timestamp", "created_at", "createdAt", "metadata",
    "provider_options", "providerOptions",
))  # fmt: skip
SAID = frozenset(("audio", "images", "function_call", "tool_responses", "prefix", "partial"))


def check_neutral(fields: Mapping[str, Any]) -> None:
    """Raises Refusal for the first field that asks for something."""
    for name in sorted(fields.keys() - LABELS):
        if name not in NEUTRAL or not any(same(fields[name], value) for value in NEUTRAL[name]):
            refuse(name, f"{name:.40} {fields[name]!r:.40} is not supported")


def refuse(param: str, message: str, hint: str = "leave it out") -> None:
    raise Refusal(400, message, hint, code="unsupported_parameter", param=param)
