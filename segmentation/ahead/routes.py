"""The route by which the viewer says that a study was opened.

It queues nothing and promises nothing: an automatic job of the study comes before those
of studies nobody looks at, and an idle worker pulls the images that a press would need.
Whoever may see the study may say so.
"""

from __future__ import annotations

from db.ahead import note_opened, raise_automatic
from db.engine import database_time, transaction
from segmentation.access.routes import allow
from segmentation.http.routes import Blueprint, services

OPENED_PRIORITY = -1
"""Before all automatic jobs, behind everything that a person asked for."""

blueprint = Blueprint(
    "ahead", __name__, url_prefix="/api/v1/studies", description="Studies"
)


@blueprint.route("/<uid:study_uid>/opened", methods=["POST"])
@allow("viewer")
@blueprint.response(204)
def note_opened_study(study_uid: str) -> None:
    """Note that a study was opened in the viewer, so that a press will cost less."""
    context = services()
    with transaction(context.engine) as session:
        raise_automatic(session, study_uid, OPENED_PRIORITY)
        if context.settings.prefetch_on_open:
            note_opened(session, study_uid, database_time(session))
