"""Secrets that stand in files: ``@FILE`` as a value, and variables whose names end in ``_FILE``.

Everybody on a machine sees the arguments of its processes, and a process's own user its
environment. So what is secret should stand in a file. Orchestrators mount one, and name it in a
variable: ``DTBRIDGE_AMQP_URL_FILE=/run/secrets/url`` is ``DTBRIDGE_AMQP_URL=@/run/secrets/url``.
"""

import os
from typing import Any, Final

import typer

from bridge.cli.exits import EXIT_USAGE, fail
from bridge.rabbitmq.hosts import FROM_FILE, read_secret

IN_FILE: Final = "_FILE"
"""How the variable ends that names the file."""


def secret(value: str, what: str) -> str:
    """A value that others on the machine must not see: ``@FILE`` stands for what the file holds.

    Ends the command if the file cannot be read.
    """
    if not value.startswith(FROM_FILE):
        return value
    path = value[len(FROM_FILE) :]
    try:
        return read_secret(path)
    except ValueError as error:
        fail(f"{what} cannot be read from the file {path}: {error}", EXIT_USAGE)


def file_variable(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    """The callback of an option that takes a secret: it may come from a file that a variable names.

    An argument counts more than variables do. Ends the command if both variables are set.
    """
    variable = parameter.envvar
    path = os.environ.get(f"{variable}{IN_FILE}")
    source = context.get_parameter_source(str(parameter.name))
    # By its name: Typer has a click of its own, whose sources are no others' equals.
    if not path or source is None or source.name == "COMMANDLINE":
        return value
    if source.name == "ENVIRONMENT":
        fail(f"{variable} and {variable}{IN_FILE} exclude each other", EXIT_USAGE)
    return [f"{FROM_FILE}{path}"] if parameter.multiple else f"{FROM_FILE}{path}"
