"""The model card (Mitchell et al. 2019): what the model is for, on what it was measured, and where to doubt it."""

from __future__ import annotations

from edge.bundle import Manifest
from edge.fields import plain
from edge_convert.acceptance.refusals import describe_refusals
from edge_convert.data.certificate import describe_certificate
from edge_convert.operating_point import describe
from edge_convert.quantize.record import QuantizeRecord
from edge_convert.verify import Verification, gate_table
from edge_runtime.acceptance import describe as describe_limits
from edge_runtime.evaluate import Evaluation, render_text
from edge_runtime.faithfulness import describe as describe_maps
from edge_runtime.faithfulness import describe_built

LIMITS = (
    "The validation pictures chose the training epoch and the threshold, so measures on them flatter; those of a test "
    "split, where there is one, do not.",
    "Intervals are 95 %: over groups by bootstrap, widened where groups are few or nothing is misranked, for AUC, "
    "average precision and the bands of the curves; Wilson for shares. "
    "Wilson's takes pictures as independent; where a group has many pictures it is too narrow.",
    "Pictures from another microscope, stain, plate reader or population may be judged worse. Measure with `edge "
    "evaluate` on local pictures before use.",
    "The heat map shows what the network weighed, not where disease is.",
    "The share with the finding here is that of this data set. Where findings are rarer, more of the referrals are "
    "false alarms than these tables show.",
    "Probabilities are calibrated to the share with the finding among the validation pictures; where findings are "
    "rarer or more frequent they are no risk.",
    "The lower bounds of sensitivity and specificity hold for pictures like those of validation, with 95 % confidence.",
)


def limits(evaluation: Evaluation, quantized: QuantizeRecord | None) -> list[str]:
    """What to doubt. evaluation: of int8 on validation. quantized: how that file came about, where it is known."""
    judged = evaluation.judged
    own = []
    if judged.negatives and judged.cleared < judged.negatives / 2:
        own.append(
            f"Its threshold clears {judged.cleared} of the {judged.negatives} validation cases without the finding: "
            "most of those who have nothing are referred all the same."
        )
    if quantized is not None and quantized.measured > 1:
        own.append(
            f"The int8 file is the best of {quantized.measured} that were measured on the validation pictures, by "
            "which its gates are judged, too: that flatters it."
        )
    return [*own, *LIMITS]


def model_card(manifest: Manifest, verification: Verification, quantized: QuantizeRecord | None) -> str:
    """The card as Markdown. quantized: how the int8 file came about, where it is known."""
    decision = manifest.decision
    data = manifest.data
    synthetic = (
        [
            "> **Synthetic.** Trained and measured on rendered pictures: it must not be used on patients.",
            "",
        ]
        if manifest.synthetic
        else []
    )
    recipe = manifest.recipe
    lines = [
        f"# {manifest.name}",
        "",
        *synthetic,
        f"Screens one picture for: {', '.join(decision.positive)}. It answers `refer` where the probability is "
        f"at least {decision.threshold:.4f}, else `clear`; `retake` and `uncertain` where it does not answer. "
        + ("A group (patient, slide) is referred where any of its pictures is. " if decision.level == "group" else "")
        + "It supports a trained person's decision and does not replace it.",
        "",
        "## Operating point",
        "",
        *(f"- {line}" for line in describe(decision, verification.by_rule, verification.held_out)),
        "",
        "## When it does not answer",
        "",
        *(f"- {line}" for line in describe_limits(verification.acceptance, decision.threshold)),
        *(f"- {line}" for line in (describe_refusals(verification.refusals) if verification.refusals else ())),
        "",
        "## Network",
        "",
        f"- backbone: {recipe['network']['backbone']}, width {recipe['network']['width']}, "
        f"{manifest.preprocessing.side_px} px, {manifest.preprocessing.fit}",
        f"- labels: {', '.join(manifest.labels)}",
        *(f"- {line}" for line in (manifest.metrics.get("channels") or {}).get("sentences", ())),
        *(f"- {line}" for line in (manifest.metrics.get("quantization") or {}).get("sentences", ())),
        "",
        "## Data",
        "",
        f"- set: {data['name']}, fingerprint `{data['fingerprint']}`",
        *(
            f"- {split}: " + ", ".join(f"{count} {label}" for label, count in counts.items())
            for split, counts in data["counts"].items()
        ),
        f"- groups (patients, slides or fields): {data['groups']}; none is in two splits"
        if data["has_groups"]
        else "- groups are not known: pictures of one patient may be in several splits, and the measures then flatter",
        f"- unreadable pictures left out: {data['unreadable']}",
        f"- pictures dropped because their group or a copy is in a later split: {data['dropped_leaks']}",
        *(f"- {line}" for line in describe_certificate(data)),
        "",
        f"The bundle carries {sum(golden.outputs is not None for golden in manifest.golden)} of the validation "
        "pictures, encoded anew without their metadata, for the self-test.",
        *_known_cases(manifest),
        "",
        "## Measures",
        "",
        *(_block(render_text(e, title=key, timed=False)) for key, e in verification.evaluations.items()),
        *_maps(verification),
        "## Gates",
        "",
        _block(gate_table(verification.gates)),
        "## Limits",
        "",
        *(f"- {limit}" for limit in limits(verification.evaluations["val/int8"], quantized)),
        "",
        "## Built again",
        "",
        *(f"- {line}" for line in built_again(manifest)),
        "",
    ]
    return "\n".join(lines)


def built_again(manifest: Manifest) -> list[str]:
    """Whether the same build gives the same file, and what of this one would not come out the same."""
    recipe, channels = manifest.recipe, manifest.metrics.get("channels")
    differs = []
    if channels:
        differs.append(
            f"which channels went was decided by {channels['unit']}, measured by {channels['machine']}; others may go "
            "where it is measured again"
        )
    if recipe["train"]["strategy"] != "none":
        differs.append("it was trained on several devices together, and their number changes the order of sums")
    whole = (
        "The same recipe, pictures, versions (manifest.json names them), processor and number of cores give this file "
        "again, byte for byte. It holds no date, and no time of a build's steps."
    )
    if not differs:
        return [whole]
    return ["Built again from the same recipe and pictures it may come out otherwise:", *differs]


def _maps(verification: Verification) -> list[str]:
    """What the heat maps are worth, by kind."""
    lines = []
    for method, found in verification.maps.items():
        shown = verification.saliency is not None and verification.saliency.method == method
        lines += [
            f"{method}{' (shown)' if shown else ''}",
            *describe_maps(found.faithfulness),
            *describe_built(plain(found)),
        ]
    return ["## Heat maps", "", _block("\n".join(lines))] if lines else []


def _known_cases(manifest: Manifest) -> list[str]:
    """What of the training pictures the bundle carries, in words; nothing where it carries none."""
    reference = manifest.reference
    if reference is None:
        return []
    side = reference.thumbnail_px
    small = f"small pictures of {side} px" if side else "no pictures"
    named = "their names" if manifest.recipe["reference"]["names"] else "numbers for their names"
    return [
        "",
        f"It carries {reference.n} of the {reference.chosen_from} training pictures as known cases for `edge similar`: "
        f"their embeddings and labels, {small}, {named}.",
    ]


def _block(text: str) -> str:
    return f"```\n{text}\n```\n"
