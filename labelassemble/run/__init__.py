"""A run: from a configuration to a folder that holds everything a later command needs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labelassemble.run.assembly import assemble_config, image_progress
    from labelassemble.run.calibration import calibration_in_use
    from labelassemble.run.evaluation import evaluate_run
    from labelassemble.run.export import export_run
    from labelassemble.run.external import evaluate_on
    from labelassemble.run.folder import TrainedModel, environment, load_trained, write_probabilities
    from labelassemble.run.training import Result, train_run
else:
    from labelassemble._lazy import on_demand

    __getattr__ = on_demand(
        __name__,
        {
            "assembly": ["assemble_config", "image_progress"],
            "calibration": ["calibration_in_use"],
            "evaluation": ["evaluate_run"],
            "export": ["export_run"],
            "external": ["evaluate_on"],
            "folder": ["TrainedModel", "environment", "load_trained", "write_probabilities"],
            "training": ["Result", "train_run"],
        },
    )

__all__ = [
    "Result",
    "TrainedModel",
    "assemble_config",
    "calibration_in_use",
    "environment",
    "evaluate_on",
    "evaluate_run",
    "export_run",
    "image_progress",
    "load_trained",
    "train_run",
    "write_probabilities",
]
