"""What is good for a process that does nothing but run a model, and no business of a library in somebody else's.

The command line says `tune()` once.  Without it, what remains of changes to the whole process is this, each
because there is no narrower way, and each undone under a lock as soon as it has served:

- while a model loads, `load_beside` lengthens Python's switch interval, for some milliseconds;
- while onnxruntime makes a session, `engine/onnx.py` may set an environment variable that it reads then;
- ExecuTorch has one pool of threads in a process: opening a model with that engine gives it the model's threads.
"""

from __future__ import annotations

import threading

_tuned = threading.Event()


def tune() -> None:
    """From now on this process is a model's own: freed memory goes back to the system after every answer."""
    _tuned.set()


def is_tuned() -> bool:
    """Whether `tune` was called in this process."""
    return _tuned.is_set()
