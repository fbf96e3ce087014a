"""The command `wfe`.

What a command needs is imported when it runs, so that `wfe --help` and shell completion are quick.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import click

from wfe.cli.exits import CommandError, Exit
from wfe.cli.logs import show_warnings
from wfe.cli.output import escape_what_cannot_be_shown, say
from wfe.cli.place import DEFAULT_URL, URL_VARIABLE
from wfe.model.status import WorkflowStatus

__all__ = ["cli", "main"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    escape_what_cannot_be_shown()
    cli.main(arguments, prog_name="wfe")


class _Commands(click.Group):
    """Commands whose return value is the exit code."""

    def invoke(self, ctx: click.Context) -> object:
        show_warnings()
        try:
            code = super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(Exit.INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # noqa: BLE001 - exit code 1 is a verdict, not a traceback
            told = _as_command_error(error)
            if told.__cause__ is error:
                traceback.print_exception(error)
            click.echo(str(told), err=True)
            ctx.exit(told.exit_code)
        ctx.exit(code if isinstance(code, int) else Exit.COMPLETE)


def _as_command_error(error: Exception) -> CommandError:
    """Give what people are told of an error, and the exit code. One that nobody foresaw is its cause."""
    from wfe.model.errors import ConfigurationError, DataError, DefinitionError, ProviderUnavailable, WfeError

    if isinstance(error, CommandError):
        return error
    if isinstance(error, ProviderUnavailable):
        return CommandError(str(error), Exit.UNFINISHED)
    if isinstance(error, (ConfigurationError, DataError, DefinitionError)):
        return CommandError(str(error), Exit.INVALID)
    told = CommandError(str(error), Exit.BROKEN)
    if not isinstance(error, WfeError):
        told = CommandError("This is a fault in wfe; please report it with the lines above.", Exit.BROKEN)
        told.__cause__ = error
    return told


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="wfe", prog_name="wfe")
def cli() -> None:
    """Durable workflows: run pipelines that survive crashes."""


_db = click.option(
    "--db", "url", default=DEFAULT_URL, envvar=URL_VARIABLE, show_default=True, help="Where runs are kept."
)


@cli.command()
@click.argument("file", type=_FILE, required=False)
@click.option("--workflow", metavar="ID", help="Which workflow, where the file has several.")
@click.option("-i", "--input", "inputs", multiple=True, metavar="KEY=VALUE", help="An input; KEY=@FILE reads a file.")
@click.option("-c", "--config", multiple=True, metavar="KEY=VALUE", help="A value of ((var.KEY)).")
@_db
@click.option("--resume", metavar="NAME", help="Continue a run, by name or id; FILE may be left out.")
@click.option("--name", help="Name of the run, instead of one made up.")
@click.option("--timeout", metavar="DURATION", help="Save and end after this time, such as 30s or 5m.")
@click.option("--json", is_flag=True, help="One JSON object per line instead of text.")
@click.option("--lenient", is_flag=True, help="Take unknown keys of the file as warnings.")
def run(
    *,
    file: Path | None,
    workflow: str | None,
    inputs: tuple[str, ...],
    config: tuple[str, ...],
    url: str,
    resume: str | None,
    name: str | None,
    timeout: str | None,
    json: bool,
    lenient: bool,
) -> int:
    """Run the pipeline FILE to its end, or continue one.

    Exit codes: 0 complete, 1 failed, 2 usage or invalid file, 3 not finished, 4 the command itself failed,
    130 interrupted (state saved).
    """
    if file is None and resume is None:
        raise click.UsageError("Name a FILE to run, or a run to continue with --resume NAME.")
    if resume is not None and (inputs or name):
        raise click.UsageError("A run that is resumed has its name and inputs already; leave out --name and -i.")
    from wfe.cli.request import RunRequest
    from wfe.cli.run import run as run_request

    request = RunRequest(
        file=file,
        url=url,
        workflow=workflow,
        inputs=inputs,
        config=config,
        resume=resume,
        name=name,
        timeout=None if timeout is None else _duration(timeout),
        json=json,
        lenient=lenient,
    )
    return run_request(request)


def _duration(text: str) -> timedelta:
    from wfe.model.durations import to_timedelta

    try:
        found = to_timedelta(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from None
    if found <= timedelta(0):
        raise click.BadParameter(f"{text!r} is not above zero", param_hint="--timeout")
    return found


@cli.command()
@click.argument("files", type=_FILE, nargs=-1, required=True, metavar="FILE...")
@click.option("-c", "--config", multiple=True, metavar="KEY=VALUE", help="A value of ((var.KEY)).")
@click.option("--lenient", is_flag=True, help="Take unknown keys as warnings.")
@click.option("--json", is_flag=True, help="One JSON object per problem.")
def validate(*, files: tuple[Path, ...], config: tuple[str, ...], lenient: bool, json: bool) -> int:
    """Check files without running them, and list every problem with its place."""
    from wfe.cli.validate import validate as validate_files

    return validate_files(files, config, lenient=lenient, json=json)


@cli.command()
@click.argument("file", type=_FILE)
@click.option("--workflow", metavar="ID", help="Which workflow, where the file has several.")
@click.option("-c", "--config", multiple=True, metavar="KEY=VALUE", help="A value of ((var.KEY)).")
@click.option("--format", "form", type=click.Choice(["mermaid", "dot"]), default="mermaid", show_default=True)
@click.option("--lenient", is_flag=True, help="Take unknown keys as warnings.")
def graph(*, file: Path, workflow: str | None, config: tuple[str, ...], form: str, lenient: bool) -> int:
    """Draw the workflow of FILE as text for Mermaid or Graphviz."""
    from wfe.cli.inputs import key_values
    from wfe.cli.loading import choose, load_file

    definition = choose(load_file(file, key_values(config, "-c"), lenient=lenient), workflow, file).definition
    say((definition.to_mermaid() if form == "mermaid" else definition.to_dot()).rstrip("\n"))
    return Exit.COMPLETE


_output = click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)


@cli.command("list")
@_db
@click.option("--workflow", metavar="ID", help="Only runs of this workflow.")
@click.option("--status", multiple=True, type=click.Choice([str(each) for each in WorkflowStatus]), help="Only these.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--cursor", help="Where the page before ended.")
@_output
def list_command(
    *, url: str, workflow: str | None, status: tuple[str, ...], limit: int, cursor: str | None, output: str
) -> int:
    """List runs, newest first."""
    from wfe.cli.look import list_runs

    return list_runs(url, status=status, definition_id=workflow, limit=limit, cursor=cursor, as_json=output == "json")


@cli.command("get")
@click.argument("run_name", metavar="NAME")
@_db
@_output
def get_command(run_name: str, url: str, output: str) -> int:
    """Show how the run NAME (or its id) stands, and its data."""
    from wfe.cli.look import show_run

    return show_run(url, run_name, as_json=output == "json")


@cli.command("history")
@click.argument("run_name", metavar="NAME")
@_db
@_output
def history_command(run_name: str, url: str, output: str) -> int:
    """Show all that happened to the run NAME, in order."""
    from wfe.cli.look import show_history

    return show_history(url, run_name, as_json=output == "json")


def _verb(verb: str, text: str, *, takes_reason: bool = True) -> None:
    """Add a command that asks something of a run."""

    def command(run_name: str, url: str, reason: str | None = None) -> int:
        from wfe.cli.look import ask

        return ask(url, run_name, verb, reason)

    command.__doc__ = text
    decorated = click.argument("run_name", metavar="NAME")(_db(command))
    if takes_reason:
        decorated = click.option("--reason", help="Kept with the run.")(decorated)
    cli.command(verb)(decorated)


_verb("suspend", "Let nothing further begin in the run NAME; what runs is finished and recorded.")
_verb("resume", "Let the suspended run NAME go on; a step that failed is tried again.", takes_reason=False)
_verb("cancel", "Stop the run NAME: what runs is asked to end, nothing further begins.")
_verb("terminate", "End the run NAME at once.")


@cli.command("publish")
@click.argument("event_name", metavar="NAME")
@click.argument("key")
@click.argument("data", required=False)
@_db
def publish_command(event_name: str, key: str, data: str | None, url: str) -> int:
    """Publish the event NAME with KEY; DATA is JSON, or text where it is not. Shows its id."""
    from wfe.cli.look import publish

    return publish(url, event_name, key, data)


@cli.command("doctor")
@click.option("--check", "is_check", is_flag=True, help="Check the rules of the engine over everything stored.")
@_db
@_output
def doctor_command(*, is_check: bool, url: str, output: str) -> int:
    """Look after a store: which hosts live, what nobody runs; with --check, whether what is stored is sound.

    Hosts may be at work on it; --check writes nothing. Exit code 1 if it finds anything.
    """
    from wfe.cli.doctor import check, look

    return (check if is_check else look)(url, as_json=output == "json")
