"""The command `spatialvlm`. Only what `--help` needs is imported here; the rest when a job is started."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from beam_pipeline import exit_codes
from schemas.errors import UserError

app = typer.Typer(
    name="spatialvlm",
    help="Spatial question-answer data from pictures, at the scale of the web.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

Output = Annotated[str, typer.Option(help="Folder for the results, local or gs://.")]
Preset = Annotated[str | None, typer.Option(help="A packaged configuration: sample, …; a wrong name prints all.")]
ConfigFile = Annotated[
    str | None, typer.Option("--config", help="YAML file with settings, local or gs://, laid over the preset.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, e.g. qa.per_image=50; laid over all else. Repeatable.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of every random choice.", show_default="0")]
Columns = Annotated[str | None, typer.Option(help="Names of the manifest's columns, e.g. image_url=URL,image_id=KEY.")]
NumShards = Annotated[int | None, typer.Option(min=1, help="Files for each table and slice.", show_default="4")]
StoreImages = Annotated[
    bool | None,
    typer.Option("--store-images/--no-store-images", help="Keep the pictures in scenes.", show_default="no"),
]
StoreDepth = Annotated[
    bool | None,
    typer.Option("--store-depth/--no-store-depth", help="Keep the depth maps in scenes.", show_default="no"),
]
Tfrecord = Annotated[
    bool | None, typer.Option("--tfrecord/--no-tfrecord", help="Write qa_tfrecord/ too.", show_default="no")
]
Format = Annotated[
    list[str] | None,
    typer.Option("--format", help="Write the questions as llava (JSON) or messages (JSON lines) too. Repeatable."),
]
Turns = Annotated[
    int | None,
    typer.Option(min=0, help="Question-answer pairs in a conversation of --format; 0: all.", show_default="1"),
]
AllowPrivateHosts = Annotated[
    str | None, typer.Option(help="host[:port] or networks that may be fetched from though private, comma-separated.")
]
AllowLocalFiles = Annotated[
    bool | None,
    typer.Option("--allow-local-files", help="Read file:// URLs and paths outside the manifest's folder too."),
]
MaxFailed = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of failed rows above which the exit code is 3.", show_default="0.5"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Remove what the output folder holds of earlier runs.")]
Resume = Annotated[bool, typer.Option("--resume", help="Do only what the output folder does not hold yet.")]
Date = Annotated[
    str | None,
    typer.Option(
        metavar="YYYY-MM-DD", help="The day that {date} or {date:%Y/%m/%d} in --input or --output means; today, UTC."
    ),
]
RetryFailed = Annotated[
    str | None,
    typer.Option(
        "--retry-failed",
        metavar="[=REASON,…]",
        help="Work again on rows that failed for these reasons, else on those whose failure may pass; resumes, too.",
    ),
]
Slices = Annotated[int | None, typer.Option(min=1, help="Cut the run into this many parts that commit alone.")]
Slice = Annotated[int | None, typer.Option(min=0, help="Run only this part of --slices.")]
SliceRows = Annotated[int, typer.Option(min=1, help="Rows in a part, where a local run is cut by itself.")]
Wait = Annotated[
    bool | None,
    typer.Option(
        "--wait/--no-wait", help="Wait for a remote runner's job, or submit it and return.", show_default="wait"
    ),
]
SharedFilesystem = Annotated[
    bool,
    typer.Option("--shared-filesystem", help="On a cluster: all workers see the local paths of this command."),
]
StallAfter = Annotated[
    float, typer.Option(min=0, help="On a cluster: seconds without any progress after which it is said why; 0: never.")
]
CancelStalled = Annotated[bool, typer.Option("--cancel-stalled", help="Cancel the job then, with exit code 1.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the plan, touch nothing.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show the log messages of the job and of Beam.")]
Manifest = Annotated[str, typer.Option("--input", help="Parquet manifest: a file, a folder or a glob, local or gs://.")]
Scenes = Annotated[str, typer.Option("--input", help="A scenes table: OUT/scenes, a file or a glob, local or gs://.")]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"spatialvlm {installed('spatialvlm')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(exit_codes.USAGE)


@app.command(context_settings=_PASS_ON)
def generate(
    context: typer.Context,
    input: Manifest,
    output: Output,
    preset: Preset = None,
    config: ConfigFile = None,
    set: Settings = None,
    seed: Seed = None,
    columns: Columns = None,
    num_shards: NumShards = None,
    store_images: StoreImages = None,
    store_depth: StoreDepth = None,
    tfrecord: Tfrecord = None,
    format: Format = None,
    turns: Turns = None,
    allow_private_hosts: AllowPrivateHosts = None,
    allow_local_files: AllowLocalFiles = None,
    max_failed: MaxFailed = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    retry_failed: RetryFailed = None,
    date: Date = None,
    slices: Slices = None,
    slice: Slice = None,
    slice_rows: SliceRows = 2_000,
    wait: Wait = None,
    shared_filesystem: SharedFilesystem = False,
    stall_after: StallAfter = 600.0,
    cancel_stalled: CancelStalled = False,
    dry_run: DryRun = False,
    verbose: Verbose = False,
) -> None:
    """The main job: picture URLs → scenes → questions and answers. Options of Apache Beam pass through."""
    _start("generate", context)


@app.command(context_settings=_PASS_ON)
def perceive(
    context: typer.Context,
    input: Manifest,
    output: Output,
    preset: Preset = None,
    config: ConfigFile = None,
    set: Settings = None,
    seed: Seed = None,
    columns: Columns = None,
    num_shards: NumShards = None,
    store_images: StoreImages = None,
    store_depth: StoreDepth = None,
    allow_private_hosts: AllowPrivateHosts = None,
    allow_local_files: AllowLocalFiles = None,
    max_failed: MaxFailed = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    retry_failed: RetryFailed = None,
    date: Date = None,
    slices: Slices = None,
    slice: Slice = None,
    slice_rows: SliceRows = 2_000,
    wait: Wait = None,
    shared_filesystem: SharedFilesystem = False,
    stall_after: StallAfter = 600.0,
    cancel_stalled: CancelStalled = False,
    dry_run: DryRun = False,
    verbose: Verbose = False,
) -> None:
    """The half that costs GPUs: picture URLs → scenes. Options of Apache Beam pass through."""
    _start("perceive", context)


@app.command(context_settings=_PASS_ON)
def synthesize(
    context: typer.Context,
    input: Scenes,
    output: Output,
    preset: Preset = None,
    config: ConfigFile = None,
    set: Settings = None,
    seed: Seed = None,
    num_shards: NumShards = None,
    tfrecord: Tfrecord = None,
    format: Format = None,
    turns: Turns = None,
    max_failed: MaxFailed = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    retry_failed: RetryFailed = None,
    date: Date = None,
    slices: Slices = None,
    slice: Slice = None,
    slice_rows: SliceRows = 2_000,
    wait: Wait = None,
    shared_filesystem: SharedFilesystem = False,
    stall_after: StallAfter = 600.0,
    cancel_stalled: CancelStalled = False,
    dry_run: DryRun = False,
    verbose: Verbose = False,
) -> None:
    """The half that is cheap: scenes → questions and answers. Options of Apache Beam pass through."""
    _start("synthesize", context)


@app.command()
def report(
    output: Annotated[str, typer.Argument(metavar="OUT", help="Folder of a finished run, local or gs://.")],
    other: Annotated[str | None, typer.Argument(metavar="OUT2", help="A second run to compare it with.")] = None,
    scenes: Annotated[int, typer.Option(min=0, help="Pictures that get a page of their own.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Seed that draws them.")] = 0,
    ply: Annotated[bool, typer.Option("--ply", help="Write a point cloud beside each of these pages.")] = False,
    rerun: Annotated[bool, typer.Option("--rerun", help="Write these scenes as scenes.rrd, for Rerun.")] = False,
    to: Annotated[Path | None, typer.Option(help="Folder for the site.", show_default="OUT/report")] = None,
    no_auth: Annotated[
        bool, typer.Option("--no_auth", help="Read a public bucket without credentials, as Beam's option does.")
    ] = False,
) -> None:
    """Look at a run: a static site with what was made and what went wrong, opened from disk."""
    _log(verbose=False)
    try:
        from report.command import write_report
    except ModuleNotFoundError as error:
        raise UserError(f"the report needs {error.name}: pip install 'spatialvlm[report]'") from error
    if no_auth:
        from apache_beam.io.filesystems import FileSystems

        from beam_pipeline.runner import beam_options

        FileSystems.set_options(beam_options(["--no_auth"], ()))
    typer.echo(write_report(output, other, to, scenes, seed, ply, rerun))


@app.command()
def evaluate(
    model: Annotated[
        list[str],
        typer.Option(
            help="Checkpoint (folder, gs://, ORG/NAME@COMMIT), constant:TEXT, majority:OUT, blind:OUT, random, "
            "oracle[:OUT] or openai:NAME. Repeatable; all answer the same questions."
        ),
    ],
    benchmark: Annotated[str, typer.Option(help="A run, or Parquet like its qa or with messages and image.")],
    output: Output,
    split: Annotated[str, typer.Option(help="Pictures asked about: all, held_out or train.")] = "all",
    held_out: Annotated[float, typer.Option(min=0, max=1, help="Share of the pictures that is held out.")] = 0.0,
    types: Annotated[
        str | None,
        typer.Option(
            help="Question types asked, comma-separated; also predicate, choice, classify, estimate, qualitative, "
            "quantitative, general.",
            show_default="all",
        ),
    ] = None,
    without: Annotated[
        str | None, typer.Option(help="Such types that are not asked, comma-separated.", show_default="none")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Questions at most, spread over the pictures.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="Of the bootstrap, for the 95 % intervals.")] = 1_000,
    tolerance: Annotated[
        float, typer.Option(min=0, help="How far numbers in answers to general questions may be off.")
    ] = 0.0,
    bare_unit: Annotated[
        str | None,
        typer.Option(help="Unit of a length given as a number alone: m, cm …", show_default="such are no length"),
    ] = None,
    device: Annotated[str, typer.Option(help="Device of a checkpoint: cpu, cuda, cuda:N, mps.")] = "cpu",
    dtype: Annotated[str | None, typer.Option(help="Its precision, e.g. bfloat16.", show_default="float32")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions that go through a checkpoint together.")] = 64,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, tokens.")] = 48,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest token each time.")] = 0.0,
    prompt: Annotated[str, typer.Option(help="Put before every question.")] = "",
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to an API under way at once.")] = 8,
) -> None:
    """Measure models and baselines on a benchmark, beside the published figures."""
    from evaluation.benchmark import Selection
    from evaluation.command import check_options, run_evaluation
    from evaluation.predictors import Asking
    from evaluation.run import Judging

    asked, unasked = (
        tuple(name.strip() for name in (names or "").split(",") if name.strip()) for names in (types, without)
    )
    check_options(split, held_out, bare_unit)
    run_evaluation(
        model,
        benchmark,
        output,
        # That split is one of the three, check_options has seen to.
        Selection(split, held_out, asked, limit, seed, unasked),  # type: ignore[arg-type]
        Judging(resamples, seed, bare_unit, tolerance),
        Asking(device, dtype, batch_size, max_new_tokens, temperature, prompt, concurrency, seed),
    )


Runs = Annotated[
    list[str] | None, typer.Option(help="A finished run with stored pictures, local or gs://. Repeatable.")
]
GeneralSets = Annotated[
    list[str] | None,
    typer.Option(help="General questions: LLaVA's JSON, or chats as Parquet or JSON lines. Repeatable."),
]


@app.command()
def train(
    output: Annotated[str, typer.Option(help="Folder for the checkpoint, its card and its record.")],
    data: Runs = None,
    general: GeneralSets = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A packaged configuration; a wrong name prints all.", show_default="tiny, or none beside --config"
        ),
    ] = None,
    config: ConfigFile = None,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting, e.g. data.spatial_tokens=0.05; laid over all else. Repeatable."),
    ] = None,
    seed: Seed = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the folder; begin if there is none.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove the training that the folder holds.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Train a vision-language model on runs, and on general questions beside them."""
    _log(verbose=False)
    try:
        from trainer.command import Request, run_training
    except ModuleNotFoundError as error:
        raise UserError(f"training needs {error.name}: pip install 'spatialvlm[train]'") from error
    request = Request(
        data=data or (),
        general=general or (),
        output=output,
        preset=preset or (None if config else "tiny"),
        config=config,
        settings=set or (),
        seed=seed,
        resume=resume,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    raise typer.Exit(run_training(request, typer.echo))


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="A packaged study, or a YAML file; a wrong name prints all.")],
    output: Annotated[str, typer.Option(help="Folder for the trainings, their evaluations and the table.")],
    data: Runs = None,
    general: GeneralSets = None,
    preset: Annotated[
        str | None,
        typer.Option(help="As of train: what all variants share.", show_default="tiny, or none beside --config"),
    ] = None,
    config: ConfigFile = None,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="One setting of all variants, e.g. steps=500. Repeatable.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds that each variant is trained with, comma-separated.")] = "0",
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="A model of `evaluate` that is asked the same questions, e.g. blind:OUT. Repeatable."),
    ] = None,
    questions: Annotated[int, typer.Option(min=1, help="Asked of each side, at most.")] = 6000,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings side by side, which share the cores.")] = 1,
) -> None:
    """Train variants of one training, evaluate them alike, and set them in one table."""
    _log(verbose=False)
    try:
        from trainer.study import StudyRequest, run_study
    except ModuleNotFoundError as error:
        raise UserError(f"training needs {error.name}: pip install 'spatialvlm[train]'") from error
    if not all(part.strip().isdigit() for part in seeds.split(",")):
        raise UserError(f"--seeds: {seeds!r} must be whole numbers with commas between them, as in 0,1,2")
    request = StudyRequest(
        study=name,
        data=data or (),
        general=general or (),
        output=output,
        preset=preset or (None if config else "tiny"),
        config=config,
        settings=set or (),
        seeds=[int(part) for part in seeds.split(",")],
        baselines=baseline or (),
        questions=questions,
        jobs=jobs,
    )
    raise typer.Exit(run_study(request, typer.echo))


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to ask about the picture.")],
    model: Annotated[
        str,
        typer.Option(help="A checkpoint of `train` or any image-text-to-text model: folder, gs:// or ORG/NAME@COMMIT."),
    ],
    image: Annotated[Path, typer.Option(help="The picture's file.")],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 48,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest answer; higher: drawn freely.")] = 0.0,
) -> None:
    """Ask a trained model one question about one picture."""
    _log(verbose=False)
    try:
        from models.vlm.asking import ask as ask_model

        answer = ask_model(model, image, question, max_new_tokens=max_new_tokens, temperature=temperature)
    except ModuleNotFoundError as error:
        raise UserError(f"asking needs {error.name}: pip install 'spatialvlm[train]'") from error
    typer.echo(answer)


