"""A run: from a configuration to a folder that holds everything a later command needs."""

from labelassemble.run.evaluation import evaluate_on, evaluate_run
from labelassemble.run.export import export_run
from labelassemble.run.folder import (
    TrainedModel,
    assemble_config,
    environment,
    image_progress,
    load_trained,
    processor_name,
    write_probabilities,
)
from labelassemble.run.training import Result, train_run

__all__ = [
    "Result",
    "TrainedModel",
    "assemble_config",
    "environment",
    "evaluate_on",
    "evaluate_run",
    "export_run",
    "image_progress",
    "load_trained",
    "processor_name",
    "train_run",
    "write_probabilities",
]
