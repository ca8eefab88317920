"""The coded terms and display colours written into DICOM objects.

Codes come from pydicom's dictionary of DICOM PS3.16, so that their meanings are spelled
as there. Constants only; called by everything in ``segmentation.dicom``.
"""

from __future__ import annotations

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

ABNORMAL_STRUCTURE = codes.SCT.MorphologicallyAbnormalStructure
"""49755003: category of the segments (CID 7150)."""
METASTASIS = codes.SCT.NeoplasmSecondary
"""14799000 Neoplasm, Secondary: type of the segments (CID 7159)."""
BRAIN = codes.SCT.Brain
"""12738006: anatomic region of the segments."""
ARTIFICIAL_INTELLIGENCE = codes.DCM.ArtificialIntelligence
"""123110: family of the algorithm (CID 7162)."""

LONG_AXIS = Code("103339001", "SCT", "Long Axis")
"""Of a lesion; OHIF knows it by exactly this spelling of the meaning."""
SHORT_AXIS = Code("103340004", "SCT", "Short Axis")
VOLUME = codes.SCT.Volume
SEGMENTED_VOXELS = codes.DCM.SumOfSegmentedVoxelMethodForVolume
"""126030: the volume is the sum of the voxels (CID 7474)."""
DIAMETER_3D = codes.IBSI.Maximum3DDiameterOfAMesh
REFERENCED_SEGMENT = codes.DCM.ReferencedSegment
BASELINE_CATEGORY = codes.DCM.BaselineCategory
TARGET = codes.DCM.TargetLesionAtBaseline
NON_TARGET = codes.DCM.NonTargetLesionAtBaseline
BASELINE = codes.cid6146.Baseline
"""Type of a time point (CID 6146)."""
RESPONSE_METHOD = codes.DCM.ResponseEvaluationMethod
CURRENT_RESPONSE = codes.DCM.CurrentResponse
CRITERIA: dict[str, Code] = {
    "RANO-BM": codes.NCIt.RANO,
    "RECIST 1.1": codes.DCM.RECIST1Point1,
}
"""By the title of the rule set. There is no code of RANO-BM: C114879 is RANO, so the
criteria and their version are said in words beside it."""
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")

OWN_SCHEME = "99METIA"
SUM_OF_DIAMETERS = Code("sum-of-diameters", OWN_SCHEME, "Sum of longest diameters")
SUM_OF_VOLUMES = Code("sum-of-volumes", OWN_SCHEME, "Sum of lesion volumes")
CHANGE_FROM_BASELINE = Code("change-baseline", OWN_SCHEME, "Change from baseline")
CHANGE_FROM_NADIR = Code("change-nadir", OWN_SCHEME, "Change from nadir")
RULES_VERSION = Code("rules-version", OWN_SCHEME, "Version of the rule set")
ASSESSMENT_STATUS = Code("assess-status", OWN_SCHEME, "Status of the assessment")
PROPOSED = Code("proposed", OWN_SCHEME, "Proposed by software, not signed")
SIGNED = Code("signed", OWN_SCHEME, "Signed by a reader")

RESPONSES: dict[str, Code] = {
    "CR": Code("C4870", "NCIt", "Complete Response"),
    "PR": Code("C18058", "NCIt", "Partial Response"),
    "SD": Code("C18213", "NCIt", "Stable Disease"),
    "PD": Code("C35571", "NCIt", "Progressive Disease"),
    "NE": Code("C62222", "NCIt", "Not Evaluable"),
    "NON_CR_NON_PD": Code("non-cr-non-pd", OWN_SCHEME, "Neither CR nor PD"),
    "NED": Code("ned", OWN_SCHEME, "No evidence of disease"),
    "INDETERMINATE": Code("indeterminate", OWN_SCHEME, "Indeterminate"),
    "BASELINE": Code("baseline", OWN_SCHEME, "Baseline, no response yet"),
    "NOT_APPLICABLE": Code("not-applicable", OWN_SCHEME, "Not applicable"),
}
"""Categories of ``segmentation.followup`` as codes."""

Colour = tuple[int, int, int]

COLOURS: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (240, 228, 66),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (0, 114, 178),
    (245, 205, 120),
    (165, 215, 245),
    (248, 242, 165),
    (238, 165, 115),
    (115, 210, 180),
    (232, 190, 212),
    (110, 175, 215),
)
"""RGB, 0 to 255. The seven colours of Okabe and Ito (2008) that are neither black nor
grey, so that the common kinds of colour blindness tell them apart and grey MR hides
none, then a light tint of each. Neighbours in size get colours far apart."""


def colour_of(number: int) -> Colour:
    """Return the colour of lesion `number` (1, 2, ...); the palette starts over."""
    return COLOURS[(number - 1) % len(COLOURS)]
