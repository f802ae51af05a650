"""Tiny corpora with the true layout and container of each, traps included, from the bundled recordings."""

import gzip
import json
import wave
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from speechgate.corpus.mboshi import held_out
from tests.corpus.clips import RATE_HZ, Clip, write, write_audio

ISO2 = {"eng": "en", "spa": "es", "fra": "fr", "ita": "it", "rus": "ru"}


@dataclass(frozen=True)
class Expected:
    """What a preparation must make of a layout: cuts by split, and how often each kind of problem is found."""

    cuts: dict[str, int]
    problems: dict[str, int]


def europarl_st(root: Path, clips: list[Clip]) -> Expected:
    """Two directions of French and one of Spanish.

    Traps: whole speeches as m4a, stereo with an empty channel, an empty line, a segment of 0.05 s, one past the end, a
    speech that is dev in one direction and train in another, speakers beside the speeches, a line separator in a text.
    """
    speeches = {"train": clips[:4], "dev": clips[4:6], "test": clips[6:8]}
    audios = root / "fr" / "audios"
    places = {
        split: write_audio(audios / f"fr.{split}.m4a", *some, channels=2 if split == "dev" else 1)
        for split, some in speeches.items()
    }
    for tgt in ("en", "it"):
        tgt3 = {"en": "eng", "it": "ita"}[tgt]
        for split, some in speeches.items():
            lines = [
                (f"fr.{split} {start} {end}", clip.texts["fra"], clip.texts[tgt3])
                for (start, end), clip in zip(places[split], some, strict=True)
            ]
            if split == "train":
                lines[0] = (lines[0][0], lines[0][1] + "\u2028", lines[0][2])
                lines += [
                    ("fr.train 0.00 0.05", "oui", "x"),
                    ("fr.train 1.0 2.0", "", "x"),
                    ("fr.train 0 999", "a", "x"),
                ]
                if tgt == "it":
                    start, end = places["dev"][0]
                    lines.append((f"fr.dev {start} {end}", "une phrase", "una frase"))
                else:
                    lines[1] = (*lines[1][:2], "")
            folder = root / "fr" / tgt / split
            names = sorted({line[0].split()[0] for line in lines}, reverse=True)
            write(folder / "segments.lst", *(line[0] for line in lines))
            write(folder / "segments.fr", *(line[1] for line in lines))
            write(folder / f"segments.{tgt}", *(line[2] for line in lines))
            write(folder / "speeches.lst", *names)
            write(folder / "speakers.lst", *(f"Some_One_{name.partition('.')[2]}7" for name in names))
    problems = {
        "recording converted": 1,
        "empty text": 1,
        "too short": 1,
        "text too long for its audio": 1,
        "outside its recording": 1,
        "held out in another direction": 1,
        "empty translation": 1,
    }
    return Expected({"train": 4, "dev": 2, "test": 2, "train_noisy": 0}, problems)


def covost2(root: Path, clips: list[Clip]) -> Expected:
    """French into English.  Traps: mp3, unbalanced quotes, a missing clip, an empty recording, a byte-order mark."""
    folder = root / "fr"
    for number, (split, some) in enumerate({"train": clips[:4], "dev": clips[4:6], "test": clips[6:8]}.items()):
        rows = ["path\tsentence\ttranslation\tclient_id"]
        for index, clip in enumerate(some):
            name = f"common_voice_fr_{number}{index}.mp3"
            write_audio(folder / "clips" / name, clip)
            rows.append(f'{name}\t"{clip.texts["fra"]}\t{clip.texts["eng"]}\tspeaker{number}')
        if split == "train":
            rows.append("common_voice_fr_gone.mp3\tabsent\tgone\tspeaker0")
            rows.append("common_voice_fr_empty.mp3\tvide\tempty\tspeaker0")
            (folder / "clips" / "common_voice_fr_empty.mp3").touch()
            rows[0] = "\ufeff" + rows[0]
        write(folder / f"covost_v2.fr_en.{split}.tsv", *rows)
    return Expected({"train": 4, "dev": 2, "test": 2}, {"missing recording": 1, "unreadable recording": 1})


