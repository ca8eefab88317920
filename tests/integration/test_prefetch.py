"""Images pulled ahead from a real Orthanc, and what changes before they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from db import ahead
from db.engine import Engine, database_time, make_engine, transaction
from db.schema import upgrade
from orthanc.gateway import OrthancArchive
from segmentation.ahead.prefetch import Prefetcher
from settings import Settings
from tests.orthanc_server import OrthancServer, program, running_orthanc
from tests.small_series import make_series

pytestmark = pytest.mark.skipif(program() is None, reason="Orthanc is not installed")


class Counting(OrthancArchive):
    """Counts the series pulled."""

    pulls = 0

    def fetch_series(self, *arguments, **options):  # type: ignore[no-untyped-def]
        self.pulls += 1
        return super().fetch_series(*arguments, **options)


@pytest.fixture
def overwriting(tmp_path: Path) -> Iterator[OrthancServer]:
    """Run an Orthanc that lets images be stored anew, unlike ours."""
    change = '"OverwriteInstances": false', '"OverwriteInstances": true'
    with running_orthanc(
        tmp_path / "orthanc", change=lambda text: text.replace(*change)
    ) as server:
        yield server


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path / 'metia.sqlite'}")
    upgrade(engine)
    yield engine
    engine.dispose()


def uids(images: list[Dataset]) -> tuple[str, str]:
    return str(images[0].StudyInstanceUID), str(images[0].SeriesInstanceUID)


def test_only_what_is_still_there_is_used(
    overwriting: OrthancServer, engine: Engine, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path)
    with closing(
        Counting(overwriting.url, overwriting.user, overwriting.password)
    ) as archive:
        prefetcher = Prefetcher(settings, engine, archive)

        def opened(images: list[Dataset]) -> None:
            with transaction(engine) as session:
                now = database_time(session) + timedelta(microseconds=archive.pulls)
                ahead.note_opened(session, uids(images)[0], now)
            prefetcher.step()
            assert uids(images) in prefetcher.shelf

        def fetched(images: list[Dataset]) -> dict[str, bytes]:
            found = prefetcher.fetch_series(*uids(images), lambda _done: None)
            prefetcher._tell(busy=False, computing=False)
            return {str(image.SOPInstanceUID): image.PixelData for image in found}

        def stored(images: list[Dataset]) -> dict[str, bytes]:
            return {str(image.SOPInstanceUID): image.PixelData for image in images}

        images = make_series(6, SeriesDescription="T1 SE AX +GD")
        overwriting.upload(images)
        opened(images)
        assert fetched(images) == stored(images)
        assert archive.pulls == 1, "what was pulled ahead was used"

        opened(images)
        more = make_series(1, SeriesDescription="T1 SE AX +GD")[0]
        more.StudyInstanceUID, more.SeriesInstanceUID = uids(images)
        more.InstanceNumber = 7
        overwriting.upload([more])
        images.append(more)
        assert fetched(images) == stored(images)
        assert archive.pulls == 3

        opened(images)
        images[2].PixelData = bytes(len(images[2].PixelData))
        overwriting.upload([images[2]])  # the same UID, another image
        assert fetched(images) == stored(images)
        assert archive.pulls == 5
