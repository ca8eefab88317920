"""The routes that keep users (administrators) and one's own API tokens.

A user is never deleted, only disabled, so that records keep their meaning; disabling
ends his sessions and tokens at once. Tokens can be made in a browser session only.
"""

from __future__ import annotations

from typing import Any

import flask

from db.users import ApiToken, User
from segmentation.access import users
from segmentation.access.routes import allow, principal, require_browser_session
from segmentation.http import schemas
from segmentation.http.routes import Blueprint, request_id, services

blueprint = Blueprint(
    "people", __name__, url_prefix="/api/v1", description="Users and API tokens"
)


@blueprint.route("/users", methods=["GET"])
@allow("admin")
@blueprint.response(200, schemas.Accounts)
def show_users() -> dict[str, Any]:
    """List all users."""
    return {"users": [_account(user) for user in users.list_users(services().engine)]}


@blueprint.route("/users", methods=["POST"])
@allow("admin")
@blueprint.arguments(schemas.NewAccount)
@blueprint.response(201, schemas.Account)
@blueprint.alt_response(409, "CONFLICT")
def make_user(asked: dict[str, Any]) -> dict[str, Any]:
    """Make a user."""
    return _account(users.make_user(services().engine, _change(), **asked))


@blueprint.route("/users/<name>", methods=["PATCH"])
@allow("admin")
@blueprint.arguments(schemas.AccountChange)
@blueprint.response(200, schemas.Account)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def change_user(asked: dict[str, Any], name: str) -> dict[str, Any]:
    """Change a user: name, role, password, or whether he may log in."""
    return _account(users.change_user(services().engine, _change(), name, **asked))


@blueprint.route("/tokens", methods=["GET"])
@blueprint.response(200, schemas.Tokens)
def show_tokens() -> dict[str, Any]:
    """List one's own API tokens."""
    tokens = users.list_tokens(services().engine, principal().name)
    return {"tokens": [_token(token) for token in tokens]}


@blueprint.route("/tokens", methods=["POST"])
@allow("viewer")
@blueprint.arguments(schemas.NewToken)
@blueprint.response(201, schemas.MadeToken)
@blueprint.alt_response(409, "CONFLICT")
def make_token(asked: dict[str, Any]) -> dict[str, Any]:
    """Make an API token for oneself; its secret is shown this once."""
    who = require_browser_session()
    token, secret = users.make_token(
        services().engine, _change(), user_name=who.name, **asked
    )
    return {**_token(token), "token": secret}


@blueprint.route("/tokens/<id:token_id>", methods=["DELETE"])
@allow("viewer")
@blueprint.response(204)
@blueprint.alt_response(404, "NOT_FOUND")
def revoke_token(token_id: str) -> flask.Response:
    """Revoke one of one's own API tokens."""
    who = principal()
    users.revoke_token(
        services().engine,
        users.Change(who.name, request_id()),
        user_name=who.name,
        token_id=token_id,
    )
    return flask.Response(status=204)


def _change() -> users.Change:
    """Name who makes a change that an API token may not make."""
    return users.Change(require_browser_session().name, request_id())


def _account(user: User) -> dict[str, Any]:
    return {**vars(user), "disabled": not user.active}


def _token(token: ApiToken) -> dict[str, Any]:
    return {**vars(token), "name": token.label}
