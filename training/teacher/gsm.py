"""gsm_symbolic: one short program per story, filled with the numbers of the problem at hand.

The generator writes many versions of each story and records the numbers it drew by name. `{name}` stands for such a
number, `{#k}` for the k-th number that the question prints (from 0) where the record does not hold it as printed; a
bare name is a variable of an earlier line. Each line is one step, and the last line's variable is the answer. Numbers
that the question does not print are constants of the story (a dozen, days in a week), listed in `CONSTANTS`.
"""

import re
from collections.abc import Mapping

from training.teacher.solution import Step, Strategy, flawed, right, show

CONSTANTS: frozenset[float] = frozenset({1, 2, 3, 4, 7, 12, 26, 30, 60, 100, 0.5})

PROGRAMS: dict[int, str] = {
    0: """peel = {total_amount} / {peel_rate}
        batches = {total_amount} / {batch_size}
        cook = batches * {time_per_batch}
        total = peel + cook""",
    1: """known = {building_blocks} + {stuffed_animals} + {stacking_rings}
        balls = {total_toys} - known""",
    2: """first = {total_students} * {percent_group1} / 100
        rest = {total_students} - first
        others = rest * {percent_group23} / 100
        leaving = first + others""",
    3: """people = {initial_penpals} - {lost_penpals}
        pages = people * {letters_per_week} * {pages_per_letter}
        minutes = pages * {minutes_per_page}
        hours = minutes / 60""",
    4: """cakes = {num_jars} * {per_jar}
        pans = cakes / {per_pan}""",
    5: """collected = {signatures1} + {signatures2}
        needed = {goal} - collected""",
    6: """boys = {n_girls} * {multiplier}
        kids = {n_girls} + boys""",
    7: """before = {num_ledges} * {plants_per_ledge}
        plants = before + {plants_received}
        given = {num_ledges} * {plants_to_give}
        left = plants - given""",
    8: """parts = {sugar_ratio} + {water_ratio}
        sugar = {total_items} * {sugar_ratio} / parts""",
    9: """money = {num_bills} * {bill_value}
        first = {num_items1} * {price1}
        second = {num_items2} * {price2}
        left = money - first - second""",
    10: """future = {age1} * {mult}
        now = future - {years}""",
    11: """more = {initial_amount} * {multiplier}
        home = more + {initial_amount}
        bought = {bought_amount} - {difference}
        total = home + bought + {bought_amount}""",
    12: """first = {time1} * {num1}
        second = {time2} * {num2}
        total = first + second""",
    13: """first = {length1} / {speed1}
        second = {length2} / {speed2}
        longer = first - second""",
    14: """both = {time1} + {time2}
        goal = both * {multiplier}""",
    15: """shorts = {price1} + {price2}
        sneakers = {price3} / 2
        bands = {price4} - {discount}
        total = {price1} + shorts + sneakers + bands""",
    16: """base = {charlie_friends} / {mult1}
        friends = base * {mult2}""",
    17: """occupied = {total_capacity} * {initial_fraction}
        free = {total_capacity} - occupied
        admitted = {daily_patients} * 7 * {period_weeks}
        left = free - admitted""",
    18: """second = {#0} * {#2} / 100 + {#1}
        total = {#0} + second""",
    19: """second = {initial_kernels} * {multiplier_2}
        third = {initial_kernels} * {multiplier_3}
        final = third / 2
        rest = final / 4
        total = {initial_kernels} + second + third + final + rest""",
    20: """placed = {capacity_per_tray} * {num_trays}
        left = {total_items} - placed""",
    21: """fit = {bed_length} / {plant_spacing}
        buy = fit - {owned_plants}
        cost = buy * {cost_per_plant}""",
    22: """brokerage = {price} * {brokerage_fee} / 100
        transfer = {price} * {transfer_fee} / 100
        total = {price} + brokerage + transfer
        over = total - {budget}""",
    23: """lost = {hourly_rate} * {hours}
        saved = lost - {fee}""",
    24: """second = {relative_age} * {multiple}
        first = second - {orbit_period}""",
    25: """left = {total_target} - {consumed}
        servings = left / {calories}
        size = {size} / {servings}
        amount = servings * size""",
    26: """first = {#0} * {#1} / 100
        second = first * {#2} / 100""",
    27: """small = {first_complexes} * {apartments_per_complex}
        big = small + small * {percent_increase} / 100
        visits = (small + big) * {collections_per_week}
        money = visits * {#6}""",
    28: """price = {base_price} + {base_price} * {percent_increase} / 100
        weight = {usage_per_day} * 7
        total = weight * price + {extra_price}""",
    29: """puppies = {puppies1} + {puppies2}
        spotted = {spotted1} + {spotted2}
        percent = 100 * spotted / puppies""",
    30: """fourth = {hobby2_count} * 2
        third = {total_students} - {hobby1_count} - {hobby2_count} - fourth""",
    31: """second = {first_person_slices} + {second_person_extra}
        third = second + {third_person_extra}
        total = {first_person_slices} + second + third""",
    33: """fast = {base_rate} * {multiplier}
        daily = fast + {base_rate}
        weekly = daily * 7""",
    34: """twins = {items_per_twin} * 2
        friends = {total_items} - twins - {unfound_items}""",
    36: """easy = {total_questions} * {easy_percent} / 100
        other = {total_questions} - easy
        sure = easy * {easy_correct_percent} / 100
        points = sure + other / 2""",
    38: """outfit = {#1} + {#2} + {#3} + {#4} + {#5}
        total = outfit * {#0}""",
    39: """boys = {total_students} - {num_girls}
        present = boys - {absent_boys}""",
    40: """second = {n1} + {n1} * {p} / 100
        third = {n1} + second
        total = {n1} + second + third""",
    41: """paid = {total_cost} * {fraction}
        covered = paid + {current_amount}
        missing = {total_cost} - covered""",
    42: """first = {price} * {fee1_percent} / 100
        second = {price} * {fee2_percent} / 100
        net = {price} - first - second - {loan}""",
    43: """second = {first_amount} - {difference}
        total = {first_amount} + second""",
    44: """first = {#0} * {#3}
        second = {#1} * {#4}
        third = {#2} * {#5}
        total = first + second + third""",
    45: """before = {remaining} + {used_items}
        package = before - {husband_package}""",
    46: """second = {initial_amount2} * {water_fraction2}
        left = {initial_amount1} - {spilled_amount}
        first = left * {water_fraction1}
        water = first + second""",
    47: """first = {items1_count} * {item1_cost}
        second = {items2_count} * {item2_cost}
        total = first + second + {paper_cost}""",
    48: """first = {n1} * {price1}
        second = {n2} * {price2}
        more = first - second""",
    49: """spent = {total_spent} - {total_spent} * {percent_change} / 100
        first = {num_item1} * {price1} / 100
        count = (spent - first) * 100 // {price2}""",
    50: """half = {puzzle1_pieces} / 2
        total = half + {puzzle2_pieces}""",
    51: """rides = {cost2} * {times}
        each = {tokens} + {cost1} + rides
        people = {budget} / each
        friends = people - 1""",
    52: """full = {alphabet_count} * {times_written}
        part = {alphabet_count} * {fraction}
        total = (full + part) * 2""",
    53: """above = ({sides} - {target}) / {sides} * 100
        twice = 0.5 * 0.5 * 100
        more = above - twice""",
    54: """left = {total_time} - {library_time}
        rest = left - {station_time}""",
    55: """first = {n} / 2
        total = first + {n}""",
    56: """known = {n1} + {n2}
        third = {total} - known""",
    57: """second = {tennis_players} * 2
        third = {soccer_boys} + {soccer_girls}
        total = {tennis_players} + second + third""",
    58: """volume = {volume} * {num_containers}
        calories = volume * {calories}""",
    59: """intervals = {total_distance} / {distance_per_interval}
        total = intervals * {time_per_interval}""",
    60: """slow = {beach_time} / {beach_distance}
        other = {sidewalk_distance} * slow / 2
        total = {beach_time} + other""",
    62: """second = {slices_per_day} * {multiplier}
        daily = {slices_per_day} + second
        days = {num_slices} / daily""",
    64: """first = {eggs_per_day_first} * {days_first}
        second = {eggs_per_day_second} * {days_second}
        dozens = (first + second) / 12""",
    66: """known = {hour1} * 2 + {hour2} + {min2} / 60 + {hour3} * 2
        left = ({total_hours} - known) * 60
        episodes = left / {min1}""",
    67: """first = {day1_amount} + {day2_amount}
        third = {day1_amount} * {multiplier}
        total = first + third""",
    68: """first = {initial_infected} + {initial_infected} * {infection_rate}
        second = first + first * {infection_rate}
        third = second + second * {infection_rate}""",
    69: """done = {total_pages} * {fraction}
        left = {total_pages} - done""",
    70: """left = {initial_count} - {#1}
        found = left + {found_count}
        total = found - {fake_count}""",
    71: """first = {n1} * {p1}
        second = {n2} * {p2}
        third = {n3} * {p3}
        total = first + second + third""",
    72: """second = {n1} * {mult}
        third = {total} - {n1} - second""",
    73: """second = {gingerbread_day1} + {gingerbread_increase}
        boxes = {gingerbread_day1} + second
        pies = {apple_pie_day2} - {apple_pie_difference} + {apple_pie_day2}
        money = boxes * {gingerbread_price} + pies * {apple_pie_price}""",
    75: """first = {n1} // 2
        second = {n2} * 3
        total = first + second""",
    78: """older = {age1} + {age_diff}
        average = ({age1} + older) / 2""",
    80: """first = {light_color1_spools} + {dark_color1_spools}
        second = {light_color2_spools} + {dark_color2_spools}
        percent = 100 * first / (first + second)""",
    81: """days = {days_per_week} * {weeks_per_month}
        month = days * {pay_per_day}
        year = month * 12""",
    82: """ignored = {num_emails} * {no_response_percent} / 100
        answered = {num_emails} - ignored
        total = answered * {workdays}""",
    83: """rest = {total_fence} - {difference}
        first = rest / 2""",
    84: """warm = {extra_time} + {multiplier} * {time_cold}
        cold_total = {time_cold} * {distance}
        warm_total = warm * {distance}
        longer = warm_total - cold_total""",
    85: """length = {length} * {feet_per_unit}
        width = {area} / length
        perimeter = (length + width) * 2""",
    88: """taken = {graduate_seats} + {faculty_seats}
        left = {total_seats} - taken
        tickets = left / {graduate_seats}""",
    89: """eggs = {num_dozen} * 12
        second = {found_first} * {multiplier}
        third = second - {less_amount}
        fourth = third * {fraction}
        left = eggs - {found_first} - second - third - fourth""",
    91: """fruits = {field_size} * {density}
        harvests = 12 / {months_per_harvest}
        total = fruits * harvests""",
    92: """first = round({#0}) * {#3}
        second = round({#1}) * {#4}
        third = round({#2}) * {#5}
        total = first + second + third""",
    93: """second = {initial_kills} * {fraction1}
        third = second * {multiplier}
        last = third * {fraction2}""",
    94: """first = {num_shares} * {price_per_share}
        second = first + first * {increase_pct} / 100
        final = second - second * {decrease_pct} / 100""",
    95: """day = {daily_servings1} + {daily_servings2} + {daily_servings3}
        total = day * {days_in_period}""",
    96: """each = {n1} * 2 - {n2}
        second = each * {k2}
        first = {n1} * {k1}
        total = first + second""",
    99: """paid = {quantity} * {unit_price}
        left = {#0} - paid""",
}
"""By the generator's number of the story."""

