"""Make the bundled sample data set, ``src/tuneproof/data/sample.jsonl``.

The sample has Dolly's columns and Dolly's eight categories, but it is about Oskerry, an invented
town, so that no model has seen it. It teaches ten small rules (how a clerk there counts,
dates, addresses, names and greets) and asks about each in many wordings, with people, places and
numbers drawn anew for every question; other questions are answered by the text beside them.
``checkable`` says that the response is the only right answer, so that a model's answer may be
compared with it exactly, apart from case, white space and trailing punctuation.

Record lengths have the shape of Dolly's, many short ones and a long right tail, but are about
half as long (Dolly's median is near 120 tokens, its mean near 200), so that a CPU can train on
the sample in less than five minutes.

The file depends on nothing but this script, ``sample_world.py`` and the seed: all chance comes
from ``random.Random.random``, whose sequence Python keeps stable between versions. Splitting the
sample, formatting prompts and comparing answers are left to the package.

Longer than a file here should be: the rules, the records and the checks of one data set, which
nothing else uses, read best in one place.

Usage: ``python tools/make_sample.py`` writes the file, ``--check`` exits 1 if it differs.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import sample_world as world

SEED = 20
TARGET = Path(__file__).resolve().parents[1] / "src" / "tuneproof" / "data" / "sample.jsonl"
# The most two records may share, as the Jaccard similarity of their word 3-grams.
MAX_SIMILARITY = 0.5
MAX_ATTEMPTS = 4000  # per record; reached only if a kind has too little variety

T = TypeVar("T")
Slots = dict[str, str]


class Dice:
    """Seeded choices built on ``random()`` alone, the part of ``random`` with a stable sequence."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def number(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._random() < probability

    def pick(self, options: Sequence[T]) -> T:
        """One option."""
        return options[self.number(0, len(options) - 1)]

    def take(self, options: Sequence[T], count: int) -> list[T]:
        """``count`` different options in random order."""
        pool = list(options)
        return [pool.pop(self.number(0, len(pool) - 1)) for _ in range(count)]

    def some(self, options: Sequence[T], count: int) -> list[T]:
        """``count`` different options in their own order."""
        return [options[i] for i in sorted(self.take(range(len(options)), count))]


@dataclass(frozen=True)
class Record:
    """One line of the sample, in the order of its columns."""

    instruction: str
    context: str
    response: str
    category: str
    checkable: bool


# --- The rules of the world -------------------------------------------------------------------


