"""Trackers of experiments get the columns of metrics.csv: TensorBoard, MLflow, Weights & Biases, names alike."""

import json
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from labelassemble._files import write_text
from labelassemble.errors import LabelAssembleError
from labelassemble.training.history import EpochRow

_log = logging.getLogger(__name__)

_TERMS: Final = ("total", "bce", "pseudo", "consistency")
_MLFLOW_AT_ONCE: Final = 1000  # metrics of one call that its servers take
_MLFLOW_PARAMS: Final = 100


class Tracker(Protocol):
    """What a tracker is asked for."""

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Keep values after so many steps in all."""
        ...

    def flush(self) -> None:
        """Hand on what was kept back."""
        ...

    def close(self, error: type[BaseException] | None) -> None:
        """End this part of the run, with the error that ended it or without one."""
        ...


class Trackers:
    """The trackers of a run that are asked for; what they keep is in its folder, or where their own variables say.

    A tracker that fails during training is named once and left out: no training ends for its sake. Its run is ended
    with those of the others, as one that failed.

    Args:
        run: the run's folder.
        classes: names of the classes.
        names: "tensorboard", "mlflow", "wandb".
        settings: of the run, without what names its data, to be shown beside its curves.
        done: steps done before this part of the run.

    Raises:
        LabelAssembleError: a package is missing, or a tracker cannot begin.
    """

    def __init__(
        self,
        run: Path,
        classes: Sequence[str],
        names: Sequence[str],
        *,
        settings: Mapping[str, Any] | None = None,
        done: int = 0,
    ) -> None:
        self._classes = classes
        self._trackers: dict[str, Tracker] = {}
        self._lost: list[tuple[Tracker, type[Exception]]] = []
        try:
            self._begin(run, names, settings or {}, done)
        except BaseException as error:  # Ctrl-C too
            self.__exit__(type(error), error, None)
            raise

    def _begin(self, run: Path, names: Sequence[str], settings: Mapping[str, Any], done: int) -> None:
        for name in names:
            try:
                self._trackers[name] = _KINDS[name](run, settings, done)
            except ImportError as error:
                raise LabelAssembleError(
                    f"train.trackers names {name}, which needs a package that is missing ({error}): "
                    f"pip install 'labelassemble[{name}]'"
                ) from None
            except Exception as error:  # whatever a server or a file says
                raise LabelAssembleError(f"train.trackers: {name} cannot begin ({_said(error)})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, tracker in self._trackers.items():
            try:
                tracker.close(kind)
            except Exception as failure:
                _name_lost(name, failure)
        for (
            tracker,
            failed,
        ) in self._lost:  # not before: a server that does not answer would hold up the training
            with suppress(Exception):  # its failure was named
                tracker.close(failed)

    def step(self, done: int, terms: Sequence[float]) -> None:
        """Write total, bce, pseudo and consistency after `done` steps in all."""
        self._write({f"step/{name}": value for name, value in zip(_TERMS, terms, strict=True)}, done)

    def epoch(self, row: EpochRow) -> None:
        """Write what an epoch came to."""
        self._write(epoch_values(row, self._classes), row.step)
        for name, tracker in list(self._trackers.items()):
            try:
                tracker.flush()
            except Exception as failure:
                self._lose(name, failure)

    def _write(self, values: Mapping[str, float], step: int) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                tracker.write(values, step)
            except Exception as failure:
                self._lose(name, failure)

    def _lose(self, name: str, failure: Exception) -> None:
        self._lost.append((self._trackers.pop(name), type(failure)))
        _name_lost(name, failure)


def _name_lost(name: str, failure: Exception) -> None:
    _log.warning("train.trackers: %s fails and is left out from here on (%s)", name, _said(failure))


def epoch_values(row: EpochRow, classes: Sequence[str]) -> dict[str, float]:
    """Return what an epoch came to by name: "epoch/val_loss", "val_auc/Edema"; what is not defined is left out."""
    values = asdict(row)
    by_class = {name: values.pop(name) for name in ("val_auc", "pseudo_positive", "val_dice")}
    del values["epoch"], values["step"]
    found = {f"epoch/{name}": value for name, value in values.items()}
    for name, column in by_class.items():
        # images have no Dice
        found |= {f"{name}/{label}": value for label, value in zip(classes, column, strict=False)}
    return {name: value for name, value in found.items() if value is not None}


def without_data(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration's values without what names its data, for the eyes of a tracker's server.

    The sources are left out; where another option speaks of one it is "source 2", by its place, and "source 2, part 1"
    where a table's column divides it. Of a path the name of the file is left.
    """
    names = [source["name"] for source in settings["sources"]]
    kept = {key: value for key, value in settings.items() if key != "sources"}
    shares = kept["train"]["sampling"]
    if isinstance(shares, Mapping):
        kept["train"] = kept["train"] | {"sampling": _numbered(shares, names)}
    found: dict[str, Any] = _without_folders(kept)
    return found