def fleurs(root: Path, clips: list[Clip]) -> Expected:
    """English, French and Russian.  Traps: quotes, a sentence read twice, one that only one language has."""
    for lang3, folder in (("eng", "en_us"), ("fra", "fr_fr"), ("rus", "ru_ru")):
        for split, some in {"train": clips[:3], "dev": clips[3:5], "test": clips[5:7]}.items():
            rows = []
            for number, clip in enumerate([*some, some[0]]):
                write_audio(root / folder / split / f"{number}{lang3}.wav", clip)
                sentence = f"{split}{number}" if number < len(some) else f"{split}0"
                text = clip.texts[lang3]
                samples = len(clip.samples)
                rows.append(f'{sentence}\t{number}{lang3}.wav\t"{text}\t{text.lower()}\tx | y\t{samples}\tFEMALE')
            if lang3 == "rus":
                write_audio(root / folder / split / "only.wav", some[0])
                rows.append(f"only\tonly.wav\t{some[0].texts['rus']}\tx\tx\t1\tMALE")
            write(root / "metadata" / folder / f"{split}.tsv", *rows)
    return Expected({"train": 13, "dev": 10, "test": 10}, {})


def must_c(root: Path, clips: list[Clip]) -> Expected:
    """English into Italian.  Traps: "(Applause)", a whole talk as one wav, no tst-HE."""
    for name, some in {"train": clips[:4], "dev": clips[4:6], "tst-COMMON": clips[6:8]}.items():
        folder = root / "en-it" / "data" / name
        places = write_audio(folder / "wav" / f"ted_{name}.wav", *some)
        segments = [
            f"- {{duration: {end - start:.6f}, offset: {start}, rW: 3, speaker_id: spk.{name}, wav: ted_{name}.wav}}"
            for start, end in places
        ]
        write(folder / "txt" / f"{name}.yaml", *segments)
        write(folder / "txt" / f"{name}.en", *(f"(Applause) {clip.texts['eng']}" for clip in some))
        write(folder / "txt" / f"{name}.it", *(f"(Applausi) {clip.texts['ita']}" for clip in some))
    return Expected({"train": 4, "dev": 2, "test": 2, "test_he": 0}, {})


def mtedx(root: Path, clips: list[Clip]) -> Expected:
    """Spanish, and some of its talks into English.  Traps: flac, a talk without translation, CRLF."""
    for name, some in {"train": clips[:4], "valid": clips[4:6], "test": clips[6:8]}.items():
        for tgt, lang3, chosen in (("es", "spa", some), ("en", "eng", some[:2])):
            folder = root / f"es-{tgt}" / "data" / name
            places = write_audio(folder / "wav" / f"talk{name}.flac", *some)[: len(chosen)]
            segments = [f"talk{name}_{i:04d} talk{name} {start} {end}" for i, (start, end) in enumerate(places)]
            write(folder / "txt" / "segments", *segments)
            write(folder / "txt" / f"{name}.es", *(clip.texts["spa"] for clip in chosen), end="\r\n")
            write(folder / "txt" / f"{name}.{tgt}", *(clip.texts[lang3] for clip in chosen))
    return Expected({"train": 4, "dev": 2, "test": 2}, {})


def voxpopuli(root: Path, clips: list[Clip]) -> Expected:
    """French sessions as ogg.  Traps: only a normalised text, a session that is missing, a split that is not used."""
    header = (
        "session_id|id_|original_text|normed_text|speaker_id|split|gender|is_gold_transcript|accent|start_time|end_time"
    )
    rows = [header]
    for split, some in {"train": clips[:4], "dev": clips[4:6], "test": clips[6:8]}.items():
        session = f"2019{split}-PLENARY"
        places = write_audio(root / "raw_audios" / "fr" / "2019" / f"{session}_fr.ogg", *some)
        for number, ((start, end), clip) in enumerate(zip(places, some, strict=True)):
            text = clip.texts["fra"]
            rows.append(f"{session}|{number}|{'' if number else text}|{text.lower()}|9|{split}|f|1|None|{start}|{end}")
    rows.append("2018gone-PLENARY|1|perdu|perdu|9|train|f|1|None|0.0|1.0")
    rows.append("2018gone-PLENARY|2|perdu|perdu|9|unused|f|1|None|0.0|1.0")
    with gzip.open(root / "asr_fr.tsv.gz", "wt", encoding="utf-8") as table:
        table.write("\n".join(rows) + "\n")
    return Expected({"train": 4, "dev": 2, "test": 2}, {"missing recording": 1})


