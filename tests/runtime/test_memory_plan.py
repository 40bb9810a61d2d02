"""The memory plan: its parts are what the runtime allocates, its sum what a process is seen to take."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Manifest
from runtime.cli import main as cli
from runtime.cli.notices import print_shortened
from runtime.engine.cache import STEP
from runtime.engine.chunk import CHUNK
from runtime.engine.memory_plan import check_room, longest_context, plan, scores
from runtime.engine.onnx import OnnxEngine
from runtime.errors import GemmaError
from runtime.machine.available_memory import available, group_rooms
from runtime.session.context_length import chosen_context
from runtime.session.model import Model

HEADS = 4  # of the sample


@pytest.fixture(scope="module")
def manifest(bundle) -> Manifest:
    return Bundle.open(bundle("sample", "int4-datafree")).manifest


@pytest.mark.parametrize("tokens", [1, CHUNK, 1500])
def test_the_parts_are_what_is_allocated(bundle, manifest, tokens):
    decoder = OnnxEngine.open(Bundle.open(bundle("sample", "int4-datafree")), 1)
    decoder.prefill(np.zeros(tokens, np.int64))
    planned, caches = plan(manifest, tokens), decoder.caches()
    assert caches is not None
    assert planned.caches == sum(cache.key.nbytes + cache.value.nbytes for cache in caches)
    assert planned.rotary == sum(2 * table.frequency.nbytes for table in decoder._rotary.values()) * min(tokens, CHUNK)
    assert decoder.head
    rows = decoder.head.rows
    assert planned.rows == rows._raw.nbytes + rows._slot.nbytes + rows._id.nbytes


@pytest.mark.parametrize(("context", "most"), [(1, 1), (256, 65_536), (1500, 330_000), (32_768, 1 << 20)])
def test_scores_are_those_of_the_call_that_sees_most(context, most):
    assert scores(context) == most


def test_scores_of_int8_caches_are_planned(bundle, manifest):
    assert manifest.artifacts["onnx"].memory.score == 4 * HEADS
    assert plan(manifest, 1500).scores == 4 * HEADS * 330_000
    assert Bundle.open(bundle("sample", "float")).manifest.artifacts["onnx"].memory.score == 0


def test_int8_caches_that_a_prompt_reads_as_floats_are_planned(bundle, manifest):
    """The sample's only full layer with a cache is the last that owns one, which stores and does not attend."""
    memory, sliding = manifest.artifacts["onnx"].memory, manifest.model.caches[0]
    assert (memory.row, memory.rows) == (18 * sliding.kv_heads * sliding.head_dim, manifest.model.window + CHUNK)
    assert [plan(manifest, tokens).floats for tokens in (10, 4000)] == [10 * memory.row, memory.rows * memory.row]
    assert plan(Bundle.open(bundle("sample", "float")).manifest, 4000).floats == 0


@pytest.mark.slow
@pytest.mark.parametrize(("context", "over"), [(512, 0.1), (4000, 0.15)])
def test_a_process_takes_what_was_planned(bundle, manifest, context, over):
    """Far in, part of the scores takes memory that was freed before, so less than the sum is seen."""
    code = """
import sys
from pathlib import Path
import numpy as np
from runtime.machine.resident_memory import peak_rss
from runtime.bundle.bundle import Bundle
from runtime.engine.onnx import OnnxEngine
decoder = OnnxEngine.open(Bundle.open(Path(sys.argv[1])), 2)
decoder.prefill(np.arange(int(sys.argv[2])))
print(peak_rss())
"""
    words = [sys.executable, "-c", code, str(bundle("sample", "int4-datafree")), str(context)]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    seen = int(done.stdout)
    assert 0.95 * seen < plan(manifest, context).peak < (1 + over) * seen


def test_more_tokens_take_more_and_the_longest_that_fits_fits(manifest):
    peaks = [plan(manifest, n).peak for n in (1, STEP + 1, 2 * STEP + 1, manifest.model.context)]
    assert peaks == sorted(peaks)
    assert len(set(peaks)) == 4
    room = plan(manifest, 2 * STEP).peak
    of_sample, most = partial(plan, manifest), manifest.model.context
    assert longest_context(of_sample, most, room) == 2 * STEP
    assert longest_context(of_sample, most, room - 1) == STEP
    assert longest_context(of_sample, most, 1 << 40) == most
    assert longest_context(of_sample, most, 1000) == 0


def test_what_does_not_fit_is_refused_with_what_would(manifest):
    of_sample, most = partial(plan, manifest), manifest.model.context
    check_room(of_sample, most, 2048, plan(manifest, 2048).peak)
    with pytest.raises(GemmaError, match="a context of 4096 tokens needs") as planned:
        check_room(of_sample, most, 4096, plan(manifest, 2048).peak)
    assert planned.value.hint.startswith("2048 tokens fit")
    with pytest.raises(GemmaError) as planned:
        check_room(of_sample, most, 1, 1000)
    assert "fewer bits" in planned.value.hint


