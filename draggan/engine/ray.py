"""An engine on many machines, by Ray Serve (the optional extra ``ray``).

Replicas (`draggan.engine.replica`) compute: a step of a drag, or a few short ones, is a request. All that it needs goes
with it or can be fetched, so any replica can take it, and if one dies, another takes the same step from the same state.
Serve starts replicas, adds some when requests wait, and replaces those that die. A request goes to a replica that has
the model already (Serve's multiplexing), and a drag's next step to the one that took the step before, as long as that
is there and not busier than it may be. Turns among visitors, and budgets, are those of every engine (`TurnsEngine`).
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
import os
import random
import time
import uuid
from collections import OrderedDict
from pathlib import Path
from typing import Any

from draggan.config import Cluster, Limits
from draggan.engine.computing import Facts
from draggan.engine.models import ModelSource
from draggan.engine.remote import RemoteComputing
from draggan.engine.replica import PROTOCOL, Replica, Sent, Taken
from draggan.engine.turns import TurnsEngine
from draggan.errors import ConfigError, DragGANError, LimitError
from torch_utils.ops import library

__all__ = ["RayComputing", "RayEngine", "connect", "import_ray"]

log = logging.getLogger(__name__)

_APP = "draggan"
_MODELS = 4  # in one replica, as in the store of every process
_WAITING = 8  # requests at one replica; two are computed at a time, by a replica of one core one
_BUSY = 2.0  # requests at every replica beyond which another one is added
_ATTEMPTS = 8
_LOADING = 600.0  # seconds that a machine may take to have a model, before it does what it is asked for
_SLICE = 0.1  # seconds of steps in one request, where no hand leads: as long as a person may wait for Stop
_RUNS = 4096  # of which is remembered where they were


def import_ray() -> Any:
    """The package.

    Raises:
        ConfigError: it is not installed.
    """
    # Whatever the environment says: nothing about this is anybody else's business.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Replicas and workers bring their own environment: a tool that has started this must not start them.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError("this needs Ray; install it with `pip install 'ray[serve]'`") from error


def connect(address: str) -> Any:
    """The package, connected to a cluster.

    Args:
        address: of the cluster, such as ``10.0.0.1:6379`` or ``auto``; empty: one is started on this machine.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """
    ray = import_ray()
    if not ray.is_initialized():
        if not address:
            # What is started here finds this program where it is not installed.
            paths = [str(Path(__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
            os.environ["PYTHONPATH"] = os.pathsep.join(path for path in dict.fromkeys(paths) if path)
        try:
            ray.init(
                address=address or "local",
                namespace=_APP,
                log_to_driver=False,
                logging_level=logging.WARNING,
                **({} if address else {"include_dashboard": False}),
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"there is no Ray cluster at '{address}' that can be used: {error}") from error
    return ray


class RayEngine(TurnsEngine):
    """Runs recipes on a cluster (`draggan.engine.base.Engine`).

    Args:
        models: what is known of models here.
        cluster: where, and with how many replicas.
        limits: what one visitor may have.

    Raises:
        ConfigError: there is no such cluster, or no Ray.
    """

    def __init__(self, models: ModelSource, cluster: Cluster | None = None, limits: Limits | None = None) -> None:
        cluster = cluster or Cluster()
        # More than are computed: what waits is what Serve counts to see that another replica is needed.
        workers = max(2 * _WAITING, _WAITING * cluster.most)
        limits = limits or Limits()
        # A request that takes longer than a whole drag may would end it anyway.
        computing = RayComputing(models, cluster, patience=limits.seconds + _LOADING)
        super().__init__(models, computing, limits, workers=workers)


class RayComputing(RemoteComputing):
    """Has everything computed by replicas (`draggan.engine.computing.Computing`).

    Args:
        models: what is known of models here.
        cluster: where, and with how many replicas.
        patience: seconds after which a request without an answer is given up.
    """

    def __init__(self, models: ModelSource, cluster: Cluster, *, patience: float) -> None:
        super().__init__(models, slice_seconds=_SLICE)
        self._patience = patience
        self.ray = connect(cluster.address)
        serve = importlib.import_module("ray.serve")
        self._busy: type[Exception] = importlib.import_module("ray.serve.exceptions").BackPressureError
        self._handle = _deployed(self.ray, serve, cluster)

    def close(self) -> None:
        """See `draggan.engine.computing.Computing.close`. Others may use the replicas; Serve lets idle ones go."""

    def put(self, value: Any) -> Any:
        """See `RemoteComputing.put`."""
        # In a list, so that it is not fetched before it is wanted.
        return [self.ray.put(value)]

    def call(self, method: str, *args: Any, model: Sent, run: str = "") -> Any:
        """See `RemoteComputing.call`. Another replica does it if the first dies."""
        handle = self._handle.options(
            method_name=method, multiplexed_model_id=model.sha256 or model.name, session_id=run or uuid.uuid4().hex
        )
        end = time.monotonic() + self._patience
        for attempt in range(_ATTEMPTS):
            response = handle.remote(*args)
            try:
                return response.result(timeout_s=max(end - time.monotonic(), 0.0))
            except self._busy as error:
                raise LimitError("all machines are busy at this moment; try again in a few seconds") from error
            except self.ray.exceptions.RayTaskError as error:
                cause = error.cause
                raise (cause if isinstance(cause, Exception) else DragGANError(str(error))) from None
            except TimeoutError as error:
                response.cancel()
                log.error("no replica has answered for %g s", self._patience)
                raise DragGANError(f"no machine has answered for {self._patience:g} s; try again later") from error
            except self.ray.exceptions.RayError as error:
                log.warning("a replica is gone (%s); another one is asked", type(error).__name__)
                time.sleep(min(0.05 * 2**attempt, 2.0))
        raise DragGANError(f"{_ATTEMPTS} machines in turn have failed while they were at it; try again later")


def _deployed(ray: Any, serve: Any, cluster: Cluster) -> Any:
    """A handle of the replicas of this cluster, which others may use already."""
    # Replicas of another protocol, or another size, are others.
    name = f"{_APP}-{PROTOCOL}-{cluster.least}-{cluster.most}-{cluster.cpus:g}-{cluster.gpus:g}"
    try:
        serve.start(http_options={"location": "NoServer"})
        if name in serve.status().applications:
            return serve.get_app_handle(name)
        config = importlib.import_module("ray.serve.config")
        scaling = {"num_replicas": cluster.least}
        if cluster.most > cluster.least:
            scaling = {
                "autoscaling_config": config.AutoscalingConfig(
                    min_replicas=cluster.least, max_replicas=cluster.most, target_ongoing_requests=_BUSY
                )
            }
        deployment = serve.deployment(
            _served(ray, serve),
            name="replica",
            max_ongoing_requests=_WAITING,
            ray_actor_options={"num_cpus": cluster.cpus, "num_gpus": cluster.gpus},
            request_router_config=config.RequestRouterConfig(request_router_class=f"{__name__}.WarmRouter"),
            health_check_period_s=5,
            **scaling,
        )
        threads = None if cluster.gpus else max(int(cluster.cpus), 1)
        return serve.run(deployment.bind(cluster.device, threads), name=name, route_prefix=None)
    except ray.exceptions.RayError as error:
        raise ConfigError(f"the replicas could not be started: {error}") from error


def _served(ray: Any, serve: Any) -> type:
    """The replica as Serve runs it."""

    class Served:
        def __init__(self, device: str, threads: int | None) -> None:
            # It waits for their first build: what one replica computes is to be what any other does.
            library.load_all()
            self._replica = Replica(lambda where: ray.get(where[0]), device, threads)
            # Two threads of one core would wait for each other at every small operation.
            self._turns = asyncio.Semaphore(1 if threads == 1 else 2)

        @serve.multiplexed(max_num_models_per_replica=_MODELS)
        async def load(self, model_id: str) -> str:
            """Serve notes that the model is warm here; it is loaded when it is asked for, by its store."""
            return model_id

        async def _do(self, method: Any, *args: Any) -> Any:
            await self.load(serve.get_multiplexed_model_id())
            async with self._turns:
                return await asyncio.to_thread(method, *args)

        async def facts(self, *args: Any) -> Facts:
            return await self._do(self._replica.facts, *args)

        async def latent(self, *args: Any) -> Any:
            return await self._do(self._replica.latent, *args)

        async def step(self, *args: Any) -> Taken | None:
            return await self._do(self._replica.step, *args)

        async def draw(self, *args: Any) -> Any:
            return await self._do(self._replica.draw, *args)

    return Served


def __getattr__(name: str) -> type:
    """Serve looks its router up by name in a module, and this module is imported where Ray is missing."""
    if name == "WarmRouter":
        return _router()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _router() -> type:
    """Which replica a request goes to."""
    routing = importlib.import_module("ray.serve.request_router")

    class WarmRouter(routing.LocalityMixin, routing.MultiplexMixin, routing.RequestRouter):  # type: ignore[misc, name-defined]
        """To where its run was last; else to the less busy of two replicas, of those with its model if they may."""

        def initialize_state(self, **_: Any) -> None:
            self._last: OrderedDict[str, Any] = OrderedDict()

        async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> list[list[Any]]:
            fitting = list(self.apply_multiplex_routing(pending_request))
            lengths = self.replica_queue_len_cache
            if all((lengths.get(replica) or 0) >= _BUSY for replica in fitting):
                # To load the model once more takes less time than to wait at every step.
                fitting = list(self.curr_replicas)
            two = [self.curr_replicas[chosen] for chosen in random.sample(fitting, min(2, len(fitting)))]
            last = None if pending_request is None else self._last.get(pending_request.metadata.session_id)
            warm = self.curr_replicas.get(last)
            return [two] if warm is None else [[warm], two]

        def on_request_routed(self, pending_request: Any, replica_id: Any, result: Any) -> None:
            run = pending_request.metadata.session_id
            self._last[run] = replica_id
            self._last.move_to_end(run)
            while len(self._last) > _RUNS:
                self._last.popitem(last=False)

    return WarmRouter