def mls(root: Path, clips: list[Clip]) -> Expected:
    """Italian as opus.  Traps: a recording that is missing, one that is cut off."""
    folder = root / "mls_italian_opus"
    write(folder / "metainfo.txt", " SPEAKER | GENDER | PARTITION | MINUTES | BOOK ID | TITLE | CHAPTER")
    for number, (split, some) in enumerate({"train": clips[:4], "dev": clips[4:6], "test": clips[6:8]}.items()):
        lines = []
        for index, clip in enumerate(some):
            name = f"{number}_77_{index:06d}"
            write_audio(folder / split / "audio" / str(number) / "77" / f"{name}.opus", clip)
            lines.append(f"{name}\t{clip.texts['ita']}")
        if split == "train":
            lines += ["0_77_000100\tassente", "0_77_000101\ttagliato"]
            (folder / split / "audio/0/77/0_77_000101.opus").write_bytes(b"OggS and then nothing")
        write(folder / split / "transcripts.txt", *lines)
    return Expected({"train": 4, "dev": 2, "test": 2}, {"missing recording": 1, "unreadable recording": 1})


def common_voice(root: Path, clips: list[Clip]) -> Expected:
    """Russian as mp3.  Traps: a sentence that begins with a quote, a text in another script."""
    folder = root / "ru"
    for number, (split, some) in enumerate({"train": clips[:4], "dev": clips[4:6], "test": clips[6:8]}.items()):
        rows = ["client_id\tpath\tsentence\tup_votes"]
        for index, clip in enumerate(some):
            write_audio(folder / "clips" / f"ru_{number}{index}.mp3", clip)
            rows.append(f'client{number}\tru_{number}{index}.mp3\t"{clip.texts["rus"]}\t2')
        if split == "train":
            write_audio(folder / "clips" / "ru_latin.mp3", some[0])
            rows.append("client0\tru_latin.mp3\tprivet\t2")
        write(folder / f"{split}.tsv", *rows)
    return Expected({"train": 4, "dev": 2, "test": 2}, {"another script": 1})


_HELD_OUT = next(text for text in map("phrase numéro {}".format, count()) if held_out(text))


def mboshi(root: Path, clips: list[Clip]) -> Expected:
    """Traps: wav headers that overstate the length, CRLF, a missing transcript, a French text of dev in train too.

    The Italian texts stand for Mboshi.
    """
    folder = root / "full_corpus_newsplit"
    for split, some in {"train": clips[:9], "dev": [*clips[9:11], clips[0]]}.items():
        for number, clip in enumerate(some):
            wav = folder / split / f"{('abiayi', 'martial')[number % 2]}_2015_{split}_{number}.wav"
            write_audio(wav, clip)
            write(wav.with_suffix(".mb"), clip.texts["ita"])
            # One of the sentences of train must be among the few that the corpus module holds out.
            french = _HELD_OUT if (split, number) == ("train", 8) else clip.texts["fra"]
            write(wav.with_suffix(".fr"), french, end="\r\n")
            if number == 0:
                _overstate(wav)
    wav = folder / "train" / "martial_2015_train_99.wav"
    write_audio(wav, clips[0])
    write(wav.with_suffix(".fr"), clips[0].texts["fra"])
    return Expected({"train": 8, "dev": 1, "test": 3, "test_unseen": 2}, {"missing transcript": 1})


def _overstate(wav: Path) -> None:
    """Let the header of ``wav`` promise a hundredth of a second more than there is."""
    content = bytearray(wav.read_bytes())
    with wave.open(str(wav)) as opened:
        claimed = 2 * (opened.getnframes() + RATE_HZ // 100)
    content[40:44] = claimed.to_bytes(4, "little")
    wav.write_bytes(bytes(content))


def own(root: Path, clips: list[Clip]) -> Expected:
    """Tables.  Traps: a start and an end in a longer recording, a missing recording, a column nobody asked for."""
    for number, (split, some) in enumerate({"train": clips[:4], "dev": clips[4:6], "test": clips[6:8]}.items()):
        rows = ["audio\ttext\tlanguage\tspeaker\tstart\tend\ttext_en\tcomment"]
        places = write_audio(root / "wav" / f"{split}.flac", *some)
        for (start, end), clip in zip(places, some, strict=True):
            rows.append(
                f"wav/{split}.flac\t{clip.texts['fra']}\tfr\tme{number}\t{start}\t{end}\t{clip.texts['eng']}\tok"
            )
        if split == "dev":
            rows.append("wav/gone.flac\tperdu\tfr\tme\t\t\t\t")
        write(root / f"{split}.tsv", *rows)
    return Expected({"train": 4, "dev": 2, "test": 2}, {"missing recording": 1})


LAYOUTS: dict[str, Callable[[Path, list[Clip]], Expected]] = {
    function.__name__: function
    for function in (
        europarl_st,
        covost2,
        fleurs,
        must_c,
        mtedx,
        voxpopuli,
        mls,
        common_voice,
        mboshi,
        own,
    )
}


def report_of(home: Path) -> dict:
    return json.loads((home / "report.json").read_text(encoding="utf-8"))
