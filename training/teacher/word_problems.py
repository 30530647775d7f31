"""Word-problem families: leg_counting, simple_geometry, time_intervals."""

import re

from training.teacher.solution import Step, Strategy, flawed, right, show

CONSTANTS: dict[str, frozenset[float]] = {
    "leg_counting": frozenset({0, 2, 4, 5, 6, 8, 10, 14}),
    "simple_geometry": frozenset({2, 180, 360}),
    "time_intervals": frozenset({0, 1, 2, 60, 3600}),
}

_LEGS = {
    **dict.fromkeys(("snake", "sea slug", "jellyfish", "flatworm", "leech"), 0),
    **dict.fromkeys(("chicken", "bird", "human", "duck"), 2),
    **dict.fromkeys(
        ("dog", "cat", "cow", "horse", "lion", "elephant", "giraffe", "tiger", "deer", "sheep"), 4
    ),
    "starfish": 5,
    **dict.fromkeys(
        (
            "insect", "ant", "butterfly", "beetle", "bee", "wasp", "grasshopper", "cricket", "cockroach",
            "praying mantis", "firefly",
        ),
        6,
    ),
    **dict.fromkeys(("spider", "scorpion"), 8),
    **dict.fromkeys(("crab", "lobster", "shrimp"), 10),
    "woodlouse": 14,
}  # fmt: skip
"""Legs of one animal, as the generator counts them."""


def leg_counting(question: str) -> list[Strategy]:
    """`... how many legs are there in total if you have 5 deers, 2 chickens, 14 grasshoppers?`."""
    listed = question.split("if you have ")[1].rstrip("?").strip().split(", ")
    animals = [(count, _singular(name)) for count, name in (item.split(" ", 1) for item in listed)]
    close = show("total")
    as_insects = [(count, "insect" if name == "spider" else name) for count, name in animals]
    return [
        right(
            "sum_of_products",
            Step("Multiply each count by the legs of the animal", f"legs = [{_products(animals)}]"),
            Step("Add up", "total = sum(legs)"),
            close,
        ),
        right("one_sum", Step("Add count times legs", f"total = {_products(animals, ' + ')}"), close, weight=0.5),
        flawed(
            "spider_as_insect",
            Step("Multiply each count by the legs of the animal", f"legs = [{_products(as_insects)}]"),
            Step("Add up", "total = sum(legs)"),
            close,
            weight=2.5,
            applies=as_insects != animals,
        ),
    ]


def _singular(name: str) -> str:
    return name if name in _LEGS else name.removesuffix("s")


def _products(animals: list[tuple[str, str]], separator: str = ", ") -> str:
    return separator.join(f"{count} * {_LEGS[name]}" for count, name in animals)


def simple_geometry(question: str) -> list[Strategy]:
    """`A convex polygon has 3 sides. The measures of the first 2 interior angles are: 78.0°, 32.0°. ...`."""
    sides = next(iter(re.findall(r"(\d+) sides|(\d+)-gon", question)))
    n = sides[0] or sides[1]
    angles = ", ".join(re.findall(r"([\d.]+)°", question))
    read = Step("Read the sides and the known angles", f"n = {n}\nknown = [{angles}]")
    whole = Step("All angles together", "total = (n - 2) * 180")
    close = show("round(total - sum(known))")
    return [
        right("angle_sum", read, whole, close),
        right(
            "quadrilateral",
            read,
            Step("A quadrilateral has 360 degrees", "total = 360"),
            close,
            weight=0.5,
            applies=n == "4",
        ),
        flawed(
            "always_360",
            read,
            Step("The angles make a full turn", "total = 360"),
            close,
            weight=2.2 if n == "6" else 0.4,
            applies=int(n) > 4,
        ),
    ]


_DATE_FORMATS: tuple[tuple[str, str], ...] = (
    (r"\d{4}-\d\d-\d\d \(\w+\)", "%Y-%m-%d (%A)"),
    (r"\d{4}-\d\d-\d\d", "%Y-%m-%d"),
    (r"\d\d/\d\d/\d{4}", "%m/%d/%Y"),
    (r"[A-Z]\w+day, [A-Z]\w+ \d\d, \d{4}", "%A, %B %d, %Y"),
    (r"[A-Z]\w\w [A-Z]\w\w \d\d \d{4}", "%a %b %d %Y"),
    (r"\d\d [A-Z]\w+ \d{4}", "%d %B %Y"),
    (r"[A-Z]\w+ \d\d, \d{4}", "%B %d, %Y"),
    (r"\d\d:\d\d:\d\d", "%H:%M:%S"),
    (r"\d\d:\d\d", "%H:%M"),
)
"""How a moment may be written, most specific first."""


def time_intervals(question: str) -> list[Strategy]:
    """`A meeting started at 11:08 and ended at 17:48. How long was the meeting? Answer in HH:MM.`."""
    start, end, layout = _moments(question)
    read = Step(
        "Read both times",
        "from datetime import datetime\n"
        f"start = datetime.strptime('{start}', '{layout}')\n"
        f"end = datetime.strptime('{end}', '{layout}')",
    )
    if "%Y" in layout:
        close = show("f'{days} days'")
        return [
            right("days", read, Step("Count the days between them", "days = (end - start).days"), close),
            flawed(
                "both_ends",
                read,
                Step("Count the days with both ends", "days = (end - start).days + 1"),
                close,
                weight=1.6,
            ),
        ]
    seconds = "%S" in layout
    start_minutes, end_minutes = (int(moment.split(":")[1]) for moment in (start, end))
    return [
        right(
            "duration",
            read,
            Step("Take the seconds between them", "s = (end - start).seconds"),
            Step(
                "Write hours and minutes",
                "print(f'{s // 3600:02}:{s % 3600 // 60:02}" + (":{s % 60:02}')" if seconds else "')"),
            ),
        ),
        flawed(
            "forgets_to_borrow",
            read,
            Step(
                "Subtract hours and minutes",
                "h = end.hour - start.hour\nm = abs(end.minute - start.minute)"
                + ("\ns = abs(end.second - start.second)" if seconds else ""),
            ),
            Step("Write them side by side", "print(f'{h:02}:{m:02}" + (":{s:02}')" if seconds else "')")),
            weight=0.5,
            applies=end_minutes < start_minutes,
        ),
    ]


def _moments(question: str) -> tuple[str, str, str]:
    """The two moments as written, and their strptime layout."""
    for pattern, layout in _DATE_FORMATS:
        moments = re.findall(pattern, question)
        if len(moments) >= 2:
            return moments[0], moments[1], layout
    raise ValueError(f"no pair of times in {question!r}")
