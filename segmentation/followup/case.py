"""What a response assessment is made from: one patient's visits, as plain data.

A `Case` holds raw readings only; nothing derived is stored, so every answer can be made
again from it, in whatever order the visits came. Lengths are integer tenths of a
millimetre, volumes integer tenths of a cubic millimetre, so that no comparison ever
meets a binary fraction. Pure and immutable; made by ``case_reading`` (which checks), by
the follow-up database and by tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum


class State(StrEnum):
    """What was seen of one lesion at one visit."""

    MEASURED = "measured"
    TOO_SMALL = "too_small"
    """Visible, but too small to measure."""
    ABSENT = "absent"
    """Looked for and not there."""
    NOT_ASSESSED = "not_assessed"
    MERGED = "merged"
    """Fused with another lesion, which carries the measurement."""
    SPLIT = "split"
    """Fell apart: the fragments carry the measurements."""
    LOCALLY_TREATED = "locally_treated"


class Certainty(StrEnum):
    """What the reader says about a new lesion."""

    UNEQUIVOCAL = "unequivocal"
    EQUIVOCAL = "equivocal"
    NOT_TUMOUR = "not_tumour"


class NonTarget(StrEnum):
    """What the reader says about all non-target disease together."""

    NONE = "none"
    COMPLETE_RESPONSE = "complete_response"
    NEITHER = "non_cr_non_pd"
    PROGRESSION = "unequivocal_progression"
    NOT_ASSESSED = "not_assessed"


class Clinical(StrEnum):
    """The patient's state, compared with before, as the reader judges it."""

    STABLE = "stable"
    BETTER = "better"
    WORSE_TUMOUR = "worse_due_to_tumour"
    WORSE_OTHER = "worse_other_cause"
    NOT_RECORDED = "not_recorded"


class SteroidUse(StrEnum):
    """Corticosteroids at a visit."""

    NONE = "none"
    PHYSIOLOGICAL = "physiological"
    """Replacement only."""
    PHARMACOLOGICAL = "pharmacological"
    NOT_RECORDED = "not_recorded"


class SteroidChange(StrEnum):
    """How the dose moved."""

    STABLE = "stable"
    DECREASED = "decreased"
    INCREASED = "increased"
    NOT_RECORDED = "not_recorded"


class Role(StrEnum):
    """What a lesion counts as."""

    TARGET = "target"
    NON_TARGET = "non_target"


class Kind(StrEnum):
    """Where and what a lesion is, as far as it decides whether it can be measured."""

    PARENCHYMAL = "parenchymal"
    SOLID_NODULE = "solid_nodule"
    """Of a cystic lesion or beside a cavity: the nodule alone was measured."""
    CYSTIC_ONLY = "cystic_only"
    DURAL = "dural"
    BONE = "bone"
    LEPTOMENINGEAL = "leptomeningeal"
    ILL_DEFINED = "ill_defined"
    """Cannot be delimited reproducibly."""
    SOFT_TISSUE = "soft_tissue"
    """Outside the central nervous system."""


class Compartment(StrEnum):
    """Inside or outside the central nervous system."""

    CNS = "cns"
    EXTRACRANIAL = "extracranial"


@dataclass(frozen=True)
class Observation:
    """One lesion at one visit.

    Attributes
    ----------
    longest_tenths_mm, perpendicular_tenths_mm : int or None
        Diameters in the patient's axial plane.
    touches_border : bool
        Goes on outside the image, so that nobody knows how far.
    volume_tenths_mm3 : int or None
        0.1 mm3 = 0.0001 ml.
    reason : str
        Of ``not_assessed``.
    into : str or None
        Of ``merged``: the lesion that carries the measurement.
    treated_on : date or None
        Of ``locally_treated``.
    modality : str
        Of ``locally_treated``.
    certainty, projections
        Of a lesion that was not there at baseline.
    reappearance : {'tumour', 'not_tumour', 'undetermined'}
        What the reader says of a small lesion at an old site after complete response.
    """

    lesion: str
    state: State
    longest_tenths_mm: int | None = None
    perpendicular_tenths_mm: int | None = None
    slice_count: int | None = None
    touches_border: bool = False
    volume_tenths_mm3: int | None = None
    reason: str = ""
    into: str | None = None
    treated_on: date | None = None
    modality: str = ""
    radionecrosis_suspected: bool = False
    certainty: Certainty | None = None
    projections: int | None = None
    reappearance: str = "undetermined"

    @property
    def visible(self) -> bool:
        """Whether there was something to see."""
        return self.state in (State.MEASURED, State.TOO_SMALL)


