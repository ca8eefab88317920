"""``metia segment``: one study on this machine in, one folder of results out.

The command alone, so that its help is quick; ``segmentation.cli.run`` does the work
with ``segmentation.pipeline.analyse``, the same middle the service runs. All files are
written or none. Nothing is sent anywhere. Ctrl-C ends it within a window of the
network.
"""

from __future__ import annotations

from pathlib import Path

import click

OUTPUTS = """\b
Writes into DIR:
  result.json      lesions, measures, provenance (segmentation/result_schema.json)
  mask.nii.gz      number of the lesion in each voxel, 0 elsewhere
  SEG.dcm          DICOM segmentation, one segment a lesion (DICOM input only)
  lesions.png      a picture of each lesion with its axes
No lesion found is a result too: result.json and an empty mask are written.

\b
Examples:
  metia segment study/ --out result/
  metia segment study.zip --out result/ --model phantom-threshold --device cpu
  metia segment study/ --list-series
  metia segment study/ --series 1.2.840.1 --out result/
  metia segment t1_post.nii.gz --out result/ --json | jq .lesion_count
"""


@click.command(epilog=OUTPUTS)
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the results; made if missing.",
)
@click.option("--series", metavar="UID", help="Take this series (else: the best one).")
@click.option(
    "--list-series", is_flag=True, help="Only show the series and how they are judged."
)
@click.option(
    "--force-series",
    is_flag=True,
    help="Also take a series that does not look like a post-contrast T1 of the head.",
)
@click.option("--model", metavar="NAME", default="", help="See: metia models list.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default=None,
    help="Where the network runs (default: METIA_DEVICE, else auto).",
)
@click.option("--overwrite", is_flag=True, help="Replace earlier results in DIR.")
@click.option("--quiet", "-q", is_flag=True, help="Show nothing but errors.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print result.json to standard output."
)
def segment(
    path: Path,
    out: Path | None,
    series: str | None,
    list_series: bool,
    force_series: bool,
    model: str,
    device: str | None,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Find and measure metastases in the images at PATH; no server is needed.

    PATH is a folder of DICOM files (one study), a ZIP of one, one Enhanced DICOM file,
    or a NIfTI file (.nii, .nii.gz). Of a study, the post-contrast T1 of the head is
    chosen.
    """
    from segmentation.cli import run

    if list_series:
        run.show_series(path, as_json=as_json)
        return
    if out is None:
        raise click.UsageError("Missing option '--out'.")
    run.segment_files(
        run.Request(
            path=path,
            out=out,
            series_uid=series,
            force_series=force_series,
            model=model,
            device=device,
            overwrite=overwrite,
            quiet=quiet,
            as_json=as_json,
        )
    )
