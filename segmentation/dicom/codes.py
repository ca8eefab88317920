"""The coded terms and display colours written into DICOM objects.

Codes come from pydicom's dictionary of DICOM PS3.16, so that their meanings are spelled
as there. Constants only; called by everything in ``segmentation.dicom``.
"""

from __future__ import annotations

from pydicom.sr.codedict import codes

ABNORMAL_STRUCTURE = codes.SCT.MorphologicallyAbnormalStructure
"""49755003: category of the segments (CID 7150)."""
METASTASIS = codes.SCT.NeoplasmSecondary
"""14799000 Neoplasm, Secondary: type of the segments (CID 7159)."""
BRAIN = codes.SCT.Brain
"""12738006: anatomic region of the segments."""
ARTIFICIAL_INTELLIGENCE = codes.DCM.ArtificialIntelligence
"""123110: family of the algorithm (CID 7162)."""

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
