"""A real post-contrast study from the archive and back into it, with each model."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from db.engine import make_engine, reading, transaction
from db.results import get_result
from db.schema import upgrade
from segmentation.jobs import JobQueue
from segmentation.models.registry import ModelRegistry, load_predictor
from segmentation.pipeline import Outcome, Request, run_segmentation
from segmentation.runner import record_outcome
from settings import Settings
from tests.orthanc_server import OrthancServer


class Going:
    """A job that nobody cancels."""

    def report(self, step: str, progress: float) -> None:
        """Take note of nothing."""

    def cancelled(self) -> bool:
        return False

    def ensure_owner(self) -> None:
        """Hold it."""


@pytest.mark.parametrize(
    "model", ["phantom-threshold", "unetr-seeded", "unetr-brain-metastases"]
)
def test_a_real_study_runs_end_to_end(
    model: str, orthanc: OrthancServer, shared_data: Path, tmp_path: Path
) -> None:
    files = sorted((shared_data / "dicom_tcia_btp_mri_brain").glob("*.dcm"))
    orthanc.upload_files([file.read_bytes() for file in files])
    study_uid = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    settings = Settings(data_dir=tmp_path)
    engine = make_engine(settings.database_url)
    upgrade(engine)
    job, _ = JobQueue(engine, settings).submit(study_uid, model_name=model)
    recorded: list[str] = []

    def record(outcome: Outcome) -> None:
        with transaction(engine) as session:
            recorded.append(record_outcome(session, job, outcome))

    predictor = load_predictor(ModelRegistry(settings.model_dirs).get(model))
    archive = orthanc.archive()
    run_segmentation(
        Request(study_uid, None),
        Going(),
        archive,
        predictor,
        record,
        stable_timeout_s=30,
    )

    with reading(engine) as session:
        result = get_result(session, recorded[0])
    assert result.instance_count == len(files) == 24
    assert result.tilt_deg == pytest.approx(10, abs=1.5)
    stored = [
        header
        for header in archive.series_headers(study_uid)
        if header.series_uid == result.segmentation_series_uid
    ]
    # The demonstrations know no tumour: what matters is that what was found is there.
    assert len(stored) == bool(result.lesions)
    if model == "unetr-brain-metastases":
        assert max(lesion.longest_diameter_mm for lesion in result.lesions) > 15
    for lesion in result.lesions:
        assert lesion.longest_diameter_mm >= lesion.perpendicular_diameter_mm > 0
        assert 0 <= lesion.slice_index < len(files)
