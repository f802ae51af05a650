"""The sentences of a transfer set: the files they are read from, which are plain enough to speak, in which order."""

import gzip
import json
import random
import re
import struct
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

LETTERS = {
    "en": "a-zA-Z'",
    "es": "a-záéíóúüñA-ZÁÉÍÓÚÜÑ",
    "fr": "a-zàâçéèêëîïôùûœA-ZÀÂÇÉÈÊËÎÏÔÙÛŒ'’",
    "it": "a-zàèéìòùA-ZÀÈÉÌÒÙ'’",
    "ru": "а-яёА-ЯЁ",
}
ISO_639_3 = {"en": "eng", "es": "spa", "fr": "fra", "it": "ita", "ru": "rus"}
COMMON = {
    "en": "the a of to is for and this with",
    "es": "de la el que para en los un una",
    "fr": "de la le les des un une pour est du",
    "it": "di il la per un una che del con",
    "ru": "и в для на с из это не по",
}
WORDS = range(3, 14)  # of a sentence
TIMES = 3  # that a word is looked for, before sentences are taken as they come


def is_plain(sentence: str, language: str) -> bool:
    """Few words, no numbers and signs, and at most one name."""
    letters, words = LETTERS[language], sentence.split()
    return (
        len(words) in WORDS
        and re.fullmatch(rf"[¿¡]?[{letters}]+(?:(?:,? |-)[{letters}]+)*[.!?]?", sentence) is not None
        and sum(word[0].isupper() for word in words[1:]) <= 1
    )


