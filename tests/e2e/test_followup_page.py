"""The follow-up page, as a person uses it: three visits of one synthetic patient."""

from __future__ import annotations

import copy
import json
import re
import time
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Dialog, Locator, Page, Route, expect
from pydicom.dataset import Dataset

from segmentation.phantoms import Grid, Visit, dicom_series, make_head
from segmentation.phantoms.lesions import LesionSpec
from tests.e2e import studies
from tests.e2e.conftest import OpenPage, log_in
from tests.e2e.running_stack import RunningStack
from tests.e2e.viewer_page import WAIT_MS, ViewerPage

# The first test waits for the whole system and three segmentations.
pytestmark = pytest.mark.timeout(900)

_PLACES = ((-33, -34, 20), (36, 36, 22), (-24, 44, -40))
_DIAMETERS_MM = ((16, 14, 12), (10, 9, 8), (16, 13, 12), (16, 14, 13))
_DATES = ("20250110", "20250312", "20250514", "20250716")
_GRID = Grid((64, 128, 128), (3.0, 1.875, 1.875))
_NAME = "Phantom^Longitudinal"


def _visit(number: int) -> Visit:
    return Visit(
        key=f"longitudinal-{number}",
        date=_DATES[number],
        description=f"FOLLOW-UP VISIT {number + 1}",
        patient_id="TEST-LONGITUDINAL",
        patient_name=_NAME,
    )


def _images(number: int) -> list[Dataset]:
    lesions = [
        LesionSpec.ball(place, diameter)
        for place, diameter in zip(_PLACES, _DIAMETERS_MM[number], strict=True)
    ]
    head = make_head(_GRID, lesions, seed=11)
    return dicom_series(head, visit=_visit(number), series_number=5)


@dataclass(frozen=True)
class Followed:
    """A patient with three visits, as the service knows it."""

    patient: str
    address: str

    def course(self, stack: RunningStack) -> dict[str, Any]:
        answer = stack.admin.get(f"/api/v1/patients/{self.patient}/course")
        answer.raise_for_status()
        return dict(answer.json())


@pytest.fixture(scope="module")
def followed(stack: RunningStack) -> Followed:
    """Segment three visits, line the lesions up, and say what a reader has to say."""
    stack.add_user("rev", "reviewer", "Rita Reviewer")
    for number in range(3):
        stack.upload(_images(number))
        stack.segment(_visit(number).study_uid)
    listed = stack.admin.get(
        "/api/v1/patients", params={"search": "longitudinal"}
    ).json()
    (patient,) = listed["patients"]
    found = Followed(patient["id"], f"/followup/{patient['id']}")
    _wait_for_registrations(stack, found)
    _link_by_size(stack, found)
    for visit in found.course(stack)["visits"]:
        reading = visit["reading"] | {"steroid_use": "none", "clinical": "stable"}
        reading = {k: v for k, v in reading.items() if k not in {"author", "missing"}}
        reading["non_target"] = "none"
        stack.admin.put(
            f"/api/v1/studies/{visit['study_uid']}/reading", json=reading
        ).raise_for_status()
    return found


def _wait_for_registrations(stack: RunningStack, found: Followed) -> None:
    deadline = time.monotonic() + 60
    while any(v["registration"] is None for v in found.course(stack)["visits"][1:]):
        if time.monotonic() > deadline:
            return  # the links are then made by hand, below
        time.sleep(1)


def _link_by_size(stack: RunningStack, found: Followed) -> None:
    """Make every link that was not made by itself: the largest is always the same."""
    first = found.course(stack)["visits"][0]["study_uid"]
    tracks = [
        track["id"]
        for track in sorted(
            found.course(stack)["tracks"],
            key=lambda it: -(_at(it, first)["longest_diameter_mm"] or 0),
        )
        if _at(track, first)["lesion_id"]
    ]
    assert len(tracks) == len(_PLACES)
    for number in (1, 2):
        study = _visit(number).study_uid
        lesions = sorted(
            stack.results(study)[0]["lesions"],
            key=lambda it: -it["longest_diameter_mm"],
        )
        for track_id, lesion in zip(tracks, lesions, strict=True):
            course = found.course(stack)
            linked = _at(_track(course, track_id), study)
            if (linked["link"] or {}).get("state") in {"automatic", "confirmed"}:
                continue
            stack.admin.post(
                f"/api/v1/patients/{found.patient}/links",
                json={
                    "study_uid": study,
                    "lesion_id": lesion["id"],
                    "action": "link",
                    "track_id": track_id,
                },
            ).raise_for_status()