@dataclass(frozen=True)
class Steroids:
    """Corticosteroids at one visit.

    Attributes
    ----------
    change : SteroidChange or None
        As the reader says; None to derive it from the doses.
    dose_tenths_mg : int or None
        Dexamethasone equivalent a day.
    """

    use: SteroidUse
    change: SteroidChange | None = None
    dose_tenths_mg: int | None = None


@dataclass(frozen=True)
class Lesion:
    """What does not change about a lesion.

    Attributes
    ----------
    role : Role or None
        Set by the reader; None to let the rules choose.
    split_from : str or None
        The lesion of which this is a fragment.
    progressed_since_treatment : bool or None
        None: not treated locally before baseline. Otherwise whether it has grown
        unequivocally since.
    """

    id: str
    kind: Kind = Kind.PARENCHYMAL
    compartment: Compartment = Compartment.CNS
    organ: str = "brain"
    role: Role | None = None
    split_from: str | None = None
    progressed_since_treatment: bool | None = None


@dataclass(frozen=True)
class Visit:
    """One scan and what the reader knew that day."""

    id: str
    date: date
    observations: dict[str, Observation]
    steroids: Steroids
    clinical: Clinical
    non_target: NonTarget | None = None
    slice_thickness_tenths_mm: int | None = None
    slice_gap_tenths_mm: int = 0
    technique_changed: bool = False
    series_note: str = ""
    extracranial_response: str = "not_recorded"

    @property
    def slice_distance_tenths_mm(self) -> int | None:
        """Thickness and gap together."""
        if self.slice_thickness_tenths_mm is None:
            return None
        return self.slice_thickness_tenths_mm + self.slice_gap_tenths_mm


@dataclass(frozen=True)
class Protocol:
    """Where the sources leave a choice, or a study may differ: named switches.

    The meaning of each is in ``docs/rano-bm.md`` and in ``case_schema.json``.
    """

    max_targets: int = 5
    small_lesions_measurable: bool = False
    thick_slice_rule: bool = True
    missing_measurability: str = "assume_met"
    baseline_max_days: int = 28
    too_small_value_tenths_mm: int = 50
    default_value_counts_as_growth: bool = False
    lesion_growth_reference: str = "nadir_visit"
    cr_allows_physiological_steroids: bool = True
    steroids_at_complete_response: str = "partial_response"
    steroid_increase_without_progression: str = "indeterminate"
    steroid_reference: str = "baseline"
    missing_reader_input: str = "assume_stable"
    local_therapy: str = "not_evaluable"
    radionecrosis: str = "flag"
    relapse_tenths_mm: int = 50
    confirmation_required: bool = True
    confirmation_days: int = 28
    stable_disease_min_days: int = 0
    immunotherapy_window_months: int = 6
    immunotherapy_confirmation: str = "growth"
    immunotherapy_confirmation_days: int = 28
    immunotherapy_growth_tenths_mm: int = 1
    recist_max_per_organ: int = 2
    measurement_sd_tenths_mm: int = 5


@dataclass(frozen=True)
class BaselineReset:
    """From this visit on, the comparison starts anew."""

    visit: str
    reason: str


@dataclass(frozen=True)
class Case:
    """Everything known about one patient.

    Attributes
    ----------
    visits : tuple of Visit
        In order of date, whatever order they were given in.
    baseline : str or None
        The designated visit; None: the last one not after `treatment_start`.
    """

    id: str
    lesions: dict[str, Lesion]
    visits: tuple[Visit, ...]
    protocol: Protocol = field(default_factory=Protocol)
    treatment_start: date | None = None
    immunotherapy_start: date | None = None
    baseline: str | None = None
    resets: tuple[BaselineReset, ...] = ()
    description: str = ""
