"""A long conversation takes the memory of its caches, and no more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHAT = """
import json, sys
from pathlib import Path
from runtime.events import assistant_message
from runtime.resident_memory import resident
from runtime.sampler import Sampling
from runtime.session import Session
session, chat, held = Session.open(Path(sys.argv[1]), 1), [], []
for turn in range(100):
    chat.append({"role": "user", "content": f"What is the capital of country {turn}?"})
    chat.append(assistant_message(session.chat(chat, Sampling(0.0), 8)))
    held.append(resident() - sum(cache.key.nbytes + cache.value.nbytes for cache in session.decoder.caches))
print(json.dumps(held))
"""


@pytest.mark.slow
def test_memory_is_flat_over_a_hundred_turns(bundle):
    words = [sys.executable, "-c", CHAT, str(bundle("sample", "int4-datafree"))]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    held = json.loads(done.stdout)
    print(f"MB after 1, 20 and 100 turns, caches aside: {held[0] / 1e6:.1f} {held[20] / 1e6:.1f} {held[-1] / 1e6:.1f}")
    assert max(held[20:]) <= 1.02 * held[20]
