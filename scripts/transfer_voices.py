"""Who speaks a transfer set: the synthesisers, which voice says what, and how they are called.

What a model does not understand teaches it nothing: on 50 sentences each (docs/whisper.md), a fine-tuned Whisper-base
has a WER of 16 to 20 in Pico's voices, 23 in Festival's Russian, 27 and 36 in espeak-ng's English and Italian, 73 in
its French and 96 in its Russian.
"""

import random
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import batched
from pathlib import Path

from rich.progress import Progress

# Of each language the synthesisers with their voices, the clearest first.
VOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {"pico": ("en-US", "en-GB"), "espeak": ("en-us", "en-gb")},
    "es": {"pico": ("es-ES",), "espeak": ("es", "es-419")},
    "fr": {"pico": ("fr-FR",), "espeak": ("fr-fr",)},
    "it": {"pico": ("it-IT",), "espeak": ("it",)},
    "ru": {"festival": ("msu_ru_nsh_clunits",), "espeak": ("ru",)},
}
PROGRAMS = {"pico": "pico2wave", "festival": "festival", "espeak": "espeak-ng"}
SCRIPT = 100  # sentences that one process of Festival says, which takes longer to start than to speak


@dataclass(frozen=True)
class Utterance:
    """A sentence, and how it is spoken: ``pitch`` is from 0 to 100; Festival's voices have one speed and pitch."""

    name: str
    text: str
    english: str
    language: str
    synthesiser: str
    voice: str
    words_per_minute: int
    pitch: int

    @property
    def speaker(self) -> str:
        return f"{self.synthesiser}-{self.voice}"


def installed() -> dict[str, set[str]]:
    """The voices of each synthesiser that is here; of Pico and espeak-ng, which come with all of theirs, any."""
    found = {name: set[str]() for name, program in PROGRAMS.items() if shutil.which(program)}
    if "festival" in found:
        listed = subprocess.run(["festival", "-b", "(print (voice.list))"], capture_output=True, text=True, check=False)
        found["festival"] = set(re.findall(r"[\w.-]+", listed.stdout))
        if not found["festival"]:
            del found["festival"]
    return found


def speaker_of(language: str, found: dict[str, set[str]]) -> tuple[str, tuple[str, ...]]:
    """The clearest synthesiser for a language that is installed, with its voices.

    Says on stderr where a clearer one is missing, and exits where there is none.
    """
    clearest = next(iter(VOICES[language]))
    for name, voices in VOICES[language].items():
        usable = tuple(voice for voice in voices if not found[name] or voice in found[name]) if name in found else ()
        if usable and name != clearest:
            told = f"{PROGRAMS[name]} speaks {language}, and is hard to understand: {PROGRAMS[clearest]} is clearer"
            print(f"{told}, and not installed with a voice for it", file=sys.stderr)
        if usable:
            return name, usable
    programs = " or ".join(PROGRAMS[name] for name in VOICES[language])
    sys.exit(f"nothing is installed that speaks {language}: it takes {programs} (see the head of make_transfer_set.py)")


def plan(texts: Path, count: int, found: dict[str, set[str]]) -> list[Utterance]:
    """The first ``count`` sentences of each language that has a file, in voices, speeds and pitches of a fixed seed.

    Empty lines are passed over.
    """
    rng = random.Random(3)
    utterances = []
    for language in VOICES:
        file = texts / f"{language}.txt"
        if not file.is_file():
            continue
        synthesiser, voices = speaker_of(language, found)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()[:count]):
            sentence, _, english = line.partition("\t")
            if not sentence.strip():
                continue
            how = (synthesiser, rng.choice(voices), rng.randint(130, 185), rng.randint(30, 70))
            utterances.append(Utterance(f"{language}{number:05d}", sentence, english, language, *how))
    if not utterances:
        sys.exit(f"{texts} has none of {', '.join(f'{each}.txt' for each in VOICES)}, of a sentence a line")
    return utterances


def speak(utterances: Sequence[Utterance], folder: Path) -> list[Utterance]:
    """Write ``folder``/NAME.wav for each, and return those of which a recording came out."""
    for each in utterances:  # whatever an earlier run said
        (folder / f"{each.name}.wav").unlink(missing_ok=True)
    jobs: list[tuple[Say, tuple[Utterance, ...]]] = []
    for speaker in dict.fromkeys(each.speaker for each in utterances):
        own = [each for each in utterances if each.speaker == speaker]
        say, size = SAY[own[0].synthesiser]
        jobs += [(say, some) for some in batched(own, size)]

    def run(job: tuple[Say, tuple[Utterance, ...]]) -> int:
        say, some = job
        say(some, folder)
        return len(some)

    with ThreadPoolExecutor() as pool, Progress() as progress:
        shown = progress.add_task("speaking", total=len(utterances))
        for done in pool.map(run, jobs):
            progress.advance(shown, done)
    return [each for each in utterances if _sounds(folder / f"{each.name}.wav")]


def _sounds(file: Path) -> bool:
    header = 44  # bytes, of a .wav file
    return file.is_file() and file.stat().st_size > header


def _by_espeak(some: Sequence[Utterance], folder: Path) -> None:
    for each in some:
        how = ["-v", each.voice, "-s", str(each.words_per_minute), "-p", str(each.pitch)]
        _call("espeak-ng", *how, "-w", f"{each.name}.wav", "--", each.text, folder=folder)


def _by_pico(some: Sequence[Utterance], folder: Path) -> None:
    for each in some:
        speed, pitch = round(each.words_per_minute / 1.6), 75 + each.pitch // 2  # per cent of the voice's own
        text = f"<speed level='{speed}'><pitch level='{pitch}'>" + re.sub(r"[<>&]", " ", each.text)
        _call("pico2wave", "-l", each.voice, "-w", f"{each.name}.wav", text, folder=folder)


def _by_festival(some: Sequence[Utterance], folder: Path) -> None:
    """One script for all of a voice; a sentence with a letter that the voice has no rule for gives no recording."""
    lines = [f"(voice_{some[0].voice})"]
    for each in some:
        letters = "".join(c for c in unicodedata.normalize("NFC", each.text) if unicodedata.category(c) != "Mn")
        plain = re.sub(r"[^\w\s.,!?:;'-]+", " ", letters)
        say = f'(utt.save.wave (utt.synth (Utterance Text "{plain}")) "{each.name}.wav" \'riff)'
        lines.append(f"(unwind-protect {say} nil)")
    script = folder / f"{some[0].name}.scm"
    script.write_text("\n".join(lines), encoding="utf-8")
    try:
        _call("festival", "--batch", script.name, folder=folder)
    finally:
        script.unlink()


def _call(*command: str, folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        sys.exit(f"{command[0]} failed, called as {' '.join(command)}: {said[-1] if said else 'it does not say why'}")


Say = Callable[[Sequence[Utterance], Path], None]
SAY: dict[str, tuple[Say, int]] = {"pico": (_by_pico, 1), "festival": (_by_festival, SCRIPT), "espeak": (_by_espeak, 1)}
