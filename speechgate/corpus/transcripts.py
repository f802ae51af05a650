"""The transcripts of the Asterisk core sounds: reading ``id: text`` lines and mending what is wrong with them.

The files are written by hand, in five languages by different people.  Every mend is counted as an `Issue`.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from speechgate.errors import ManifestError

# Prompts that are tones, screams or silence, whatever their transcript says of them.
NOT_SPEECH = frozenset(
    {"ascending-2tone", "beep", "beeperr", "confbridge-join", "confbridge-leave", "descending-2tone", "tt-monkeys"}
)
SILENCE_FOLDER = "silence/"

# Ids that are spelt otherwise than the audio file's name: {language: {id in the transcript: id of the audio}}.
_RENAMED = {
    "spa": {"digits/1f": "digits/1F", "digits/1m": "digits/1M", "confbridge-lock-out-0": "confbridge-lock-out"},
    "fra": {"confbridge-lock-out-0": "confbridge-lock-out"},
    "ita": {"letters/O": "letters/o", "phonetic/C_P": "phonetic/c_p"},
}

# The second line of an id that belongs to another one.
_SECOND_LINE_OF = {"spa": {"digits/0": "digits/10"}}

# Entries that nobody translated.
_UNTRANSLATED = {"ita": {"is"}, "rus": {"letters/at"}}

# Bracketed words that the speaker reads; all other brackets hold directions ("emphase") or symbols ("[@]").
_READ_BRACKETS = {
    "spa": {"temporales"},
    "fra": {"ne m'appelez plus, jamais"},
    "ita": {"IAX", "quello", "suo"},
    "rus": {"статус"},
}
_BRACKETED = re.compile(r"\(([^()]*)\)|\[([^][]*)\]|<([^<>]*)>")

# Some Italian entries had è, à, ì, ò and ù replaced by question marks.
_LOST_ACCENTS = {"ita": {" ? ": " è ", " cos? ": " così ", " pi? ": " più ", " pu? ": " può ", " sar? ": " sarà "}}

# Latin letters that look like Cyrillic ones, and slip into Russian words.
_LOOKALIKES = str.maketrans("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ")
_MIXED_WORD = re.compile(r"\b(?=\w*[а-яёА-ЯЁ])\w*[a-zA-Z]\w*\b")


@dataclass(frozen=True, order=True)
class Issue:
    """Something that was mended, left out or is worth a look: a line of the preparation report."""

    kind: str
    prompt_id: str
    detail: str = ""


@dataclass
class Transcript:
    """One language: usable texts by prompt id, all ids that have a line, the number of lines, and what was wrong."""

    texts: dict[str, str] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    entries: int = 0
    issues: list[Issue] = field(default_factory=list)


def is_speech(prompt_id: str) -> bool:
    """Whether a recording of this id holds words."""
    return prompt_id not in NOT_SPEECH and not prompt_id.startswith(SILENCE_FOLDER)


def read_transcript(path: Path, lang3: str) -> Transcript:
    """Read ``core-sounds-<language>.txt`` or its ``.gz``; ``;`` begins a comment line.

    Raises:
        ManifestError: the file cannot be read or is not UTF-8.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        content = raw.decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ManifestError(f"transcript {path} cannot be read: {error}; download the corpus again") from error
    result = Transcript()
    if content.startswith("\ufeff"):
        content = content[1:]
        result.issues.append(Issue("byte-order mark", path.name))
    lines = [line.split(":", 1) for line in content.splitlines() if ":" in line and not line.startswith(";")]
    entries = [(prompt_id.strip(), text.strip()) for prompt_id, text in lines]
    result.entries = len(entries)
    known = {prompt_id for prompt_id, _ in entries}
    for prompt_id, text in entries:
        _add(result, prompt_id, text, lang3, known)
    return result


def _add(result: Transcript, prompt_id: str, text: str, lang3: str, known: set[str]) -> None:
    """Mend one entry and store it, or note why it is left out."""

    def note(kind: str, detail: str) -> None:
        result.issues.append(Issue(kind, prompt_id, detail))

    if renamed := _RENAMED.get(lang3, {}).get(prompt_id):
        note("id corrected", f"to {renamed}, the name of its recording")
        prompt_id = renamed
    if prompt_id in result.texts:
        other = _SECOND_LINE_OF.get(lang3, {}).get(prompt_id)
        note("duplicate id", f"its second line is {other}" if other else f"second line left out: {text}")
        if other is None:
            return
        prompt_id = other
    result.ids.add(prompt_id)
    if not is_speech(prompt_id):
        note("not speech", text)
    elif prompt_id in _UNTRANSLATED.get(lang3, ()):
        note("text in another language", text)
    else:
        for kind, mended in _mends(text, prompt_id, lang3, known):
            if mended != text:
                note(kind, text)
                text = mended
        if text:
            result.texts[prompt_id] = " ".join(text.split())
        else:
            note("empty text", "")


def _mends(text: str, prompt_id: str, lang3: str, known: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the text after each mend, with the kind of issue that it is if something changed."""
    text = text.removeprefix(f"{prompt_id}:").strip()
    yield "id repeated in the text", text
    text = _first_entry(text, known)
    yield "several entries in a line", text
    text = _without_notes(text, lang3)
    yield "brackets resolved", text
    for lost, accented in _LOST_ACCENTS.get(lang3, {}).items():
        text = text.replace(lost, accented)
    yield "lost accents restored", text
    if lang3 == "rus":
        text = _MIXED_WORD.sub(lambda match: match[0].translate(_LOOKALIKES), text)
    yield "letters of another script", text


def _first_entry(text: str, known: set[str]) -> str:
    """Cut where another entry begins (" id: "); ids without a hyphen are also plain words ("is: ")."""
    for match in re.finditer(r"([\w/]+(?:-[\w/]+)+): ", text):
        if match[1] in known:
            return text[: match.start()].strip()
    return text


def _without_notes(text: str, lang3: str) -> str:
    """Drop bracketed directions and symbols; keep bracketed words that are read, without their brackets."""

    def replace(match: re.Match[str]) -> str:
        inner = next(group for group in match.groups() if group is not None)
        return inner if inner in _READ_BRACKETS.get(lang3, ()) else ""

    # A note at the end of a sentence may leave its own full stop behind.
    return re.sub(r"(?<=\.)\s+\.$", "", _BRACKETED.sub(replace, text).strip())
