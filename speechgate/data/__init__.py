"""From manifests to batches: tasks are expanded at load time, batches are filled by seconds of audio."""