def oskerry_count(n: int) -> str:
    """347 becomes ``3 orr 4 tel 7``; an empty place is left out."""
    parts = ((n // 100, " orr"), (n // 10 % 10, " tel"), (n % 10, ""))
    return " ".join(f"{digit}{unit}" for digit, unit in parts if digit)


def oskerry_date(year: int, month: str, day: int) -> str:
    """The year comes first, the day last."""
    return f"{year} {month} {day}"


def oskerry_address(quarter: str, stair: str, house: int) -> str:
    """From the large to the small, as a porter climbs."""
    return f"{quarter} / {stair} / {house}"


def guild_name(name: str, trade: str) -> str:
    """The trade comes before the given name."""
    return f"{capital(trade)}-{name}"


def child_name(child: str, mother: str) -> str:
    """A child is called after its mother."""
    return f"{child} ba {mother}"


def place_name(kind: str, founder: str) -> str:
    """A place is called after its founder, as a child is after its mother."""
    return f"{capital(kind)} ba {founder}"


def lock_state(spans: int) -> str:
    """A lock is shut from ten spans upward."""
    return "shut" if spans >= 10 else "open"


# --- Text --------------------------------------------------------------------------------------

NAMES = [
    name
    for onset in world.ONSETS
    for ending in world.ENDINGS
    if (name := onset + ending) not in world.NOT_NAMES
]
NUMBER_WORDS = world.words("zero one two three four five six seven eight nine")
PASSAGES = {
    "move": world.MOVE,
    "opening": world.OPENING,
    "shipment": world.SHIPMENT,
    "contest": world.CONTEST,
}
DISTINCT = ("name", "other", "trade", "boat", "stair")  # what two items of news never share
CHOICE = re.compile(r"\[([^\[\]]*)\]")
WORD = re.compile(r"\w+")


def ordinal(n: int) -> str:
    """14 becomes ``14th``."""
    teen = n % 100 in (11, 12, 13)
    return f"{n}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


def expand(dice: Dice, template: str, slots: Mapping[str, str]) -> str:
    """Make the choices of a template, fill its slots and tidy the blanks."""
    while match := CHOICE.search(template):
        choice = dice.pick(match[1].split("|"))
        template = template[: match.start()] + choice + template[match.end() :]
    return " ".join(template.format_map(slots).split())


def capital(text: str) -> str:
    """The text with its first letter raised."""
    return text[:1].upper() + text[1:]


def draw_slots(dice: Dice) -> Slots:
    """Everything a template may mention, drawn anew for each record and consistent in itself."""
    name, other, third, mother, child, founder = dice.take(NAMES, 6)
    stair, stair2 = dice.take(world.STAIRS, 2)
    entry, entry2 = dice.take(world.ENTRIES, 2)
    trade, quarter = dice.pick(world.TRADES), dice.pick(world.QUARTERS)
    month, day, year = dice.pick(world.MONTHS), dice.number(1, 50), dice.number(101, 399)
    house, n = dice.number(12, 99), dice.number(21, 999)
    kind = dice.pick(world.PLACES)
    slots = {"name": name, "other": other, "third": third, "mother": mother, "child": child}
    slots |= {"stair": stair, "stair2": stair2, "quarter": quarter, "house": str(house)}
    slots |= {"trade": trade, "guild": guild_name(name, trade), "kind": kind}
    slots |= {"month": month, "day": str(day), "day_th": ordinal(day), "year": str(year)}
    slots |= {"n": str(n), "said": oskerry_count(n), "things": dice.pick(world.THINGS)}
    slots |= {"entry": entry, "entry2": entry2, "prize": dice.pick(world.PRIZES)}
    return slots | {
        "date": oskerry_date(year, month, day),
        "address": oskerry_address(quarter, stair, house),
        "place_name": place_name(kind, name),
        "place": place_name(dice.pick(world.PLACES), founder),
        "boat": f"{dice.pick(world.BOAT_FIRST)} {dice.pick(world.BOAT_LAST)}",
        "extra": dice.pick(world.EXTRAS),
        "work": dice.pick(world.WORKS),
        "few": NUMBER_WORDS[dice.number(3, 9)],
        "count": NUMBER_WORDS[dice.number(3, 6)],
    }


def passage(dice: Dice, stages: world.Groups, slots: Slots, fillers: int) -> str:
    """One line of every stage but the last, then ``fillers`` lines of the last stage."""
    chosen = [dice.pick(stage) for stage in stages[:-1]]
    chosen += dice.take(stages[-1], min(fillers, len(stages[-1])))
    return " ".join(expand(dice, line, slots) for line in chosen)


def few_fillers(dice: Dice) -> int:
    """Mostly two or three further sentences, now and then many: the long tail of lengths."""
    return dice.pick((0, 1, 1, 2, 2, 3, 3, 3, 4, 6))


def among_news(dice: Dice, story: str, stages: world.Groups, used: Slots) -> str:
    """The story, now and then as one of two to four items of news, so that one must look for it.

    The other items are of other kinds and share no person, trade or stair, which keeps the
    answer to a question about it unique.
    """
    others = dice.take([item for item in PASSAGES.values() if item is not stages], 3)
    items, taken = [story], {used[key] for key in DISTINCT}
    for item in others[: dice.pick((0, 0, 0, 0, 0, 0, 1, 1, 2, 3))]:
        slots = draw_slots(dice)
        while taken & {slots[key] for key in DISTINCT}:
            slots = draw_slots(dice)
        taken |= {slots[key] for key in DISTINCT}
        slots["count"] = str(dice.number(11, 48))
        items.append(passage(dice, item, slots, dice.number(0, 3)))
    return "\n".join(dice.take(items, len(items)))


# --- Makers: each returns one candidate record ----------------------------------------------------

Maker = Callable[[Dice], Record]


def asked(
    templates: Sequence[str], answer: Callable[[Dice, Slots], str], category: str = "open_qa"
) -> Maker:
    """A question without a context; ``answer`` may add slots before the question is worded."""

    def make(dice: Dice) -> Record:
        slots = draw_slots(dice)
        response = answer(dice, slots)
        question = expand(dice, dice.pick(templates), slots)
        return Record(question, "", response, category, True)

    return make


def answer_greeting(dice: Dice, slots: Slots) -> str:
    """The greeting follows the light; the name comes after it."""
    slots["part"] = part = dice.pick(list(world.GREETING))
    slots["when"] = dice.pick(world.WHEN[part]).format_map(slots)
    return f"{world.GREETING[part]}, {slots['name']}"


def answer_word(dice: Dice, slots: Slots) -> str:
    """``-ren`` for many, ``-il`` for a small one."""
    slots["word"] = word = dice.pick(list(world.OLD_WORDS))
    slots["gloss"] = gloss = world.OLD_WORDS[word]
    if dice.chance(0.5):
        many = {"loaf": "loaves", "fish": "fish"}
        slots["asked"] = f"many {many.get(gloss, gloss + 's')}"
        return f"{word}-ren"
    slots["asked"] = f"a small {gloss}"
    return f"{word}-il"


def answer_gauge(dice: Dice, slots: Slots) -> str:
    """A gauge reading and the state of its lock."""
    reading = dice.number(1, 9) if dice.chance(0.5) else dice.number(10, 29)
    slots["reading"] = str(reading)
    return lock_state(reading)


def answer_person_place(dice: Dice, slots: Slots) -> str:
    """Two or three names, each with what it names."""
    entries = []
    for name in dice.take(NAMES, dice.pick((2, 2, 3))):
        if dice.chance(0.5):
            entries.append((place_name(dice.pick(world.PLACES), name), "place"))
        elif dice.chance(0.6):
            entries.append((guild_name(name, dice.pick(world.TRADES)), "person"))
        else:
            entries.append((child_name(name, dice.pick(NAMES)), "person"))
    slots["names"] = ", ".join(name for name, _ in entries)
    return "; ".join(f"{name}: {label}" for name, label in entries)


def make_house(dice: Dice) -> Record:
    """A petition to the council, to be passed to one of the four Houses."""
    slots = draw_slots(dice)
    label = dice.pick(list(world.PETITIONS))
    parts = [dice.pick(world.PETITIONS[label])]
    if dice.chance(0.7):
        parts.insert(0, dice.pick(world.PETITION_OPEN))
    parts += dice.take(world.PETITION_CLOSE, dice.pick((0, 1, 1, 2)))
    context = " ".join(expand(dice, part, slots) for part in parts)
    question = expand(dice, dice.pick(world.ASK_HOUSE), slots)
    return Record(question, context, label, "classification", True)


def about(stages: world.Groups, templates: Sequence[str], answer: str) -> Maker:
    """A question about a passage, answered by the rule-made or plain slot ``answer``."""

    def make(dice: Dice) -> Record:
        slots = draw_slots(dice)
        slots["count"] = str(dice.number(11, 48))
        story = passage(dice, stages, slots, few_fillers(dice))
        context = among_news(dice, story, stages, slots)
        question = expand(dice, dice.pick(templates), slots)
        return Record(question, context, slots[answer], "closed_qa", True)

    return make


def make_fact(dice: Dice) -> Record:
    """A plain question about a passage, answered in its words."""
    kind = dice.pick(list(world.ASK_FACT))
    fact = dice.pick(list(world.ASK_FACT[kind]))
    return about(PASSAGES[kind], world.ASK_FACT[kind][fact], fact)(dice)


def extracted(
    stages: world.Groups, templates: Sequence[str], answer: Callable[[Dice, Slots], str]
) -> Maker:
    """An extraction from a passage about the slots that ``answer`` reads or adds."""

    def make(dice: Dice) -> Record:
        slots = draw_slots(dice)
        response = answer(dice, slots)
        context = passage(dice, stages, slots, few_fillers(dice))
        question = expand(dice, dice.pick(templates), slots)
        return Record(question, context, response, "information_extraction", True)

    return make


def answer_card(_: Dice, slots: Slots) -> str:
    """The line of an index card."""
    return "name: {name}; trade: {trade}; stair: {stair}".format_map(slots)


def answer_goods(dice: Dice, slots: Slots) -> str:
    """Goods and amounts, in the order of the text."""
    # Amounts stay below ten, where Oskerry count and plain digits are the same.
    goods = [
        (dice.number(2, 9), dice.pick(("sacks", "crates", "barrels", "carts", "loads")), good)
        for good in dice.take(world.GOODS, dice.pick((2, 3, 3, 4)))
    ]
    phrases = [f"{amount} {unit} of {good}" for amount, unit, good in goods]
    slots["list"] = ", ".join(phrases[:-1]) + " and " + phrases[-1]
    return "; ".join(f"{good}: {amount}" for amount, _, good in goods)


def answer_people(_: Dice, slots: Slots) -> str:
    """Three people, in the order of the text."""
    return "{name}, {other}, {third}".format_map(slots)


def make_general(dice: Dice) -> Record:
    """A question about life in the town, answered in a few sentences."""
    slots = draw_slots(dice)
    questions, openings, further = dice.pick(world.TOPICS)
    body = [dice.pick(openings), *dice.some(further, dice.pick((1, 2, 2, 3, 3, 4, 5)))]
    response = " ".join(expand(dice, line, slots) for line in body)
    return Record(expand(dice, dice.pick(questions), slots), "", response, "general_qa", False)


def make_ideas(dice: Dice) -> Record:
    """As many ideas as the question asks for."""
    slots = draw_slots(dice)
    questions, ideas = dice.pick(world.IDEAS)
    count = NUMBER_WORDS.index(slots["count"])
    chosen = dice.take(ideas, count)
    style = dice.pick(("dash", "dash", "number", "prose"))
    if style == "prose":
        response = "; ".join(chosen[:-1]) + "; or " + chosen[-1] + "."
        response = capital(response)
    else:
        marks = [f"{i}." if style == "number" else "-" for i in range(1, count + 1)]
        rows = [f"{mark} {capital(idea)}" for mark, idea in zip(marks, chosen, strict=True)]
        if dice.chance(0.3):
            rows.insert(0, expand(dice, dice.pick(world.IDEA_INTRO), slots))
        response = "\n".join(rows)
    question = expand(dice, dice.pick(questions), slots)
    return Record(question, "", response, "brainstorming", False)


def make_summary(dice: Dice) -> Record:
    """One report and its summary, or two of each."""
    contexts, responses = [], []
    for *stages, summaries in dice.take(world.REPORTS, dice.pick((1, 1, 2))):
        slots = draw_slots(dice)
        contexts.append(" ".join(expand(dice, dice.pick(stage), slots) for stage in stages))
        responses.append(expand(dice, dice.pick(summaries), slots))
    question = expand(dice, dice.pick(world.ASK_SUMMARY), slots)
    joined = "\n\n".join(contexts), " ".join(responses)
    return Record(question, *joined, "summarization", False)


def make_tale(dice: Dice) -> Record:
    """A story, a letter or a poem."""
    slots = draw_slots(dice)
    requests, *stages = dice.pick(world.TALES)
    request = dice.pick(requests)
    if any(word in request for word in ("poem", "verse")):
        lines = [line for stage in stages for line in dice.take(stage, dice.pick((1, 2)))]
        joint = "\n"
    else:
        lines = [dice.pick(stage) for stage in stages]
        joint = dice.pick((" ", "\n\n"))
    response = joint.join(expand(dice, line, slots) for line in lines)
    return Record(expand(dice, request, slots), "", response, "creative_writing", False)


def slot(key: str) -> Callable[[Dice, Slots], str]:
    """The answer is a slot as it stands."""
    return lambda _, slots: slots[key]


def given(make: Callable[[Slots], str]) -> Callable[[Dice, Slots], str]:
    """The answer is made from the slots."""
    return lambda _, slots: make(slots)


# What is made, by whom and how often. The names on the left are for people who read the counts.
PLAN: dict[str, tuple[int, Maker]] = {
    "guild name": (40, asked(world.ASK_GUILD_NAME, slot("guild"))),
    "child name": (
        28,
        asked(world.ASK_CHILD_NAME, given(lambda s: child_name(s["child"], s["mother"]))),
    ),
    "count": (40, asked(world.ASK_COUNT, slot("said"))),
    "date": (36, asked(world.ASK_DATE, slot("date"))),
    "address": (36, asked(world.ASK_ADDRESS, slot("address"))),
    "greeting": (36, asked(world.ASK_GREETING, answer_greeting)),
    "place name": (38, asked(world.ASK_PLACE, slot("place_name"))),
    "old word": (26, asked(world.ASK_WORD, answer_word)),
    "house of a petition": (40, make_house),
    "lock by gauge": (40, asked(world.ASK_GAUGE, answer_gauge, "classification")),
    "person or place": (
        40,
        asked(world.ASK_PERSON_PLACE, answer_person_place, "classification"),
    ),
    "address in text": (18, about(world.MOVE, world.ASK_CTX_ADDRESS, "address")),
    "guild name in text": (16, about(world.MOVE, world.ASK_CTX_NAME, "guild")),
    "date in text": (18, about(world.OPENING, world.ASK_CTX_DATE, "date")),
    "count in text": (18, about(world.SHIPMENT, world.ASK_CTX_COUNT, "said")),
    "fact in text": (36, make_fact),
    "card": (30, extracted(world.CARD, world.ASK_CARD, answer_card)),
    "goods": (30, extracted(world.GOODS_TEXT, world.ASK_GOODS, answer_goods)),
    "people": (26, extracted(world.PEOPLE_TEXT, world.ASK_PEOPLE, answer_people)),
    "general": (112, make_general),
    "ideas": (100, make_ideas),
    "summary": (68, make_summary),
    "tale": (42, make_tale),
}


# --- Putting it together --------------------------------------------------------------------------


def shingles(record: Record) -> frozenset[tuple[str, ...]]:
    """The word 3-grams of a whole record."""
    words = WORD.findall(f"{record.instruction} {record.context} {record.response}".lower())
    return frozenset(zip(words, words[1:], words[2:], strict=False))


class Collection:
    """Accepted records, indexed by 3-gram so that a near-duplicate is found quickly."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._sizes: list[int] = []
        self._where: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        self._prompts: set[tuple[str, str]] = set()

    def add(self, record: Record) -> bool:
        """Accept the record unless it repeats a prompt or comes close to an accepted one."""
        prompt = (record.instruction, record.context)
        grams = shingles(record)
        shared = Counter(i for gram in grams for i in self._where.get(gram, ()))
        close = any(
            count >= MAX_SIMILARITY * (len(grams) + self._sizes[i] - count)
            for i, count in shared.items()
        )
        if close or prompt in self._prompts:
            return False
        for gram in grams:
            self._where[gram].append(len(self.records))
        self.records.append(record)
        self._sizes.append(len(grams))
        self._prompts.add(prompt)
        return True


def build(seed: int = SEED) -> list[tuple[str, Record]]:
    """All records with the name of their kind, in the order of the file."""
    dice = Dice(seed)
    collection = Collection()
    kinds: list[str] = []
    for kind, (wanted, make) in PLAN.items():
        for _ in range(wanted):
            if not any(collection.add(make(dice)) for _ in range(MAX_ATTEMPTS)):
                raise RuntimeError(f"too little variety for {wanted} records of kind {kind!r}")
            kinds.append(kind)
    return dice.take(list(zip(kinds, collection.records, strict=True)), len(kinds))


def render(rows: Sequence[tuple[str, Record]]) -> bytes:
    """The bytes of the file."""
    return "".join(
        json.dumps(asdict(record), ensure_ascii=False) + "\n" for _, record in rows
    ).encode("utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, or compare it."""
    parser = argparse.ArgumentParser(description="Make the bundled sample data set.")
    parser.add_argument("--check", action="store_true", help="exit 1 if the file differs")
    options = parser.parse_args(argv)
    content = render(build())
    if options.check:
        same = TARGET.is_file() and TARGET.read_bytes() == content
        print(f"{TARGET}: {'up to date' if same else 'differs; run tools/make_sample.py'}")
        return 0 if same else 1
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(content)
    print(f"{TARGET}: {len(content.splitlines())} records")
    return 0


if __name__ == "__main__":
    sys.exit(main())
