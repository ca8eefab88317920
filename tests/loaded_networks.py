"""Networks that are plain functions, loaded as an engine would."""

from __future__ import annotations

from unetr.engines.engine import Choice, HostNetwork, Loaded, Place, Resident


def loaded_network(
    network: HostNetwork, device: str = "cpu", resident: Resident | None = None
) -> Loaded:
    """Pretend that an engine has loaded `network`."""
    return Loaded(
        network=network,
        choice=Choice("torch", "fp32"),
        place=Place(device, threads=1),
        device=device,
        versions={"torch": "0"},
        resident=resident,
    )