def _track(course: dict[str, Any], track_id: str) -> dict[str, Any]:
    return next(it for it in course["tracks"] if it["id"] == track_id)


def _at(track: dict[str, Any], study: str) -> dict[str, Any]:
    return next(it for it in track["observations"] if it["study_uid"] == study)


def _part(page: Page, name: str) -> Locator:
    return page.locator(f'[data-cy="mfu-{name}"]')


def _open(viewer: ViewerPage, address: str) -> Page:
    viewer.page.goto(viewer.stack.url + address)
    expect(_part(viewer.page, "page")).to_be_visible(timeout=WAIT_MS)
    return viewer.page


def _mark(page: Page) -> None:
    """Leave something behind that a reload would wipe out."""
    page.evaluate("() => { window.notReloaded = true; }")


def _was_not_reloaded(page: Page) -> bool:
    return bool(page.evaluate("() => window.notReloaded === true"))


def test_from_the_study_list_to_a_slice_and_back(
    stack: RunningStack, followed: Followed, open_page: OpenPage
) -> None:
    """Without one reload: list, page, search, patient, slice in the viewer, back."""
    viewer = open_page()
    page = viewer.page
    page.goto("/")
    link = page.locator('[data-cy="metia-followup-link"]').first
    expect(link).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_text("FOLLOW-UP VISIT 1").first).to_be_visible(timeout=WAIT_MS)
    viewer.picture("40-study-list-with-follow-up")
    _mark(page)
    link.click()
    expect(page).to_have_url(f"{stack.url}/followup")
    _part(page, "search").fill("phantom^longi")
    expect(_part(page, "patient")).to_have_count(1)
    _part(page, "search").press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(stack.url + followed.address)
    expect(_part(page, "patient-name")).to_have_text("Phantom, Longitudinal")
    expect(_part(page, "notice")).to_contain_text("Research use only")
    expect(_part(page, "verdict")).to_have_text("PD")
    viewer.picture("41-follow-up")

    course = followed.course(stack)
    track = course["tracks"][0]
    seen = _at(track, _visit(1).study_uid)
    second = _part(page, "visit").nth(1)
    cell = second.locator(f'[data-cy="mfu-cell-{track["label"]}"]')
    expect(cell).to_contain_text(f"{seen['longest_diameter_mm']:.1f} ×")
    cell.click()
    expect(page).to_have_url(re.compile(r"/brainmets\?StudyInstanceUIDs="))
    viewer.wait_until_drawn()
    viewer.wait_for_image(f"/{seen['sop_instance_uid']}/")
    viewer.wait_for_overlay()
    viewer.wait_for_image(f"/{seen['sop_instance_uid']}/")
    viewer.picture("42-slice-of-the-cell")
    viewer.part("followup").click()
    expect(_part(page, "verdict")).to_be_visible(timeout=WAIT_MS)
    expect(page).to_have_url(stack.url + followed.address)
    page.go_back()
    expect(viewer.part("panel")).to_be_visible(timeout=WAIT_MS)
    page.go_back()
    expect(page).to_have_url(stack.url + followed.address)
    expect(_part(page, "verdict")).to_be_visible(timeout=WAIT_MS)
    assert _was_not_reloaded(page)
    page.go_back()
    expect(page).to_have_url(f"{stack.url}/followup")
    expect(_part(page, "patient-name")).to_have_count(0)
    assert viewer.faults == []


def test_an_address_of_a_patient_is_come_back_to(
    stack: RunningStack, followed: Followed, open_page: OpenPage
) -> None:
    viewer = open_page(user=None)
    page = viewer.page
    page.goto(f"{stack.url}{followed.address}?size=volume")
    expect(page.locator("#username")).to_be_visible()
    log_in(page.context, stack, "vic")
    page.reload()
    expect(page).to_have_url(f"{stack.url}{followed.address}?size=volume")
    expect(_part(page, "patient-name")).to_be_visible(timeout=WAIT_MS)


