"""Ways from one latent to the next. A new one is a module here, its line below, its name in `config.SolverName`."""

from __future__ import annotations

from typing import Any

from draggan.config import SolverName
from draggan.drag.solvers.adam import Adam
from draggan.drag.solvers.base import Solver
from draggan.drag.solvers.gauss_newton import GaussNewton

__all__ = ["SOLVERS"]

SOLVERS: dict[SolverName, type[Solver[Any]]] = {"adam": Adam, "gauss-newton": GaussNewton}
