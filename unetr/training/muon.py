"""AdamW, with convolutions stepped by their orthogonalised momentum (Muon).

Patches of lesions give few and noisy gradients; directions that AdamW hardly follows
count as much as the others here. The update of a convolution, seen as a matrix of
(outputs, all else), keeps its directions and gets singular values of about 1 (Jordan et
al. 2024, five Newton-Schulz steps), times 0.2 and the root of the longer edge, so that
its size is that of AdamW's (Liu et al. 2025) and one learning rate suits both. torch's
own Muon takes matrices only. Needs gradients of float32; all ranks compute the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ADAM_RMS = 0.2
"""Typical size of an element of AdamW's update, in learning rates."""


def turns(name: str, parameter: Tensor) -> bool:
    """Tell what Muon steps: all convolutions but the last, whose rows are classes."""
    return parameter.ndim == 5 and not name.startswith("out.")


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring the singular values of (matrix, row, column) near 1, in bfloat16."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-12)).bfloat16()
    first, third, fifth = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = x @ x.mT
        x = first * x + (third * square + fifth * (square @ square)) @ x
    turned: Tensor = x if wide else x.mT
    return turned.to(matrices.dtype)


class MuonAdamW(torch.optim.Optimizer):
    """One optimiser of both kinds, chosen by each group's ``muon``.

    Parameters
    ----------
    groups : iterable of dict
        With ``params`` and ``muon`` (bool): which kind.
    lr, weight_decay : float
    fused : bool
        Of AdamW.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        weight_decay: float,
        fused: bool = True,
    ) -> None:
        super().__init__(list(groups), {"lr": lr, "weight_decay": weight_decay})
        self._adamw = torch.optim.AdamW(
            [group for group in self.param_groups if not group["muon"]],
            lr=lr,
            weight_decay=weight_decay,
            fused=fused,
        )
        self._share()

    def _share(self) -> None:
        """Let AdamW see this optimiser's groups and state; loading replaces them."""
        self._adamw.param_groups = [
            group for group in self.param_groups if not group["muon"]
        ]
        self._adamw.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Any = None) -> Any:
        """Take a step; calls `closure` first, as Lightning has it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._adamw.step()
        with torch.no_grad():
            for group in self.param_groups:
                if group["muon"]:
                    self._step_orthogonally(group)
        return loss

    def _step_orthogonally(self, group: dict[str, Any]) -> None:
        alike: dict[tuple[int, int], dict[Tensor, Tensor]] = defaultdict(dict)
        for parameter in group["params"]:
            if parameter.grad is not None:
                shape = (parameter.shape[0], parameter[0].numel())
                ahead = self._advance(parameter, parameter.grad)
                alike[shape][parameter] = ahead.reshape(shape)
        for shape, gradients in alike.items():
            updates = orthogonalise(torch.stack(list(gradients.values())))
            size = group["lr"] * ADAM_RMS * max(shape) ** 0.5
            for parameter, update in zip(gradients, updates, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.reshape(parameter.shape), alpha=-size)

    def _advance(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """Give Nesterov's momentum after this gradient."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(momentum, MOMENTUM)
