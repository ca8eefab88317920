"""The metric on worked fixtures, and figures that add up."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from unetr.training.evaluation import (
    FROC_THRESHOLDS,
    CaseRecord,
    FalsePositive,
    LesionRecord,
    case_table,
    false_positive_table,
    froc_counts,
    lesion_table,
    summarise,
)
from unetr.training.lesionwise import (
    WORST_DISTANCE_MM,
    dice,
    hausdorff_95,
    lesionwise,
)
from unetr.training.report import picture, write_report

UNIT = (1.0, 1.0, 1.0)
SHAPE = (30, 30, 30)


def cube(*corners: tuple[int, int, int], edge: int = 4) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    for z, y, x in corners:
        mask[z : z + edge, y : y + edge, x : x + edge] = True
    return mask


def test_a_perfect_answer() -> None:
    truth = cube((3, 3, 3), (15, 15, 15))
    result = lesionwise(truth, truth, UNIT)
    assert (result.dice, result.hd95_mm) == (1.0, 0.0)
    assert len(result.lesions) == 2
    assert not result.false_positives


def test_nothing_there_and_nothing_found() -> None:
    empty = np.zeros(SHAPE, bool)
    result = lesionwise(empty, empty, UNIT)
    assert (result.dice, result.hd95_mm) == (1.0, 0.0)


def test_one_found_one_missed_one_invented() -> None:
    truth = cube((3, 3, 3), (15, 15, 15))
    result = lesionwise(cube((3, 3, 3), (22, 3, 3)), truth, UNIT)
    assert [lesion.dice for lesion in result.lesions] == [1.0, 0.0]
    assert result.lesions[1].hd95_mm == WORST_DISTANCE_MM
    assert len(result.false_positives) == 1
    assert result.dice == pytest.approx(1 / 3)
    assert result.hd95_mm == pytest.approx((0 + 374 + 374) / 3)


def test_a_false_positive_of_one_voxel_counts_in_full() -> None:
    truth = cube((3, 3, 3))
    predicted = truth | cube((20, 20, 20), edge=1)
    assert lesionwise(predicted, truth, UNIT).dice == pytest.approx(0.5)
    none = np.zeros(SHAPE, bool)
    alone = lesionwise(cube((20, 20, 20), edge=1), none, UNIT)
    assert (alone.dice, alone.hd95_mm) == (0.0, 374.0)


def test_true_lesions_of_two_voxels_are_skipped_but_not_their_prediction() -> None:
    truth = cube((3, 3, 3))
    truth[20, 20, 20:22] = True
    missed = lesionwise(cube((3, 3, 3)), truth, UNIT)
    assert missed.dice == 1.0
    found = lesionwise(truth, truth, UNIT)
    assert found.dice == 1.0
    assert not found.false_positives
    truth[20, 20, 22] = True  # three voxels count
    assert lesionwise(cube((3, 3, 3)), truth, UNIT).dice == pytest.approx(0.5)


def test_a_lesion_passed_over_is_neither_missed_nor_found() -> None:
    truth = cube((3, 3, 3), (20, 20, 20))
    known = cube((20, 20, 20), edge=1)  # a part of the second
    missed = lesionwise(cube((20, 20, 20)), truth, UNIT, known)
    assert [lesion.counted for lesion in missed.lesions] == [True, False]
    assert missed.dice == 0.0
    assert not missed.false_positives
    assert lesionwise(cube((3, 3, 3)), truth, UNIT, known).dice == 1.0


def test_lesions_two_voxels_apart_are_one() -> None:
    near = cube((3, 3, 3), (3, 3, 9))  # two empty voxels between
    far = cube((3, 3, 3), (3, 3, 10))
    assert len(lesionwise(near, near, UNIT).lesions) == 1
    assert len(lesionwise(far, far, UNIT).lesions) == 2


def test_a_prediction_beside_the_lesion_belongs_to_it() -> None:
    truth = cube((10, 10, 10))
    beside = lesionwise(cube((10, 10, 14)), truth, UNIT)
    assert not beside.false_positives
    assert beside.lesions[0].predicted
    assert beside.dice == 0.0
    assert beside.hd95_mm < 10
    corner = lesionwise(cube((14, 14, 14)), truth, UNIT)  # 26-, not 18-neighbour
    assert corner.false_positives


def test_one_prediction_over_two_lesions_counts_for_both() -> None:
    truth = cube((3, 3, 3), (3, 3, 12))
    predicted = np.zeros(SHAPE, bool)
    predicted[3:7, 3:7, 3:16] = True
    result = lesionwise(predicted, truth, UNIT)
    expected = 2 * 64 / (64 + 4 * 4 * 13)
    assert [lesion.dice for lesion in result.lesions] == pytest.approx([expected] * 2)
    assert not result.false_positives


def test_several_predictions_on_one_lesion_count_together() -> None:
    truth = np.zeros(SHAPE, bool)
    truth[10:14, 10:14, 5:20] = True
    predicted = truth.copy()
    predicted[:, :, 12] = False
    result = lesionwise(predicted, truth, UNIT)
    assert len(result.lesions[0].predicted) == 2
    assert result.dice == pytest.approx(2 * 14 / (14 + 15))


def test_distances_are_in_millimetres_along_the_right_axis() -> None:
    first, second = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    first[5, 4:25, 4:25] = True
    second[9, 4:25, 4:25] = True
    assert hausdorff_95(first, second, (2.5, 1.0, 1.0)) == pytest.approx(10)
    assert hausdorff_95(first, second, UNIT) == pytest.approx(4)
    assert hausdorff_95(first, np.zeros(SHAPE, bool), UNIT) == 374
    # A spike of one voxel is less than a twentieth of the surface.
    spiked = first.copy()
    spiked[6:14, 15, 15] = True
    assert hausdorff_95(first, spiked, UNIT) <= 2
    assert dice(first, first) == dice(first & False, first & False) == 1


def record(name: str, *found: bool, wrong: int = 0) -> CaseRecord:
    lesions = tuple(
        LesionRecord(
            diameter_mm=4.0 + 8 * place,
            volume_ml=0.1,
            found_diameter_mm=4.5 + 8 * place if hit else None,
            found_volume_ml=0.12 if hit else None,
            dice=0.8 if hit else 0.0,
            hd95_mm=1.0 if hit else 374.0,
        )
        for place, hit in enumerate(found)
    )
    points = tuple((sum(found), wrong) for _ in FROC_THRESHOLDS)
    false = (FalsePositive(3.0, 0.02),) * wrong
    return CaseRecord(name, lesions, false, 0.5, 100.0, points)


def test_figures_add_up() -> None:
    cases = [record("a", True, True), record("b", False, True, wrong=2), record("c")]
    summary = summarise(cases)
    figures = summary.figures
    assert (summary.cases, summary.lesions) == (3, 4)
    assert figures["sensitivity"].value == 0.75
    assert figures["sensitivity 3-5 mm"].value == 0.5
    assert figures["sensitivity 10-20 mm"].value == 1.0
    assert figures["sensitivity 5-10 mm"].value is None
    assert figures["false positives a scan"].value == pytest.approx(2 / 3)
    low, high = figures["sensitivity"].interval or (9, 9)
    assert 0.5 <= low < 0.75 < high <= 1
    assert summary.agreement["diameter_mm"]["bias"] == pytest.approx(0.5)
    assert summary.agreement["volume_ml"]["mean_absolute"] == pytest.approx(0.02)
    assert summarise(cases).document() == summary.document()
    json.dumps(summary.document())
    assert case_table(cases).splitlines()[2].startswith("b,2,1,2,0,0.5")
    assert lesion_table(cases).splitlines()[3].startswith("b,4.0,0.1,,")
    assert false_positive_table(cases).splitlines() == [
        "case,diameter_mm,volume_ml",
        "b,3.0,0.02",
        "b,3.0,0.02",
    ]


def test_false_positives_are_counted_by_size() -> None:
    sizes = (1.0, 3.0, 4.9, 5.0, 25.0)
    wrong = tuple(FalsePositive(mm, 0.1) for mm in sizes)
    cases = [replace(record("a"), false_positives=wrong), record("b")]
    figures = summarise(cases).figures
    found = [
        figures[f"false positives a scan {name}"].value
        for name in ("< 3 mm", "3-5 mm", "5-10 mm", "10-20 mm", ">= 20 mm")
    ]
    assert found == [0.5, 1.0, 0.5, 0.0, 0.5]
    assert figures["false positives a scan"].value == 2.5


def test_draws_that_all_agree_give_no_interval_of_no_width() -> None:
    figures = summarise([record(name, True, True) for name in "abcde"]).figures
    # Wilson: n / (n + z^2) to 1.
    assert figures["sensitivity"].interval == pytest.approx(
        (10 / (10 + 1.959964**2), 1.0), abs=1e-5
    )
    assert figures["false positives a scan"].value == 0.0
    assert figures["false positives a scan"].interval is None
    low, high = summarise([record("a", False), record("b", False)]).figures[
        "sensitivity"
    ].interval or (9, 9)
    assert (low, high) == pytest.approx((0, 0.65762), abs=1e-4)
    alone = summarise([record("a", True, False, wrong=1)]).figures
    low, high = alone["sensitivity"].interval or (9, 9)
    assert 0 < low < 0.1 < 0.9 < high < 1
    for name, figure in alone.items():
        if not name.startswith("sensitivity"):
            assert figure.interval is None, name


def test_without_lesions_there_is_no_sensitivity_to_draw() -> None:
    cases = [record("a", wrong=1), record("b")]
    summary = summarise(cases)
    assert {point["sensitivity"] for point in summary.froc} == {None}
    assert {point["false_positives_a_scan"] for point in summary.froc} == {0.5}
    page = write_report("T", {}, summary, cases, [])
    assert "Nothing to show" in page
    assert '<td class="n">–</td><td class="n">0.50</td>' in page


def test_froc_counts_fall_with_the_threshold() -> None:
    labels = np.zeros(SHAPE, np.int32)
    labels[cube((3, 3, 3))] = 1
    labels[cube((15, 15, 15))] = 2
    probability = np.zeros(SHAPE, np.float32)
    probability[cube((3, 3, 3))] = 0.92
    probability[cube((15, 15, 15))] = 0.45
    probability[cube((22, 3, 3))] = 0.65
    probability[25, 25, 25] = 0.99  # too small to count
    probability[3, 3, 3] = 0.97  # the peak of a lesion that reaches further
    points = dict(
        zip(
            FROC_THRESHOLDS,
            froc_counts(
                probability, labels, counted=[1, 2], threshold=0.5, least_voxels=8
            ),
            strict=True,
        )
    )
    first_only = froc_counts(
        probability, labels, counted=[1], threshold=0.5, least_voxels=8
    )
    assert first_only[FROC_THRESHOLDS.index(0.4)] == (1, 1)
    assert points[0.4] == (2, 1)
    assert points[0.6] == (1, 1)
    assert points[0.7] == (1, 0)
    assert points[0.95] == (1, 0)
    assert points[0.98] == (0, 0)


def test_froc_keeps_a_component_of_exactly_the_least_volume() -> None:
    probability = np.zeros(SHAPE, np.float32)
    probability[cube((3, 3, 3), edge=2)] = 0.99
    nowhere = np.zeros(SHAPE, np.int32)
    # Divided by the volume of a voxel, a least volume of 8 is 8 up to rounding.
    for least_voxels, expected in ((8 + 1e-12, 1), (8 + 1e-3, 0)):
        points = froc_counts(
            probability, nowhere, counted=[], threshold=0.5, least_voxels=least_voxels
        )
        assert set(points) == {(0, expected)}


def test_the_report_needs_nothing_else() -> None:
    cases = [record("<a&b>", True, True), record("b", False, True, wrong=2)]
    drawn = picture(
        np.ones((20, 20), np.float32),
        np.zeros((20, 20), bool),
        np.ones((20, 20), bool),
        white=2.0,
    )
    page = write_report("T", {"model": "m"}, summarise(cases), cases, [("a", drawn)])
    assert "<a&b>" not in page
    assert "&lt;a&amp;b&gt;" in page
    assert page.count("<svg") == 3
    assert "data:image/png;base64," in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "Not a medical device" in page
    assert "Nothing to show" not in page
    assert "Wilson" in page
    refused = [replace(record("c"), refused=True)]
    assert "<td>yes</td>" in write_report("T", {}, summarise(refused), refused, [])
