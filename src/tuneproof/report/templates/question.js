"use strict";
// One question with its answers and the judge's replies, as elements. Every text that a model wrote
// is put in by textContent and by nothing else.
const LONG = 20000; // characters of one text that are shown at first
const SIGNS = { tuned: "▲", opponent: "▼", tie: "=", unscored: "·", none: "" };

const DISAGREE = "the two orders disagree";
const saidOf = (view) => `${view.said}\n${view.ordersDisagree ? DISAGREE : ""}`;

// --- elements -------------------------------------------------------------------------------

function make(tag, classes, text, ...children) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  if (text !== undefined && text !== null) element.textContent = text;
  element.append(...children);
  return element;
}

// A text and, where it is long, a button for more of it: a million characters at once would hold
// up the browser.
function longText(text, classes) {
  const block = make("div", `text ${classes}`, text.slice(0, LONG));
  block.dir = "auto";
  if (text.length <= LONG) return [block];
  const more = make("button", "more");
  more.type = "button";
  const offer = (shown) => {
    const left = text.length - shown;
    const next = Math.min(left, 5 * LONG).toLocaleString("en");
    more.textContent = `Show ${next} of ${left.toLocaleString("en")} more characters`;
    if (!left) more.remove();
  };
  more.addEventListener("click", () => {
    const shown = Math.min(text.length, block.textContent.length + 5 * LONG);
    block.textContent = text.slice(0, shown);
    offer(shown);
  });
  offer(LONG);
  return [block, more];
}

function folded(title, text) {
  const details = make("details", "", null, make("summary", "", title));
  details.append(...longText(text, ""));
  return details;
}

// Whether a side is of the pair that a view is about.
const isOf = (view) => ({ arm, adapter }) =>
  arm === "tuned" ? adapter === view.adapter : arm === view.against;

// --- one question ---------------------------------------------------------------------------

function sideOf(side, view, stops) {
  const tuned = side.arm === "tuned";
  const name = side.adapter ? `${side.arm}, adapter ${side.adapter}` : side.arm;
  const box = make("section", `side${tuned ? " tuned" : ""}`, null, make("h5", "", name));
  box.setAttribute("aria-label", `Answer of ${name}`);
  if (side.text === null) {
    box.append(make("p", "marks", side.problem));
    return box;
  }
  const marks = make("p", "marks", `${stops[side.stop]} · ${side.length}`);
  if (side.stop === "length") marks.classList.add("cut");
  if (side.exact !== null) {
    marks.append(" · ", make("b", "", side.exact ? "✓ exact match" : "✗ no exact match"));
  }
  if (side.chrf) marks.append(` · ${side.chrf}`);
  box.append(marks, ...longText(side.text, "answer"));
  if (side.text === "") box.append(make("p", "absent", "(an empty answer)"));
  box.dataset.pair = isOf(view)(side) ? "yes" : "no";
  return box;
}

function replyOf(reply) {
  const first = reply.text ? `${reply.first} shown first: ` : "";
  const title = make("p", "asked", first, make("b", "", reply.says));
  const box = make("div", "reply", null, title);
  if (reply.text) box.append(...longText(reply.text, ""));
  return box;
}

// ``words`` marks those that differ in the pair.
function turnOf(turn, index, it, view, { stops, words }) {
  const found = [];
  if (it.turns.length > 1) found.push(make("h4", "turn", `Turn ${index + 1}`));
  found.push(...longText(turn.instruction, "question"));
  if (turn.context) {
    const size = turn.context.length.toLocaleString("en");
    found.push(folded(`Context, ${size} characters`, turn.context));
  }
  if (turn.reference !== null) {
    const label = make("span", "soft", "Reference");
    found.push(make("div", "reference", null, label, ...longText(turn.reference, "")));
  }
  const inPair = isOf(view);
  const pair = turn.sides.filter(inPair);
  const others = turn.sides.filter((side) => !inPair(side));
  const sides = make("div", "sides", null, ...pair.map((side) => sideOf(side, view, stops)));
  found.push(sides);
  if (words) sides.append(...compare(sides, pair));
  const replies = turn.replies.filter(
    (r) => r.against === view.against && r.adapter === view.adapter,
  );
  const judges = [...new Set(replies.map((reply) => reply.judge))];
  for (const judge of judges) {
    const mine = replies.filter((reply) => reply.judge === judge);
    const box = make("div", "judged", null, make("h5", "", `Judge: ${judge}`));
    box.append(make("div", "replies", null, ...mine.map(replyOf)));
    found.push(box);
  }
  if (others.length) {
    const rest = make("details", "others", null, make("summary", "", "The other answers"));
    rest.open = true;
    rest.append(make("div", "sides", null, ...others.map((side) => sideOf(side, view, stops))));
    found.push(rest);
  }
  return found;
}

// A question's number and name, and what is known about it. ``title`` is its benchmark's, where
// there are several.
function headOf(it, view, title) {
  const heading = make("h3", "", null, make("span", "", `${it.number}`), " ");
  const link = make("a", "", it.id);
  link.href = `#${new URLSearchParams({ q: it.id })}`;
  heading.append(make("bdi", "", null, link));
  const said = make("b", `said ${view.result}`, `${SIGNS[view.result]} ${view.said}`);
  const about = make("p", "about", null, said);
  for (const part of [title, it.category]) {
    if (part) about.append(" · ", make("bdi", "", part));
  }
  if (view.ordersDisagree) about.append(" · ", make("b", "said", DISAGREE));
  if (view.length) about.append(` · tuned is ${view.length}`);
  return [heading, about];
}

// Marks in the two answers of a pair the words that the other has not; returns what to add.
function compare(sides, pair) {
  if (pair.length !== 2 || pair.some((side) => !side.text)) return [];
  const long = pair.some((side) => side.text.length > LONG);
  const runs = long ? null : differences(...pair.map((side) => side.text));
  if (!runs) return [make("p", "note wide", "The answers are too long to compare word by word.")];
  sides.querySelectorAll(".answer").forEach((block, i) => {
    block.replaceChildren(...runs[i].map((it) => (it.alone ? make("mark", "", it.text) : it.text)));
  });
  return [];
}