models = typer.Typer(help="The weights of the learned experts: list, pull, verify.", rich_markup_mode=None)
app.add_typer(models, name="models", no_args_is_help=True)


@models.command("list")
def models_list(preset: Preset = None, config: ConfigFile = None, set: Settings = None) -> None:
    """Every backend with its default weights and their licence; with --preset, those that it takes."""
    from beam_pipeline.models_command import list_backends

    list_backends(preset, config, set or [])


@models.command("pull")
def models_pull(
    to: Annotated[str, typer.Option(help="Folder for the weights, local or gs://; a job takes it as models.folder.")],
    weights: Annotated[
        list[str] | None, typer.Argument(metavar="[ORG/NAME[@REVISION]]...", help="Hub ids; else those of --preset.")
    ] = None,
    preset: Preset = None,
    config: ConfigFile = None,
    set: Settings = None,
) -> None:
    """Fetch weights from the hub once, at one commit, with the sha256 of every file."""
    from beam_pipeline.models_command import pull_weights

    pull_weights(weights or [], to, preset, config, set or [])


@models.command("verify")
def models_verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of weights, or one that holds several.")],
) -> None:
    """Check weights against the sha256 that were recorded when they were pulled."""
    from beam_pipeline.models_command import verify_weights

    verify_weights(folder)