def test_a_bundle_that_says_nothing_is_planned_by_the_size_of_its_weights(manifest):
    artifact = manifest.artifacts["onnx"]
    silent = msgspec.structs.replace(artifact, memory=type(artifact.memory)())
    planned = plan(msgspec.structs.replace(manifest, artifacts={"onnx": silent}), 1)
    assert planned.weights == manifest.files[artifact.data].size


def test_some_memory_is_available():
    assert 1 << 20 < available() < 1 << 45


@pytest.fixture
def group(tmp_path):
    """A control group, and the process that is in it."""

    def make(line: str, files: dict[str, str]) -> list[int]:
        for name, text in files.items():
            (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "groups" / name).write_text(text)
        (tmp_path / "own").write_text(line)
        return group_rooms(tmp_path / "groups", tmp_path / "own")

    return make


def test_limits_of_all_groups_above_count(group):
    files = {
        "a/b/memory.max": "max\n",
        "a/b/memory.current": "7\n",
        "a/memory.max": "1000\n",
        "a/memory.current": "400\n",
        "a/memory.stat": "anon 1\ninactive_file 50\n",
    }
    assert group("0::/a/b\n", files) == [650]


def test_limits_of_version_1_count(group):
    files = {
        "memory/a/memory.limit_in_bytes": "1000\n",
        "memory/a/memory.usage_in_bytes": "1200\n",
        "memory/a/memory.stat": "total_inactive_file 100\n",
    }
    assert group("4:cpu,cpuacct:/x\n3:memory:/a\n", files) == [0]


def test_no_groups_no_limits(tmp_path, group):
    assert group("0::/elsewhere\n", {}) == []
    assert group_rooms(tmp_path, tmp_path / "missing") == []


# ---- run and inspect ----


@pytest.fixture
def sample(bundle) -> str:
    return str(bundle("sample", "int4-datafree"))


def test_run_stops_at_the_context_that_was_asked_for(sample, capsys):
    words = ["run", sample, "Oslo " * 4, "--raw", "--context", "24", "--temperature", "0", "--json"]
    assert cli.main(words) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["stop"], len(planned["prompt_ids"]) + len(planned["ids"])) in {("context", 25), ("stop", 24)}
    assert cli.main(["run", sample, "Oslo " * 30, "--raw", "--context", "24"]) == 1
    assert "the context is 24" in capsys.readouterr().err


def test_run_refuses_a_context_that_the_model_does_not_have(sample, capsys):
    assert cli.main(["run", sample, "hi", "--context", "5000000"]) == 1
    assert "the context must be 1 to 4096 tokens, not 5000000" in capsys.readouterr().err
    assert cli.main(["run", sample, "hi", "--context", "-5"]) == 1
    assert "the context must be 0 or more tokens, not -5" in capsys.readouterr().err


def test_a_context_is_what_was_asked_for_or_the_longest_that_fits(manifest):
    room = plan(manifest, 2048, text=True).peak
    assert chosen_context(manifest, "onnx", 0, 1 << 40) == 4096
    assert chosen_context(manifest, "onnx", 0, room) == 2048
    assert chosen_context(manifest, "onnx", 1500, room) == 1500
    with pytest.raises(GemmaError, match="a context of 4096 tokens needs") as refused:
        chosen_context(manifest, "onnx", 4096, room)
    assert refused.value.hint.startswith("2048 tokens fit")
    with pytest.raises(GemmaError, match="0 MB are available"):
        chosen_context(manifest, "onnx", 0, 1000)


def test_what_memory_cut_is_said(bundle, capsys):
    model = Model(Bundle.open(bundle("sample", "int4-datafree")), threads=1, context=2048)
    print_shortened(model, 0)
    assert capsys.readouterr().err == "memory for 2048 of 4096 tokens of context\n"
    print_shortened(model, 2048)
    print_shortened(Model(model.bundle, weights=model.weights), 0)
    assert capsys.readouterr().err == ""


def test_inspect_shows_the_parts(sample, manifest, checkpoint, capsys):
    assert cli.main(["inspect", sample, "--context", "2048", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    planned = shown["memory plan"]
    assert planned["peak"] == plan(manifest, 2048, text=True).peak
    parts = sum(planned[name] for name in ("base", "weights", "rows"))
    running = sum(
        planned[name] for name in ("tokenizer", "caches", "rotary", "growing", "activations", "scores", "floats")
    )
    assert planned["peak"] == parts + max(planned["loading"], running)
    assert shown["peak bytes of run"]["1024"] == plan(manifest, 1024, text=True).peak
    assert cli.main(["inspect", sample, "--context", "0"]) == 1
    assert cli.main(["inspect", str(checkpoint("e2b")), "--context", "8"]) == 1
    assert "--context 8 needs a bundle" in capsys.readouterr().err
