"""Time, compute and memory of decoding: this engine and ESPnet's search, dense and gated, in one run."""
