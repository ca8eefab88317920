"""The parameters of a UNETR model, as its manifest states them.

Plain validated data: importing this module loads neither torch nor monai, so the model
host (and with it the web process) can read every manifest. Axes are always
(slice, row, column) of the network's own grid; lengths in millimetres. Immutable, safe
to share.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PATCH_SIZE_VOXELS = 16
"""Edge of a patch of MONAI's UNETR; windows are whole multiples of it."""

PositiveLength = Annotated[float, Field(gt=0, le=20, allow_inf_nan=False)]
Blending = Literal["gaussian", "constant"]
WindowEdge = Annotated[int, Field(ge=32, le=256, multiple_of=PATCH_SIZE_VOXELS)]
Percentile = Annotated[float, Field(ge=0, le=100)]


class Configuration(BaseModel):
    """Base of everything read from a manifest: exact types, no unknown keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class NetworkArguments(Configuration):
    """Arguments of ``monai.networks.nets.UNETR``, under MONAI's own names.

    Attributes
    ----------
    architecture : str
        ``monai-unetr``: just that. ``pyramid-unetr``: with convolutions beside the
        transformer, see ``unetr.network.PyramidUNETR``.
    """

    architecture: Literal["monai-unetr", "pyramid-unetr"]
    in_channels: Literal[1] = 1
    out_channels: Annotated[int, Field(ge=1, le=64)] = 2
    img_size: tuple[WindowEdge, WindowEdge, WindowEdge]
    feature_size: Annotated[int, Field(ge=1, le=64)] = 16
    hidden_size: Annotated[int, Field(ge=12, le=2048)] = 768
    mlp_dim: Annotated[int, Field(ge=1, le=8192)] = 3072
    num_heads: Annotated[int, Field(ge=1, le=64)] = 12
    proj_type: Literal["perceptron", "conv"] = "perceptron"
    norm_name: Literal["instance", "batch"] = "instance"
    conv_block: bool = True
    res_block: bool = True
    qkv_bias: bool = False

    @model_validator(mode="after")
    def _check_heads(self) -> NetworkArguments:
        if self.hidden_size % self.num_heads:
            raise ValueError("hidden_size must be a multiple of num_heads")
        return self


class IntensityNormalisation(Configuration):
    """Robust linear scaling, then cutting to `clip`.

    Attributes
    ----------
    rule : str
        ``percentiles``: the two percentiles of the head's tissue become 0 and 1.
        ``brain-median``: 0 stays 0 and the brain's median becomes 1; neither fat nor
        the field of view has a part in it.
    """

    rule: Literal["percentiles", "brain-median"] = "percentiles"
    lower_percentile: Percentile = 1.0
    upper_percentile: Percentile = 99.0
    clip: tuple[float, float] = (-1.0, 4.0)

    @model_validator(mode="after")
    def _check_order(self) -> IntensityNormalisation:
        if self.lower_percentile >= self.upper_percentile:
            raise ValueError("lower_percentile must be below upper_percentile")
        if not self.clip[0] <= 0 < 1 <= self.clip[1]:
            raise ValueError("clip must contain 0 and 1")
        return self


class PreprocessingProfile(Configuration):
    """How an image becomes the network's input; training uses the same.

    Attributes
    ----------
    profile : str
        ``head-mr``: closest axis-aligned orientation, head box, linear resampling,
        robust scaling.
    orientation : str
        highdicom orientation of the axes (slice, row, column); ``HPL``: slices run to
        the head, rows to the back, columns to the left.
    spacing_mm : tuple of float
        Voxel size of the network's grid.
    margin_mm : float
        Room left around the head's box.
    """

    profile: Literal["head-mr"]
    orientation: Literal["HPL"] = "HPL"
    spacing_mm: tuple[PositiveLength, PositiveLength, PositiveLength]
    margin_mm: Annotated[float, Field(ge=0, le=100)] = 8.0
    intensity: IntensityNormalisation = IntensityNormalisation()


AxisName = Literal["slice", "-slice", "row", "-row", "column", "-column"]


class LegacyProfile(Configuration):
    """How the system that MetIA replaces prepared an image, made deterministic.

    Its network saw voxels, not millimetres, and in an order of axes that is not known
    for every checkpoint (``metia models self-test`` finds it). Random flips, which it
    left on when predicting, are not imitated.

    Attributes
    ----------
    axis_order : tuple of str
        Which axis of the image (slices to the head, rows to the back, columns to the
        left) the network's first, second and third axis are; ``-``: run backwards.
    spacing_voxels : tuple of float
        Steps along the network's axes, in voxels of the image.
    window_intensity : tuple of float
        Of the image scaled to a maximum of 255, what becomes `scaled_to`.
    scaled_to : tuple of float
        What the network sees at the ends of the window and beyond. Planes at the edges
        with nothing above 0 are cut off.
    """

    profile: Literal["metia-legacy"]
    axis_order: tuple[AxisName, AxisName, AxisName] = ("-row", "column", "slice")
    spacing_voxels: tuple[PositiveLength, PositiveLength, PositiveLength] = (
        1.5,
        1.5,
        2.0,
    )
    window_intensity: tuple[float, float] = (-200.0, 300.0)
    scaled_to: tuple[float, float] = (0.0, 1.0)

    @model_validator(mode="after")
    def _check_axes(self) -> LegacyProfile:
        if {name.removeprefix("-") for name in self.axis_order} != {
            "slice",
            "row",
            "column",
        }:
            raise ValueError("axis_order must name slice, row and column once each")
        for name in ("window_intensity", "scaled_to"):
            low, high = getattr(self, name)
            if low >= high:
                raise ValueError(f"{name} must rise")
        return self


Profile = Annotated[
    PreprocessingProfile | LegacyProfile, Field(discriminator="profile")
]


class InferenceParameters(Configuration):
    """How windows are laid and when a voxel counts as lesion.

    Attributes
    ----------
    window : tuple of int or None
        Voxels of the network's input; None for models that see the image at once.
    overlap : float
        Least part of a window shared with its neighbour along an axis.
    blending : str
        ``gaussian``: windows spread evenly, their middle weighs most; ``constant``:
        MONAI's default, all voxels weigh the same and the last window is pushed back.
    threshold : float
        Probability from which a voxel counts as lesion.
    minimum_volume_mm3 : float
        Smaller components are left out.
    minimum_peak : float
        Components without a voxel of this probability are left out.
    maximum_head_fraction : float
        An answer with more of the head's volume as lesion is refused as implausible.
    """

    window: tuple[WindowEdge, WindowEdge, WindowEdge] | None = None
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.5
    blending: Blending = "gaussian"
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    minimum_volume_mm3: Annotated[float, Field(ge=0, le=10_000)]
    minimum_peak: Annotated[float, Field(ge=0, lt=1)] = 0.0
    maximum_head_fraction: Annotated[float, Field(gt=0, le=1)] = 0.25

    @property
    def threshold_logit(self) -> float:
        """The threshold as a logit, the number that networks answer with."""
        return math.log(self.threshold / (1 - self.threshold))
