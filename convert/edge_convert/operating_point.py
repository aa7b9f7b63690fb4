"""The operating point: calibration and threshold from the int8 file's validation outputs, and how far to trust them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.decision import Calibration, Decision, Level, Rule
from edge.errors import GateError
from edge.profile import Profile, parse_profile
from edge_convert.calibrate import Outputs, fit_calibration
from edge_convert.prepare import Prepared
from edge_convert.recipe import DecisionRecipe, Recipe
from edge_runtime.bounds import ERROR, cases_needed
from edge_runtime.calibration import calibrate, logit, sigmoid
from edge_runtime.judgement import UNITS, Cases, Judged, judge, standing
from edge_runtime.metrics import RESAMPLES, expected_calibration_error, fit_threshold, groups_holding, half_way_down

ROUNDS = 200
FOLDS = 10
FOLD_RESAMPLES = 200
# Calibrated probabilities may lie nearer to 0 and 1 than int8 can say.
AWAY = 1e-9


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """decision: what the bundle carries. by_rule: what each rule's threshold gives on the pictures fitted on."""

    decision: Decision
    by_rule: dict[Rule, Judged]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Calibration and threshold fitted anew on all but one part of the validation pictures, measured on that part.

    Every round cuts the groups into `folds` parts anew, pools what was held out, and draws groups from it with
    replacement, as another clinic's pictures would be drawn. rounds: how many; failed: those in which a part could not
    be fitted, counted as missing the target. reached: share of rounds whose sensitivity reached the target.
    sensitivity, specificity: means over rounds. output_error, calibration_error: expected calibration error before
    and after, mean over rounds, each picture calibrated by others; picture by picture. chance_error: what probabilities
    that are exactly right show on so few pictures, mean over rounds; None from builds that did not ask.
    """

    rounds: int
    failed: int
    folds: int
    target: float
    reached: float
    sensitivity: float
    specificity: float
    output_error: float
    calibration_error: float
    chance_error: float | None = None


def fit_decision(recipe: DecisionRecipe, positive: tuple[str, ...], data: Outputs) -> OperatingPoint:
    """Calibration, then threshold. positive: the labels. Raises GateError where the outputs cannot be calibrated."""
    profile = parse_profile(recipe.profile)
    calibration = fit_calibration(recipe.calibration, data)
    cases = calibrated_cases(recipe.level, calibration, data)
    by_rule = {rule: judge(cases, choose_threshold(cases, profile.sensitivity, rule)) for rule in _RULES}
    chosen = by_rule[recipe.rule]
    stands = standing(profile, chosen)
    decision = Decision(
        positive=positive,
        level=recipe.level,
        calibration=calibration,
        profile=profile,
        rule=recipe.rule,
        threshold=chosen.threshold,
        sensitivity_bound=chosen.sensitivity_bound,
        specificity_bound=chosen.specificity_bound,
        met=stands.met,
        standing=stands.words,
        fitted_on=_fitted_on(recipe.level, chosen, data),
    )
    return OperatingPoint(decision=decision, by_rule=by_rule)


def too_few(recipe: Recipe, prepared: Prepared) -> str:
    """What to know before training: validation findings that cannot show the profile's sensitivity. "" where they can.

    Said by the level that is decided; how alike those of a group are, only the trained network can tell.
    """
    wanted = parse_profile(recipe.decision.profile).sensitivity
    needed = cases_needed(wanted)
    rows = prepared.rows("val")
    found = rows[np.isin(prepared.targets[rows], [recipe.classes.index(label) for label in recipe.positive])]
    level = recipe.decision.level
    have = len(found) if level == "picture" else len({prepared.samples[row].group for row in found})
    if have >= needed:
        return ""
    below = ". With fewer the threshold lies below them all, and refers much that has no finding"
    return (
        f"validation has {have} positive {UNITS[level]}; to show a sensitivity of {wanted:g} takes at least {needed}, "
        f"all of them referred{below if recipe.decision.rule == 'lower-bound' else ''}"
    )


def describe(decision: Decision, by_rule: dict[Rule, Judged], held_out: HeldOut | None) -> list[str]:
    """The operating point for people: a sentence a line."""
    profile = decision.profile
    lines = [
        f"target profile: {profile.title} ({profile.source})",
        decision.standing,
        f"fitted on {decision.fitted_on}; calibration: {decision.calibration.kind}; decided by {decision.level}",
    ]
    for rule, judged in by_rule.items():
        used = "used" if rule == decision.rule else "for comparison"
        lines.append(
            f"rule {rule} ({used}): threshold {judged.threshold:.4f}, sensitivity {judged.sensitivity.value:.4f} "
            f"(at least {judged.sensitivity_bound:.4f}), specificity "
            + (
                judged.nothing_to_measure("specificity")
                or f"{judged.specificity.value:.4f} (at least {judged.specificity_bound:.4f})"
            )
        )
    return [*lines, *_describe_held_out(held_out)]


def _describe_held_out(held: HeldOut | None) -> list[str]:
    if held is None:
        return ["groups are too few to hold any out: nothing says how calibration and threshold do on other pictures"]
    failed = f"; {held.failed} rounds could not be fitted" if held.failed else ""
    return [
        f"fitted on {held.folds - 1} of {held.folds} parts and measured on the other, {held.rounds} rounds: "
        f"sensitivity reached {held.target:g} in {held.reached:.1%} of them (mean {held.sensitivity:.4f}, specificity "
        f"{held.specificity:.4f}); calibration error {held.output_error:.4f} before, {held.calibration_error:.4f} "
        f"after{failed}"
    ]


def calibrated_cases(level: Level, calibration: Calibration, data: Outputs) -> Cases:
    """What is decided on, by calibrated probability."""
    together, _ = calibrate(calibration, data.outputs, list(data.positive))
    return Cases.at(level, together, data.truth, data.groups, logit(data.scores))


def choose_threshold(cases: Cases, target: float, rule: Rule, *, resamples: int = RESAMPLES) -> float:
    """The highest threshold that refers enough of the findings, by their observed share or by its lower bound.

    Where they are too few for any threshold's bound to reach the target: one below the lowest finding, see
    `below_the_lowest`.
    """
    if rule == "point":
        return fit_threshold(cases.scores, cases.truth, target)
    ones = cases.scores[cases.truth]
    sampling = cases.sampling(True, resamples=resamples)
    steps = np.unique(ones)
    if not sampling.reaches(ones >= steps[0], target):
        return below_the_lowest(cases, target, sampling.n / sampling.deff)
    # The bound falls as the threshold rises: a higher one refers no finding that a lower one does not.
    low, high = 0, len(steps)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if sampling.reaches(ones >= steps[middle], target) else (low, middle)
    return half_way_down(cases.scores, float(steps[low]))


def below_the_lowest(cases: Cases, target: float, independent: float) -> float:
    """A threshold for findings that are too few: below all of them, by as much as their lower tail suggests.

    independent: how many independent findings there are. So many show, at 95 %, that at most the share
    q = 1 - 0.05^(1 / independent) of all findings lies below the lowest. The margin goes on from there to the share
    that the target allows, along an exponential tail (Weissman 1978) whose scale, in log-odds, is the mean distance of
    the findings below the median from it. It shrinks to 0 as the findings become enough, where the bound takes over.
    """
    odds = logit(cases.scores[cases.truth], AWAY)
    median = float(np.median(odds))
    lower = odds[odds < median]
    scale = float((median - lower).mean()) if len(lower) else 0.0
    below = 1 - ERROR ** (1 / independent)
    margin = scale * max(0.0, math.log(below / (1 - target)))
    lowest = float(cases.scores[cases.truth].min())
    moved = float(sigmoid(logit(np.array([lowest]), AWAY) - margin)[0])
    return min(moved, half_way_down(cases.scores, lowest))


def cross_fit(recipe: DecisionRecipe, data: Outputs, *, rounds: int = ROUNDS, seed: int = 0) -> HeldOut | None:
    """How calibration and threshold do on pictures that did not fit them; None where groups are too few to hold out."""
    folds = _fold_count(data)
    if folds < 2:
        return None
    profile = parse_profile(recipe.profile)
    # Two of them: what is measured by chance must not change what is held out.
    random, chance = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    found: list[tuple[float, float, float, float]] = []
    for _ in range(rounds):
        try:
            scores, refer = _hold_out(recipe, profile, data, _folds(data, folds, random))
        except GateError:
            continue
        sensitivity, specificity = _drawn_again(recipe.level, refer, data, random)
        error = expected_calibration_error(scores, data.truth)
        by_chance = expected_calibration_error(scores, chance.random(len(scores)) < scores)
        found.append((sensitivity, specificity, error, by_chance))
    table = np.array(found).reshape(-1, 4)
    sensitivity, specificity, error, by_chance = table.mean(axis=0) if found else (0.0, 0.0, 1.0, 0.0)
    return HeldOut(
        rounds=rounds,
        failed=rounds - len(found),
        folds=folds,
        target=profile.sensitivity,
        reached=float((table[:, 0] >= profile.sensitivity - 1e-9).sum() / rounds),
        sensitivity=float(sensitivity),
        specificity=float(specificity),
        output_error=expected_calibration_error(data.scores, data.truth),
        calibration_error=float(error),
        chance_error=float(by_chance) if found else None,
    )


def _hold_out(
    recipe: DecisionRecipe, profile: Profile, data: Outputs, fold: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """For each picture: its probability, and whether it is referred, by what the other parts fitted."""
    scores, refer = np.zeros(len(fold)), np.zeros(len(fold), np.bool_)
    for index in range(int(fold.max()) + 1):
        held = fold == index
        rest = data.rows(~held)
        calibration = fit_calibration(recipe.calibration, rest)
        cases = calibrated_cases(recipe.level, calibration, rest)
        threshold = choose_threshold(cases, profile.sensitivity, recipe.rule, resamples=FOLD_RESAMPLES)
        scores[held], _ = calibrate(calibration, data.outputs[held], list(data.positive))
        refer[held] = scores[held] >= threshold
    return scores, refer


def _drawn_again(
    level: Level, refer: NDArray[np.bool_], data: Outputs, random: np.random.Generator
) -> tuple[float, float]:
    """Sensitivity and specificity of as many groups, drawn with replacement; drawn until both truths are there."""
    cases = Cases.at(level, refer.astype(np.float64), data.truth, data.groups, logit(data.scores))
    _, group = np.unique(np.asarray(cases.groups, dtype=object).astype(str), return_inverse=True)
    count = int(group.max()) + 1
    referred = cases.scores > 0
    while True:
        times = np.bincount(random.integers(0, count, count), minlength=count)[group]
        ones, zeros = times * cases.truth, times * ~cases.truth
        if ones.any() and zeros.any():
            return float(ones @ referred / ones.sum()), float(zeros @ ~referred / zeros.sum())


def _fold_count(data: Outputs) -> int:
    """As many parts as FOLDS, or as there are groups that hold the finding, or pictures without it."""
    return min(FOLDS, *groups_holding(data.groups, data.truth))


def _folds(data: Outputs, folds: int, random: np.random.Generator) -> NDArray[np.int64]:
    """The part of each picture, (n,): groups dealt out at random, first those with the finding, then the others."""
    names = np.asarray(data.groups, dtype=object).astype(str)
    with_finding = np.unique(names[data.truth])
    others = np.setdiff1d(names, with_finding)
    order = np.concatenate([random.permutation(with_finding), random.permutation(others)])
    part = {name: place % folds for place, name in enumerate(order.tolist())}
    return np.array([part[name] for name in names.tolist()], np.int64)


def _fitted_on(level: Level, judged: Judged, data: Outputs) -> str:
    cases = f"{judged.positives} positive of {judged.positives + judged.negatives} validation {UNITS[level]}"
    return f"{cases}, int8" if level == "picture" else f"{cases} ({len(data.targets)} pictures), int8"


_RULES: tuple[Rule, ...] = ("lower-bound", "point")
