"""Runs recipes for many at once, one step of each in turn. Who is who (from left to right: who uses whom):

    base.Engine, the seam: all that the page, the service and the command line know
      turns.TurnsEngine: one that checks budgets and has the work done; local.LocalEngine: in this process
        scheduler.Scheduler: whose step is next; it knows nothing but `Task`, which these are:
          work.Completion                     computes what a recipe lacks
          running_drag.TurnsDrag              a drag that somebody watches, `base.RunningDrag` to them;
                                              TurnsLiveDrag, `base.LiveDrag`: one that follows a hand
          running_inversion.TurnsInversion    a photo that is opened, `base.RunningInversion` to whoever watches
          single_steps.Once, Stepwise         one picture; anything else that has steps
        computing.Computing: what computes for them; LocalComputing here, remote.RemoteComputing on a cluster
          computing.SteppedDrag               one drag as it is computed (`drag.Drag`): asked for its next step
          computing.Drawing                   pictures that differ in their latent alone
        models.ModelSource: which models there are

A `TurnsDrag` is `work.Work`: it has a visitor, a budget and an end that is waited for, and asks a `SteppedDrag` for the
next step whenever its turn has come. Work knows its engine by `work.Home` alone.
"""
