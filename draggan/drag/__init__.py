"""The drag itself; knows generators only through `draggan.generators.base`.

In the order in which to read it (the words are explained in docs/method.md):

* `regime`: what kind of drag it is, and which rules follow. `prepare` checks what was given and computes the `problem`:
  all that stays the same while a drag runs.
* `drag`: the loop. Each turn of it a solver takes a step, a tracker says where the content of the handles is then, and
  `stopping` decides whether that is the end. `step` is what comes out, `state` what another process goes on from,
  `live` the targets that move.
* `tracking`: what a tracker is, and the published one. `continuity`: one or two handles on the way. `second_look`: the
  same before anything is claimed. `line`: many handles. `crowd`: eight or more. `refusal`: after which steps nothing
  true could be said.
* `solvers`: `base` is what a solver is, `adam` the published one, `gauss_newton` ours; the other modules there are what
  that one is made of.
* `motion_supervision`, `mask`, `precision`, `latent_statistics`, `noise`: what these compute with.
"""

from draggan.drag.drag import Drag
from draggan.drag.prepare import Reference
from draggan.drag.step import FADED, DragStep
from draggan.drag.stopping import Outcome

__all__ = ["FADED", "Drag", "DragStep", "Outcome", "Reference"]
