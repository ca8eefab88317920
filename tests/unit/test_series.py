"""Choice of the post-contrast T1: a table of descriptions as vendors write them."""

from __future__ import annotations

import random
import re

import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from orthanc.archive import SeriesHeader
from orthanc.classification import classify
from orthanc.series import REASONS, UNSUITABLE, rank_series
from orthanc.wording import read_wording

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def header(description: str = "", **attributes: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = MR
    dataset.Modality = "MR"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    dataset.SeriesDescription = description
    dataset.BodyPartExamined = "BRAIN"
    dataset.SliceThickness = "1.0"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def series(uid: str, sample: Dataset, count: int = 160) -> SeriesHeader:
    return SeriesHeader(series_uid=uid, instance_count=count, sample=sample)


POST_CONTRAST = [
    "T1post", "T1W3D GADO", "t1_mprage_sag_p2_iso_Gd", "AX T1 +C", "AX T1+C",
    "T1 TSE KM", "3D T1 EG GADO", "FUSION T1 GADO", "B T1 AXIAL SE +",
    "Ax T1 SE POST", "+C Ax T1 BRAVO", "Ax BRAVO +C", "AX 3D T1 MPRAGE POST GAD",
    "T1 MPRAGE tra nach KM", "t1_mpr_tra_iso_KM", "T1 mit KM", "sT1W_3D_TFE_CE",
    "sT1W_3D_TFE_GADO", "3D T1 SPACE FS GADO", "T1 CUBE FS C+", "SAG CUBE T1 +C FS",
    "Sag T1 CUBE GD", "eTHRIVE_Gd", "t1_vibe_fs_tra_post", "AX FSPGR +C",
    "3D FSPGR GADO", "SPGR GADO", "T1 SE TRA GADO", "T1 AX APRES INJECTION",
    "AX T1 apres gado", "AX T1 Après Injection de Gadolinium", "T1 inj", "3DT1 INJ",
    "T1 INJECTÉ", "AXIAL T1 AVEC INJECTION", "T1 3D post-contrast", "T1C", "T1CE",
    "t1ce", "T1-GD", "T1Gd", "T1w_Gd", "T1KM", "T1 FLAIR +C", "AX T1 FLAIR POST",
    "T1 AX POST GD FS", "T1 PRE OP GADO", "PREOP T1 GADO", "T1 POST-OP GADO",
    "T1 GADO POST RT", "STEALTH T1 GADO", "NEURONAV MPRAGE GD", "T1 Dotarem",
    "MPRAGE Gadovist", "T1 KONTRASTMITTEL", "MP-RAGE + GD", "MP RAGE POST",
    "T1 TARDIF GADO", "Ax T1 delayed post gad", "VIBE 3D DIXON GADO W",
    "T1W IR TSE POST CONTRAST", "SE T1 GADO CRANE", "T1 3D TFE gado ENCEPHALE",
    "Schädel T1 KM", "T1 (+)", "T1 C+ AX", "T1_AX_C+", "W T1 CE", "3D_T1_TFE_post_Gd",
    "T1_SE_AX_GD15ML", "T1 GD-DOTA", "T1 TRA VIBE KM 3D", "AX T1 POST FOSSA GADO",
    "mprage_gado_0.9mm", "T1 BRAVO CONTRAST",
    "T1W_TSE_DRIVE_GADO",
    "T1 FLOW COMP GADO", "MPRAGE MOCO GADO", "AX T1 FS WITH",
    "T1 AVEC", "T1 DARK FLUID KM", "T1 POST PERF GADO", "T1 IV+",
    "T1 SPIN ECHO ENHANCED", "t1 mpr tra KM", "AX T1 SE INJ", "T1 IV", "T1 avec IV",
    "T1 i.v. KM", "T1 post i.v. Gd", "T1w nach i.v. KM", "AX T1 W/C", "ceT1",
    "T1 MDC", "T1 PDC", "T1 con MdC", "sub-01_ce-gadolinium_T1w",
    "T1 GADO SANS FAT SAT", "T1 APRES GADO SANS FS", "T1 KM ohne FS", "T1 gd w/o fs",
    "T1 POST WITHOUT FS", "t1_vibe_dixon_tra_KM_W", "WATER: AX T1 FLEX +C",
    "FAT SAT AX T1 GADO", "t1_mp2rage_UNI GADO",
    "vT1W_POST",
]  # fmt: skip

REFUSED = {
    # T1 before, without, or without word of contrast
    "T1 SE AX": "no-contrast",
    "t1_mprage_sag_p2_iso": "no-contrast",
    "AX T1 POSTERIOR FOSSA": "no-contrast",
    "T1 POST FOSSA": "no-contrast",
    "T1 FOSSE POST": "no-contrast",
    "T1 CEREBRAL": "no-contrast",
    "T1 AX POST OP": "no-contrast",
    "T1 POSTOP": "no-contrast",
    "T1 POST RT": "no-contrast",
    "T1 POST SRS": "no-contrast",
    "MPRAGE BASELINE": "no-contrast",
    "T1 W/WO": "no-contrast",
    "BRAIN W WO T1": "no-contrast",
    "T1 SANS ET AVEC GADO": "no-contrast",
    "T1 mit und ohne KM": "no-contrast",
    "T1 +/- C": "no-contrast",
    "T1 TSE KMPL": "no-contrast",
    "T1 AX PRE": "before-contrast",
    "PRE GADO T1": "before-contrast",
    "T1 PRE-CONTRAST": "before-contrast",
    "T1 SANS INJECTION": "before-contrast",
    "T1 sans gado": "before-contrast",
    "T1 non injecté": "before-contrast",
    "T1 avant injection": "before-contrast",
    "T1 NATIV": "before-contrast",
    "T1 tra nativ": "before-contrast",
    "T1 ohne KM": "before-contrast",
    "T1 vor KM": "before-contrast",
    "AX T1 W/O": "before-contrast",
    "AX T1 W/O CONTRAST": "before-contrast",
    "AX T1 WITHOUT GD": "before-contrast",
    "AX T1 -C": "before-contrast",
    "T1-C": "before-contrast",
    "T1 C-": "before-contrast",
    "T1_C-_AX": "before-contrast",
    "T1 KM-": "before-contrast",
    "T1 NON CONTRAST": "before-contrast",
    "T1 NO GD": "before-contrast",
    "T1 IV-": "before-contrast",
    "SAG T1 SANS IV": "before-contrast",
    "T1 S/GADO": "before-contrast",
    "T1 s/ inj": "before-contrast",
    "T1 SS INJECTION": "before-contrast",
    "T1 AVT GADO": "before-contrast",
    "T1 HORS INJ": "before-contrast",
    "T1 GADO NON": "before-contrast",
    "T1 IV -": "before-contrast",
    "T1 GADO -": "before-contrast",
    "T1 o. KM": "before-contrast",
    "T1_oKM": "before-contrast",
    "T1 v. KM": "before-contrast",
    "T1 KM neg": "before-contrast",
    "T1 w/out gad": "before-contrast",
    "T1 w.o. contrast": "before-contrast",
    "T1 wout contrast": "before-contrast",
    "T1 prior to contrast": "before-contrast",
    "T1 sin contraste": "before-contrast",
    "T1 senza mdc": "before-contrast",
    "T1 sem contraste": "before-contrast",
    "T1 zonder contrast": "before-contrast",
    "T1 av. gado": "no-contrast",
    "T1 IV VENTRICULE": "no-contrast",
    "T1 SANS FS": "no-contrast",
    "T1 C-/C+": "no-contrast",
    "T1 WITH FAT SAT": "no-contrast",
    # other kinds, most of them after contrast agent
    "AX T2": "t2",
    "T2 TSE TRA GADO": "t2",
    "t2_tse_tra_320_p2": "t2",
    "FIESTA GADO": "t2",
    "AX T2 FLAIR POST": "flair",
    "3D FLAIR GADO": "flair",
    "t2_spc_da-fl_sag": "t2",
    "T2W_FLAIR": "flair",
    "TIRM dark-fluid tra": "flair",
    "T2* GRE": "t2star",
    "AX SWAN": "t2star",
    "SWI_Images": "t2star",
    "ep2d_diff_3scan_trace_p2_ADC": "diffusion",
    "DWI b1000": "diffusion",
    "ADC": "diffusion",
    "DTI 32 dir": "diffusion",
    "ep2d_perf": "perfusion",
    "PERFUSION T2* GADO": "perfusion",
    "DSC GADO": "perfusion",
    "T1 DCE GADO": "perfusion",
    "rCBV": "perfusion",
    "3D ASL": "perfusion",
    "T1 DYNAMIQUE GADO HYPOPHYSE": "perfusion",
    "T1 SUB GADO": "subtraction",
    "SUBTRACTION T1": "subtraction",
    "T1 GADO SOUSTRACTION": "subtraction",
    "T1 POST - PRE": "subtraction",
    "3D TOF": "angiography",
    "TOF GADO": "angiography",
    "CE-MRA": "angiography",
    "MRV GADO": "angiography",
    "PHASE CONTRAST 3D": "angiography",
    "localizer": "localizer",
    "3-Plane Loc": "localizer",
    "AAHead_Scout": "localizer",
    "Survey_SHC": "localizer",
    "REPERAGE": "localizer",
    "T1 SCOUT GADO": "localizer",
    "SPECTRO CSI GADO": "spectroscopy",
    "PRESS 144": "spectroscopy",
    "BOLD motor": "functional",
    "fMRI rest": "functional",
    "gre_field_mapping": "fieldmap",
    "T1 MAP GADO": "map",
    "STIR COR GADO": "stir",
    "PD TSE": "pd",
    "Screen Save": "screenshot",
    "CRANE NEURO": "unknown-kind",
    "": "unknown-kind",
    # parts of an acquisition that no T1 reader takes
    "t1_vibe_dixon_tra_KM_F": "dixon-fat",
    "FAT: AX T1 FLEX +C": "dixon-fat",
    "t1_mp2rage_INV1 GADO": "map",
    "t1_mp2rage_sag_INV2 GADO": "map",
    "t1_mp2rage_T1_Images GADO": "map",
    # reformats: only when a person says so
    "T1 GADO MPR": "reformat",
    "MPR AX T1 GADO": "reformat",
    "T1 GD MIP": "reformat",
    "REFORMAT T1 POST": "reformat",
    # elsewhere
    "T1 SPINE GADO": "not-head",
    "C-SPINE T1 +C": "not-head",
    "T1 SAG RACHIS GADO": "not-head",
    "T1 LWS KM": "not-head",
    "T1 FS PELVIS GADO": "not-head",
    "BREAST T1 GD": "not-head",
}


@pytest.mark.parametrize("description", POST_CONTRAST)
def test_post_contrast_t1_is_chosen(description):
    ranking = rank_series([series("1.2", header(description))])
    assert ranking.chosen is not None, [r.code for r in ranking.candidates[0].reasons]
    codes = {reason.code for reason in ranking.chosen.reasons}
    assert codes & {"contrast-named", "contrast-implied"}
    assert codes & {"t1"}


@pytest.mark.parametrize(("description", "code"), REFUSED.items())
def test_other_series_are_refused_for_the_right_reason(description, code):
    ranking = rank_series([series("1.2", header(description))])
    assert ranking.chosen is None
    assert code in {reason.code for reason in ranking.candidates[0].reasons}


def test_the_table_is_large_enough():
    assert len(POST_CONTRAST) + len(REFUSED) >= 160


@pytest.mark.parametrize("change", [str.lower, str.upper, lambda text: f"  {text}\0",
                                    lambda text: text.replace(" ", "_")])  # fmt: skip
def test_case_and_separators_do_not_matter(change):
    for description in POST_CONTRAST:
        if change is str.lower and description.islower():
            continue
        said = read_wording(change(description))
        assert said.contrast is True, change(description)
        assert said.kind == "t1", change(description)


@pytest.mark.parametrize(
    "text",
    ["POSTERIOR", "CEREBRAL", "POSTURE", "GDANSK", "KMS", "INJURY", "PRESTO", "PREP"],
)
def test_words_inside_other_words_do_not_count(text):
    assert read_wording(f"T1 {text}").contrast is None


# -- parameters ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        (dict(ScanningSequence="SE", EchoTime="10", RepetitionTime="600"), "t1"),
        (dict(ScanningSequence="SE", EchoTime="100", RepetitionTime="4000"), "t2"),
        (dict(ScanningSequence=["SE", "IR"], EchoTime="394", RepetitionTime="6000",
              InversionTime="2200"), "flair"),
        (dict(ScanningSequence=["GR", "IR"], SequenceVariant=["SP", "MP"],
              EchoTime="2.3", RepetitionTime="1900", InversionTime="900"), "t1"),
        (dict(ScanningSequence="GR", SequenceVariant="SP", EchoTime="4.6",
              RepetitionTime="25"), "t1"),
        (dict(ScanningSequence="GR", EchoTime="20", RepetitionTime="30"), "t2star"),
        (dict(ScanningSequence=["GR", "EP"], EchoTime="30", RepetitionTime="1500"),
         "functional"),
        (dict(SequenceName="*epfid2d1_64"), "functional"),
        (dict(ScanningSequence="SE", EchoTime="30", RepetitionTime="3000"), "pd"),
        (dict(ScanningSequence="SE", EchoTime="", RepetitionTime="3000"), None),
        (dict(ScanningSequence="RM", EchoTime="3", RepetitionTime="6"), None),
        ({}, None),
    ],
)  # fmt: skip
def test_kind_from_parameters_where_words_are_silent(attributes, kind):
    assert classify(header("", **attributes), 160).kind == kind


