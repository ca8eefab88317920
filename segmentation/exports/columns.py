"""The columns of the exported tables, each with what it means; the one list of them.

Names and order are a promise to whoever reads the files: columns are only ever added
at the end. Names are those of CDISC's domains TU, TR and RS where there is one; those
that begin with X are ours. ``docs/exports.md`` repeats this list; a test holds it to
that. Constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

TableName = Literal["tu", "tr", "rs"]
TABLE_NAMES: Final[tuple[TableName, ...]] = get_args(TableName)

TITLES: Final[Mapping[TableName, str]] = {
    "tu": "Tumour identification: one row a lesion",
    "tr": "Tumour results: one row a lesion, visit and test; sums of the targets",
    "rs": "Response: one row a visit and kind of response",
}

_DATE = "Date of the study, ISO 8601; empty unless identifiers were asked for"
_DAY = "Day of the study; the baseline is day 1, there is no day 0"
_SUBJECT = {
    "STUDYID": "METIA",
    "DOMAIN": "Name of the table",
    "USUBJID": "MetIA's key of the patient; the patient ID with identifiers",
}
_VISIT = {
    "VISITNUM": "Number of the visit, from 1, in order of time",
    "VISIT": "BASELINE, or VISIT and the number",
}

COLUMNS: Final[Mapping[TableName, Mapping[str, str]]] = {
    "tu": {
        **_SUBJECT,
        "TUSEQ": "Number of the row",
        "TUREFID": "Study Instance UID; empty unless identifiers were asked for",
        "TUSPID": "MetIA's identifier of the lesion",
        "TULNKID": "Label of the lesion, such as M1; links to TR",
        "TUTESTCD": "TUMIDENT",
        "TUTEST": "Tumor Identification",
        "TUORRES": "TARGET, NON-TARGET, or NEW (not there at baseline)",
        "TUSTRESC": "As TUORRES",
        "TULOC": "BRAIN",
        "TUMETHOD": "MRI",
        "TUEVAL": "SOFTWARE, or INVESTIGATOR where a reader accepted the lesion",
        **_VISIT,
        "TUDTC": _DATE,
        "TUDY": _DAY,
        "XKIND": "Kind of lesion: parenchymal, dural, cystic_only ...",
        "XPARENT": "Label of the lesion of which this is a fragment",
        "XCERTAIN": "Of a new lesion: unequivocal, equivocal, not_tumour; a reader's",
        "XTRKUID": "DICOM tracking UID of the lesion, the same at all visits",
    },
    "tr": {
        **_SUBJECT,
        "TRSEQ": "Number of the row",
        "TRGRPID": "TARGET, NON-TARGET or NEW",
        "TRREFID": "Study Instance UID; empty unless identifiers were asked for",
        "TRLNKID": "Label of the lesion; empty for sums",
        "TRTESTCD": "TUMSTATE, LDIAM, LPERP, VOLUME; sums: SUMLDIAM, PCBSD, PCNSD",
        "TRTEST": "TRTESTCD in words",
        "TRORRES": "Result",
        "TRORRESU": "Its unit: mm, mL, %",
        "TRSTRESC": "As TRORRES",
        "TRSTRESN": "Result as a number",
        "TRSTRESU": "As TRORRESU",
        "TRSTAT": "NOT DONE where there is no result",
        "TRREASND": "Why there is none",
        "TRMETHOD": "MRI",
        "TREVAL": "SOFTWARE, or INVESTIGATOR where a reader accepted the lesion",
        **_VISIT,
        "TRDTC": _DATE,
        "TRDY": _DAY,
        "XMEASBL": "Y where the lesion is measurable by the criteria, N where not",
        "XREVIEW": "unverified or accepted; rejected lesions leave with no export",
        "XCOUNTS": "Y where the lesion takes part in the visit's assessment",
        "XLINK": "How it came to be this lesion: automatic, pending, confirmed",
    },
    "rs": {
        **_SUBJECT,
        "RSSEQ": "Number of the row",
        "RSREFID": "Study Instance UID; empty unless identifiers were asked for",
        "RSTESTCD": "TRGRESP, NTRGRESP, NEWLIND, OVRLRESP, BESTRESP",
        "RSTEST": "RSTESTCD in words",
        "RSCAT": "Response criteria: RANO-BM or RECIST-1.1",
        "RSORRES": "CR, PR, SD, PD, NE, NON-CR/NON-PD, NED, INDETERMINATE, NA; Y or N",
        "RSSTRESC": "As RSORRES",
        "RSSTAT": "NOT DONE where there is no response (baseline, visit left out)",
        "RSREASND": "Why there is none",
        "RSEVAL": "SOFTWARE: what the criteria propose; INVESTIGATOR: a signature",
        "RSEVALID": "Who signed",
        **_VISIT,
        "RSDTC": _DATE,
        "RSDY": _DAY,
        "XRULEVER": "Version of the rule set",
        "XCONFIRM": "Y or N: whether the response is confirmed; empty: not asked for",
        "XSIGNED": "Y signed; STALE signed, but the inputs changed since; N proposed",
        "XREASONS": "Reasons with their codes; with a signature, its comment",
    },
}
