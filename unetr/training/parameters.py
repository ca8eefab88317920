"""Every number of the synthetic heads, the patches and the loss, in one place.

Plain immutable data, read from the parts ``synthetic``, ``patches`` and ``loss`` of a
training configuration; loads no torch. Ranges are (low, high) of a uniform draw.
Lengths are in mm, which on the generator's 1 mm grid are also voxels; intensities are
relative to white matter where a name says ``level``.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field

from unetr.configuration import Configuration

Number = TypeVar("Number")


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the first number of a range is its lower end")
    return pair


_Pair = Annotated[tuple[Number, Number], AfterValidator(_ordered)]
Range = _Pair[Annotated[float, Field(allow_inf_nan=False)]]
Amount = _Pair[Annotated[float, Field(ge=0, allow_inf_nan=False)]]
"""A range of what may be nothing, but not less."""
Size = _Pair[Annotated[float, Field(ge=0.1, allow_inf_nan=False)]]
"""A range of what is divided by or cannot be nothing."""
Share = Annotated[float, Field(ge=0, le=1)]


class AnatomyParameters(Configuration):
    """Shape and tissue contrast of heads drawn from label maps.

    Attributes
    ----------
    rotation_degrees, scale : Range
        Of the whole head, each axis on its own; also stands for oblique slices.
    warp_mm : Range
        Typical displacement of the smooth deformation.
    warp_length_mm : float
        Its correlation length.
    contrast_spread : float
        Spread of tissue means, in standard deviations of the priors.
    flat_share, flatness : float, Range
        Share of spin-echo-like heads, and how far grey and white matter approach each
        other there (0: as drawn, 1: equal).
    odd_scalp_share : float
        Heads whose tissues outside the skull take any intensity.
    fat_share, fat_gain : float, Range
        Heads whose scalp fat is suppressed or bright, and by how much.
    texture : float
        Variation inside a tissue, in standard deviations of the priors.
    """

    rotation_degrees: Range = (-12.0, 12.0)
    scale: Size = (0.9, 1.12)
    warp_mm: Amount = (0.0, 3.5)
    warp_length_mm: Annotated[float, Field(gt=2, le=100)] = 22.0
    contrast_spread: Annotated[float, Field(ge=0, le=3)] = 1.2
    flat_share: Share = 0.35
    flatness: Amount = (0.3, 1.05)
    odd_scalp_share: Share = 0.25
    fat_share: Share = 0.6
    fat_gain: Amount = (0.4, 3.5)
    texture: Annotated[float, Field(ge=0, le=2)] = 0.45


class EnhancementParameters(Configuration):
    """What takes up contrast agent without being a metastasis: the hard negatives.

    Attributes
    ----------
    contrast_share : float
        Heads with contrast agent; the others have neither vessels nor lesions.
    vessel_level : Range
        Brightness of blood.
    surface_vessels, deep_vessels : Range
        Counts of vessels in the sulci and through the brain.
    surface_radius_mm, deep_radius_mm : Range
    sinus_share, dura_share, plexus_share, pituitary_share, neck_share : float
        Heads in which each shows; the neck has great vessels and the spinal cord.
    """

    contrast_share: Share = 0.94
    vessel_level: Size = (1.35, 2.8)
    surface_vessels: Amount = (25, 80)
    deep_vessels: Amount = (10, 45)
    surface_radius_mm: Size = (0.4, 1.6)
    deep_radius_mm: Size = (0.3, 0.8)
    sinus_share: Share = 0.92
    dura_share: Share = 0.4
    plexus_share: Share = 0.9
    pituitary_share: Share = 0.9
    neck_share: Share = 0.8


class LesionParameters(Configuration):
    """Number, size and looks of the metastases.

    Attributes
    ----------
    none_share : float
        Heads without any.
    count_decay : float
        Parameter of the geometric law of their number.
    maximum_count : int
    median_diameter_mm, diameter_spread : float
        Of the log-normal size law.
    diameter_mm : Range
        It is cut to.
    junction_share, cerebellum_share : float
        Placed at the grey-white junction, in the cerebellum; the rest anywhere in the
        brain.
    front_weight : float
        Density of lesions in the front 60 % of the brain (but for the cerebellum) over
        that behind it. This and the cerebellum's share follow published counts of
        metastases of breast and lung cancer on the MNI grid.
    level, faint_level, faint_share : Range, Range, float
        Brightness of what enhances, and of the faint ones.
    ring_share, patchy_share, haemorrhagic_share : float
        Of the lesions large enough for it; the rest is solid.
    oedema_share : float
    """

    none_share: Share = 0.08
    count_decay: Annotated[float, Field(gt=0, le=1)] = 0.16
    maximum_count: Annotated[int, Field(ge=1, le=60)] = 20
    median_diameter_mm: Annotated[float, Field(gt=1, le=40)] = 6.5
    diameter_spread: Annotated[float, Field(ge=0, le=2)] = 0.65
    diameter_mm: Size = (2.0, 40.0)
    junction_share: Share = 0.6
    cerebellum_share: Share = 0.18
    front_weight: Share = 0.65
    level: Size = (1.3, 2.6)
    faint_level: Size = (1.15, 1.35)
    faint_share: Share = 0.1
    ring_share: Share = 0.5
    patchy_share: Share = 0.15
    haemorrhagic_share: Share = 0.08
    oedema_share: Share = 0.55


class AcquisitionParameters(Configuration):
    """From tissue to an image as a scanner and its software write it.

    Attributes
    ----------
    stripped_share : float
        Images of the brain only.
    bias : Range
        Logarithmic amplitude of the smooth shading.
    blur_mm : Range
        In-plane blur (standard deviation).
    thick_share, thickness_mm, gap_share : float, Range, float
        Thick slices, along the head mostly, with gaps some times.
    noise : Range
        Standard deviation of the Rician noise over the image's 90th percentile.
    ghost_share, gamma_share, clip_share, slab_share : float
        Motion ghosts, bent grey scales, saturated brightness, incomplete heads.
    """

    stripped_share: Share = 0.15
    bias: Amount = (0.0, 0.28)
    blur_mm: Amount = (0.3, 0.75)
    thick_share: Share = 0.4
    thickness_mm: Size = (2.0, 6.5)
    gap_share: Share = 0.4
    noise: Amount = (0.005, 0.045)
    ghost_share: Share = 0.15
    gamma_share: Share = 0.3
    clip_share: Share = 0.1
    slab_share: Share = 0.12


class SyntheticParameters(Configuration):
    """All of the above.

    Attributes
    ----------
    background_share : float
        Heads that are real images with painted lesions, where the data hold any.
    """

    background_share: Share = 0.25
    anatomy: AnatomyParameters = AnatomyParameters()
    enhancement: EnhancementParameters = EnhancementParameters()
    lesions: LesionParameters = LesionParameters()
    acquisition: AcquisitionParameters = AcquisitionParameters()


class PatchParameters(Configuration):
    """How patches are cut and used.

    Attributes
    ----------
    per_head : int
        Patches of each generated head.
    reuse : int
        How often a patch is used, on average, before a newer one takes its place.
    pool : int
        Patches a process keeps to choose from.
    lesion_share, bright_share : float
        Centred near a lesion; near something bright inside the skull, in half of them
        plexus, pituitary gland or neck; the rest lies anywhere in the skull.
    jitter : float
        Greatest shift of the centre, as a share of the patch's edge.
    gain, offset : Range
        Variation of brightness when a patch is used.
    hard_share : float
        Share of stored patches that are drawn in proportion to how badly they were
        segmented when last met; the rest are drawn evenly.
    """

    per_head: Annotated[int, Field(ge=1, le=256)] = 14
    reuse: Annotated[int, Field(ge=1, le=64)] = 3
    pool: Annotated[int, Field(ge=1, le=100_000)] = 256
    lesion_share: Share = 0.6
    bright_share: Share = 0.15
    jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.38
    gain: Size = (0.8, 1.25)
    offset: Range = (-0.05, 0.05)
    hard_share: Share = 0.5


class LossParameters(Configuration):
    """Which loss.

    Attributes
    ----------
    kind : str
        ``dice-bce``, ``dice-focal`` or ``tversky`` (with cross-entropy).
    voxel_weight : float
        Factor of the voxel-wise term.
    lesion_weight : float
        Factor of lesion voxels within it.
    focal_power : float
        Of ``dice-focal``.
    miss_weight : float
        Of ``tversky``: weight of missed against added voxels, 0.5 being Dice.
    empty_weight : float
        Weight of the overlap term of a patch without lesion.
    balance_voxels, balance_limit : float
        Voxels of a lesion, or of a mark, smaller than `balance_voxels` count more in
        the voxel-wise term, up to `balance_limit` times, so that each small one counts
        about as one of that size; 0 leaves all voxels alike.
    """

    kind: Literal["dice-bce", "dice-focal", "tversky"] = "dice-focal"
    voxel_weight: Annotated[float, Field(ge=0, le=100)] = 8.0
    lesion_weight: Annotated[float, Field(ge=1, le=100)] = 5.0
    focal_power: Annotated[float, Field(ge=0, le=5)] = 1.0
    miss_weight: Annotated[float, Field(gt=0, lt=1)] = 0.7
    empty_weight: Annotated[float, Field(ge=0, le=1)] = 0.25
    balance_voxels: Annotated[float, Field(ge=0, le=10000)] = 0.0
    balance_limit: Annotated[float, Field(ge=1, le=1000)] = 20.0