def test_parameters_outweigh_a_description_left_from_another_sequence():
    odd = header("T1 GADO", ScanningSequence="SE", EchoTime="110",
                 RepetitionTime="5000")  # fmt: skip
    assert classify(odd, 160).kind == "t2"


def test_protocol_name_speaks_where_the_description_is_silent():
    assert rank_series([series("1", header("", ProtocolName="T1 GADO"))]).chosen
    both = header("AX T2", ProtocolName="T1 GADO")
    assert rank_series([series("1", both)]).chosen is None


def test_enhanced_multiframe_facts_lie_in_functional_groups():
    sample = header("SERIE 7 GADO", SOPClassUID=ENHANCED_MR, NumberOfFrames="180")
    del sample.SliceThickness
    shared, frame, measures, contrast = Dataset(), Dataset(), Dataset(), Dataset()
    frame.AcquisitionContrast = "T1"
    measures.SliceThickness = "1"
    contrast.ContrastBolusAgentAdministered = "YES"
    shared.MRImageFrameTypeSequence = [frame]
    shared.PixelMeasuresSequence = [measures]
    sample.SharedFunctionalGroupsSequence = [shared]
    ranking = rank_series([series("1", sample, count=1)])
    assert ranking.chosen is not None
    assert {"t1-by-parameters", "thin-slices", "many-slices"} <= {
        reason.code for reason in ranking.chosen.reasons
    }


