"""Which of a network's outputs holds the scores, what they are called, and whether they are probabilities."""

from __future__ import annotations

from edge.bundle import Activation
from edge.errors import EdgeError
from edge.names import first_few
from edge_convert.adopt.model import Opened, Options, TensorInfo
from edge_convert.tflite_file import last_operation

IN_GRAPH = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}


def labels_and_output(opened: Opened, options: Options, notes: list[str]) -> tuple[tuple[str, ...], TensorInfo]:
    """The labels, and the tensor that holds their scores."""
    described = opened.metadata.labels if opened.metadata else ()
    labelled = [(names, place) for place, names in enumerate(described) if names]
    labels = options.labels
    if labels is None:
        if len(labelled) != 1 and options.output is None:
            raise EdgeError(
                "the file does not say what its scores are called",
                remedy="give --labels FILE: a label a line, in the order of the scores",
            )
        output = _output(opened, options, None if options.output else labelled[0][1])
        place = opened.outputs.index(output)
        labels = described[place] if place < len(described) else ()
        notes.append(f"labels from the file's metadata: {first_few(labels)}")
    else:
        output = _output(opened, options, None, labels)
        if labelled and all(names != labels for names, _ in labelled):
            notes.append(f"the file's metadata calls the labels {first_few(labelled[0][0])}: --labels was used instead")
    _check_labels(labels, output)
    return labels, output


def _output(opened: Opened, options: Options, place: int | None, labels: tuple[str, ...] | None = None) -> TensorInfo:
    outputs = opened.outputs
    table = ", ".join(f"{i}: {o.name} {list(o.shape)}" for i, o in enumerate(outputs))
    if place is not None:
        return outputs[place]
    if options.output is not None:
        named = [o for i, o in enumerate(outputs) if options.output in (o.name, str(i))]
        if len(named) != 1:
            raise EdgeError(
                f"the network has no one output {options.output!r}; it has {table}", remedy="use --output NUMBER"
            )
        return named[0]
    if len(outputs) == 1:
        return outputs[0]
    count = len(labels or ())
    fitting = [o for o in outputs if o.size == count or (o.size == 1 and count == 2)]
    if len(fitting) != 1:
        raise EdgeError(
            f"{len(fitting)} of the network's outputs could be the scores of {count} labels: {table}",
            remedy="say which: --output NUMBER, and check the file of labels",
        )
    return fitting[0]


def _check_labels(labels: tuple[str, ...], output: TensorInfo) -> None:
    if output.shape[:1] != (1,):
        raise EdgeError(
            f"the output {output.name} has the shape {list(output.shape)}; [1, labels] is needed",
            remedy="export it again with a batch of 1",
        )
    wanted = max(output.size, 2)
    if len(labels) != wanted:
        scores = (
            "one score, which takes two labels, the second its own" if output.size == 1 else f"{output.size} scores"
        )
        raise EdgeError(
            f"there are {len(labels)} labels, and the network gives {scores}",
            remedy="write a line for each, in their order; many networks have a first one called background",
        )
    wrong = next((label for label in labels if not label or labels.count(label) > 1), None)
    if wrong is not None:
        raise EdgeError(
            f"the label {wrong!r} is there twice" if wrong else "a label is empty",
            remedy="give every line of the file of labels a name of its own",
        )


def check_positive(positive: tuple[str, ...], labels: tuple[str, ...], *, alone: bool) -> None:
    unknown = next((label for label in positive if label not in labels), None)
    if unknown is not None:
        raise EdgeError(f"{unknown!r} is not among the labels: {first_few(labels)}", remedy="name one of them")
    if set(positive) == set(labels):
        raise EdgeError("every label is positive, so every picture would be referred", remedy="leave one out")
    if alone and len(positive) > 1:
        raise EdgeError(
            "this network judges each label by itself, so the scores of several have no sum that means anything",
            remedy="name one --positive label",
        )


def find_activation(opened: Opened, output: TensorInfo, options: Options, notes: list[str]) -> Activation:
    """What is still to be applied to the scores. Raises EdgeError where neither file nor user says what they are."""
    operation = last_operation(opened.model, output.index)
    inside = IN_GRAPH.get(operation)
    if options.scores in ("softmax", "sigmoid"):
        if inside is not None:
            raise EdgeError(
                f"the network ends in a {inside} already, and applying {options.scores} would flatten its scores",
                remedy="leave --scores out",
            )
        if options.scores == "softmax" and output.size == 1:
            raise EdgeError("a softmax of one score is always 1", remedy="use --scores sigmoid")
        notes.append(f"scores: {options.scores} is applied to what the network gives")
        return options.scores
    if inside is not None:
        notes.append(f"scores: probabilities, the network ends in a {inside}")
    elif options.scores == "probabilities":
        notes.append(f"scores: taken as probabilities as asked; the network ends in {operation or 'no operation'}")
    else:
        raise EdgeError(
            f"the network ends in {operation or 'no operation'}, so its scores may be no probabilities",
            remedy="say what they are: --scores softmax (one label is true), sigmoid (each by itself) or probabilities",
        )
    return "none"


def each_by_itself(opened: Opened, output: TensorInfo, activation: Activation) -> bool:
    return activation == "sigmoid" or last_operation(opened.model, output.index) == "LOGISTIC"
