"""Who speaks a transfer set: the synthesisers, which voice says what, and how they are called.

What a model does not understand teaches it nothing: of 50 sentences each (docs/whisper.md), Whisper-base misses 16 to
20% of the words in Pico's voices, 23% of Festival's Russian, 27 to 36% of espeak-ng's English and Italian, 73% of its
French and all of its Russian.
"""

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
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
    """A sentence, and how it is spoken; ``pitch`` is from 0 to 100."""

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
    """The clearest synthesiser for a language that is installed, with its voices; exits where there is none."""
    for name, voices in VOICES[language].items():
        usable = tuple(voice for voice in voices if not found[name] or voice in found[name]) if name in found else ()
        if usable:
            return name, usable
    programs = " or ".join(PROGRAMS[name] for name in VOICES[language])
    sys.exit(f"nothing is installed that speaks {language}: it takes {programs} (see the head of make_transfer_set.py)")


def plan(texts: Path, count: int, found: dict[str, set[str]]) -> list[Utterance]:
    """The first ``count`` sentences of each language that has a file, in voices, speeds and pitches of a fixed seed."""
    rng = random.Random(3)
    utterances = []
    for language in VOICES:
        file = texts / f"{language}.txt"
        if not file.is_file():
            continue
        synthesiser, voices = speaker_of(language, found)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()[:count]):
            sentence, _, english = line.partition("\t")
            how = (synthesiser, rng.choice(voices), rng.randint(130, 185), rng.randint(30, 70))
            utterances.append(Utterance(f"{language}{number:05d}", sentence, english, language, *how))
    if not utterances:
        sys.exit(f"{texts} has none of {', '.join(f'{each}.txt' for each in VOICES)}, of a sentence a line")
    return utterances


def speak(utterances: Sequence[Utterance], folder: Path) -> list[Utterance]:
    """Write ``folder``/NAME.wav for each, and return those of which a recording came out."""
    jobs: list[tuple[Callable[..., None], tuple[Utterance, ...]]] = []
    by_program = {name: [each for each in utterances if each.synthesiser == name] for name in PROGRAMS}
    jobs += [(_by_festival, some) for some in batched(by_program["festival"], SCRIPT)]
    jobs += [(_by_pico, (each,)) for each in by_program["pico"]]
    jobs += [(_by_espeak, (each,)) for each in by_program["espeak"]]

    def run(job: tuple[Callable[..., None], tuple[Utterance, ...]]) -> int:
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


def _by_espeak(some: Iterable[Utterance], folder: Path) -> None:
    for each in some:
        how = ["-v", each.voice, "-s", str(each.words_per_minute), "-p", str(each.pitch)]
        subprocess.run(["espeak-ng", *how, "-w", folder / f"{each.name}.wav", each.text], check=True)


def _by_pico(some: Iterable[Utterance], folder: Path) -> None:
    for each in some:
        speed, pitch = round(each.words_per_minute / 1.6), 75 + each.pitch // 2  # per cent of the voice's own
        text = f"<speed level='{speed}'><pitch level='{pitch}'>{each.text}"
        subprocess.run(["pico2wave", "-l", each.voice, "-w", folder / f"{each.name}.wav", text], check=True)


def _by_festival(some: Sequence[Utterance], folder: Path) -> None:
    """One script for all; what a voice has no sounds for, such as a foreign letter, is left unsaid."""
    lines = [f"(voice_{some[0].voice})"]
    for each in some:
        plain = re.sub(r"[^\w\s.,!?:;'-]+", " ", each.text)
        file = folder / f"{each.name}.wav"
        lines += [
            f"(Parameter.set 'Duration_Stretch {160 / each.words_per_minute:.2f})",
            f'(unwind-protect (utt.save.wave (utt.synth (Utterance Text "{plain}")) "{file}" \'riff) nil)',
        ]
    script = folder / f"{some[0].name}.scm"
    script.write_text("\n".join(lines), encoding="utf-8")
    subprocess.run(["festival", "--batch", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    script.unlink()
