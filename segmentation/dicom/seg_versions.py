"""The SEG of a version that a reader made: edited, renamed, drawn, imported.

``build_version`` promises what ``build_segmentation`` promises of a model's SEG, and
besides: each segment says who drew it (AUTOMATIC, SEMIAUTOMATIC, MANUAL), the object
names its reader and version, and refers to the object it replaces. The UIDs follow from
the content (``identify_version``), so sending the same correction twice makes the same
object. Pure and safe between threads; volumes have axes (slice, row, column).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as terms
from pydicom.uid import SegmentationStorage

from segmentation.dicom import codes
from segmentation.dicom.seg import (
    LABEL_SET_VERSION,
    MANUFACTURER,
    Header,
    Segment,
    describe_algorithm,
    describe_segment,
    draw,
    long_string,
    series_number,
)
from segmentation.dicom.uids import derive_uid
from segmentation.models.predictor import ModelIdentity

_SERIES_NUMBERS_OF_VERSION = 10_000
_LONGEST_NAME = 32


@dataclass(frozen=True)
class StoredObject:
    """An object in the archive, of the same study."""

    series_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Version:
    """What a SEG says of its place in the history.

    Attributes
    ----------
    number : int
        2 for the first correction of a model's result.
    author : str
        Name of the reader.
    model : ModelIdentity or None
        What drew the segments that are not MANUAL; None where that is not known.
    parameters : Mapping
        Of that model.
    predecessor : StoredObject or None
        What this one replaces; None where that had no lesion and so no object.
    """

    number: int
    author: str
    model: ModelIdentity | None
    parameters: Mapping[str, object]
    predecessor: StoredObject | None


def identify_version(*content: str) -> StoredObject:
    """Derive the UIDs of a version from what determines its content."""
    what = (*content, LABEL_SET_VERSION)
    return StoredObject(
        derive_uid("version-series", *what), derive_uid("version-instance", *what)
    )


def identify_drawn(version: StoredObject, number: int) -> str:
    """Derive the tracking UID of a lesion that is new in a version."""
    return derive_uid("drawn-lesion", version.sop_instance_uid, str(number))


def build_version(
    source_images: Sequence[Dataset],
    labels: hd.Volume,
    segments: Sequence[Segment],
    identity: StoredObject,
    version: Version,
) -> hd.seg.Segmentation:
    """Build the SEG of a version.

    Parameters
    ----------
    source_images : Sequence of pydicom.Dataset
        The classic images (in any order) or the one Enhanced image; pixels not needed.
    labels : highdicom.Volume
        On the grid of the source: 0 background, else the number of a segment, 1 to n.
    segments : Sequence of Segment
        In order of their numbers.

    Raises
    ------
    ValueError
        If there is no segment, or the source images do not lie on the grid.
    """
    algorithm = _algorithm(version)
    header = Header(
        series_uid=identity.series_uid,
        sop_instance_uid=identity.sop_instance_uid,
        series_number=series_number(source_images[0])
        + _SERIES_NUMBERS_OF_VERSION * (version.number - 1),
        series_description=_series_description(version),
        content_description=long_string(
            f"Brain metastases, version {version.number}. Research use only."
        ),
        creator=_person(version.author),
        device_serial_number=version.model.sha256[:64] if version.model else "reader",
    )
    segmentation = draw(
        source_images,
        labels,
        [describe_segment(n, one, algorithm) for n, one in enumerate(segments, 1)],
        header,
    )
    if version.predecessor is not None:
        _refer_to(segmentation, version.predecessor)
    return segmentation


def _algorithm(version: Version) -> hd.AlgorithmIdentificationSequence:
    if version.model is not None:
        return describe_algorithm(version.model, version.parameters)
    return hd.AlgorithmIdentificationSequence(
        name="unknown",
        version="unknown",
        family=codes.ARTIFICIAL_INTELLIGENCE,
        source=MANUFACTURER,
    )


def _series_description(version: Version) -> str:
    author = long_string(version.author, _LONGEST_NAME)
    return long_string(f"MetIA v{version.number}, {author}, research use only")


def _person(name: str) -> str:
    """Write a reader's name as a DICOM person name of one component."""
    plain = name.translate(str.maketrans("^=", "  "))
    # The caret at the end says that a name without parts is meant.
    return long_string(plain, 63) + "^"


def _refer_to(segmentation: Dataset, predecessor: StoredObject) -> None:
    """Name the object that this one replaces, with the purpose of the reference.

    Not among the referenced series too, as the Common Instance Reference Module would
    have it: OHIF 3.13.2 takes any of them for the image, and where that is the object
    before, it draws nothing of a corrected one.
    """
    purposed = Dataset()
    purposed.ReferencedSOPClassUID = SegmentationStorage
    purposed.ReferencedSOPInstanceUID = predecessor.sop_instance_uid
    purpose = hd.sr.CodedConcept.from_code(terms.DCM.TemporalPredecessor)
    purposed.PurposeOfReferenceCodeSequence = [purpose]
    segmentation.ReferencedInstanceSequence = [purposed]