# -- contrast fields -----------------------------------------------------------


@pytest.mark.parametrize("agent", ["NONE", "NO", "No", "n", "", " ", None, "0"])
def test_an_agent_of_none_is_no_agent(agent):
    ranking = rank_series([series("1", header("T1 SE", ContrastBolusAgent=agent))])
    assert ranking.chosen is None


def test_a_filled_agent_is_enough_but_words_are_better():
    tag = series("1", header("T1 SE", ContrastBolusAgent="10cc Multihance"))
    assert rank_series([tag]).chosen is not None
    words = series("2", header("T1 SE GADO"))
    chosen = rank_series([tag, words]).chosen
    assert chosen is not None
    assert chosen.series_uid == "2"


def test_words_against_contrast_outweigh_a_filled_agent():
    sample = header("T1 SANS GADO", ContrastBolusAgent="DOTAREM")
    assert rank_series([series("1", sample)]).chosen is None


# -- siblings ------------------------------------------------------------------


def study() -> list[SeriesHeader]:
    return [
        series("1", header("localizer", SeriesNumber=1), 9),
        series("2", header("t1_mprage_sag", SeriesNumber=2), 176),
        series("3", header("t2_tse_tra", SeriesNumber=3), 30),
        series("4", header("FLAIR", SeriesNumber=4), 30),
        series("5", header("t1_mprage_sag_Gd", SeriesNumber=5), 176),
        series("6", header("t1_se_tra_Gd", SeriesNumber=6, SliceThickness="5"), 24),
        series("7", header("t1_mprage_Gd MPR", SeriesNumber=7,
                           ImageType=["DERIVED", "SECONDARY", "MPR"]), 60),
        series("8", header("T1 SUB", SeriesNumber=8), 176),
    ]  # fmt: skip


