"""Looks at trained models: comparisons, what an option changes, stability, and the benchmark."""

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
    ctx: typer.Context,
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

    console, execution = Console(), Execution(precision=precision, cuda_graph=cuda_graph)
    if corpus:
        usual = ("corpus", "name", "precision", "cuda_graph", "data", "exp")
        given = [
            each for each in ctx.params if (source := ctx.get_parameter_source(each)) and source.name == "COMMANDLINE"
        ]
        if left := [f"--{each}" for each in given if each not in usual]:
            raise ConfigError(
                f"bench --corpus times experiments on their own recordings: it takes no {', '.join(left)}"
            )
        console.print(bench_experiments(Recipe(corpus, data, exp), parts_of(name), execution))
        return
    if name:
        raise ConfigError(
            "bench --name goes with --corpus, whose experiments it names; --model names a checkpoint folder"
        )
    models, sizes = parts_of(model), [int(size) for size in parts_of(vocabulary) if size.isdecimal()]
    if len(sizes) not in (1, len(models)):
        raise ConfigError(f"--vocabulary {vocabulary!r}: give one number, or one for each of {len(models)} models")
    for each, size in zip(models, sizes if len(sizes) > 1 else sizes * len(models), strict=True):
        out = exp / "bench" / Path(each).name if len(models) > 1 else exp / "bench"
        options = BenchOptions(each, size, seconds, tokens, beam, batch=batch, repeats=repeats, espnet=espnet)
        with console.status("building the model") as status:
            result = run_bench(options, execution, pick_device(), out, status.update)
        console.print(ratios_table(result))
        console.print(f"{out / 'bench.json'}")
