"""Corpora: each module has the verbs download, is_downloaded, prepare and is_prepared, and writes manifests."""
