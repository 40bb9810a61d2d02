"""The hub: config.json and the index first, then the files that they name, of the top level; against a loopback hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import tiny
from tests.loopback_hub import REPOSITORY, Hub

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
ROOT = Path(__file__).parents[2]
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = [f"model-0000{at}-of-00003.safetensors" for at in (1, 2, 3)]
SMALL = ["chat_template.jinja", "config.json", "generation_config.json", "tokenizer.json"]
ADAPTER = {
    "adapter_config.json": '{"peft_type": "LORA", "base_model_name_or_path": "google/x"}',
    "adapter_model.safetensors": "x",
}
FETCH = """
import sys
from huggingface_hub import constants
from export.checkpoint.download import download
from runtime.errors import GemmaError

constants.DOWNLOAD_CHUNK_SIZE = 65536  # so that half of a small file is more than none
try:
    print(download(sys.argv[1]))
except GemmaError as error:
    sys.exit(f"error: {error}")
assert "torch" not in sys.modules
"""


@pytest.fixture
def folder(checkpoint, tmp_path: Path) -> Path:
    """What is in the repository, with all that is not needed."""
    folder = shutil.copytree(checkpoint("e2b"), tmp_path / "repository")
    for name in ("checkpoint-500/model.safetensors", "checkpoint-500/config.json", "original/consolidated.00.pth",
                 "onnx/model.onnx", "README.md", "pytorch_model.bin", "model.fp16.safetensors", "gemma.gguf",
                 "original/chat_template.jinja"):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not to be fetched")
    return folder


@pytest.fixture
def hub(folder) -> Iterator[Callable[[], Hub]]:
    """Serves the folder as it is when called."""
    running = []

    def serve() -> Hub:
        running.append(Hub.of(folder).running())
        return running[-1].__enter__()

    yield serve
    for each in running:
        each.__exit__(None, None, None)


@pytest.fixture
def run(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Python in a process of its own, which knows the hub by the variable that people set."""

    def start(hub: Hub, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        settings |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT)}
        environment = {"PATH": os.environ["PATH"], **settings, **more}
        return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, timeout=60)

    return start


