"""Bundled recordings of prompts."""

from speechgate.corpus.prompts_source import BUNDLED

SOUNDS = BUNDLED / "usr/share/asterisk/sounds"
ENGLISH = [
    SOUNDS / "en_US_f_Allison" / name for name in ("agent-loggedoff.g722", "vm-isunavail.g722", "dictate/record.g722")
]
FRENCH = SOUNDS / "fr_CA_f_June/agent-loggedoff.g722"
