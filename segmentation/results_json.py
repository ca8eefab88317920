"""A recorded result as the routes give it out (``http.schemas.Result``). Pure."""

from __future__ import annotations

from typing import Any

from db.results import Result
from settings import RESEARCH_NOTICE


def result_json(result: Result) -> dict[str, Any]:
    """Put a result into the members of its schema."""
    stored = None
    if result.segmentation_series_uid and result.segmentation_sop_uid:
        stored = {
            "series_uid": result.segmentation_series_uid,
            "sop_instance_uid": result.segmentation_sop_uid,
        }
    return {
        **vars(result),
        "segmentation": stored,
        "lesion_count": len(result.lesions),
        "notice": RESEARCH_NOTICE,
    }
