"""The button with the model that comes with MetIA, on a real study."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect
from pydicom import Dataset, dcmread

from tests.e2e.conftest import OpenPage
from tests.e2e.running_stack import RunningStack
from tests.e2e.viewer_page import WAIT_MS

MODEL = "unetr-brain-metastases"


def nameless_study(folder: Path) -> list[Dataset]:
    """Read a study without whose it is: pictures are taken of what the viewer shows."""
    images = [dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    for image in images:
        image.PatientName, image.PatientID = "Real^Study", "REAL-STUDY"
        image.AccessionNumber = ""
        for keyword in ("Study", "Series", "Acquisition", "Content"):
            if f"{keyword}Date" in image:
                image[f"{keyword}Date"].value = "20000101"
    return images


def test_the_trained_model_marks_a_real_tumour(
    stack: RunningStack, open_page: OpenPage, shared_data: Path
) -> None:
    images = nameless_study(shared_data / "dicom_tcia_btp_mri_brain")
    stack.upload(images)
    study = str(images[0].StudyInstanceUID)
    viewer = open_page()
    viewer.open_study(study)
    viewer.part("models").select_option(MODEL)
    viewer.press()
    viewer.wait_for_overlay()
    (result,) = stack.results(study)
    assert result["model"]["name"] == MODEL
    assert not result["model"]["demonstration"]
    largest = result["lesions"][0]
    assert largest["longest_diameter_mm"] > 15
    viewer.part("lesion-1").click()
    viewer.wait_for_image(f"/{largest['sop_instance_uid']}/")
    expect(viewer.part("demonstration")).to_have_count(0, timeout=WAIT_MS)
    expect(viewer.part("notice")).to_contain_text("Research use only")
    viewer.picture("20-trained-model")
