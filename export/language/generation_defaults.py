"""generation_config.json: the values that the runtime has, and a line for those it has not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.bundle.manifest import Generation
from runtime.errors import GemmaError

from ..model.config import text_part
from ..read_json import optional_json, read_json

TOP_K = 50  # of transformers, for a file that says none
BOS = 2  # of the text model's configuration class
# What the runtime does not do, with the values that say that nothing is to be done.
NOT_DONE: dict[str, tuple[Any, ...]] = {
    "repetition_penalty": (1,),
    "encoder_repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_p": (0,),
    "top_h": (),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "bad_words_ids": ([],),
    "force_words_ids": ([],),
    "constraints": ([],),
    "sequence_bias": ([], {}),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "max_new_tokens": (),
    "max_time": (),
    "stop_strings": ([],),
    "guidance_scale": (1,),
    "penalty_alpha": (0,),
    "dola_layers": (),
    "watermarking_config": (),
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "diversity_penalty": (0,),
    "token_healing": (False,),
}


def generation_defaults(folder: Path, stop: list[int]) -> Generation:
    """A temperature or a top-p of zero is greedy.  Raises GemmaError for a value of the wrong type or out of range."""
    said = optional_json(folder, "generation_config.json")
    path = folder / "generation_config.json"
    try:
        temperature, top_p = number(said, "temperature", 1.0), number(said, "top_p", 1.0)
        top_k = int(number(said, "top_k", TOP_K))
        bos = int(first_said("bos_token_id", said, read_json(folder, "config.json")))
    except (TypeError, ValueError, OverflowError) as error:
        raise GemmaError(f"{path}: {error}", "download the file again") from error
    if not 0 <= temperature < float("inf") or not 0 <= top_p <= 1:
        raise GemmaError(
            f"{path}: temperature {temperature} and top_p {top_p} cannot be used for sampling", "correct the file"
        )
    greedy = temperature == 0 or top_p == 0
    return Generation(
        bos=bos,
        stop=stop,
        do_sample=bool(said.get("do_sample")) and not greedy,
        temperature=temperature or 1.0,
        top_k=max(top_k, 0),
        top_p=top_p or 1.0,
    )


def number(said: Mapping[str, Any], name: str, default: float) -> float:
    return default if said.get(name) is None else float(said[name])


def first_said(name: str, generation: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    for source in (generation, config, text_part(config)):
        if source.get(name) is not None:
            return source[name]
    return BOS


def not_done(folder: Path) -> list[str]:
    """Settings of generation_config.json that answers will be without: "min_p 0.05"."""
    said = optional_json(folder, "generation_config.json")
    return [
        f"{name} {said[name]}"
        for name, neutral in NOT_DONE.items()
        if said.get(name) is not None and said[name] not in neutral
    ]
