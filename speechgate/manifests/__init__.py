"""Manifests (lhotse CutSets): reading, writing, checking, filtering and summing up."""
