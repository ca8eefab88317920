"""A PDF report as a DICOM object, so that it lies in the archive beside the images.

``encapsulate`` promises an Encapsulated PDF of the study of a given image, in a series
of its own, with patient and study as the image names them (in UTF-8) and every UID
derived from the report: the same report makes the same object. Valid by dciodvfy. Pure
and safe between threads.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

import highdicom as hd
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DA, TM

from orthanc.headers import attempt
from segmentation.dicom.source_planes import patient_and_study
from segmentation.dicom.uids import derive_uid
from settings import VERSION

_SERIES_NUMBER = 9300
_MIME_TYPE = "application/pdf"


def encapsulate(pdf: bytes, image: Dataset, *, title: str, verified: bool) -> Dataset:
    """Make the object of a report.

    Parameters
    ----------
    pdf : bytes
        The report; it names the patient, as the images do.
    image : pydicom.Dataset
        Any image of the study the report is about; not changed, pixels not needed.
    title : str
        Shown in lists of documents; cut to 64 characters.
    verified : bool
        Whether a reader's signature of the visit stands.

    Returns
    -------
    pydicom.Dataset
        With file meta information.
    """
    study_uid = str(image.StudyInstanceUID)
    digest = hashlib.sha256(pdf).hexdigest()
    now = datetime.now().astimezone()
    made = hd.base.SOPClass(
        study_instance_uid=study_uid,
        series_instance_uid=derive_uid("report-series", study_uid),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=derive_uid("report", study_uid, digest),
        sop_class_uid=EncapsulatedPDFStorage,
        instance_number=1,
        modality="DOC",
        manufacturer="MetIA",
        manufacturer_model_name="MetIA",
        software_versions=VERSION,
        device_serial_number=VERSION,
        series_description="MetIA report, research use only",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set="ISO_IR 192",
    )
    made.copy_patient_and_study_information(_in_utf8(image))
    made.ConversionType = "WSD"
    made.ContentDate = made.SeriesDate = DA(now.date())
    made.ContentTime = made.SeriesTime = TM(now.time().replace(microsecond=0))
    made.AcquisitionDateTime = ""
    made.BurnedInAnnotation = "YES"
    made.RecognizableVisualFeatures = "NO"
    made.DocumentTitle = title[:64]
    made.ConceptNameCodeSequence = []
    made.MIMETypeOfEncapsulatedDocument = _MIME_TYPE
    made.EncapsulatedDocumentLength = len(pdf)
    # Values of DICOM have an even length; readers of PDF skip what follows the end.
    made.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    made.VerificationFlag = "VERIFIED" if verified else "UNVERIFIED"
    return made


def _in_utf8(image: Dataset) -> Dataset:
    """Copy the header of an image with its texts in UTF-8."""
    header = Dataset()
    header.update(patient_and_study(image))
    charset = header.get("SpecificCharacterSet")
    if not charset or not attempt(lambda: convert_encodings(charset)):
        header.pop("SpecificCharacterSet", None)  # named wrongly: ASCII is readable
    header.decode()
    header.SpecificCharacterSet = "ISO_IR 192"
    return header