@pytest.fixture
def fetch(run) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`download` alone."""
    return lambda hub, **more: run(hub, "-c", FETCH, REPOSITORY, **more)


def fetched(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    folder = Path(done.stdout.strip())
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_what_is_needed_of_the_top_level_is_fetched_and_config_comes_first(hub, fetch):
    remote = hub()
    assert fetched(fetch(remote)) == sorted([*SMALL, WHOLE])
    assert sorted(remote.served) == sorted([*SMALL, WHOLE])
    assert remote.served[-1] == WHOLE


def test_shards_are_those_that_the_index_names(folder, hub, fetch):
    tiny.shard(folder, 3)
    (folder / "model-00004-of-00004.safetensors").write_bytes(b"an older one")
    remote = hub()
    assert fetched(fetch(remote)) == sorted([*SMALL, INDEX, *SHARDS])
    assert sorted(remote.served[-3:]) == SHARDS


def test_whole_weights_come_before_an_index(folder, hub, fetch):
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": SHARDS[0]}}))
    assert fetched(fetch(hub())) == sorted([*SMALL, WHOLE, INDEX])


def test_the_weights_that_config_names_are_fetched(folder, hub, fetch):
    (folder / WHOLE).rename(folder / "other.safetensors")
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"transformers_weights": "other.safetensors"}))
    assert fetched(fetch(hub())) == sorted([*SMALL, "other.safetensors"])


def test_the_index_that_config_names_is_fetched_first(folder, hub, fetch):
    tiny.shard(folder, 3)
    (folder / INDEX).rename(folder / "other.safetensors.index.json")
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"transformers_weights": "other.safetensors.index.json"}))
    assert fetched(fetch(hub())) == sorted([*SMALL, "other.safetensors.index.json", *SHARDS])


def test_a_repository_without_a_tokenizer_is_refused_before_its_weights_are_fetched(folder, hub, fetch):
    (folder / "tokenizer.json").unlink()
    remote = hub()
    assert f"error: {REPOSITORY} has no tokenizer.json" in fetch(remote).stderr
    assert WHOLE not in remote.served


def test_templates_and_names_of_tokens_are_fetched(folder, hub, fetch):
    more = ["additional_chat_templates/tool_use.jinja", "chat_template.json", "special_tokens_map.json",
            "tokenizer_config.json"]  # fmt: skip
    (folder / "additional_chat_templates").mkdir()
    for name in more:
        (folder / name).write_text("{}")
    assert fetched(fetch(hub())) == sorted([*SMALL, WHOLE, *more])


def test_what_is_there_is_not_fetched_again_and_not_needed_to_be(hub, fetch):
    remote = hub()
    first = fetch(remote)
    remote.served.clear()
    assert fetch(remote).stdout == first.stdout
    assert remote.served == []
    offline = fetch(remote, HF_HUB_OFFLINE="1")
    assert (offline.returncode, offline.stdout) == (0, first.stdout)


def test_shards_are_found_without_a_network(folder, hub, fetch):
    tiny.shard(folder, 3)
    remote = hub()
    assert fetch(remote).stdout == fetch(remote, HF_HUB_OFFLINE="1").stdout != ""


def test_a_connection_that_breaks_goes_on_where_it_stopped(folder, hub, fetch):
    remote = hub()
    remote.breaks_once.add(WHOLE)
    done = fetch(remote)
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / WHOLE).read_bytes() == remote.files[WHOLE]
    assert len(remote.ranges) == 1
    first = int(remote.ranges[0].removeprefix(f"{WHOLE} bytes=").removesuffix("-"))
    assert 0 < first <= len(remote.files[WHOLE]) // 2


def test_the_next_run_fetches_what_the_last_did_not(folder, hub, fetch):
    tiny.shard(folder, 3)
    remote = hub()
    remote.refuses[SHARDS[1]] = (403, "")
    done = fetch(remote)
    assert done.returncode == 1
    assert f"there is no folder {REPOSITORY}, and the hub says: " in done.stderr
    assert "continues where it stopped" in done.stderr
    remote.refuses.clear()
    remote.served.clear()
    assert fetched(fetch(remote)) == sorted([*SMALL, INDEX, *SHARDS])
    assert SHARDS[1] in remote.served
    assert not {*SMALL, INDEX} & set(remote.served)


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((404, "RepoNotFound"), "404"),
        ((401, "GatedRepo"), "accept its terms at http"),
        ((403, "GatedRepo"), "it is gated"),
    ],
)
def test_what_the_hub_says_is_told(hub, fetch, refusal, said):
    remote = hub()
    remote.refuses[""] = refusal
    done = fetch(remote)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_another_model_is_refused_before_its_weights_are_fetched(folder, hub, fetch):
    (folder / "config.json").write_text(json.dumps(tiny.CONFIGS["e2b"] | {"model_type": "llama"}))
    remote = hub()
    assert f"error: {REPOSITORY}: model_type 'llama' is not a Gemma" in fetch(remote).stderr
    assert WHOLE not in remote.served


@pytest.mark.parametrize(
    ("missing", "kept", "said"),
    [
        (["config.json"], {}, "no config.json; gemma.gguf is a GGUF file"),
        ([WHOLE], {}, f"no {WHOLE}; gemma.gguf is a GGUF file"),
        ([WHOLE, "gemma.gguf"], {}, f"no {WHOLE}; onnx is an ONNX model"),
        (
            ["config.json", WHOLE],
            ADAPTER,
            "a LoRA adapter of google/x, not a model",
        ),
        (
            [WHOLE],
            ADAPTER,
            "a LoRA adapter of google/x, not a model",
        ),
    ],
)  # fmt: skip
def test_what_a_repository_holds_instead_is_named(folder, hub, fetch, missing, kept, said):
    for name in missing:
        (folder / name).unlink()
    for name, text in kept.items():
        (folder / name).write_text(text)
    done = fetch(hub())
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr


@pytest.mark.slow
def test_a_hub_id_is_a_checkpoint_of_the_command_line(hub, run):
    command = "import sys; from runtime.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = run(hub(), "-c", command, "export", REPOSITORY, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "note: answers end at" in done.stderr
    assert "gemma4" in done.stdout
