"""The page's colours: contrast as WCAG 2.2 computes it, in light, in dark and on paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tuneproof.report

STYLE = (Path(tuneproof.report.__file__).parent / "templates/style.css").read_text("utf-8")
THEMES = dict(
    zip(("light", "dark", "paper"), re.findall(r":root \{(.*?)\}", STYLE, re.S), strict=True)
)

PAIRS = [
    *(("--ink", ground, 4.5) for ground in ("--paper", "--fill", "--tint", "--other-tint")),
    *(("--soft", ground, 4.5) for ground in ("--paper", "--fill")),
    *(("--accent", ground, 4.5) for ground in ("--paper", "--fill", "--tint")),
    *(("--other", ground, 4.5) for ground in ("--paper", "--fill", "--other-tint")),
    *((line, "--paper", 3.0) for line in ("--edge", "--train")),
    ("--soft", "--tint", 4.5),  # numbers of the chosen row of the list
    ("--paper", "--ink", 4.5),  # words that were searched for
]


def colours(theme: str) -> dict[str, str]:
    return dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{3,6});", THEMES[theme]))


def luminance(colour: str) -> float:
    """Relative luminance of sRGB, in [0, 1] (WCAG 2.2, "relative luminance")."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_formula() -> None:
    assert contrast("#000000", "#fff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the known near miss


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("front", "ground", "least"), PAIRS)
def test_what_is_to_be_read_can_be_read(theme: str, front: str, ground: str, least: float) -> None:
    found = colours(theme)
    assert contrast(found[front], found[ground]) >= least


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ground", ["--paper", "--tint"])
def test_an_interval_can_be_seen_though_its_dot_is_stronger(theme: str, ground: str) -> None:
    found = colours(theme)
    (opacity,) = set(re.findall(r"svg \.(?:bar|thin) \{.*opacity: (\S+);", STYLE))
    parts = [
        [int(found[name].ljust(7, found[name][1])[i : i + 2], 16) for i in (1, 3, 5)]
        for name in ("--accent", ground)
    ]
    mixed = [
        round(float(opacity) * a + (1 - float(opacity)) * b) for a, b in zip(*parts, strict=True)
    ]
    assert contrast("#" + "".join(f"{c:02x}" for c in mixed), found[ground]) >= 3


def test_every_colour_is_a_variable_and_every_variable_is_defined() -> None:
    rules = re.sub(r":root \{.*?\}", "", STYLE, flags=re.S)
    assert set(re.findall(r"#[0-9a-fA-F]{3,8}\b(?=[;\s)])", rules)) <= {"#0008"}  # behind a dialog
    assert set(re.findall(r"var\((--[\w-]+)\)", STYLE)) <= set(re.findall(r"(--[\w-]+):", STYLE))
    assert colours("light").keys() == colours("dark").keys() == colours("paper").keys()


def test_the_design_language_names_every_colour() -> None:
    told = (Path(__file__).parents[2] / "docs/design-language.md").read_text("utf-8")
    assert all(f"`{name}`" in told for name in colours("light"))
