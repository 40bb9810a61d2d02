"""transformers' models, where its own types say less than it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, GenerationMixin, PreTrainedModel

Auto = type[AutoModelForCausalLM] | type[AutoModelForImageTextToText]


def load_with_report(auto: Auto, folder: Path, **options: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model, and by kind of trouble ("missing_keys" …) the names of its tensors."""
    loaded: object = auto.from_pretrained(folder, output_loading_info=True, **options)
    return cast(tuple[PreTrainedModel, dict[str, Any]], loaded)


def greedy(model: GenerationMixin, ids: list[int], most: int, **options: Any) -> list[int]:
    """The tokens that follow `ids`, at most so many."""
    generate = model.generate  # type: ignore[misc]  # it asks of itself what only the whole model has
    generated = generate(torch.tensor([ids]), max_new_tokens=most, do_sample=False, **options)
    assert isinstance(generated, torch.Tensor)
    return [int(token) for token in generated[0, len(ids) :]]