def test_the_best_of_a_study_wins_and_every_series_is_listed():
    ranking = rank_series(study())
    assert ranking.chosen is not None
    assert ranking.chosen.series_uid == "5"
    assert len(ranking.candidates) == 8
    assert [c.series_uid for c in ranking.candidates if c.suitable] == ["5", "6"]


def test_order_does_not_depend_on_the_order_of_arrival():
    expected = rank_series(study())
    shuffler = random.Random(7)
    for _ in range(50):
        headers = study()
        shuffler.shuffle(headers)
        assert rank_series(headers) == expected


def test_equal_series_are_told_apart_by_number_then_uid():
    twins = [series("1.9", header("T1 GADO", SeriesNumber=9)),
             series("1.5", header("T1 GADO")),
             series("1.2", header("T1 GADO", SeriesNumber=4))]  # fmt: skip
    order = [c.series_uid for c in rank_series(twins).candidates]
    assert order == ["1.2", "1.9", "1.5"]


def test_a_native_t1_names_its_sibling_after_contrast():
    ranking = rank_series(study())
    native = next(c for c in ranking.candidates if c.series_uid == "2")
    assert "contrast-sibling" in {reason.code for reason in native.reasons}


def test_score_is_the_sum_of_the_effects_and_codes_are_documented():
    for candidate in rank_series(study()).candidates:
        assert candidate.score == sum(reason.effect for reason in candidate.reasons)
        for reason in candidate.reasons:
            assert (reason.effect, reason.text) == REASONS[reason.code]
        unsuitable = {reason.code for reason in candidate.reasons} & UNSUITABLE
        assert candidate.suitable is not bool(unsuitable)


