"""Decoding: from checkpoints and cuts to hypotheses, with closed modules really skipped."""
