"""Commands on trained models: transcribe, export, bench, compare, and checkpoints of other toolkits."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from speechgate.cli.options import (
    DATA,
    EXP,
    Corpus,
    CudaGraph,
    Data,
    Exp,
    Int8Output,
    Langs,
    Name,
    Precision,
    Split,
    Tasks,
    app,
    parts_of,
)
from speechgate.errors import ConfigError


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
def compare(
    baseline: Annotated[Path, typer.Argument(help="folder of a decoding, such as exp/prompts/dense/decode_test")],
    system: Annotated[Path, typer.Argument(help="the same for another model")],
) -> None:
    """Paired bootstrap of two models on the utterances that both decoded, task by task and all together."""
    from speechgate.report.comparison import comparison_table
    from speechgate.scoring.decoded import read_decoded

    Console().print(comparison_table(read_decoded(baseline), read_decoded(system)))


@app.command()
def vocabulary(
    checkpoint: Annotated[str, typer.Argument(help="experiment, a folder of exp/<corpus>, or any checkpoint folder")],
    coverage: Annotated[
        float, typer.Option(help="share of the training text's tokens that the list covers; 1 is every token seen")
    ] = 1.0,
    corpus: Corpus = "prompts",
    data: Data = DATA,
    exp: Exp = EXP,
) -> None:
    """Learn from training text which tokens each target language needs: vocabulary.json beside the checkpoint.

    decode --vocabulary then computes these rows of the output layer alone; changes --vocabulary counts what differs.
    """
    from speechgate.recipe import Recipe
    from speechgate.vocabulary import learn

    recipe = Recipe(corpus, data, exp)
    path, learnt = learn(recipe, recipe.checkpoint_of(checkpoint), coverage)
    for language, tokens in learnt.languages.items():
        of_dev = "" if tokens.held_out is None else f", {tokens.held_out:.2%} of dev's"
        print(f"{language}  {len(tokens.ids)} of {learnt.size} tokens: {tokens.covered:.2%} of training text{of_dev}")
    print(path)


@app.command()
def changes(
    checkpoint: Annotated[str, typer.Argument(help="experiment, a folder of exp/<corpus>, or any checkpoint folder")],
    vocabulary: Annotated[bool, typer.Option("--vocabulary", help="with the tokens that `vocabulary` learnt")] = False,
    precision: Precision = "float32",
    int8_output: Int8Output = False,
    cuda_graph: CudaGraph = False,
    corpus: Corpus = "prompts",
    task: Tasks = "",
    lang: Langs = "",
    conf: Annotated[str, typer.Option(help="conf/decode name or path; beam by default, whisper for Whisper")] = "",
    split: Split = "test",
    data: Data = DATA,
    exp: Exp = EXP,
) -> None:
    """Decode a split as usual and as the options say, in turns: how many hypotheses change, and the time of both.

    Writes changes_<split>.json beside the decodings.
    """
    from speechgate.bench.changes import changes_table, decoding_changes
    from speechgate.decoding.execution import Execution
    from speechgate.recipe import Recipe

    recipe = Recipe(corpus, data, exp)
    for each in recipe.held_out(split):
        path, found = decoding_changes(
            recipe,
            recipe.checkpoint_of(checkpoint),
            each,
            parts_of(task),
            parts_of(lang),
            conf,
            Execution(precision=precision, cuda_graph=cuda_graph, int8_output=int8_output),
            vocabulary,
        )
        Console().print(changes_table(found))
        print(path)


@app.command()
def stability(
    first: Annotated[Path, typer.Argument(help="folder of a decoding, such as exp/prompts/gates/decode_test")],
    second: Annotated[Path, typer.Argument(help="the same for a training with another seed")],
) -> None:
    """How alike two trainings use their modules, over the utterances that both decoded."""
    from speechgate.scoring.decoded import read_decoded
    from speechgate.usage.variance import stability as compare

    try:
        found = compare(read_decoded(first), read_decoded(second))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    correlation = "none" if found.usage_correlation is None else f"{found.usage_correlation:.3f}"
    print(f"{found.utterances} utterances  same decisions {found.same:.3f} (by chance {found.chance:.3f})")
    print(f"correlation of module use over tasks, languages and modules {correlation}")


@app.command()
def bench(
    corpus: Annotated[
        str, typer.Option(help="time the gated experiments of this corpus against its dense model instead")
    ] = "",
    name: Name = "",
    model: Annotated[
        str, typer.Option(help="checkpoint folder, or a name of conf/model for random weights; several with commas")
    ] = "small",
    vocabulary: Annotated[str, typer.Option(help="tokens of random weights, one for each model")] = "2000",
    seconds: Annotated[float, typer.Option(help="seconds of audio an utterance")] = 30.0,
    tokens: Annotated[int, typer.Option(help="tokens decoded for each utterance")] = 60,
    beam: Annotated[int, typer.Option(help="hypotheses of an utterance")] = 5,
    batch: Annotated[int, typer.Option(help="utterances of a batch, beside single ones")] = 4,
    repeats: Annotated[int, typer.Option(help="runs of each case, after a warm-up")] = 2,
    precision: Precision = "float32",
    cuda_graph: CudaGraph = False,
    espnet: Annotated[bool, typer.Option(help="run ESPnet's search too")] = True,
    data: Data = DATA,
    exp: Exp = EXP,
) -> None:
    """Time decoding, dense and gated, beside ESPnet's search, with equal weights, audio and output length.

    Writes bench.json and bench.png into exp/bench, or exp/bench/<model> for several models; see docs/decoding.md.
    """
    from speechgate.bench.experiments import bench_experiments
    from speechgate.bench.run import BenchOptions, run_bench
    from speechgate.bench.table import ratios_table
    from speechgate.decoding.execution import Execution
    from speechgate.recipe import Recipe
    from speechgate.runinfo import pick_device

    console = Console()
    if corpus:
        console.print(bench_experiments(Recipe(corpus, data, exp), parts_of(name)))
        return
    models, sizes = parts_of(model), [int(size) for size in parts_of(vocabulary) if size.isdecimal()]
    if len(sizes) not in (1, len(models)):
        raise ConfigError(f"--vocabulary {vocabulary!r}: give one number, or one for each of {len(models)} models")
    execution = Execution(precision=precision, cuda_graph=cuda_graph)
    for each, size in zip(models, sizes if len(sizes) > 1 else sizes * len(models), strict=True):
        out = exp / "bench" / Path(each).name if len(models) > 1 else exp / "bench"
        options = BenchOptions(each, size, seconds, tokens, beam, batch=batch, repeats=repeats, espnet=espnet)
        with console.status("building the model") as status:
            result = run_bench(options, execution, pick_device(), out, status.update)
        console.print(ratios_table(result))
        console.print(f"{out / 'bench.json'}")


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
