"""``metia user``: make and change the people who may log in.

Passwords are typed, read from standard input, or generated and shown once; never given
as an argument, where other processes would see them. Changes are audited.
"""

from __future__ import annotations

import re
import sys
from typing import cast

import click

_ROLES = ("viewer", "annotator", "reviewer", "admin")
_ROLE = click.Choice(_ROLES)


@click.group()
def user() -> None:
    """Make and change the people who may log in.

    Roles, each including those before: viewer (look), annotator (start jobs), reviewer
    (judge results), admin (keep users).
    """


def _ask_password(*, generate: bool, from_stdin: bool) -> tuple[str, bool]:
    """Give a new password, and whether it was generated."""
    from segmentation.access.passwords import new_password

    if generate and from_stdin:
        raise click.UsageError("Use either --generate or --password-stdin.")
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n"), False
    if generate:
        return new_password(), True
    if not sys.stdin.isatty():
        raise click.UsageError(
            "There is no terminal to ask on; use --generate or --password-stdin."
        )
    typed = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return str(typed), False


def _tell(text: str, password: str, generated: bool) -> None:
    click.echo(text)
    if generated:
        click.echo(f"Password: {password}   (shown only now)")


@user.command()
@click.argument("name")
@click.option("--role", type=_ROLE, default="viewer", show_default=True)
@click.option("--display-name", default="", help="Shown in the viewer.")
@click.option("--generate", is_flag=True, help="Make a password and show it once.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
def add(
    name: str, role: str, display_name: str, generate: bool, password_stdin: bool
) -> None:
    """Make a user, such as: metia user add jane --role annotator --generate."""
    from db.users import Role
    from errors import MetiaError
    from segmentation.access import users
    from segmentation.cli.opened import database
    from segmentation.http.schemas import USER_NAME_PATTERN

    if not re.fullmatch(USER_NAME_PATTERN.strip("^$"), name, re.ASCII):
        raise MetiaError(
            "invalid-input",
            "A user name has 2 to 64 small letters, digits, dots, dashes or "
            "underscores and begins with a letter or digit.",
        )
    if len(display_name) > 128 or not display_name.isprintable():
        raise MetiaError("invalid-input", "The display name cannot be used.")
    password, generated = _ask_password(generate=generate, from_stdin=password_stdin)
    with database() as engine:
        users.make_user(
            engine,
            users.Change(None),
            name=name,
            role=cast(Role, role),
            password=password,
            display_name=display_name,
        )
    _tell(f"User {name} was made ({role}).", password, generated)


@user.command(name="list")
def list_users() -> None:
    """List all users."""
    from segmentation.access import users
    from segmentation.cli.opened import database

    with database() as engine:
        for one in users.list_users(engine):
            state = "" if one.active else "  (disabled)"
            click.echo(f"{one.name:<20} {one.role:<10} {one.display_name}{state}")


@user.command()
@click.argument("name")
@click.argument("role", type=_ROLE)
def set_role(name: str, role: str) -> None:
    """Give a user another role; open sessions of that user end."""
    from db.users import Role
    from segmentation.access import users
    from segmentation.cli.opened import database

    with database() as engine:
        users.change_user(engine, users.Change(None), name, role=cast(Role, role))
    click.echo(f"User {name} is now {role}.")


@user.command()
@click.argument("name")
@click.option("--generate", is_flag=True, help="Make a password and show it once.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
def set_password(name: str, generate: bool, password_stdin: bool) -> None:
    """Give a user another password; open sessions of that user end."""
    from segmentation.access import users
    from segmentation.cli.opened import database

    password, generated = _ask_password(generate=generate, from_stdin=password_stdin)
    with database() as engine:
        users.change_user(engine, users.Change(None), name, password=password)
    _tell(f"User {name} has another password.", password, generated)


@user.command()
@click.argument("name")
@click.option("--again", is_flag=True, help="Allow it again.")
def disable(name: str, again: bool) -> None:
    """Keep a user from logging in; sessions and tokens end at once."""
    from segmentation.access import users
    from segmentation.cli.opened import database

    with database() as engine:
        users.change_user(engine, users.Change(None), name, disabled=not again)
    click.echo(f"User {name} {'may log in again' if again else 'is disabled'}.")
