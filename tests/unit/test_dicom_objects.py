"""How a lesion is named in what leaves: by its track, and never two alike."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from segmentation.exports.dicom_objects import Material


def material(lesions: list[Any], tracks: list[Any]) -> Material:
    course: Any = SimpleNamespace(tracks=tracks, visits=())
    result: Any = SimpleNamespace(lesions=tuple(lesions), id="r")
    nothing: Any = None
    return Material(result, nothing, None, course)


def lesion(key: str, review: str = "accepted") -> Any:
    return SimpleNamespace(
        id=key, name=f"Metastasis {key}", tracking_uid=f"uid-{key}", review=review
    )


def track(label: str, uid: str, lesion_id: str, state: str = "automatic") -> Any:
    seen = SimpleNamespace(lesion_id=lesion_id, link_state=state)
    return SimpleNamespace(label=label, tracking_uid=uid, observations=(seen,))


def test_a_linked_lesion_goes_by_its_track_and_another_by_itself() -> None:
    names = material(
        [lesion("a"), lesion("b"), lesion("c"), lesion("d", "rejected")],
        [track("M1", "uid-1", "a"), track("M2", "uid-2", "b", "pending")],
    ).names()
    assert names == {
        "a": ("M1", "uid-1"),
        "b": ("Metastasis b", "uid-b"),
        "c": ("Metastasis c", "uid-c"),
    }


def test_a_uid_that_its_track_kept_is_not_used_twice() -> None:
    """The reader moved lesion b into the track that lesion a had founded."""
    names = material([lesion("a"), lesion("b")], [track("M1", "uid-a", "b")]).names()
    assert names["b"] == ("M1", "uid-a")
    assert names["a"][0] == "Metastasis a"
    assert names["a"][1].startswith("2.25.")
