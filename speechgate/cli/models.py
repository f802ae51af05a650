"""Models that come and go: checkpoints of other toolkits, transcription, and exports."""

from pathlib import Path
from typing import Annotated

import typer

from speechgate.cli.options import DATA, EXP, Corpus, Data, Exp, Int8Output, Precision, app, parts_of


@app.command("import-espnet")
def import_espnet_command(
    folder: Annotated[Path, typer.Argument(help="a published model: config.yaml, *.pth and bpe.model below it")],
    out: Annotated[Path, typer.Option(help="checkpoint folder to write")],
    weights: Annotated[Path | None, typer.Option(help="which .pth, where there are several")] = None,
) -> None:
    """Turn a model in ESPnet's own format (OWSM) into a checkpoint of this project."""
    from speechgate.model.checkpoint import save_checkpoint
    from speechgate.model.published import import_espnet
    from speechgate.runinfo import run_info

    checkpoint = import_espnet(folder, weights)
    save_checkpoint(out, checkpoint, run_info("cpu") | {"imported": str(folder)})
    print(f"{out}: {len(checkpoint.tokenizer)} tokens, languages: {' '.join(checkpoint.tokenizer.languages)}")


@app.command("extend-tokens")
def extend_tokens_command(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint folder of a dense model")],
    symbols: Annotated[str, typer.Option(help="language and task symbols with commas, such as '<swa>,<st_swa>'")],
    out: Annotated[Path, typer.Option(help="checkpoint folder to write")],
) -> None:
    """Teach a model's vocabulary a new language or task; fine-tune the result with train --init."""
    from speechgate.model.checkpoint import load_checkpoint, save_checkpoint
    from speechgate.model.published import extend_tokens
    from speechgate.runinfo import run_info

    extended = extend_tokens(load_checkpoint(checkpoint), parts_of(symbols))
    save_checkpoint(out, extended, run_info("cpu") | {"extended": str(checkpoint)})
    print(f"{out}: {len(extended.tokenizer)} tokens")


@app.command()
def transcribe(
    files: Annotated[list[Path], typer.Argument(help="recordings of any format; - is standard input")],
    task: Annotated[str, typer.Option(help="asr or st; st if --tgt is given, asr otherwise")] = "",
    src: Annotated[str, typer.Option(help="spoken language; the model finds it out otherwise")] = "",
    tgt: Annotated[str, typer.Option(help="language to translate into")] = "",
    form: Annotated[str, typer.Option("--format", help="txt, json, srt or vtt")] = "txt",
    model: Annotated[str, typer.Option(help="checkpoint folder, or an experiment of exp/<corpus>")] = "dense",
    sparsity: Annotated[
        float | None, typer.Option(help="share of the modules to skip, for a model with a budget dial")
    ] = None,
    conf: Annotated[str, typer.Option(help="conf/decode name or path; beam by default, whisper for Whisper")] = "",
    window: Annotated[
        float | None, typer.Option(help="longest piece the model is given, seconds; as it was trained by default")
    ] = None,
    fill: Annotated[
        float | None,
        typer.Option(help="shortest piece that a short pause may end, seconds; for models of long context"),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="write a file a recording there, not to standard output")
    ] = None,
    vocabulary: Annotated[
        Path | None,
        typer.Option(help="vocabulary.json of `vocabulary`: write each language with the tokens learnt alone"),
    ] = None,
    precision: Precision = "float32",
    int8_output: Int8Output = False,
    corpus: Corpus = "prompts",
    exp: Exp = EXP,
) -> None:
    """Transcribe or translate recordings of any length and format; text comes out as it is found.

    A recording that cannot be read is named and left out; the exit status is then 1.
    """
    from speechgate.decoding.execution import Execution
    from speechgate.hypotheses import decode_options
    from speechgate.recipe import Recipe
    from speechgate.transcribe.command import check_outputs, write_transcripts
    from speechgate.transcribe.transcriber import Transcriber

    check_outputs(files, form, output_dir)
    folder = Recipe(corpus, exp=exp).checkpoint_of(model)
    transcriber = Transcriber(
        folder,
        sparsity=sparsity,
        options=decode_options(conf) if conf else None,
        window_seconds=window,
        fill_seconds=fill,
        vocabulary=vocabulary,
        execution=Execution(precision, int8_output=int8_output),
    )
    failures = write_transcripts(transcriber, files, task or None, src or None, tgt or None, form, output_dir)
    raise typer.Exit(1 if failures else 0)


@app.command()
def export(
    checkpoint: Annotated[str, typer.Argument(help="experiment, a folder of exp/<corpus>, or any checkpoint folder")],
    task: Annotated[str, typer.Option(help="asr or st")],
    src: Annotated[str, typer.Option(help="language spoken")],
    out: Annotated[Path, typer.Option(help="new folder")],
    tgt: Annotated[str, typer.Option(help="language written, with st")] = "",
    sparsity: Annotated[float | None, typer.Option(help="share to skip, for gates with a budget dial")] = None,
    form: Annotated[
        str, typer.Option("--format", help="speechgate, espnet, onnx, or transformers for a Whisper")
    ] = "speechgate",
    manifest: Annotated[
        Path | None, typer.Option(help="cuts to fix the gates by, where these depend on more than task and language")
    ] = None,
    corpus: Corpus = "prompts",
    data: Data = DATA,
    exp: Exp = EXP,
) -> None:
    """Write a smaller model for one task: its gates fixed, the modules that they close left out."""
    from speechgate.export.export import export as export_checkpoint
    from speechgate.manifests.cuts import read_cuts
    from speechgate.recipe import Recipe
    from speechgate.task import Task

    source = Recipe(corpus, data, exp).checkpoint_of(checkpoint)
    cuts = [] if manifest is None else list(read_cuts(manifest))
    wanted = Task.parse(f"{task}:{src}-{tgt}" if tgt else f"{task}:{src}")
    print(export_checkpoint(source, wanted, form, out, cuts, sparsity))