def test_what_is_shown_is_what_the_service_says(
    stack: RunningStack, followed: Followed, open_page: OpenPage
) -> None:
    viewer = open_page("vic")
    page = _open(viewer, followed.address)
    course = followed.course(stack)
    texts = [v["assessment"]["category"] for v in course["visits"]]
    assert texts == ["BASELINE", "PR", "PD"]
    expect(_part(page, "category")).to_have_text(
        ["Baseline", re.compile(r"^PR\??$"), "PD"]
    )
    for visit, row in zip(course["visits"], _part(page, "visit").all(), strict=True):
        expect(row).to_contain_text(f"{visit['sum_mm']:.1f} mm")
    for reason in course["visits"][-1]["assessment"]["reasons"]:
        line = _part(page, "reasons").locator(f'[data-code="{reason["code"]}"]').first
        expect(line).to_contain_text(reason["text"])
    for track in course["tracks"]:
        expect(_part(page, f"bar-{track['label']}")).to_have_count(1)
    expect(_part(page, "update")).to_be_disabled()
    expect(_part(page, "export-csv")).to_be_disabled()
    expect(_part(page, "plan-save")).to_have_count(0)
    expect(_part(page, "event-add")).to_have_count(0)
    assert viewer.faults == []


def test_the_chart_by_keyboard(
    stack: RunningStack, followed: Followed, open_page: OpenPage
) -> None:
    viewer = open_page()
    page = _open(viewer, followed.address)
    course = followed.course(stack)
    chart = _part(page, "chart-timeline")
    chart.focus()
    page.keyboard.press("ArrowRight")
    expect(_part(page, "tip")).to_contain_text("Sum")
    expect(_part(page, "tip")).to_contain_text(
        f"{course['visits'][0]['sum_mm']:.1f} mm"
    )
    page.keyboard.press("End")
    expect(_part(page, "tip")).to_contain_text("Progressive disease")
    page.keyboard.press("ArrowDown")
    expect(_part(page, "tip")).to_contain_text("since the previous visit")
    viewer.picture("43-tooltip-by-keyboard")
    page.keyboard.press("Escape")
    expect(_part(page, "tip")).to_have_count(0)
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page).to_have_url(
        re.compile(rf"/brainmets\?StudyInstanceUIDs={_visit(0).study_uid}")
    )


def test_a_study_leads_to_its_patient(
    stack: RunningStack, followed: Followed, open_page: OpenPage
) -> None:
    viewer = open_page()
    page = _open(viewer, f"/followup?study={_visit(1).study_uid}")
    expect(page).to_have_url(stack.url + followed.address)
    expect(_part(page, "patient-name")).to_be_visible()
    page = _open(viewer, f"/followup?study={studies.UNSUITABLE.uid}1")
    expect(_part(page, "no-result")).to_contain_text("no result yet")
    page = _open(viewer, "/followup/" + "0" * 32)
    expect(_part(page, "problem")).to_have_attribute("data-code", "not-found")


def test_it_speaks_french_and_shows_volumes(
    followed: Followed, open_page: OpenPage
) -> None:
    viewer = open_page(locale="fr-FR")
    page = _open(viewer, f"{followed.address}?size=volume")
    expect(_part(page, "notice")).to_contain_text("Recherche uniquement")
    expect(_part(page, "size-volume")).to_have_attribute("aria-pressed", "true")
    chart = _part(page, "chart-timeline")
    expect(chart).to_contain_text("Somme des volumes cibles, ml")
    chart.focus()
    page.keyboard.press("ArrowRight")
    expect(_part(page, "tip")).to_contain_text(re.compile(r"\d,\d+ ml"))
    viewer.picture("44-french-volumes")
    page.keyboard.press("Escape")
    _part(page, "rules-recist-1.1").click()
    expect(page).to_have_url(re.compile("rules=recist-1.1"))
    expect(_part(page, "rules-recist-1.1")).to_have_attribute("aria-pressed", "true")


