"""The size rule, in the record and in the follow-up: one rule, one answer."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmentation.followup.case import (
    Clinical,
    Lesion,
    Observation,
    Protocol,
    State,
    Steroids,
    SteroidUse,
    Visit,
)
from segmentation.followup.rano_bm import RANO_BM
from segmentation.followup.targets import why_not_measurable as why_no_target
from segmentation.measurability import (
    BORDER,
    LONGEST,
    LONGEST_THICK,
    PERPENDICULAR,
    REASONS,
    SLICES,
    least_longest_tenths_mm,
    slice_distance_mm,
    tenths,
    why_not_measurable,
)


def why(
    longest: float = 12.0,
    across: float = 8.0,
    slices: int = 5,
    distance: float = 1.0,
    border: bool = False,
) -> tuple[str, ...]:
    return why_not_measurable(longest, across, slices, distance, touches_border=border)


@pytest.mark.parametrize(
    ("lesion", "reasons"),
    [
        ({}, ()),
        ({"longest": 10.0, "across": 5.0, "slices": 2}, ()),
        ({"longest": 9.95}, ()),  # 10.0 in the tenths that are compared and shown
        ({"longest": 9.94}, (LONGEST,)),
        ({"across": 4.94}, (PERPENDICULAR,)),
        ({"across": 4.95}, ()),
        ({"slices": 1}, (SLICES,)),
        ({"distance": 5.0}, ()),
        ({"distance": 5.04}, ()),
        ({"distance": 5.5, "longest": 10.9}, (LONGEST_THICK,)),
        ({"distance": 5.5, "longest": 11.0}, ()),
        ({"distance": 6.5, "longest": 9.0}, (LONGEST,)),
        ({"border": True}, (BORDER,)),
        (
            {"longest": 3.0, "across": 2.0, "slices": 1, "border": True},
            (LONGEST, PERPENDICULAR, SLICES, BORDER),
        ),
    ],
)
def test_size_rule(lesion: dict[str, float], reasons: tuple[str, ...]) -> None:
    assert why(**lesion) == reasons  # type: ignore[arg-type]
    assert set(reasons) <= set(REASONS)


def test_small_lesions_only_by_protocol_and_on_fine_slices() -> None:
    assert least_longest_tenths_mm(15, small_lesions=True) == 50
    assert least_longest_tenths_mm(16, small_lesions=True) == 100
    assert least_longest_tenths_mm(15) == 100
    assert least_longest_tenths_mm(None, small_lesions=True) == 100
    assert least_longest_tenths_mm(65) == 130
    assert least_longest_tenths_mm(65, thick_slice_rule=False) == 100


def test_gaps_count_and_overlapping_slices_count_with_their_thickness() -> None:
    assert slice_distance_mm(5.5, 5.0) == 5.5
    assert slice_distance_mm(1.0, 2.0) == 2.0
    assert slice_distance_mm(1.2, None) == 1.2


@pytest.mark.parametrize(
    ("length", "expected"), [(0.04, 0), (0.05, 1), (9.95, 100), (10.05, 101), (26, 260)]
)
def test_halves_of_a_tenth_round_up(length: float, expected: int) -> None:
    assert tenths(length) == expected


@given(st.integers(0, 3000))
def test_whole_tenths_stay(value: int) -> None:
    assert tenths(value / 10) == value


@given(
    longest=st.floats(1, 40),
    part=st.floats(0.1, 1),
    slices=st.integers(1, 12),
    thickness=st.floats(0.5, 8),
    gap=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_record_and_follow_up_agree(
    longest: float, part: float, slices: int, thickness: float, gap: float
) -> None:
    across = longest * part
    distance = tenths(thickness) + tenths(gap)
    seen = Observation(
        "L1",
        State.MEASURED,
        longest_tenths_mm=tenths(longest),
        perpendicular_tenths_mm=tenths(across),
        slice_count=slices,
    )
    visit = Visit(
        "V1",
        date(2025, 1, 1),
        {"L1": seen},
        Steroids(SteroidUse.NONE),
        Clinical.STABLE,
        slice_thickness_tenths_mm=tenths(thickness),
        slice_gap_tenths_mm=tenths(gap),
    )
    by_rule, assumed = why_no_target(Lesion("L1"), visit, Protocol(), RANO_BM)
    recorded = why(longest, across, slices, distance / 10)
    assert not assumed
    assert len(recorded) == len(by_rule)
