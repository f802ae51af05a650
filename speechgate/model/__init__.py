"""The dense model: ESPnet's classes built from YAML, and the checkpoints that hold them."""