def test_the_plan_of_a_reviewer(
    stack: RunningStack, followed: Followed, open_page: OpenPage
) -> None:
    """Saved once; refused, and told, where somebody else was faster."""
    viewer = open_page("rev")
    page = _open(viewer, followed.address)
    _part(page, "plan-treatment").fill("2025-01-20")
    _part(page, "plan-save").click()
    expect(_part(page, "event-treatment_start")).to_have_count(1)
    plan = followed.course(stack)["plan"]
    assert plan["treatment_start"] == "2025-01-20"

    stack.admin.put(
        f"/api/v1/patients/{followed.patient}/plan",
        json=plan | {"treatment_start": "2025-01-25"},
    ).raise_for_status()
    _part(page, "plan-treatment").fill("2025-02-02")
    _part(page, "plan-save").click()
    expect(_part(page, "plan-conflict")).to_be_visible()
    expect(_part(page, "plan-treatment")).to_have_value("2025-01-25")
    assert followed.course(stack)["plan"]["treatment_start"] == "2025-01-25"


def _dialogs(page: Page) -> list[str]:
    """Collect what scripts in the page would say."""
    found: list[str] = []

    def close(dialog: Dialog) -> None:
        found.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", close)
    return found


def test_events_are_text_and_never_markup(
    followed: Followed, open_page: OpenPage
) -> None:
    viewer = open_page()
    page = _open(viewer, followed.address)
    dialogs = _dialogs(page)
    markup = '<img src="x" onerror="alert(1)"><script>alert(2)</script>'
    _part(page, "event-date").fill("2025-02-01")
    _part(page, "event-kind").select_option("radiosurgery")
    _part(page, "event-text").fill(markup)
    _part(page, "event-add").click()
    expect(_part(page, "event")).to_contain_text(markup)
    expect(_part(page, "event-radiosurgery")).to_have_count(1)
    viewer.picture("45-events")
    _part(page, "event").get_by_role("button").click()
    expect(_part(page, "event")).to_have_count(0)
    assert dialogs == []
    assert viewer.faults == []


def test_names_from_the_archive_are_text(
    followed: Followed, stack: RunningStack, open_page: OpenPage
) -> None:
    """In the list, the heading, the table and the tooltips."""
    course = followed.course(stack)
    course["patient"]["name"] = "<svg/onload>^<b>Bold</b>"
    for track in course["tracks"]:
        track["label"] = f"<i onmouseover=alert(1)>{track['label']}</i>"
    viewer = open_page()
    page = viewer.page
    dialogs = _dialogs(page)
    _answer_with(page, course)
    _open(viewer, followed.address)
    expect(_part(page, "patient-name")).to_contain_text("<b>Bold</b>")
    chart = _part(page, "chart-timeline")
    chart.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    expect(_part(page, "tip")).to_contain_text("<i onmouseover=alert(1)>")
    assert page.locator(".mfu img, .mfu i, .mfu b, .mfu script").count() == 0
    assert dialogs == []


def _answer_with(page: Page, course: dict[str, Any]) -> None:
    def answer(route: Route) -> None:
        route.fulfill(content_type="application/json", body=json.dumps(course))

    page.route(re.compile(r"/api/v1/patients/[^/?]+/course"), answer)


def test_bring_up_to_date(
    stack: RunningStack, followed: Followed, open_page: OpenPage
) -> None:
    """A study that came later is found, segmented, and stands in the table."""
    viewer = open_page()
    page = _open(viewer, followed.address)
    rows = _part(page, "visit")
    expect(rows).to_have_count(3)
    stack.upload(_images(3))
    with stack.worker_held():
        _part(page, "update").click()
        expect(_part(page, "update-report")).to_contain_text("0 of 1 studies")
        viewer.picture("46-update-running")
    expect(rows).to_have_count(4, timeout=WAIT_MS)
    expect(_part(page, "update-report")).to_contain_text("1 study was added")
    _part(page, "update").click()
    expect(_part(page, "update-report")).to_contain_text("Everything is up to date")


@pytest.mark.parametrize("kind", ["pdf", "csv", "xlsx", "fhir"])
def test_exports_are_handed_to_the_browser(
    followed: Followed, open_page: OpenPage, kind: str
) -> None:
    viewer = open_page()
    page = _open(viewer, followed.address)
    with page.expect_download(timeout=WAIT_MS) as download:
        _part(page, f"export-{kind}").click()
    name = download.value.suggested_filename
    assert not re.search("longitudinal|phantom", name, re.IGNORECASE)
    content = download.value.path().read_bytes()
    starts = {"pdf": b"%PDF", "xlsx": b"PK", "fhir": b"{"}
    assert content.startswith(starts.get(kind, b""))
    assert len(content) > 200