def _start(command: str, context: typer.Context) -> None:
    _log(context.params["verbose"])
    from beam_pipeline.commands import run_command

    options = {name for parameter in context.command.params for name in parameter.opts}
    raise typer.Exit(run_command(command, context.params, context.args, options))


def _log(verbose: bool) -> None:
    """To be called before Beam is imported, which warns about extras that nobody asked for.

    A failure of the job is told once, by the command; Beam would tell it again with every frame of its stack.
    """
    import logging

    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(levelname)s %(message)s")
    logging.getLogger("apache_beam").setLevel(logging.INFO if verbose else logging.CRITICAL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Every mistake of the user's is one line and code 2."""
    try:
        code: Any = app(args=_with_values(arguments), standalone_mode=False)
    except UserError as error:
        return _complain(str(error))
    except typer.TyperException as error:
        # Typer's own exceptions carry their text here; the base class has no message of its own.
        return _complain(getattr(error, "format_message", error.__str__)())
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("spatialvlm: stopped", err=True)
        return exit_codes.ERROR
    return code if isinstance(code, int) else exit_codes.OK


def _with_values(arguments: Sequence[str] | None) -> list[str]:
    # The parser has no options whose value may be left out.
    given = sys.argv[1:] if arguments is None else arguments
    return [f"{argument}=transient" if argument == "--retry-failed" else argument for argument in given]


def _complain(message: str) -> int:
    typer.echo(f"spatialvlm: {' '.join(message.split())}", err=True)
    return exit_codes.USAGE


def entry_point() -> None:
    """The console script."""
    sys.exit(main())
