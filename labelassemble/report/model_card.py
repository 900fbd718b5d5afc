"""The model card (Mitchell et al., FAT* 2019): what a model is, what it was made from, and what it is not for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from labelassemble.data.served import PROGRAMS
from labelassemble.data.table import WARNING, Table
from labelassemble.evaluation.calibration import Calibration
from labelassemble.evaluation.detection import Detection
from labelassemble.evaluation.results import ClassResult, Evaluation
from labelassemble.report.format import count_text, duration, flat, plural, too_few_negatives, with_interval
from labelassemble.report.record import Results, RunRecord
from labelassemble.report.sections import coverage_of
from labelassemble.report.subgroups import gap_note, gap_sentences
from labelassemble.report.text import leakage_sentences
from labelassemble.report.unreadable import unreadable_sentence

INTENDED: Final = (
    "Research on learning from images that are labelled in part: comparing methods, and studying what a model of this "
    "kind can and cannot do on images like those it was tested on.",
    "Not for diagnosis, triage or any other decision about a patient, and not as a second reader. It is no medical "
    "device and has not been assessed as one.",
    "Not for images of another kind than its sources hold: other devices, projections, age groups or body parts.",
)

LIMITS: Final = (
    "It knows the classes listed here and nothing else: an image with another finding still gets a probability of "
    "each of them.",
    "Where no source has a label, the model learnt from its own answers (pseudo-labels); nothing checks those.",
    "Labels have errors, many of them read from reports by a program; figures compare the model with the labels.",
    "Figures hold for images like the test images. Other hospitals, patients and ways of labelling need a test of "
    "their own: labelassemble evaluate RUN --data CONFIG.",
    "A probability is only as good as its calibration, and calibration is lost where the share of positives differs.",
)


@dataclass(frozen=True)
class CardSection:
    """A part of the card: facts by name, then sentences."""

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    sentences: tuple[str, ...] = ()


def model_card(run: RunRecord, results: Results) -> tuple[CardSection, ...]:
    """Return the card of a run with its results on its own test images."""
    return (
        CardSection("Model", _model(run, results.calibration)),
        CardSection("Intended use", sentences=INTENDED),
        CardSection("Data", _data(run.table), _data_sentences(run.table) + _not_served(run.notes)),
        CardSection("Training", _training(run)),
        CardSection("Results", *_results(results)),
        CardSection("Subgroups", *_subgroups(results.evaluation)),
        CardSection("Limits", sentences=LIMITS),
    )


DETECTION_LIMITS: Final = (
    "It marks the classes listed here and nothing else: another lesion is background to it, or one of them.",
    "Where a source draws nothing of a class and says nothing of it, the model learnt from its own answers "
    "(pseudo-labels); nothing checks those.",
    "Masks have errors, and what nobody drew counts as absent for the classes that a source draws.",
    "Figures hold for patients and devices like those of the test cases. Others need a test of their own: "
    "labelassemble evaluate RUN --data CONFIG.",
    "A patient's score is no probability. Where sources or devices differ in how common a class is, a patient's score "
    "can be earned by recognising them.",
)


def detection_card(
    run: RunRecord, detection: Detection | None, calibration: Calibration | None
) -> tuple[CardSection, ...]:
    """Return the card of a run that detects, with its results on its own test cases."""
    facts = []
    for name, fact in _model(run, None):
        if name == "input":
            fact = _volume_input(_part(run.config, "volumes"))
        if name != "calibration":
            facts.append((name, fact))
    return (
        CardSection("Model", tuple(facts)),
        CardSection("Intended use", sentences=INTENDED),
        CardSection("Data", _data(run.table), _data_sentences(run.table)),
        CardSection("Training", _training(run)),
        CardSection("Results", *_detection_results(detection, calibration)),
        CardSection("Subgroups", *_subgroups(None if detection is None else detection.evaluation, "case")),
        CardSection("Limits", sentences=DETECTION_LIMITS),
    )


def _volume_input(volumes: Mapping[str, Any]) -> str:
    if "patch" not in volumes:
        return "not recorded"
    patch = " x ".join(map(str, volumes["patch"]))
    spacing = volumes.get("spacing")
    grid = (
        "the voxels of the files" if spacing is None else " x ".join(f"{side:g}" for side in spacing) + " mm"
    )
    window = volumes.get("window")
    how = f"window {window[0]:g} to {window[1]:g}" if window else "intensities by percentiles"
    return f"patches of {patch} voxels, {grid}, {how}"


def _detection_results(
    detection: Detection | None, calibration: Calibration | None
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    if detection is None:
        return (), ("None: the run has no predictions for test cases.",)
    facts = []
    for patients, lesions in zip(detection.evaluation.classes, detection.classes, strict=True):
        said = [
            f"AUROC {_first(detection.evaluation, patients)} on {patients.positives} patients with it and "
            f"{patients.negatives} without"
        ]
        for point in patients.operating_points:
            if point.target == 0.95 and point.sensitivity.trials:
                said.append(
                    f"sensitivity {point.sensitivity.successes}/{point.sensitivity.trials} and specificity "
                    f"{point.specificity.successes}/{point.specificity.trials} at the threshold for 95%"
                )
        if few := too_few_negatives(patients, "validation patients without it"):
            said.append(few)
        figures = lesions.figures
        if lesions.lesions:
            said.append(
                f"{lesions.found} of {lesions.lesions} lesions found with "
                f"{with_interval(figures.alarms_per_case.value, None)} false alarms per case, "
                f"Dice {with_interval(figures.dice.value, figures.dice.interval)}"
            )
        facts.append((patients.name, "; ".join(said)))
    options = detection.options
    sentences = [
        f"A patient's score is {options.aggregate}; thresholds were chosen on "
        f"{(calibration or Calibration()).chosen_on_patients}.",
        f"A lesion is found where of a predicted and a drawn one {options.rule}; predicted are voxels of at least "
        f"{options.threshold:g}.",
    ]
    leakage = detection.evaluation.leakage
    sentences += () if leakage is None else leakage_sentences(leakage, "patient")
    lost = unreadable_sentence(detection.evaluation, read=detection.cases, noun="case")
    return tuple(facts), (lost, *sentences) if lost else tuple(sentences)


def card_markdown(title: str, card: tuple[CardSection, ...]) -> str:
    """Return the card as Markdown."""
    lines = [f"# Model card: {_plain(title)}"]
    for section in card:
        lines += ["", f"## {section.title}", ""]
        lines += [f"- **{_plain(name)}**: {_plain(fact)}" for name, fact in section.facts]
        lines += [f"- {_plain(sentence)}" for sentence in section.sentences]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Return text in which Markdown and HTML find nothing to interpret."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(text.split()))


def _model(run: RunRecord, calibration: Calibration | None) -> tuple[tuple[str, str], ...]:
    config, environment = run.config, run.environment or {}
    model, views = _part(config, "model"), _part(config, "views")
    facts = [
        ("version", f"labelassemble {environment.get('labelassemble', 'of unknown version')}"),
        ("trained", run.trained or "date not recorded"),
        ("backbone", _backbone(model.get("backbone"))),
        ("head", _said(model.get("head"))),
        ("starts from", _start(model)),
        ("input", _input(views)),
        ("classes", f"{len(run.classes)}: {', '.join(run.classes)}" if run.classes else "not recorded"),
        ("chosen by", ", ".join(run.interest) or "not recorded"),
        ("calibration", _calibration(run, calibration)),
        ("licence", "unknown: none is recorded for the model, and each source's own licence applies to its images"),
    ]  # fmt: skip
    return tuple(facts)


def _calibration(run: RunRecord, calibration: Calibration | None) -> str:
    if calibration is None or not calibration.images:
        return "none: there are no validation images to choose one on"
    found = {name: calibration.of(name).correction for name in run.classes}
    told = [f"{name} {correction}" for name, correction in found.items() if correction]
    without = [name for name, correction in found.items() if not correction]
    if not told:
        return f"none: no correction is of clear use on {calibration.chosen_on}"
    rest = f"; none for {', '.join(without)}" if without else ""
    return f"{'; '.join(told)}{rest}; chosen on {calibration.chosen_on}"


def _data(table: Table | None) -> tuple[tuple[str, str], ...]:
    if table is None:
        return ()
    coverage, facts = coverage_of(table), []
    for index, (source, splits) in enumerate(zip(coverage.sources, coverage.splits, strict=True)):
        images, (train, val, test) = sum(splits), splits
        counts = [(name, cells[index]["positive"], cells[index]["negative"]) for name, cells in coverage.rows]
        share = sum(positive + negative for _, positive, negative in counts) / (images * len(counts))
        labels = [
            f"{name} {positive}+ {negative}-" for name, positive, negative in counts if positive + negative
        ]
        facts.append(
            (
                source,
                f"{count_text(images)} {table.noun}s (train {train}, val {val}, test {test}); "
                f"{100 * share:.0f}% of its labels are known: {', '.join(labels) or 'none'}",
            )
        )
    return tuple(facts)


def _data_sentences(table: Table | None) -> tuple[str, ...]:
    if table is None:
        return ("Not recorded: there is no table.csv in the run's folder.",)
    given = table.given
    said = [
        f"Label coverage: {100 * (given.mean() if given.size else 0):.0f}% of {count_text(table.labels.size)} labels "
        f"({count_text(len(table))} {table.noun}s of {plural(len(table.classes), 'class')}) are known; the rest is not "
        "annotated."
    ]
    if table.assumed.any():
        said.append(
            f"{count_text(int(table.assumed.sum()))} more labels are assumed, by an option of the configuration or by "
            "a rule. They were trained on, and no figure counts them."
        )
    said.append("Licences and consent of the sources are not recorded here: check them before any use.")
    return tuple(said)


def _not_served(notes: Sequence[str]) -> tuple[str, ...]:
    """Return what was said of images that the programs do not read as training did."""
    told = [note.removeprefix(WARNING) for note in notes if PROGRAMS in note]
    return tuple(f"{note[0].upper()}{note[1:]}." for note in told)


def _training(run: RunRecord) -> tuple[tuple[str, str], ...]:
    facts = []
    if run.curves is not None and run.curves.epochs:
        facts += [("epochs done", str(run.curves.epochs[-1])), ("time", duration(run.curves.seconds))]
    seen = _part(run.config, "volumes") or _part(run.config, "views")
    for view in ("weak", "strong"):
        if seen.get(view):
            text = yaml.safe_dump(seen[view], default_flow_style=True, sort_keys=False, width=1_000_000)
            facts.append((f"{view} view", text.strip()))
    for part in ("loss", "train"):
        facts += flat(_part(run.config, part), f"{part}.")
    environment = run.environment or {}
    facts += [
        (key, _said(environment[key]))
        for key in ("torch", "processor", "cuda_device")
        if environment.get(key)
    ]
    return tuple(facts)


def _results(results: Results) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    evaluation, leakage = results.evaluation, results.leakage
    if evaluation is None:
        return (), ("None: the run has no predictions for test images.",)
    facts = [
        (
            result.name,
            f"AUROC {_first(evaluation, result)} on {result.positives} positive and "
            f"{result.negatives} negative test images",
        )
        for result in evaluation.classes
    ]
    mean = evaluation.mean_of_headlines
    if len(mean.classes) > 1:
        facts.append((f"mean of {len(mean.classes)}", f"AUROC {with_interval(mean.auroc, mean.bootstrap)}"))
    lost = unreadable_sentence(evaluation)
    said = () if leakage is None else leakage_sentences(leakage)
    return tuple(facts), (lost, *said) if lost else said


def _first(evaluation: Evaluation, result: ClassResult) -> str:
    """Return the figure that stands first, and the pooled one behind it where that is another, with the reason."""
    first, pooled = evaluation.headline(result.name), with_interval(result.auroc, result.interval)
    if not first.within:
        return pooled
    return f"{with_interval(first.auroc, first.interval)} within sources (pooled {pooled}; {first.reason})"


def _subgroups(
    evaluation: Evaluation | None, noun: str = "image"
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    if evaluation is None or not evaluation.subgroups:
        said = f"Not measured: the configuration names no `subgroups` (sex, age, view), or there are no test {noun}s."
        return (), (said,)
    facts = []
    for subgroup in evaluation.subgroups:
        for index, whole in enumerate(evaluation.classes):
            own = [(value, value.classes[index]) for value in subgroup.values]
            said = ", ".join(
                f"{value.value} {with_interval(result.auroc, result.interval)} "
                f"[{result.positives}+ {result.negatives}-]"
                for value, result in own
            )
            facts.append((f"{whole.name} by {subgroup.name}", f"AUROC {said}"))
    sentences = [
        f"By {group.name}: {said}." for group in evaluation.subgroups for said in gap_sentences(group)
    ]
    note = gap_note(evaluation, "patient" if noun == "case" else noun)
    return tuple(facts), (*sentences, note) if note else tuple(sentences)


def _part(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = config.get(key)
    return part if isinstance(part, Mapping) else {}


def _backbone(value: object) -> str:
    return f"{value.get('name')} of {value.get('library')}" if isinstance(value, Mapping) else _said(value)


def _start(model: Mapping[str, Any]) -> str:
    backbone = model.get("backbone")
    if isinstance(backbone, Mapping):
        weights = backbone.get("pretrained")
        return (
            f"the weights that {backbone.get('library')} publishes"
            if weights is True
            else str(weights or "random weights")
        )
    return _said(model.get("pretrained") or "random weights")


def _said(value: object) -> str:
    return "not recorded" if value is None else str(value)


def _input(views: Mapping[str, Any]) -> str:
    if "size" not in views:
        return "not recorded"
    channels = views.get("channels")
    kind = {1: "grey", 3: "colour"}.get(channels) if isinstance(channels, int) else None
    return f"{views['size']} x {views['size']} pixels" + (f", {kind}" if kind else "")