# -- refusal -------------------------------------------------------------------


def test_refusal_says_what_was_found_instead():
    ranking = rank_series([s for s in study() if s.series_uid in {"1", "2", "3", "4"}])
    assert ranking.chosen is None
    detail = ranking.refusal_detail()
    for word in ("4 series", "1 T2", "1 FLAIR", "1 localizer",
                 "1 T1 without sign of contrast", "by hand"):  # fmt: skip
        assert word in detail


def test_refusal_of_an_empty_study():
    assert rank_series([]).chosen is None
    assert "no series" in rank_series([]).refusal_detail()


def test_refusal_and_reasons_never_repeat_free_text():
    sample = header("ZZNAME T1", ProtocolName="ZZNAME", BodyPartExamined="ZZNAME",
                    StudyDescription="ZZNAME", SequenceName="ZZNAME")  # fmt: skip
    ranking = rank_series([series("1", sample)])
    texts = ranking.refusal_detail() + str(ranking.candidates[0].reasons)
    assert "ZZNAME" not in texts


# -- objects that are no MR images ----------------------------------------------


@pytest.mark.parametrize(
    ("modality", "sop_class", "code"),
    [
        ("CT", "1.2.840.10008.5.1.4.1.1.2", "not-mr"),
        ("SEG", "1.2.840.10008.5.1.4.1.1.66.4", "not-mr"),
        ("SR", "1.2.840.10008.5.1.4.1.1.88.33", "not-mr"),
        ("RTSTRUCT", "1.2.840.10008.5.1.4.1.1.481.3", "not-mr"),
        ("PR", "1.2.840.10008.5.1.4.1.1.11.1", "not-mr"),
        ("OT", "1.2.840.10008.5.1.4.1.1.7", "not-mr"),
        ("MR", "1.2.840.10008.5.1.4.1.1.7", "not-an-image"),
        ("MR", "1.2.840.10008.5.1.4.1.1.4.2", "not-an-image"),
        ("MR", "1.2.840.10008.5.1.4.1.1.66.4", "not-an-image"),
    ],
)
def test_other_objects_are_refused(modality, sop_class, code):
    sample = header("T1 GADO", Modality=modality, SOPClassUID=sop_class)
    ranking = rank_series([series("1", sample)])
    assert ranking.chosen is None
    assert code in {reason.code for reason in ranking.candidates[0].reasons}


