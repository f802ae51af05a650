"""Checkpoints for one task: without the modules that its gates close, for speechgate, ESPnet or ONNX Runtime."""
