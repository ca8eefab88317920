"""What Orthanc's REST lists, read defensively: resources and their main DICOM tags.

Tags come from whoever sent the images and are not to be trusted: numbers may be text,
UIDs may be paths. Pure functions, for ``orthanc.gateway``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from orthanc.connection import unexpected
from orthanc.dicomweb import is_uid

Resource = dict[str, Any]
_INTEGER_STRING = re.compile(r"[+-]?[0-9]{1,12}\Z")


@dataclass(frozen=True)
class ListedInstance:
    """One instance as Orthanc lists it."""

    orthanc_id: str
    sop_instance_uid: str
    number: int
    """Instance number, 0 where it has none."""
    size_bytes: int
    file_id: str
    """Orthanc's name of the file: another one where the image was stored anew."""

    @property
    def path(self) -> str:
        """Where its file lies, as it is stored."""
        return f"/instances/{self.orthanc_id}/file"


def resources(answer: Any) -> list[Resource]:
    """Insist on a list of resources, each with what is read of any of them."""
    if not isinstance(answer, list) or not all(
        isinstance(item, dict) and isinstance(item.get("ID"), str) for item in answer
    ):
        raise unexpected("It does not list resources.")
    return answer


def listed_instance(item: Resource) -> ListedInstance:
    """Read one item of a list of instances."""
    try:
        size_bytes = int(item["FileSize"])
    except (KeyError, TypeError, ValueError):
        raise unexpected("It does not describe images.") from None
    return ListedInstance(
        item["ID"],
        main_tag(item, "SOPInstanceUID"),
        _number(item, "InstanceNumber"),
        size_bytes,
        str(item.get("FileUuid", "")),
    )


def main_tag(resource: Resource, name: str) -> str:
    """Return a main DICOM tag, empty where there is none."""
    tags = resource.get("MainDicomTags")
    return str(tags.get(name, "")) if isinstance(tags, dict) else ""


def studies_of(found: list[Resource], patient_id: str) -> list[str]:
    """Give the UIDs of the studies of exactly this patient ID, the newest first.

    Orthanc reads ``*`` and ``?`` in an ID as wildcards, so it may list others, too.
    """
    mine = []
    for study in found:
        patient = study.get("PatientMainDicomTags")
        named = patient.get("PatientID") if isinstance(patient, dict) else None
        uid = main_tag(study, "StudyInstanceUID")
        if str(named or "").strip() == patient_id.strip() and is_uid(uid):
            when = main_tag(study, "StudyDate"), main_tag(study, "StudyTime"), uid
            mine.append(when)
    return list(dict.fromkeys(uid for *_, uid in sorted(mine, reverse=True)))


def _number(resource: Resource, name: str) -> int:
    """Return an integer string (IS), 0 where there is none that can be read."""
    text = main_tag(resource, name).strip()
    return int(text) if _INTEGER_STRING.match(text) else 0


def series_order(series: Resource) -> tuple[int, str]:
    """Sort series by number, then UID."""
    return _number(series, "SeriesNumber"), main_tag(series, "SeriesInstanceUID")