@pytest.mark.parametrize(
    ("image_type", "code"),
    [
        (["DERIVED", "SECONDARY", "MPR"], "reformat"),
        (["DERIVED", "PRIMARY", "PROJECTION IMAGE"], "reformat"),
        (["DERIVED", "SECONDARY", "OTHER"], "derived"),
        (["DERIVED", "PRIMARY", "M", "SUB"], "subtraction"),
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], "localizer"),
        (["ORIGINAL", "PRIMARY", "P", "ND"], "phase"),
        (["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], "functional"),
    ],
)
def test_image_type_can_make_a_series_unsuitable(image_type, code):
    ranking = rank_series([series("1", header("T1 GADO", ImageType=image_type))])
    assert ranking.chosen is None
    assert code in {reason.code for reason in ranking.candidates[0].reasons}


def test_a_filtered_original_stays_suitable_behind_the_unfiltered_one():
    filtered = header("T1 GADO", ImageType=["DERIVED", "PRIMARY", "M", "NORM"])
    ranking = rank_series([series("1", filtered), series("2", header("T1 GADO"))])
    assert [c.series_uid for c in ranking.candidates] == ["2", "1"]
    assert all(candidate.suitable for candidate in ranking.candidates)


def test_two_slices_are_not_a_volume():
    assert rank_series([series("1", header("T1 GADO"), 2)]).chosen is None
    assert rank_series([series("1", header("T1 GADO"), 0)]).chosen is None


# -- part of the body ------------------------------------------------------------


def test_words_of_the_series_outweigh_the_body_part_field():
    sample = header("T1 BRAIN GADO", BodyPartExamined="CSPINE")
    chosen = rank_series([series("1", sample)]).chosen
    assert chosen is not None
    assert "body-part-conflict" in {reason.code for reason in chosen.reasons}


def test_the_study_speaks_where_the_series_is_silent():
    sample = header("T1 GADO", BodyPartExamined="", StudyDescription="IRM PELVIENNE")
    assert rank_series([series("1", sample)]).chosen is not None
    sample.StudyDescription = "MRI PELVIS"
    assert rank_series([series("1", sample)]).chosen is None


