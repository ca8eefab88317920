"""What the rule lets through, and why it refuses."""

from __future__ import annotations

from datetime import date

import pytest

from orthanc.archive import SeriesHeader
from segmentation.ahead.rule import Rule, judge
from settings import Settings
from tests.small_series import make_image

TODAY = date(2026, 5, 20)


def study(**attributes: object) -> list[SeriesHeader]:
    described = {
        "SeriesDescription": "t1_mprage_sag +Gd",
        "StudyDescription": "IRM crâne",
        "BodyPartExamined": "BRAIN",
        "StationName": "AWP12345",
        "StudyDate": "20260519",
    }
    post = make_image("1.2", "1.2.1", 1, **(described | attributes))
    scout = make_image("1.2", "1.2.2", 1, SeriesDescription="localizer")
    return [SeriesHeader("1.2.2", 3, scout), SeriesHeader("1.2.1", 160, post)]


def verdict(rule: Rule, sender: str = "MR1", **attributes: object) -> object:
    found = judge(rule, study(**attributes), lambda _uid: sender, TODAY)
    return found if isinstance(found, str) else found.series_uid


ACCEPTED = [
    Rule(),
    Rule(descriptions=("*knee*", "IRM CR?NE*")),
    Rule(descriptions=("*mprage*",)),
    Rule(body_parts=("HEAD", "brain")),
    Rule(stations=("AWP*",)),
    Rule(senders=("MR?",)),
    Rule(modalities=("mr",)),
    Rule(max_age_days=1),
]
REFUSED = [
    (Rule(descriptions=("*spine*",)), "description"),
    (Rule(descriptions=("mprage",)), "description"),  # a pattern is the whole text
    (Rule(body_parts=("HEAD",)), "body-part"),
    (Rule(stations=("MR*",)), "station"),
    (Rule(senders=("CT*", "")), "sender"),
    (Rule(modalities=("CT",)), "modality"),
]


@pytest.mark.parametrize("rule", ACCEPTED)
def test_accepted(rule: Rule) -> None:
    assert verdict(rule) == "1.2.1"


@pytest.mark.parametrize(("rule", "why"), REFUSED)
def test_refused(rule: Rule, why: str) -> None:
    assert verdict(rule) == why


@pytest.mark.parametrize(
    ("stated", "days", "why"),
    [
        ("20260513", 7, "1.2.1"),
        ("20260512", 7, "age"),
        ("20260521", 7, "1.2.1"),  # a clock that is a day ahead
        ("20260522", 7, "age"),
        ("", 7, "age"),
        ("19990101", 0, "1.2.1"),
        ("", 0, "1.2.1"),
    ],
)
def test_age(stated: str, days: int, why: str) -> None:
    assert verdict(Rule(max_age_days=days), StudyDate=stated) == why


def test_a_study_without_a_suitable_series_never_matches() -> None:
    assert verdict(Rule(), SeriesDescription="t2_tse") == "no-suitable-series"
    assert judge(Rule(), [], lambda _uid: "", TODAY) == "no-suitable-series"


def test_the_sender_is_asked_for_only_where_the_rule_wants_it() -> None:
    def never(_uid: str) -> str:
        raise AssertionError("asked")

    assert not isinstance(judge(Rule(), study(), never, TODAY), str)
    assert judge(Rule(senders=("A",), max_age_days=1), study(StudyDate="20200101"),
                 never, TODAY) == "age"  # fmt: skip


def test_many_wildcards_take_no_time() -> None:
    rule = Rule(descriptions=("*a" * 30 + "b",))
    assert verdict(rule, StudyDescription="a" * 64) == "description"


def test_settings_become_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Rule.from_settings(Settings()) == Rule()
    assert not Settings().zero_click
    monkeypatch.setenv("METIA_ZERO_CLICK_DESCRIPTIONS", "*brain*, *crâne*,")
    monkeypatch.setenv("METIA_ZERO_CLICK_SENDERS", "MR1")
    monkeypatch.setenv("METIA_ZERO_CLICK_MAX_AGE_DAYS", "0")
    rule = Rule.from_settings(Settings())
    assert rule.descriptions == ("*brain*", "*crâne*")
    assert (rule.senders, rule.max_age_days) == (("MR1",), 0)
