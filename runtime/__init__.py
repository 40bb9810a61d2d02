"""A bundle in, text out: numpy, onnxruntime and tokenizers, no torch."""
