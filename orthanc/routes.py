"""The route that ranks a study's series, so that a person sees what would be used.

Asks the archive for one header a series and ranks them; stores nothing. Whoever is
logged in may ask: the application's guard sees to that. Series descriptions are shown
here and nowhere else: never in a log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import flask
import flask_smorest
import marshmallow as ma
from marshmallow import fields

from orthanc.archive import Archive
from orthanc.series import SeriesRanking, rank_series

ARCHIVE_EXTENSION = "metia-archive"
"""Name under which the application keeps its ``Archive``."""

blueprint = flask_smorest.Blueprint(
    "studies", __name__, url_prefix="/api/v1/studies", description="Studies"
)


class ReasonSchema(ma.Schema):
    """Why a series ranks where it does."""

    code = fields.String(required=True)
    effect = fields.Float(required=True)
    text = fields.String(required=True)


class CandidateSchema(ma.Schema):
    """One series of the study."""

    series_uid = fields.String(required=True)
    series_number = fields.Integer(required=True, allow_none=True)
    description = fields.String(required=True)
    modality = fields.String(required=True)
    instance_count = fields.Integer(required=True)
    score = fields.Float(required=True)
    suitable = fields.Boolean(required=True)
    reasons = fields.List(fields.Nested(ReasonSchema), required=True)


class RefusalSchema(ma.Schema):
    """Why no series can be used."""

    code = fields.String(required=True)
    detail = fields.String(required=True)


class SeriesChoiceSchema(ma.Schema):
    """The series of a study, best first, and the one that would be used."""

    study_uid = fields.String(required=True)
    chosen = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Series UID; null where none is suitable."},
    )
    candidates = fields.List(fields.Nested(CandidateSchema), required=True)
    refusal = fields.Nested(RefusalSchema, required=True, allow_none=True)


def _describe(view: Callable[..., Any]) -> Callable[..., Any]:
    """Give the view its address and its description (flask-smorest is untyped)."""
    for status, name in (
        (404, "NOT_FOUND"),
        (502, "BAD_GATEWAY"),
        (503, "SERVICE_UNAVAILABLE"),
        ("default", "DEFAULT_ERROR"),
    ):
        view = blueprint.alt_response(status, name)(view)
    view = blueprint.response(200, SeriesChoiceSchema)(view)
    return cast(Callable[..., Any], blueprint.route("/<uid:study_uid>/series")(view))


@_describe
def rank_study(study_uid: str) -> dict[str, Any]:
    """Rank the series of a study."""
    archive = cast(Archive, flask.current_app.extensions[ARCHIVE_EXTENSION])
    return _answer(study_uid, rank_series(archive.series_headers(study_uid)))


def _answer(study_uid: str, ranking: SeriesRanking) -> dict[str, Any]:
    chosen = ranking.chosen
    refusal = None
    if chosen is None:
        refusal = {"code": "no-suitable-series", "detail": ranking.refusal_detail()}
    return {
        "study_uid": study_uid,
        "chosen": chosen.series_uid if chosen else None,
        "candidates": ranking.candidates,
        "refusal": refusal,
    }
