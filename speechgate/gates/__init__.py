"""Context-aware gates: which modules of a model run for an utterance, and what that saves."""
