"""What a leaderboard says in sentences: the outcome, how to read its tables, and what so many items could not have
shown."""

from collections.abc import Mapping, Sequence

from psomerge.evals.significance.comparisons import Contrast
from psomerge.tasks.report.leaderboard import Leaderboard
from psomerge.tasks.report.wording import count, half_width, plain, points

QUIET = "no difference shown"


def headline(board: Leaderboard) -> str:
    """Returns the outcome in a sentence: the best model, and how many of the others are significantly worse."""
    first, others = board.lines[0], board.lines[1:]
    said = (
        f"{plain(first.label)} scores {points(first.mean.mean)} ± {half_width(first.mean):.1f} points on "
        f"{plain(board.suite)}, {count(first.mean.n)} items"
    )
    if not others:
        return f"{said}."
    behind = sum(line.against_best is not None and line.against_best.verdict == "worse" for line in others)
    if len(others) == 1:
        return f"{said}; {plain(others[0].label)} is {'' if behind else 'not '}significantly worse."
    return f"{said}; {behind or 'none'} of {len(others)} others {'is' if behind < 2 else 'are'} significantly worse."


def explanation(board: Leaderboard) -> list[str]:
    """Returns how to read the tables, in lines: units, which tests are one family, what the last column is."""
    lines = ["points of 100 ± half the 95 % interval"]
    if len(board.lines) > 1:
        tests = len(board.lines) * (len(board.lines) - 1) // 2
        of_models = f"for all {tests} pairs of models; by language, " if tests > 1 else "by language, "
        lines[0] += "; rank: what the tests leave open; noise: no difference shown"
        lines.append(f"p: corrected (Holm) {of_models}for all languages of the two")
        lines.append("could show: the true difference that so many items show with 80 % chance, after correction")
    if by_fitness(board):
        lines.append("sorted by the suite's fitness; the mean is what is tested")
    return lines


def remainder(tested: Mapping[str, Contrast], noun: str) -> str:
    """Returns for how many no difference was shown, and which differences those items could not have shown."""
    quiet = [found for found in tested.values() if found.verdict == QUIET]
    if not quiet:
        return f"all {len(tested)} {noun}s: significant"
    able = [found.detectable_corrected for found in quiet if found.detectable_corrected is not None]
    said = (
        f"{len(quiet)} of {len(tested)} {noun}s: no difference shown; with n = "
        f"{span([found.difference.n for found in quiet])} each, "
    )
    if not able:
        return said + "no true difference could have been seen with 80 % chance"
    said += (
        f"a true difference below {span([round(100 * value) for value in able])} points had less than 80 % chance to "
        "be seen"
    )
    return said + (f", and any at all in {len(quiet) - len(able)} of them" if len(able) < len(quiet) else "")


def by_fitness(board: Leaderboard) -> bool:
    """Returns whether the suite's aggregate is another number than the mean."""
    return any(points(line.fitness) != points(line.mean.mean) for line in board.lines)


def span(numbers: Sequence[int]) -> str:
    return count(min(numbers)) if min(numbers) == max(numbers) else f"{count(min(numbers))}–{count(max(numbers))}"