# -- broken headers ---------------------------------------------------------------


def test_odd_headers_never_raise():
    odd = [
        Dataset(),
        header("T1 GADO", EchoTime=["1", "2"], ScanningSequence=["SE", "IR", "EP"]),
        header("\u202egado\x00 T1", SeriesNumber=None),
        header("T1 " + "GADO" * 5000),
        header("T1GADO" * 40),
        header("T1 GADO", SharedFunctionalGroupsSequence=[]),
        header("T1 GADO", SharedFunctionalGroupsSequence=[Dataset()]),
        header("頭部 T1 造影", PatientName="山田"),
    ]
    broken = header("T1 GADO")
    for keyword, vr in (("SliceThickness", "DS"), ("SeriesNumber", "IS"),
                        ("EchoTime", "DS"), ("NumberOfFrames", "IS")):  # fmt: skip
        element = DataElement(keyword, "LO", "garbage")
        element.VR = vr
        broken[keyword] = element
    odd.append(broken)
    headers = [series(str(index), sample) for index, sample in enumerate(odd)]
    ranking = rank_series(headers)
    assert len(ranking.candidates) == len(odd)
    assert isinstance(ranking.refusal_detail(), str)


def test_a_hostile_description_is_read_quickly():
    import time

    start = time.perf_counter()
    for text in ("t1" * 5000, "gd" * 3000, "+" * 10_000, "w " * 5000, "-c" * 4000,
                 "pre " * 3000, "(" * 5000, "c-" * 4000):  # fmt: skip
        read_wording(text)
    assert time.perf_counter() - start < 1.0


def test_every_code_the_classification_gives_is_a_documented_reason():
    import ast
    import inspect

    from orthanc import classification
    from orthanc.wording import KIND_WORDS

    source = inspect.getsource(classification)
    literals = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    given = {text for text in literals if re.fullmatch(r"[a-z]+(-[a-z]+)+", text)}
    assert given <= set(REASONS)
    assert set(KIND_WORDS) <= set(REASONS)


@pytest.mark.parametrize("by", ["words", "image type"])
def test_of_a_dixon_acquisition_the_water_image_is_taken(by: str) -> None:
    parts = {"in": "IN_PHASE", "opp": "OPP_PHASE", "F": "FAT", "W": "WATER"}
    found = []
    for number, (word, kind) in enumerate(parts.items(), 1):
        sample = header("t1_vibe_dixon_tra_KM", SeriesNumber=number)
        if by == "words":
            sample.SeriesDescription += f"_{word}"
        else:
            sample.ImageType = ["ORIGINAL", "PRIMARY", "DIXON", kind]
        found.append(series(word, sample))
    ranking = rank_series(found)
    assert ranking.chosen is not None
    assert ranking.chosen.series_uid == "W"
    assert not next(c for c in ranking.candidates if c.series_uid == "F").suitable


@pytest.mark.parametrize(
    "description",
    [
        "T1 GADO FACE", "T1 GADO MASSIF FACIAL", "T1 GADO PAROTIDES", "T1 GADO CAVUM",
        "T1 KM Halsweichteile", "T1 POST TSP", "T1 GADO MEDULLAIRE", "T1 GADO CERV",
        "SAG T1 POST THORACOLUMBAR", "T1 GADO PLEXUS BRACHIAL", "T1 POST LUNG",
    ],
)  # fmt: skip
def test_another_part_of_the_body_is_never_taken(description: str) -> None:
    sample = header(description, BodyPartExamined="")
    ranking = rank_series([series("1", sample)])
    assert ranking.chosen is None
    assert "another part of the body" in ranking.refusal_detail()


def test_a_head_with_its_neighbours_is_a_head() -> None:
    for description in ("T1 GADO CRANIO-FACIAL", "BRAIN AND FACE T1 POST"):
        assert classify(header(description, BodyPartExamined=""), 100).head is True
