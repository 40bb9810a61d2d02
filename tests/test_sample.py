"""What the sample checkpoint says through its bundle: the demo's promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.checkpoint.checkpoint import Checkpoint
from runtime.bundle.bundle import Bundle
from runtime.bundle.parity import Reports
from runtime.cli.main import main
from runtime.engine.sampler import Sampling
from runtime.language.events import Token
from runtime.session.model import Model
from runtime.session.session import Session
from tests.conftest import SAMPLE
from tests.sample.facts import LOOKUP
from tests.sample.recipes import write_talk


@pytest.fixture(scope="module")
def session(bundle):
    return Model.open(bundle("sample", "int4-datafree"), threads=2).session()


def say(session: Session, messages: list[dict[str, Any]], **options: Any) -> str:
    ids = session.tokenizer.chat(messages, **options)
    events = session.generate(ids, Sampling(temperature=0), 80)
    made = [event.id for event in events if isinstance(event, Token)]
    return session.tokenizer.pieces.decode(made, skip_special_tokens=False)


def test_it_fits_in_the_repository():
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) <= 12_000_000


def test_it_has_what_gemma_4_has():
    config = Checkpoint.open(SAMPLE).config
    assert config.per_layer_dim
    assert config.shared_layers
    assert {layer.kind for layer in config.layers} == {"sliding", "full"}
    assert config.layers[-1].intermediate == 2 * config.layers[0].intermediate


def test_int8_agrees_with_the_float_model(bundle):
    _, report = Bundle.open(bundle("sample", "int8")).json("parity.json", Reports).reports
    assert report.against["float"].agreement >= 0.99
    assert report.against["float"].mean_divergence < 1e-3


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """What the sample says with another seed: the text it is used on."""
    path = tmp_path_factory.mktemp("talk") / "talk.txt"
    write_talk(path)
    return path


@pytest.mark.slow
def test_calibration_keeps_more_of_what_it_says(bundle, talk, capsys):
    folders = [str(bundle("sample", name)) for name in ("int4-b32", "int4-datafree", "int4-absmax")]
    words = ["--text", str(talk), "--window-tokens", "256", "--against", str(SAMPLE), "--json"]
    assert main(["eval", *folders, *words]) == 0
    found = [one["divergence"]["mean_kl"] for one in json.loads(capsys.readouterr().out)["bundles"]]
    assert found == sorted(found)
    assert found[0] < 0.7 * found[2]


@pytest.mark.parametrize(("country", "capital"), [("Norway", "Oslo"), ("Kenya", "Nairobi"), ("Peru", "Lima")])
def test_it_knows_capitals(session, country, capital):
    said = say(session, [{"role": "user", "content": f"What is the capital of {country}?"}])
    assert said == f"The capital of {country} is {capital}."


def test_it_thinks_when_asked_to(session):
    said = say(session, [{"role": "user", "content": "What is the capital of Norway?"}], enable_thinking=True)
    assert said.startswith("<|channel>thought\n")
    assert said.endswith("<channel|>The capital of Norway is Oslo.")


def test_it_calls_the_tool_and_stops_for_the_response(session):
    said = say(session, [{"role": "user", "content": "What is the capital of Norway?"}], tools=[LOOKUP])
    assert said == '<|tool_call>call:lookup{country:<|"|>Norway<|"|>,field:<|"|>capital<|"|>}<tool_call|>'


def test_run_prints_json_that_people_script_against(bundle, capsys):
    folder: Path = bundle("sample", "int4-datafree")
    assert main(["run", str(folder), "What is the capital of Norway?", "--temperature", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"prompt_ids", "ids", "text", "stop", "prefill_tok_s", "decode_tok_s", "ttft_s"}
    assert found["stop"] == "stop"
    assert "Oslo" in found["text"]
    assert np.isfinite(found["ttft_s"])
