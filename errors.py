"""The error tree: every failure a user can meet has a stable code and a remedy.

``CODES`` is the single table from which HTTP answers, the viewer's messages and
``docs/errors.md`` are made. A ``MetiaError`` carries one of its codes and a ``detail``
sentence that is safe to show and to log: it never contains a name, a date or an
identifier of a patient. Imports nothing of the project.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorCode:
    """What is fixed about one code.

    Attributes
    ----------
    title : str
        Short human sentence, the ``title`` of the RFC 9457 answer.
    http_status : int
        Status of the HTTP answer that carries it.
    remedy : str
        What a person can do about it.
    retryable : bool
        Whether the same request may succeed later without anyone changing anything.
    """

    title: str
    http_status: int
    remedy: str
    retryable: bool = False


CODES: dict[str, ErrorCode] = {
    # -- requests --------------------------------------------------------------
    "bad-request": ErrorCode(
        "The request cannot be read", 400, "Send well-formed JSON as documented."
    ),
    "not-authenticated": ErrorCode(
        "Log in first", 401, "Log in, or send a valid API token."
    ),
    "forbidden": ErrorCode(
        "Your role does not allow this", 403, "Ask an administrator for the role."
    ),
    "csrf-failed": ErrorCode(
        "The request does not come from this application",
        403,
        "Reload the page and try again.",
    ),
    "not-found": ErrorCode("There is no such thing here", 404, "Check the address."),
    "method-not-allowed": ErrorCode(
        "This address does not take that method", 405, "See the Allow header."
    ),
    "conflict": ErrorCode(
        "The present state does not allow this", 409, "Reload and look again."
    ),
    "edit-conflict": ErrorCode(
        "Somebody else has changed this meanwhile",
        409,
        "Look at the present state, then decide again; nothing was overwritten.",
    ),
    "too-large": ErrorCode("The request is too large", 413, "Send less at once."),
    "unsupported-media-type": ErrorCode(
        "The content type is not supported", 415, "Send application/json."
    ),
    "invalid-input": ErrorCode(
        "A value is not valid", 422, "Correct the fields named under `errors`."
    ),
    "too-many-requests": ErrorCode(
        "Too many requests", 429, "Wait as long as Retry-After says.", True
    ),
    "internal": ErrorCode(
        "Something went wrong on the server",
        500,
        "Report the request id to the administrator; the log has the cause.",
    ),
    "not-ready": ErrorCode("The service is not ready", 503, "Try again shortly.", True),
    "broker-unavailable": ErrorCode(
        "The message broker does not answer",
        503,
        "Check that the broker of METIA_BROKER_URL runs and can be reached; jobs wait "
        "in the database and are delivered when it is back.",
        True,
    ),
    # -- archive ---------------------------------------------------------------
    "archive-unavailable": ErrorCode(
        "The image archive does not answer",
        503,
        "Check that Orthanc runs and can be reached; the job is tried again.",
        True,
    ),
    "archive-denied": ErrorCode(
        "The image archive refuses the service's credentials",
        502,
        "Check METIA_ARCHIVE_USER and METIA_ARCHIVE_PASSWORD.",
    ),
    "archive-incomplete": ErrorCode(
        "The archive delivered fewer images than it lists",
        502,
        "The job is tried again; if it stays, look at the archive's storage.",
        True,
    ),
    "archive-rejected": ErrorCode(
        "The archive refused to store the result",
        502,
        "Look at the archive's log and its free space.",
    ),
    "archive-mismatch": ErrorCode(
        "The stored result differs from what was computed",
        502,
        "Do not use the stored object; report it to the administrator.",
    ),
    "archive-unexpected": ErrorCode(
        "The image archive gave an answer that is not understood",
        502,
        "Check that METIA_ARCHIVE_URL is an Orthanc with its DICOMweb plugin.",
    ),
    "archive-ambiguous": ErrorCode(
        "The archive holds the study under several patients",
        409,
        "Correct the patient identity in the archive, then try again.",
    ),
    "study-not-found": ErrorCode(
        "The archive has no such study", 404, "Send the study to the archive first."
    ),
    "series-not-found": ErrorCode(
        "The study has no such series", 404, "Choose one of the listed series."
    ),
    "series-not-stable": ErrorCode(
        "The study is still arriving",
        409,
        "Wait until all images have arrived; the job waits and tries again.",
        True,
    ),
    # -- choice of series ------------------------------------------------------
    "no-suitable-series": ErrorCode(
        "No post-contrast T1 of the head was found in this study",
        422,
        "Choose a series by hand if you know that one is suitable.",
    ),
    # -- volume ----------------------------------------------------------------
    "volume-empty": ErrorCode("The series has no images", 422, "Choose another."),
    "volume-not-mr": ErrorCode(
        "The series is not MR", 422, "Choose a post-contrast T1 MR series."
    ),
    "volume-not-head-t1": ErrorCode(
        "The series is not a T1 of the head",
        422,
        "Choose a post-contrast T1 MR series of the head.",
    ),
    "volume-single-slice": ErrorCode(
        "The series has too few slices to be a volume", 422, "Choose another."
    ),
    "volume-missing-slice": ErrorCode(
        "A slice is missing", 422, "Send the complete series to the archive."
    ),
    "volume-duplicate-slice": ErrorCode(
        "Several images lie at the same place",
        422,
        "Send one phase or echo as a series of its own.",
    ),
    "volume-mixed-geometry": ErrorCode(
        "The images of the series do not share one orientation, size and spacing",
        422,
        "Choose a series without localizers or reformats.",
    ),
    "volume-sheared": ErrorCode(
        "The slices are shifted against each other (tilt)",
        422,
        "Choose a series acquired without gantry tilt.",
    ),
    "volume-no-position": ErrorCode(
        "The images carry no position in the patient", 422, "Choose another series."
    ),
    "volume-colour": ErrorCode(
        "The images are in colour", 422, "Choose a grey-scale series."
    ),
    "volume-mosaic": ErrorCode(
        "Each image is a mosaic of many slices",
        422,
        "Choose an anatomical series; mosaics are functional or diffusion images.",
    ),
    "volume-bad-pixels": ErrorCode(
        "The pixel values cannot be used", 422, "Send the series again."
    ),
    "volume-undecodable": ErrorCode(
        "The image compression cannot be decoded",
        422,
        "Send the series uncompressed.",
    ),
    "volume-too-large": ErrorCode(
        "The series is larger than a head MR can be", 422, "Choose another series."
    ),
    "volume-absurd-geometry": ErrorCode(
        "The stated voxel size cannot be true for a head",
        422,
        "Check the series' headers at the scanner.",
    ),
    # -- model and prediction --------------------------------------------------
    "model-unknown": ErrorCode(
        "There is no such model", 422, "Choose one of the listed models."
    ),
    "model-integrity": ErrorCode(
        "A model file differs from its manifest",
        500,
        "Install the model again; do not use the changed file.",
    ),
    "model-invalid": ErrorCode(
        "A model folder is not usable", 500, "See the log for the fault."
    ),
    "checkpoint-refused": ErrorCode(
        "The checkpoint is not usable as a model",
        422,
        "Give the file of a UNETR with one or two classes; nothing of it was run.",
    ),
    "prediction-implausible": ErrorCode(
        "The model's answer is not plausible and was not stored",
        500,
        "Use another series or model.",
    ),
    "out-of-memory": ErrorCode(
        "Not enough memory for this series",
        500,
        "Free memory or use a machine with more.",
        True,
    ),
    "disk-full": ErrorCode(
        "The disk is full", 507, "Free space, then press again.", True
    ),
    # -- imports ---------------------------------------------------------------
    "import-invalid": ErrorCode(
        "The outlines cannot be taken over",
        422,
        "Choose an RTSTRUCT or SEG that was drawn on the post-contrast T1 of this "
        "study.",
    ),
    # -- exports ---------------------------------------------------------------
    "export-impossible": ErrorCode(
        "This cannot be written in that format",
        422,
        "Choose another format; the DICOM SEG in the archive holds everything.",
    ),
    # -- versions --------------------------------------------------------------
    "nothing-changed": ErrorCode(
        "There is nothing to save", 422, "Change an outline or a name, then save."
    ),
    "source-changed": ErrorCode(
        "The images have changed since this result was made",
        409,
        "Segment the series again, then correct the new result.",
    ),
    # -- jobs ------------------------------------------------------------------
    "job-superseded": ErrorCode(
        "Another worker has taken over this job", 409, "Nothing to do."
    ),
    "job-cancelled": ErrorCode("The job was cancelled", 409, "Press again to restart."),
    "job-gave-way": ErrorCode(
        "An automatic job gave way to one that a person asked for",
        409,
        "Nothing to do; it is taken up again by itself.",
    ),
    "job-attempts-exhausted": ErrorCode(
        "The worker died every time it tried this job",
        500,
        "Look at the worker's log; press again after mending the cause.",
    ),
    # -- files (command line) --------------------------------------------------
    "input-unreadable": ErrorCode(
        "The given files cannot be read",
        422,
        "Give a DICOM folder, a ZIP of one, or a NIfTI file.",
    ),
    "input-ambiguous": ErrorCode(
        "The given files leave a choice open",
        422,
        "Name the series with --series, or give the folder of one study.",
    ),
    "output-exists": ErrorCode(
        "The output folder holds results already",
        409,
        "Choose another folder, or add --overwrite.",
    ),
    "output-unwritable": ErrorCode(
        "The output cannot be written",
        500,
        "Check the folder's permissions, or choose another folder.",
    ),
    "database-unusable": ErrorCode(
        "The database cannot be used",
        503,
        "Try again shortly. If it stays so, check METIA_DATABASE_URL, and run "
        "`./metia db upgrade`.",
    ),
    "configuration-invalid": ErrorCode(
        "A setting is not valid", 500, "Correct the named setting and start again."
    ),
}


class MetiaError(Exception):
    """A failure with a stable code.

    Parameters
    ----------
    code : str
        A key of ``CODES``.
    detail : str
        One sentence about this occurrence, free of patient data.
    facts : dict, optional
        Machine-readable facts about this occurrence (numbers, UIDs the caller sent),
        free of patient data; answered as members of the problem document.
    """

    def __init__(
        self, code: str, detail: str, facts: dict[str, object] | None = None
    ) -> None:
        if code not in CODES:
            raise KeyError(f"{code!r} is not a known error code")
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.facts = dict(facts or {})

    @property
    def info(self) -> ErrorCode:
        """What is fixed about this error's code."""
        return CODES[self.code]