def _numbered(shares: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    longest_first = sorted(names, key=len, reverse=True)
    found: dict[str, float] = {}
    for source, share in shares.items():
        whole = next(
            (name for name in longest_first if source == name or source.startswith(f"{name}/")), None
        )
        title = "another source" if whole is None else f"source {names.index(whole) + 1}"
        if whole is not None and source != whole:
            title += f", part {1 + sum(known.startswith(f'{title}, part') for known in found)}"
        found[title] = share
    return found


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_folders(item) for item in value]
    return os.path.basename(value) if isinstance(value, str) and os.path.isabs(value) else value


class _TensorBoard:
    """Event files in the folder `tensorboard` of the run; those of steps after the one gone on from are hidden."""

    def __init__(self, run: Path, settings: Mapping[str, Any], done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run / "tensorboard"), purge_step=done + 1)

    def write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self, error: type[BaseException] | None) -> None:
        self._writer.close()


class _MLflow:
    """A run of the experiment `labelassemble`, in mlflow.db of the run's folder or where MLFLOW_TRACKING_URI says."""

    def __init__(self, run: Path, settings: Mapping[str, Any], done: int) -> None:
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._metric: Any = Metric
        uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{(run / 'mlflow.db').resolve()}")
        self._client: Any = MlflowClient(tracking_uri=uri)
        self._kept: list[Any] = []
        self._run: str | None = _known(run).get("mlflow") if done else None
        if self._run is not None:
            self._client.update_run(self._run, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "labelassemble")
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        self._run = str(self._client.create_run(number, run_name=run.name).info.run_id)
        params = [Param(mlflow_name(key), value[:500]) for key, value in _flat(settings)]
        try:
            for first in range(0, len(params), _MLFLOW_PARAMS):
                self._client.log_batch(self._run, params=params[first : first + _MLFLOW_PARAMS])
        except BaseException:
            with suppress(Exception):  # what failed first is said
                self._client.set_terminated(self._run, status="FAILED")
            raise
        _remember(run, "mlflow", self._run)

    def write(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self._kept += [self._metric(mlflow_name(name), value, now, step) for name, value in values.items()]

    def flush(self) -> None:
        kept, self._kept = self._kept, []
        for first in range(0, len(kept), _MLFLOW_AT_ONCE):
            self._client.log_batch(self._run, metrics=kept[first : first + _MLFLOW_AT_ONCE])

    def close(self, error: type[BaseException] | None) -> None:
        try:
            self.flush()
        finally:
            self._client.set_terminated(self._run, status="FINISHED" if error is None else "KILLED")


class _Wandb:
    """A run of the project `labelassemble`, offline in the run's folder unless WANDB_MODE says otherwise."""

    def __init__(self, run: Path, settings: Mapping[str, Any], done: int) -> None:
        import wandb

        known = _known(run).get("wandb") if done else None
        mode = os.environ.get("WANDB_MODE", "offline")
        # Nor the command line and the folders of this machine, where this version of the package can leave them out.
        left_out = {"x_disable_meta", "x_disable_machine_info"} & set(wandb.Settings.model_fields)
        quiet = wandb.Settings(
            silent=mode == "offline",
            console="off",
            disable_git=True,
            save_code=False,
            **dict.fromkeys(left_out, True),
        )
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "labelassemble"),
            name=run.name,
            id=known or uuid.uuid4().hex[:8],
            resume="allow" if known and mode == "online" else None,
            mode=mode,
            dir=str(run),
            config=dict(settings),
            settings=quiet,
        )
        _remember(run, "wandb", str(self._run.id))

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def flush(self) -> None:
        """Weights & Biases writes by itself."""

    def close(self, error: type[BaseException] | None) -> None:
        self._run.finish(exit_code=0 if error is None else 1)


_KINDS: Final[Mapping[str, Callable[[Path, Mapping[str, Any], int], Tracker]]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": _Wandb,
}


def mlflow_name(name: str) -> str:
    """Return a metric's name in the characters that MLflow takes; any other by its code, such as _28_ for "(".

    MLflow's names are paths: what comes after the first slash has no other one and is not "." or "..".
    """
    group, slash, rest = name.partition("/")
    allowed = " .-" if rest.strip(".") else " -"
    return _coded(group, " .-") + slash + _coded(rest, allowed)


def _coded(text: str, allowed: str) -> str:
    return re.sub(rf"[^\w{re.escape(allowed)}]", lambda match: f"_{ord(match[0]):x}_", text)


def _known(run: Path) -> dict[str, str]:
    """Return how the run is called in each tracker, by an earlier part of it."""
    try:
        found: dict[str, str] = json.loads((run / "trackers.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _remember(run: Path, tracker: str, name: str) -> None:
    write_text(run / "trackers.json", json.dumps(_known(run) | {tracker: name}, indent=2) + "\n")


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        rows += (
            _flat(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else [(f"{prefix}{key}", str(value))]
        )
    return rows


def _said(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
