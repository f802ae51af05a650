"""Whisper (Radford et al., ICML 2023) as a host for gates: transformers' modules behind this project's interfaces.

Everything here needs the extra ``whisper``; nothing outside this package imports transformers for it.
"""
