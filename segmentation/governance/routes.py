"""The routes of governance: the audit's export and the erasure of a patient.

For administrators alone. Erasing asks for a login in a browser or an API token like
any other change, and is audited like one.
"""

from __future__ import annotations

from typing import Any

from db import audit
from db.engine import reading
from segmentation.access.routes import allow, principal
from segmentation.governance import schemas
from segmentation.governance.erasure import erase
from segmentation.http.routes import Blueprint, request_id, services

blueprint = Blueprint(
    "governance",
    __name__,
    url_prefix="/api/v1",
    description="Audit and erasure",
)


@blueprint.route("/audit", methods=["GET"])
@allow("admin")
@blueprint.arguments(schemas.AuditQuery, location="query")
@blueprint.response(200, schemas.AuditPage)
def show_audit(asked: dict[str, Any]) -> dict[str, Any]:
    """Export the audit, oldest entry first, a page at a time.

    Entries can be added and never changed, so reading on with `next_cursor` gives each
    exactly once.
    """
    limit, cursor = asked.pop("limit"), asked.pop("cursor", "0")
    with reading(services().engine) as session:
        found = audit.export_entries(
            session, audit.AuditFilter(**asked), after_id=int(cursor), limit=limit + 1
        )
    page = found[:limit]
    return {
        "entries": page,
        "next_cursor": str(page[-1].id) if len(found) > limit else None,
    }


@blueprint.route("/patients/<id:patient_id>", methods=["DELETE"])
@allow("admin")
@blueprint.arguments(schemas.ErasureQuery, location="query")
@blueprint.response(200, schemas.ErasureReport)
@blueprint.alt_response(404, "NOT_FOUND")
def erase_patient(asked: dict[str, Any], patient_id: str) -> dict[str, Any]:
    """Erase everything about a patient but the audit.

    Also deletes what MetIA wrote into the archive (SEG, SR, RTSTRUCT). Images of the
    scanner stay there. What could not be deleted is named in the answer, which cannot
    be had again. Erasing cannot be undone.
    """
    context = services()
    report = erase(
        context.engine,
        None if asked["keep_archive"] else context.archive,
        patient_id,
        actor=principal().name,
        request_id=request_id(),
    )
    return {"patient_id": patient_id, **vars(report)}