@pytest.fixture
def many_visits(stack: RunningStack, followed: Followed) -> dict[str, Any]:
    """Twenty visits with ten lesions each, made of what the service answered."""
    course = followed.course(stack)
    return _stretched(course, visits=20, tracks=10)


def _stretched(course: dict[str, Any], visits: int, tracks: int) -> dict[str, Any]:
    long = copy.deepcopy(course)
    first = long["visits"][0]
    long["visits"] = []
    for number in range(visits):
        visit = copy.deepcopy(course["visits"][min(number, 2)])
        month = number + 1
        visit |= {
            "study_uid": f"2.25.{number}",
            "date": f"20{25 + month // 13}-{(month - 1) % 12 + 1:02d}-10",
            "is_baseline": number == 0,
            "sum_mm": first["sum_mm"] * (1 - 0.03 * number),
        }
        long["visits"].append(visit)
    seen = course["tracks"][0]["observations"][0]
    long["tracks"] = [
        {
            **course["tracks"][0],
            "id": f"{number:032x}",
            "label": f"M{number + 1}",
            "colour": [230, 20 * number, 255 - 20 * number],
            "observations": [
                {
                    **seen,
                    "study_uid": f"2.25.{n}",
                    "longest_diameter_mm": 8.0 + number + (n * number) % 5,
                    "change_percent": float(n - number) if n else None,
                }
                for n in range(visits)
            ],
        }
        for number in range(tracks)
    ]
    return long


def test_twenty_visits_of_ten_lesions_are_drawn_at_once(
    followed: Followed, many_visits: dict[str, Any], open_page: OpenPage
) -> None:
    viewer = open_page()
    page = viewer.page
    _answer_with(page, many_visits)
    _open(viewer, "/followup")
    page.evaluate(
        "() => { window.longTasks = []; new PerformanceObserver(list =>"
        " list.getEntries().forEach(e => window.longTasks.push(e.duration)))"
        ".observe({entryTypes: ['longtask']}); }"
    )
    started = page.evaluate("() => performance.now()")
    _part(page, "patient").first.click()
    expect(_part(page, "visit")).to_have_count(20)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => done()))")
    elapsed_ms = page.evaluate("() => performance.now()") - started
    longest_ms = page.evaluate("() => Math.max(0, ...window.longTasks)")
    assert page.locator(".mfu-chart .mfu-point").count() >= 200
    box = _part(page, "chart-timeline").bounding_box()
    assert box is not None
    page.evaluate("() => { window.longTasks.length = 0; }")
    for step in range(40):
        page.mouse.move(box["x"] + 60 + step * 15, box["y"] + 330 + step % 7 * 10)
    hover_ms = page.evaluate("() => Math.max(0, ...window.longTasks)")
    viewer.picture("47-twenty-visits")
    figures = (elapsed_ms, longest_ms, hover_ms)
    print("page, longest task, hover: {:.0f} {:.0f} {:.0f} ms".format(*figures))
    assert longest_ms < 1000, "drawing must not freeze the page"
    assert hover_ms < 200, "the tooltip must follow the pointer"
    assert viewer.faults == []


@pytest.mark.parametrize("width", [1024, 1440, 2560])
def test_nothing_leaves_the_screen(
    followed: Followed, many_visits: dict[str, Any], open_page: OpenPage, width: int
) -> None:
    viewer = open_page()
    page = viewer.page
    page.set_viewport_size({"width": width, "height": 900})
    _answer_with(page, many_visits)
    _open(viewer, followed.address)
    expect(_part(page, "visit")).to_have_count(20)
    viewer.picture(f"48-width-{width}")
    assert page.evaluate(
        "() => { const main = document.querySelector('.mfu-main');"
        " return main.scrollWidth <= main.clientWidth + 1"
        " && document.documentElement.scrollWidth <= window.innerWidth; }"
    )
    page.locator(".mfu-table-box").scroll_into_view_if_needed()
    page.evaluate("() => { document.querySelector('.mfu-table-box').scrollTop = 600; }")
    offset = page.evaluate(
        "() => { const top = it => document.querySelector(it)"
        ".getBoundingClientRect().top;"
        " return top('.mfu-table thead th') - top('.mfu-table-box'); }"
    )
    assert abs(offset) < 2, "the head of the table stays in place"
