"""The command line: parse, compose, call.  Every command is a few lines over ``speechgate.recipe``."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from speechgate.errors import ConfigError, SpeechgateError, Stopped

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Corpus = Annotated[str, typer.Option(help="corpus, a folder of recipes/; a mix of several with commas")]
Tasks = Annotated[str, typer.Option("--task", help="asr, st or st:eng; several with commas; all by default")]
Langs = Annotated[str, typer.Option("--lang", help="spoken languages, ISO 639 codes with commas; all by default")]
Data = Annotated[Path, typer.Option(help="folder of manifests and audio")]
Exp = Annotated[Path, typer.Option(help="folder of experiments")]
Source = Annotated[str, typer.Option(help="auto, apt, tarball, bundled, or a folder with the corpus")]
Sparsity = Annotated[str, typer.Option(help="share of modules to skip, several with commas; 0 is the dense model")]
Stack = Annotated[str, typer.Option(help="stack to gate: encoder, decoder or both")]
Name = Annotated[str, typer.Option(help="experiment, a folder of exp/<corpus>; chosen by stack and sparsity otherwise")]
Split = Annotated[str, typer.Option(help="dev, test or another held-out split of the corpus")]
DATA, EXP = Path("data"), Path("exp")


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _targets(text: str) -> list[float]:
    try:
        return [float(part) for part in _list(text)]
    except ValueError as error:
        raise ConfigError(f"--sparsity {text!r}: give numbers from 0 to 1 with commas, such as 0.3,0.5") from error


def _experiments(name: str, stack: str, sparsity: str) -> list[tuple[str, float | None]]:
    """The experiments that --name, or --stack and --sparsity, stand for; "dense" without any.

    With both --name and --sparsity, each at each setting of its budget dial.
    """
    if name:
        budgets: list[float | None] = [*_targets(sparsity)] or [None]
        return [(each, budget) for each in _list(name) for budget in budgets]
    targets = _targets(sparsity or "0")
    gated = [(f"gates_{each}_{target:.2f}", None) for each in _list(stack) for target in targets if target > 0]
    return [*([("dense", None)] if 0 in targets else []), *gated]


@app.command()
def download(corpus: Corpus = "prompts", source: Source = "auto", data: Data = DATA) -> None:
    """Bring a corpus to this machine."""
    from speechgate.recipe import CORPORA, Recipe

    for name in Recipe(corpus).corpora:
        print(CORPORA[name].download(data, source))


@app.command()
def prepare(corpus: Corpus = "prompts", source: Source = "auto", data: Data = DATA) -> None:
    """Write the manifests of a corpus, downloading it first if need be, and a report of what was mended or left out."""
    from speechgate.recipe import CORPORA, Recipe

    recipe = Recipe(corpus, data)
    recipe.prepare(source)
    for name in recipe.corpora:
        Console().print(CORPORA[name].summary(data))


@app.command()
def embed(
    corpus: Corpus = "prompts",
    split: Annotated[str, typer.Option(help="several with commas")] = "train,dev,test",
    data: Data = DATA,
) -> None:
    """Write speaker embeddings into the manifests: a context for gates, vector:speaker:256 (needs resemblyzer)."""
    from speechgate.recipe import Recipe

    for each in _list(split):
        for path in Recipe(corpus, data).embed(each):
            print(path)


@app.command()
def tokenize(corpus: Corpus = "prompts", data: Data = DATA) -> None:
    """Train the tokens of a corpus."""
    from speechgate.recipe import Recipe

    recipe = Recipe(corpus, data)
    print(f"{recipe.tokens}: {len(recipe.tokenizer())} tokens")


@app.command()
def train(
    corpus: Corpus = "prompts",
    task: Tasks = "",
    lang: Langs = "",
    conf: Annotated[
        str, typer.Option(help="conf/train name or path, several with commas; the curriculum otherwise")
    ] = "",
    sparsity: Sparsity = "",
    stack: Stack = "",
    init: Annotated[Path | None, typer.Option(help="checkpoint folder to continue from")] = None,
    override: Annotated[list[str] | None, typer.Option("--set", help="key=value of the configuration")] = None,
    data: Data = DATA,
    exp: Exp = EXP,
) -> None:
    """Train a model by the recipe's curriculum, or gates (with --sparsity) on a trained one.

    Prepares the corpus first if it is not.  With --task or --lang the results go to a folder of their own:
    exp/prompts/asr_fra for --task asr --lang fr.
    """
    from speechgate.config import load_experiment
    from speechgate.demo import CURRICULUM
    from speechgate.recipe import Recipe, with_gates

    recipe = Recipe(corpus, data, exp)
    stacks: list[str | None] = [*_list(stack)] or [None]
    targets: list[float | None] = [*_targets(sparsity)] or [None]
    names = _list(conf) or (["gates"] if sparsity or stack else CURRICULUM)
    experiments = [
        with_gates(load_experiment(name, override or ()), each, target)
        for name in names
        for each in stacks
        for target in targets
    ]
    if not recipe.is_prepared:
        recipe.prepare("auto")
    for experiment in experiments:
        print(recipe.train(experiment, _list(task), _list(lang), init=init))


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

    extended = extend_tokens(load_checkpoint(checkpoint), _list(symbols))
    save_checkpoint(out, extended, run_info("cpu") | {"extended": str(checkpoint)})
    print(f"{out}: {len(extended.tokenizer)} tokens")


@app.command()
def decode(
    corpus: Corpus = "prompts",
    task: Tasks = "",
    lang: Langs = "",
    conf: Annotated[str, typer.Option(help="conf/decode name or path")] = "beam",
    name: Name = "",
    sparsity: Sparsity = "",
    stack: Stack = "decoder",
    split: Split = "test",
    data: Data = DATA,
    exp: Exp = EXP,
) -> None:
    """Write the hypotheses of trained models; gated ones are timed against the dense one.

    --name with --sparsity turns the budget dial of gates that have one: a decoding for each setting.
    """
    from speechgate.recipe import Recipe, decode_options

    recipe = Recipe(corpus, data, exp)
    tasks, langs, options = _list(task), _list(lang), decode_options(conf)
    for experiment, budget in _experiments(name, stack, sparsity):
        folder = recipe.folder_of(experiment, tasks, langs)
        gated = experiment != "dense"
        dense = recipe.folder_of("dense", tasks, langs) if gated else None
        for each in recipe.held_out(split):
            print(recipe.decode(folder, each, tasks, langs, options, dense, deaf=not gated, budget=budget))


@app.command()
def score(
    corpus: Corpus = "prompts",
    task: Tasks = "",
    lang: Langs = "",
    name: Name = "",
    sparsity: Sparsity = "",
    stack: Stack = "decoder",
    split: Split = "test",
    exp: Exp = EXP,
) -> None:
    """WER, CER, BLEU and chrF of what was decoded; everything decoded by default."""
    from speechgate.recipe import Recipe, decoded_name, decodings
    from speechgate.scoring.score import score_directory

    recipe = Recipe(corpus, exp=exp)
    home = recipe.home_of(_list(task), _list(lang))
    chosen = _experiments(name, stack, sparsity) if name or sparsity else []
    folders = [
        folder
        for held_out in recipe.held_out(split)
        for folder in [home / each / decoded_name(held_out, budget) for each, budget in chosen]
        or decodings(home, held_out)
    ]
    if not folders:
        raise ConfigError(f"nothing is decoded in {home}: run speechgate decode first")
    for folder in folders:
        for row in score_directory(folder)["rows"]:
            low, high = row["ci95"]
            print(f"{folder}  {row['task']}  {row['metric']} {row['value']:.1f} [{low:.1f}, {high:.1f}]")


@app.command()
def sweep(
    corpus: Corpus = "prompts",
    task: Tasks = "",
    lang: Langs = "",
    conf: Annotated[str, typer.Option(help="conf/train name or path of the gates")] = "gates",
    sparsity: Sparsity = "0.25,0.5,0.75",
    stack: Annotated[str, typer.Option(help="stacks to gate, several with commas")] = "decoder",
    data: Data = DATA,
    exp: Exp = EXP,
) -> None:
    """Train gates at several targets, decode and score each beside the dense model, and report."""
    from speechgate.demo import Point, run_points
    from speechgate.recipe import Recipe

    recipe, tasks, langs = Recipe(corpus, data, exp), _list(task), _list(lang)
    if len(recipe.corpora) > 1:
        raise ConfigError(f"--corpus {corpus}: a sweep takes one corpus; train, decode and score take a mix")
    points = [Point(each, target) for each in _list(stack) for target in _targets(sparsity)]
    dense = recipe.folder_of("dense", tasks, langs)
    run_points(recipe, points, conf, recipe.home_of(tasks, langs), tasks, langs, dense)


@app.command()
def report(
    corpus: Corpus = "prompts",
    task: Tasks = "",
    lang: Langs = "",
    split: Split = "test",
    data: Data = DATA,
    exp: Exp = EXP,
) -> None:
    """Write one page and results.json over everything that is decoded and scored: exp/<corpus>/report."""
    from speechgate.demo import write_page
    from speechgate.recipe import Recipe, decodings

    recipe = Recipe(corpus, data, exp)
    home = recipe.home_of(_list(task), _list(lang))
    for each in recipe.held_out(split):
        scored = [folder for folder in decodings(home, each) if (folder / "scores.json").is_file()]
        if not scored:
            raise ConfigError(f"nothing of {each} is scored in {home}: run speechgate score first")
        print(write_page(recipe, scored, home / ("report" if each == split else f"report_{each}")))


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
    precision: Annotated[str, typer.Option(help="float32 or bfloat16")] = "float32",
    cuda_graph: Annotated[bool, typer.Option("--cuda-graph", help="run the search's steps as a CUDA graph")] = False,
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
        console.print(bench_experiments(Recipe(corpus, data, exp), _list(name)))
        return
    models, sizes = _list(model), [int(size) for size in _list(vocabulary) if size.isdecimal()]
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
    conf: Annotated[str, typer.Option(help="conf/decode name or path")] = "beam",
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
    corpus: Corpus = "prompts",
    exp: Exp = EXP,
) -> None:
    """Transcribe or translate recordings of any length and format; text comes out as it is found.

    A recording that cannot be read is named and left out; the exit status is then 1.
    """
    from speechgate.recipe import Recipe, decode_options
    from speechgate.transcribe.command import check_outputs, write_transcripts
    from speechgate.transcribe.transcriber import Transcriber

    check_outputs(files, form, output_dir)
    folder = Path(model) if (Path(model) / "model.safetensors").is_file() else Recipe(corpus, exp=exp).folder_of(model)
    transcriber = Transcriber(
        folder, sparsity=sparsity, options=decode_options(conf), window_seconds=window, fill_seconds=fill
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
    form: Annotated[str, typer.Option("--format", help="speechgate, espnet or onnx")] = "speechgate",
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

    is_folder = (Path(checkpoint) / "config.yaml").is_file()
    source = Path(checkpoint) if is_folder else Recipe(corpus, data, exp).folder_of(checkpoint)
    cuts = [] if manifest is None else list(read_cuts(manifest))
    wanted = Task.parse(f"{task}:{src}-{tgt}" if tgt else f"{task}:{src}")
    print(export_checkpoint(source, wanted, form, out, cuts, sparsity))


@app.command()
def demo(
    source: Source = "auto",
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="train the dense model too (needs a GPU)")
    ] = False,
    data: Data = DATA,
    exp: Exp = EXP,
) -> None:
    """The main job, end to end: prepare prompts, train gates, decode, score, report."""
    from speechgate.demo import run_demo

    run_demo(source, from_scratch, data, exp)


def main() -> None:
    """Entry point: user errors become one line on standard error and exit status 2."""
    from speechgate.decoding.memory import BatchHalvedWarning

    warnings.filterwarnings("ignore")
    warnings.filterwarnings("once", category=BatchHalvedWarning)
    logging.disable(logging.WARNING)
    try:
        app()
    except Stopped as stop:
        print(f"speechgate: {stop}", file=sys.stderr)
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        sys.exit(130)
    except SpeechgateError as error:
        print(f"speechgate: {_one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"speechgate: {what}", file=sys.stderr)
        sys.exit(2)


def _one_line(error: SpeechgateError) -> str:
    """The message.  An error from a worker of a data loader has that process's traceback before it."""
    message = str(error).strip()
    if "Original Traceback" in message:
        message = message.rpartition(f"{type(error).__qualname__}: ")[2]
    return " ".join(message.split())


if __name__ == "__main__":
    main()
