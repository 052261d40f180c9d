"""The command line: words in, one plain call, results to stdout, progress to stderr, one line and an exit code where
something is wrong.

Whatever is slow to import is imported inside the command that needs it, so that `--help` answers at once.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from psomerge.errors import ConfigError, EngineError, PsomergeError, ServiceError, SpaceError
from psomerge.merge.methods.table import METHODS

app = typer.Typer(
    help="Merge fine-tuned language models into one by particle swarm optimisation over their weights.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Set = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override one value of the config, e.g. swarm.steps=3. May be repeated."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of text.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write; must not exist, or be empty.")]

_MODEL = "A checkpoint folder, hf://org/name@revision, s3://bucket/prefix, models:/name@alias, or a recipe file."
_EVALUATION_KEYS = (
    "Override one setting, e.g. split=validation, engine.threads=2, allow_task_code=true. May be repeated."
)
Model = Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL)]
Suite = Annotated[
    str, typer.Option("--suite", metavar="SUITE", help="A shipped suite's name, or a path to a YAML file.")
]

INTERRUPTED = 130
"""Exit code after Ctrl-C, and of a flow run that was cancelled on its page."""


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something goes wrong.")] = False,
) -> None:
    """Exit codes: 0 done, 1 our bug, 2 config, 3 bad input, 4 service not available, 5 locked, 6 no space, 7 engine, 8
    corrupt state, 9 verification failed, 130 interrupted.

    Everything is kept in PSOMERGE_HOME (default .psomerge in the current folder).
    """


@app.command()
def quickstart(set_: Set = [], json_: Json = False) -> None:
    """The embedded default: train a small base and experts here, merge them, register the champion. Offline, minutes on
    two cores."""
    _run("quickstart", set_, json_)


@app.command()
def run(
    config: Annotated[str, typer.Argument(help="A shipped config's name, or a path to a YAML file.")],
    set_: Set = [],
    json_: Json = False,
) -> None:
    """The main flow: search, verify, register. The same command resumes an interrupted run; of a finished one it prints
    the result."""
    _run(config, set_, json_)


@app.command()
def plan(
    config: Annotated[str, typer.Argument(help="A shipped config's name, or a path to a YAML file.")],
    set_: Set = [],
    json_: Json = False,
) -> None:
    """Checks a config and its models, wherever they live, by their headers; tells what a run would fetch, do and cost;
    starts nothing."""
    from psomerge.flows.commands.plan import describe
    from psomerge.flows.config.loading import load_config
    from psomerge.flows.environment.home import home_folder
    from psomerge.flows.terminal.plan import lines

    found = describe(load_config(config, set_), home_folder(), count_tokens=True)
    print(json.dumps(found, indent=2) if json_ else "\n".join(lines(found)))


@app.command(
    epilog="\n\n".join(
        f"{name}: {'; '.join(map(str, method.parameters)) or 'no parameters'}." for name, method in METHODS.items()
    )
)
def merge(
    method: Annotated[str, typer.Argument(help=f"{', '.join([*METHODS][:-1])} or {[*METHODS][-1]}")],
    base: Annotated[str, typer.Option("--base", metavar="MODEL", help="The model that all experts were made from.")],
    expert: Annotated[
        list[str],
        typer.Option(
            "--expert",
            metavar="MODEL[=WEIGHT]",
            help="May be repeated; the weight is 1 unless given. What is there as a whole is the model.",
        ),
    ],
    out: Out,
    set_: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A parameter of the method, see below, e.g. scale=0.7. May be repeated."
        ),
    ] = [],
    tokenizer_from: Annotated[
        str | None,
        typer.Option("--tokenizer-from", metavar="MODEL", help="base, or the expert whose tokenizer it gets."),
    ] = None,
    json_: Json = False,
) -> None:
    """One static merge, no search: writes a checkpoint and its recipe."""
    from psomerge.flows.commands.static import merge_lines, merge_models

    found = merge_models(method, base, expert, out, set_, tokenizer_from)
    print(json.dumps(found, indent=2) if json_ else "\n".join(merge_lines(found)))


@app.command()
def check(
    model: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Checkpoint folders, hf://org/name@revision, s3://bucket/prefix, models:/name@alias.",
        ),
    ],
    base: Annotated[
        str | None, typer.Option("--base", metavar="MODEL", help="Also check that every model fits this base.")
    ] = None,
    json_: Json = False,
) -> None:
    """Is a model sound (headers, shapes, finite values), does it fit the base, does its manifest hold."""
    from psomerge.flows.commands.static import check_lines, check_models

    found = check_models(model, base)
    print(json.dumps(found, indent=2) if json_ else "\n".join(check_lines(found)))


@app.command()
def materialize(recipe: Annotated[Path, typer.Argument(help="A recipe.json.")], out: Out, json_: Json = False) -> None:
    """Rebuilds the model of a recipe, bit for bit, from its pinned sources."""
    from psomerge.flows.commands.static import materialize

    _print(materialize(recipe, out), json_)


@app.command()
def evaluate(
    model: Model,
    suite: Suite,
    set_: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help=_EVALUATION_KEYS)] = [],
    json_: Json = False,
) -> None:
    """Scores a model on a suite, logged to MLflow with every item. The same command resumes; of a finished evaluation
    it prints the scores."""
    from psomerge.flows.commands.comparing import evaluate_model

    evaluate_model(model, suite, set_, as_json=json_)


@app.command()
def compare(
    model: Annotated[list[str], typer.Argument(metavar="MODEL...", help=_MODEL)],
    suite: Suite,
    set_: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help=_EVALUATION_KEYS)] = [],
    items: Annotated[
        int,
        typer.Option("--items", metavar="N", help="Also print N items that the first two models answer differently."),
    ] = 0,
    json_: Json = False,
) -> None:
    """A leaderboard of models on the same items: what is significant, what is noise, and what could not have been
    seen."""
    from psomerge.flows.commands.comparing import compare_models

    compare_models(model, suite, set_, items=items, as_json=json_)


@app.command()
def ui(
    prefect_port: Annotated[int, typer.Option(help="0: any free one")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="0: any free one")] = 5000,
) -> None:
    """Starts the Prefect and MLflow pages over this home, on loopback, until Ctrl-C; runs started meanwhile appear
    there live."""
    from psomerge.flows.commands.pages import serve

    serve(prefect_port, mlflow_port)


@app.command()
def report(
    run_: Annotated[str, typer.Argument(metavar="RUN", help="Run key, its beginning, or the run's folder.")],
) -> None:
    """Makes the page of a finished run again and prints its path."""
    from psomerge.flows.commands.pages import report_of
    from psomerge.flows.environment.home import home_folder

    print(report_of(run_, home_folder()))


@app.command()
def doctor(json_: Json = False) -> None:
    """Is this machine fit: interpreter, compiler, torch, vLLM, memory, disk."""
    from psomerge.flows.commands.doctor import examine, lines
    from psomerge.flows.environment.home import home_folder

    found = examine(home_folder())
    print(json.dumps([vars(one) for one in found], indent=2) if json_ else "\n".join(lines(found)))
    if any(not one.fit for one in found):
        raise typer.Exit(1)


def _run(config: str, overrides: list[str], as_json: bool) -> None:
    from psomerge.files.digest import digest_of
    from psomerge.flows.commands.plan import describe
    from psomerge.flows.config.loading import load_config
    from psomerge.flows.environment.home import home_folder
    from psomerge.flows.environment.start import start_services
    from psomerge.run.folder import check_free

    settings = load_config(config, overrides)  # before anything slow: a config that cannot be is told at once
    home = home_folder()
    check_free(home / "runs", digest_of(settings.canonical()))
    planned = describe(
        settings, home
    )  # as `plan`: what does not fit is told before anything large is fetched and Prefect started
    for warning in planned["memory"]["warnings"] if planned["memory"] else ():
        print(f"warning: {warning}", file=sys.stderr)
    start_services(home)
    from psomerge.flows.merge import merge as flow
    from psomerge.tasks.step import call

    result = call(flow, config, overrides)
    if as_json:
        print(json.dumps(result, indent=2))
        return
    from psomerge.flows.commands.pages import next_steps
    from psomerge.flows.terminal.table import show
    from psomerge.tasks.report.summary import read

    show(read(Path(result["summary"])), next_steps(result), sys.stdout)


def _print(result: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(result, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items()))


def main() -> None:
    """Runs the command line and exits with its code."""
    debug = "--debug" in sys.argv[1:]
    code: object = 0
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # so the option parser tells of Ctrl-C, which it catches
            _fail("interrupted; the same command goes on from here", INTERRUPTED, debug=False)
    except typer.Exit as error:
        code = error.exit_code
    except Exception as error:  # the one place where anything ends as a line
        _report(error, debug)
    sys.stdout.flush()
    sys.exit(code if isinstance(code, int) else 0)


def _report(error: Exception, debug: bool) -> None:
    """Ends with the line and the code of an error."""
    from psomerge.flows.environment.home import full_disk

    if _interrupted(error):
        _fail("interrupted; the same command goes on from here", INTERRUPTED, debug=False)
    if hasattr(error, "format_message"):  # of the option parser
        said: str = error.format_message()  # pyright: ignore[reportAttributeAccessIssue]
        if not said:  # no command: the help is printed
            sys.exit(ConfigError.exit_code)
        _fail(said, ConfigError.exit_code, debug)
    # Libraries and processes that run out of space all say something else.
    if (not isinstance(error, PsomergeError) or type(error) in (PsomergeError, ServiceError, EngineError)) and (
        full := full_disk()
    ):
        _fail(f"{full}; make room, then run the same command again", SpaceError.exit_code, debug)
    if isinstance(error, PsomergeError):
        _fail(f"{error}", error.exit_code, debug)
    _fail(
        f"a bug of psomerge: {type(error).__name__}: {' '.join(str(error).split())[:500]}; run with --debug for the "
        "traceback",
        1,
        debug,
    )


def _interrupted(error: BaseException | None) -> bool:
    """Returns whether Ctrl-C is what an error came from: Prefect, interrupted between two tasks, has no task run to
    mark and fails over that."""
    return error is not None and (
        isinstance(error, KeyboardInterrupt) or _interrupted(error.__cause__ or error.__context__)
    )


def _fail(text: str, code: int, debug: bool) -> None:
    if debug:
        raise
    sys.stdout.flush()
    for line in text.split("\n"):
        print(f"psomerge: {line}", file=sys.stderr, flush=True)
    sys.exit(code)