_STOPS_EARLY_EVERY = 4
"""Every fourth story that has three lines or more invites leaving out the last one."""


def gsm_symbolic(question: str, story: int, drawn: Mapping[str, object]) -> list[Strategy]:
    """`Mary has 9 jars of icing in her storage room. Each jar of icing can decorate 7 cupcakes. ...`."""
    lines = _filled(PROGRAMS[story], _numbers(question, drawn))
    steps = [Step(f"Work out {_name(line)}", line) for line in lines]
    strategies = [right("step_by_step", *steps, _close(lines))]
    if len(lines) > 2:
        both = Step(f"Work out {_name(lines[0])} and {_name(lines[1])}", "\n".join(lines[:2]))
        stops_early = story % _STOPS_EARLY_EVERY == 0
        strategies += [
            right("first_two_at_once", both, *steps[2:], _close(lines), weight=0.3),
            flawed("stops_early", *steps[:-1], _close(lines[:-1]), weight=2.4, applies=stops_early),
        ]
    return strategies


def _name(line: str) -> str:
    return line.split(" = ", 1)[0]


def _close(lines: list[str]) -> Step:
    return show(f"f'{{{_name(lines[-1])}:.10g}}'")


def _filled(template: str, numbers: Mapping[str, str]) -> list[str]:
    return [
        re.sub(r"\{(#?\w+)\}", lambda match: numbers[match[1]], line.strip()) for line in template.strip().splitlines()
    ]


def _numbers(question: str, drawn: Mapping[str, object]) -> dict[str, str]:
    """Every number a program may name, as Python writes it."""
    printed = re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3})", "", question))
    by_position = {f"#{position}": number for position, number in enumerate(printed)}
    by_name = {name: _literal(value) for name, value in drawn.items()}
    feet_per_unit = "3" if "yards" in question and "square feet" in question else "1"
    days = "30" if "month" in question else "7"
    return by_position | by_name | {"feet_per_unit": feet_per_unit, "days_in_period": days}


def _literal(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
