"""A bundle in, text out: numpy, onnxruntime and tokenizers, no torch."""

import os

# onnxruntime 1.29 and later asks a server of its maker's, and leaves a device id in the home folder, unless this is
# set before it loads.  Whoever wants it otherwise sets the variable.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