def is_of(sentence: str, language: str) -> bool:
    """Plain and clearly of the language, where a source mixes languages or commands with sentences."""
    common = [word for word in words_of(sentence) if word in COMMON[language].split()]
    return is_plain(sentence, language) and len(common) >= max(1, len(sentence.split()) // 6)


def words_of(sentence: str) -> list[str]:
    return re.findall(r"\w+", sentence.lower())


def described(descriptions: str, language: str) -> set[str]:
    """The plain sentences of a Translation file."""
    found = set()
    for paragraph in re.split(r"\n\s*\.\n|\nPackage: |\n\n", descriptions):
        lines = paragraph.split("\n")
        titles = [
            line.split(": ", 1)[1]
            for line in lines
            if line.startswith("Description-") and ": " in line and not line.startswith("Description-md5")
        ]
        prose = " ".join(line.strip() for line in lines if line.startswith(" ") and not re.match(r"\s+[-*•o]", line))
        for each in titles + re.split(r"(?<=[.!?])\s+", prose):
            if is_of(sentence := each.strip(), language):
                found.add(sentence)
    return found


def messages(catalogue: bytes) -> Iterator[tuple[str, str]]:
    """English and translation of every message of a .mo file (GNU gettext manual, "The Format of GNU MO Files")."""
    order = "<" if catalogue[:4] == b"\xde\x12\x04\x95" else ">"
    count, english, translated = struct.unpack(f"{order}3I", catalogue[8:20])
    for number in range(count):
        pair = []
        for table in (english, translated):
            length, start = struct.unpack_from(f"{order}2I", catalogue, table + 8 * number)
            text = catalogue[start : start + length].split(b"\x00")[0]  # the singular
            pair.append(re.sub("[_&]", "", text.split(b"\x04")[-1].decode("utf-8", "replace")).strip())
        yield pair[0], pair[1]


def found_in(source: Path, language: str) -> dict[str, str]:
    """The plain sentences of a language, to their English where that is known."""
    found: dict[str, str] = {}
    for file in source.glob(f"*_main_i18n_Translation-{language}*"):
        read = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", file], capture_output=True, check=True)
        found |= dict.fromkeys(described(read.stdout.decode(), language), "")
    for file in sorted(source.rglob(f"{language if language != 'en' else '*'}/LC_MESSAGES/*.mo")):
        for english, translated in messages(file.read_bytes()):
            if is_of(spoken := english if language == "en" else translated, language):
                known = language != "en" and is_of(english, "en")
                found[spoken] = english if known else found.get(spoken, "")
    pairs = [line.split("\t") for line in lines_of(source / f"{language}.txt")]
    for code in ISO_639_3.values() if language == "en" else [ISO_639_3[language]]:
        for number, line in enumerate(lines_of(file := source / f"{code}.txt"), start=1):
            if "\t" not in line:
                sys.exit(
                    f"{file}, line {number}: no tab; a line is English, a tab and the sentence in the other language"
                )
            english, other, *_ = line.split("\t")
            pairs.append([english] if language == "en" else [other, english])
    for sentence, *translation in pairs:
        spoken = re.sub(r"\s+([!?])", r"\1", sentence).strip()  # the space of French typography
        if is_plain(spoken, language):
            known = translation and language != "en" and is_plain(translation[0], "en")
            found[spoken] = translation[0] if known else found.get(spoken, "")
    return found


def lines_of(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def held_out(files: Iterable[Path]) -> set[str]:
    """The words of every sentence, spoken or translated, of texts (a sentence a line) and of manifests of cuts."""
    told: list[str] = []
    for file in files:
        if not file.is_file():
            sys.exit(f"--without: there is no {file}")
        if ".jsonl" not in file.suffixes:
            told += file.read_text(encoding="utf-8").splitlines()
            continue
        manifest = file.read_bytes()
        for line in (gzip.decompress(manifest) if file.suffix == ".gz" else manifest).splitlines():
            for supervision in json.loads(line)["supervisions"]:
                translations = (supervision.get("custom") or {}).get("translated_text", {})
                told += [supervision["text"], *translations.values()]
    return {" ".join(words_of(sentence)) for sentence in told}


def by_words(sentences: list[str]) -> list[str]:
    """The same in an order in which each word comes early, common words first, then each a second and a third time."""
    with_word: dict[str, list[str]] = defaultdict(list)
    for sentence in sentences:
        for word in set(words_of(sentence)):
            with_word[word].append(sentence)
    repeated = [word for word, those in with_word.items() if len(those) > 1]  # the others are often slips and names
    repeated.sort(key=lambda word: (-len(with_word[word]), word))
    taken: dict[str, None] = {}
    seen: Counter[str] = Counter()
    for times in range(1, TIMES + 1):
        for word in repeated:
            for sentence in with_word[word]:
                if seen[word] >= times:
                    break
                if sentence not in taken:
                    taken[sentence] = None
                    seen.update(set(words_of(sentence)))
    return [*taken, *(sentence for sentence in sentences if sentence not in taken)]


def write_sentences(source: Path, texts: Path, count: int, without: Iterable[Path]) -> None:
    """``count`` sentences a language, or as many as there are, in an order that is always the same."""
    rng = random.Random(7)
    texts.mkdir(parents=True, exist_ok=True)
    left_out = held_out(without)
    all_found = {language: found_in(source, language) for language in LETTERS}
    for language, found in all_found.items():
        if not found:
            sys.exit(
                f"{source} has neither {ISO_639_3[language]}.txt, {language}.txt, {language}/LC_MESSAGES/*.mo nor "
                f"*_main_i18n_Translation-{language}: name a folder of sentences, or /usr/share/locale, "
                "or set Acquire::Languages, run apt-get update and name apt's lists"
            )
    for language, found in all_found.items():
        sentences = sorted(s for s in found if left_out.isdisjoint(" ".join(words_of(t)) for t in (s, found[s]) if t))
        rng.shuffle(sentences)
        sentences.sort(key=lambda sentence: not found[sentence])  # a translation teaches more
        chosen = by_words(sentences)[:count]
        lines = [f"{sentence}\t{found[sentence]}".strip() for sentence in chosen]
        (texts / f"{language}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(
            f"{language}: {len(chosen)} of {len(sentences)} sentences, {sum(map(bool, map(found.get, chosen)))} with "
            f"English; {len(found) - len(sentences)} left out"
        )
