"""``draggan models``: what there is."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

__all__ = ["HELP", "NAME", "add_options", "run"]

NAME = "models"
HELP = "list the models, where they are and their terms"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    from draggan.checkpoints import catalogue
    from draggan.downloads import megabytes

    models = catalogue.all_models()
    if args.json:
        print(json.dumps([_model_facts(model) for model in models]))
        return 0
    width = max(len(model.name) for model in models)
    for model in models:
        size = "" if model.size is None else f"{model.size[0]}x{model.size[1]}"
        count = model.bytes_on_disk() or model.bytes
        weight = "" if count is None else megabytes(count)
        print(f"{model.name:{width}}  {size:9}  {model.state:16}  {weight:>8}  {model.title}; licence: {model.licence}")
    print(f"\nOwn models: drop files into {catalogue.models_dir()}")
    return 0


def _model_facts(model: Any) -> dict[str, Any]:
    facts = dataclasses.asdict(model)
    return facts | {"state": model.state, "local": str(model.local), "bytes_on_disk": model.bytes_on_disk()}
