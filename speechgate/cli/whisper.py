"""Commands on published Whisper models: import one, and race this engine with others on it."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from speechgate.cli.options import DATA, EXP, Corpus, Data, app, parts_of


@app.command("import-whisper")
def import_whisper_command(
    model: Annotated[
        str, typer.Argument(help="transformers' name on its hub, such as openai/whisper-base, or a folder")
    ],
    out: Annotated[Path, typer.Option(help="checkpoint folder to write")],
    task: Annotated[
        str, typer.Option(help="tasks it is to get symbols for, such as st:mdw-fra; several with commas")
    ] = "",
) -> None:
    """Turn a published Whisper into a checkpoint of this project, as it is; train --conf whisper fine-tunes one."""
    from speechgate.model.checkpoint import Checkpoint, import_whisper, save_checkpoint
    from speechgate.runinfo import run_info
    from speechgate.task import Task
    from speechgate.whisper.config import WhisperConfig

    tasks = [Task.parse(each) for each in parts_of(task)]
    checkpoint = Checkpoint(*import_whisper().load_whisper(WhisperConfig(model), tasks))
    save_checkpoint(out, checkpoint, run_info("cpu") | {"imported": model})
    print(f"{out}: {len(checkpoint.tokenizer)} tokens, languages: {' '.join(checkpoint.tokenizer.languages)}")


@app.command("bench-whisper")
def bench_whisper_command(
    model: Annotated[
        str, typer.Argument(help="transformers' name on its hub, such as openai/whisper-base, or a folder")
    ],
    out: Annotated[Path, typer.Option(help="JSON to write")] = EXP / "bench_whisper.json",
    utterances: Annotated[int, typer.Option(help="how many of the test split, spread over it")] = 200,
    window: Annotated[str, typer.Option(help="seconds that recordings are padded to, several with commas")] = "0.2,30",
    beam: Annotated[str, typer.Option(help="beam sizes, several with commas")] = "1,5",
    tokens: Annotated[int, typer.Option(help="most tokens of a hypothesis")] = 60,
    faster_whisper: Annotated[
        Path | None, typer.Option(help="the same weights as CTranslate2 keeps them: race faster-whisper too")
    ] = None,
    corpus: Corpus = "prompts",
    data: Data = DATA,
) -> None:
    """Compare this engine's hypotheses and time with those of transformers' generate, on the CPU.

    With --faster-whisper also with that package, in float32 and int8: whole recordings, from samples to text.
    """
    from dataclasses import asdict

    import torch

    from speechgate.files import write_json
    from speechgate.model.checkpoint import Checkpoint, import_whisper
    from speechgate.recipe import Recipe
    from speechgate.runinfo import run_info
    from speechgate.whisper.config import WhisperConfig

    checkpoint = Checkpoint(*import_whisper().load_whisper(WhisperConfig(model), []))
    checkpoint.model.eval()
    from speechgate.bench.faster_whisper import (
        COMPUTE_TYPES,
        WINDOW_SECONDS,
        compare_with_faster_whisper,
        load_faster_whisper,
    )
    from speechgate.bench.whisper import compare_with_transformers

    others = (
        {} if faster_whisper is None else {each: load_faster_whisper(faster_whisper, each) for each in COMPUTE_TYPES}
    )
    windows, beams = [*map(float, parts_of(window))], [*map(int, parts_of(beam))]
    cuts = list(Recipe(corpus, data).cuts("test"))
    cuts = cuts[:: max(1, len(cuts) // utterances)][:utterances]
    results: dict[str, Any] = {"run": run_info("cpu") | {"threads": torch.get_num_threads()}, "model": model}
    results |= {"tokens": tokens, "comparisons": [], "faster_whisper": []}
    console = Console()
    for seconds in windows:
        for beam_size in beams:
            with console.status("decoding") as status:

                def said(count: int, label: str = f"window {seconds:g} s, beam {beam_size}") -> None:
                    status.update(f"{label}: {count} of {len(cuts)}")

                found = compare_with_transformers(
                    checkpoint.model, checkpoint.tokenizer, cuts, seconds, beam_size, tokens, said
                )
            console.print(
                f"window {seconds:g} s, beam {beam_size}: {found.equal} of {found.utterances} hypotheses equal, "
                f"{sum(each.is_tie for each in found.differences)} ties; transformers takes {found.speed:.1f}x the time"
            )
            for each in found.differences:
                console.print(f"  {each.cut} {each.score:.4f} {each.ours!r} | {each.score_theirs:.4f} {each.theirs!r}")
            results["comparisons"].append(asdict(found))
            write_json(out, results)
    for beam_size in beams if others else ():
        with console.status("decoding") as status:
            found_races = compare_with_faster_whisper(
                checkpoint,
                others,
                cuts,
                windows,
                beam_size,
                tokens,
                lambda count: status.update(f"{count} of {len(cuts)}"),
            )
        for race in found_races:
            console.print(
                f"window {race.window_seconds:g} s, beam {beam_size}: faster-whisper ({race.compute_type}) takes "
                f"{race.speed:.2f}x the time; the same words in {race.equal} of {race.utterances} (given 30 s with "
                f"silence), in {race.equal_as_called} as called"
            )
            if race.window_seconds == WINDOW_SECONDS:
                for disagreement in race.disagreements:
                    console.print(f"  {disagreement.cut} {disagreement.ours!r} | {disagreement.theirs!r}")
            results["faster_whisper"].append(asdict(race))
        write_json(out, results)
    print(out)
