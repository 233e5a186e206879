"""Whether patterns differ in success within questions, in words."""

from ...posteriors import PatternsDiffer


def difference(found: PatternsDiffer) -> str:
    """What the test found, and what follows from it."""
    if found.questions == 0:
        return (
            "whether patterns differ in success cannot be told: no question has right and wrong "
            "answers by several patterns"
        )
    chance = f"{found.chance:.2f}" if found.chance >= 0.01 else "less than 0.01"
    questions = "1 question" if found.questions == 1 else f"{found.questions} questions"
    if found.chance <= 0.05:
        return (
            "patterns differ in success within questions (differences as large come by chance with "
            f"probability {chance}; {questions} can tell)"
        )
    return (
        "no difference in success between patterns was found within questions (differences as "
        f"large come by chance with probability {chance}; {questions} can tell): either these "
        "patterns do not differ, and RL then gains nothing by choosing among them, or the rollouts "
        "are too few to show it"
    )
