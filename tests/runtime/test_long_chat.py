"""A long conversation takes the memory of its caches, and no more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHAT = """
import json, sys
from pathlib import Path
from runtime.language.events import assistant_message
from runtime.engine.sampler import Sampling
from runtime.session.model import Model
from runtime.session.options import Options

def bytes_of(kind):
    return int(Path("/proc/self/status").read_text().split(kind + ":")[1].split()[0]) * 1024

session, chat, held = Model.open(Path(sys.argv[1]), threads=1).session(), [], []
for turn in range(100):
    chat.append({"role": "user", "content": f"What is the capital of country {turn}?"})
    chat.append(assistant_message(session.chat(chat, Options(temperature=0.0, max_new_tokens=8))))
    caches = sum(cache.key.nbytes + cache.value.nbytes for cache in session.engine.caches())
    held.append((bytes_of("VmRSS"), bytes_of("RssAnon") - caches))
print(json.dumps(held))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process's own pages apart")
def test_memory_is_flat_over_a_hundred_turns(bundle):
    """Of a process's own pages: those of mapped files come and go as the system likes."""
    words = [sys.executable, "-c", CHAT, str(bundle("sample", "int4-datafree"))]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    held = json.loads(done.stdout)
    whole, own = held[20]
    more = max(after for _, after in held[20:]) - own
    print(f"{whole / 1e6:.1f} MB after 20 turns; {more / 1e6:.2f} more until 100, {more / whole:.2%}, caches aside")
    assert more <= 0.02 * whole
