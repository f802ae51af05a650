"""What is on disk of the prompts corpus, language by language: recordings, transcript, and which lack the other."""

from dataclasses import dataclass, field
from pathlib import Path

from lhotse import MonoCut

from speechgate.corpus.prompts_source import VOICES, Voice
from speechgate.corpus.transcripts import Issue, Transcript, is_speech, read_transcript
from speechgate.errors import ManifestError


@dataclass
class VoiceData:
    """One language: recordings by prompt id, the transcript with the issues found, and the cuts made of them."""

    voice: Voice
    recordings: dict[str, Path]
    transcript: Transcript
    cuts: dict[str, MonoCut] = field(default_factory=dict)

    @property
    def usable(self) -> list[str]:
        """The ids that have both a recording and a text."""
        return sorted(self.recordings.keys() & self.transcript.texts.keys())

    def note(self, kind: str, prompt_id: str, detail: str = "") -> None:
        self.transcript.issues.append(Issue(kind, prompt_id, detail))


def read_corpus(root: Path) -> list[VoiceData]:
    """Read the transcripts below ``root``, list the recordings, and note what has no counterpart.

    Raises:
        ManifestError: a transcript is missing or cannot be read.
    """
    return [_read_voice(voice, root) for voice in VOICES]


def _read_voice(voice: Voice, root: Path) -> VoiceData:
    path = voice.transcript(root)
    if path is None:
        raise ManifestError(f"{root} has no core-sounds-{voice.code}.txt: download the corpus again")
    sounds = voice.sounds(root)
    recordings = {file.relative_to(sounds).with_suffix("").as_posix(): file for file in sorted(sounds.rglob("*.g722"))}
    data = VoiceData(voice, recordings, read_transcript(path, voice.lang3))
    texts, in_transcript = data.transcript.texts, data.transcript.ids
    for prompt_id in sorted(recordings.keys() - in_transcript):
        data.note("audio without text" if is_speech(prompt_id) else "not speech", prompt_id)
    for prompt_id in sorted(texts.keys() - recordings.keys()):
        data.note("text without audio", prompt_id, texts[prompt_id])
    return data
