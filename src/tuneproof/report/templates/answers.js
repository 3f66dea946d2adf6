"use strict";
// The answer browser: a list of questions that can be filtered and searched, and one question with
// all its answers. Every text that a model wrote is put in by textContent and by nothing else.
(async () => {
  const $ = (id) => document.getElementById(id);
  const browser = $("browser");
  if (!browser) return;
  const LONG = 20000; // characters of one text that are shown at first
  const BESIDE = 8; // rows of the list that are drawn above and below those that can be seen
  const FILTERS = ["benchmark", "category", "result", "orders", "length", "stop"];
  const CHOICES = ["opponent", "adapter"]; // present where there are several
  const SIGNS = { tuned: "▲", opponent: "▼", split: "◆", tie: "=", unscored: "·" };

  let data;
  try {
    data = JSON.parse($("cases").textContent);
    if (data.gzip) data = JSON.parse(await unpack(data.gzip));
  } catch (problem) {
    $("unread").hidden = false;
    $("unread").textContent += ` (${problem.message})`;
    return;
  }
  const { questions, stops, titles } = data;
  const several = Object.keys(titles).length > 1;
  const byId = new Map(questions.map((it) => [it.id, it]));
  const texts = new Map(); // the lower-case texts of a question, made when they are first searched
  let state = { q: questions[0].id };
  let fitting = questions;
  let singleKeys = true; // whether a key without a modifier does anything

  async function unpack(base64) {
    const characters = atob(base64);
    const bytes = new Uint8Array(characters.length);
    for (let i = 0; i < bytes.length; i += 1) bytes[i] = characters.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

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

  // --- the chosen pair ------------------------------------------------------------------------

  const viewOf = (it) => {
    const adapter = Number(state.adapter ?? 0) || it.views[0].adapter;
    const of = it.views.filter((view) => view.adapter === adapter);
    return of.find((view) => view.against === (state.opponent ?? "base")) ?? of[0] ?? it.views[0];
  };
  const isOf = (view) => ({ arm, adapter }) =>
    arm === "tuned" ? adapter === view.adapter : arm === view.against;

  // --- one question ---------------------------------------------------------------------------

  function sideOf(side, view) {
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

  function turnOf(turn, index, it, view) {
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
    const sides = make("div", "sides", null, ...pair.map((side) => sideOf(side, view)));
    found.push(sides);
    if (state.words) sides.append(...compare(sides, pair));
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
      rest.append(make("div", "sides", null, ...others.map((side) => sideOf(side, view))));
      found.push(rest);
    }
    return found;
  }

  let shown = ""; // what of the state the shown question depends on

  function showQuestion() {
    const pane = $("question");
    const wanted = JSON.stringify([state.q, state.opponent, state.adapter, state.words]);
    if (wanted === shown) {
      markHits(pane);
      return;
    }
    shown = wanted;
    const it = byId.get(state.q);
    if (!it) {
      pane.replaceChildren(make("p", "absent", `This report has no question ${state.q}.`));
      return;
    }
    const view = viewOf(it);
    const heading = make("h3", "", null, make("span", "", `${it.number}`), " ");
    const link = make("a", "", it.id);
    link.href = `#${new URLSearchParams({ q: it.id })}`;
    heading.append(make("bdi", "", null, link));
    const said = make("b", `said ${view.result}`, `${SIGNS[view.result]} ${view.said}`);
    const about = make("p", "about", null, said);
    for (const part of [several ? titles[it.benchmark] : "", it.category]) {
      if (part) about.append(" · ", make("bdi", "", part));
    }
    if (view.ordersDisagree) about.append(" · ", make("b", "", "the two orders disagree"));
    if (view.length) about.append(` · tuned is ${view.length}`);
    pane.replaceChildren(heading, about, ...it.turns.flatMap((t, i) => turnOf(t, i, it, view)));
    markHits(pane);
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

  // --- search ---------------------------------------------------------------------------------

  function textOf(it) {
    if (!texts.has(it)) {
      const all = [it.id, it.category];
      for (const turn of it.turns) {
        all.push(turn.instruction, turn.context, turn.reference ?? "");
        for (const side of turn.sides) all.push(side.text ?? side.problem);
        for (const reply of turn.replies) all.push(reply.text);
      }
      texts.set(it, all.join("\n").toLowerCase());
    }
    return texts.get(it);
  }

  // Found words are painted over, where the browser can: no element is made for them.
  function markHits(pane) {
    if (typeof Highlight === "undefined" || !CSS.highlights) return;
    CSS.highlights.delete("hit");
    const wanted = (state.text ?? "").trim().toLowerCase();
    if (!wanted) return;
    const hits = new Highlight();
    const walker = document.createTreeWalker(pane, NodeFilter.SHOW_TEXT);
    while (walker.nextNode() && hits.size < 1000) {
      const node = walker.currentNode;
      const text = node.data.toLowerCase();
      if (text.length !== node.data.length) continue; // a case with another length: places differ
      for (let at = text.indexOf(wanted); at >= 0 && hits.size < 1000; ) {
        const range = document.createRange();
        range.setStart(node, at);
        range.setEnd(node, at + wanted.length);
        hits.add(range);
        at = text.indexOf(wanted, at + wanted.length);
      }
    }
    CSS.highlights.set("hit", hits);
  }

  function fits(it) {
    const view = viewOf(it);
    if (state.benchmark && it.benchmark !== state.benchmark) return false;
    if (state.category && it.category !== state.category) return false;
    if (state.result && view.result !== state.result) return false;
    if (state.orders && String(view.ordersDisagree) !== state.orders) return false;
    if (state.length && view.length !== state.length) return false;
    if (state.stop) {
      const [whose, stop] = state.stop.split(":");
      const arm = whose === "tuned" ? "tuned" : view.against;
      const ended = (side) => isOf(view)(side) && side.arm === arm && side.stop === stop;
      if (!it.turns.some((turn) => turn.sides.some(ended))) return false;
    }
    const wanted = (state.text ?? "").trim().toLowerCase();
    return !wanted || textOf(it).includes(wanted);
  }

  // --- the list: of the questions that fit, the rows that can be seen and a few beside them ------

  const list = $("list");
  let height = 0; // of a row, in pixels

  function rowOf(it, place) {
    const view = viewOf(it);
    const first = it.turns[0].instruction.slice(0, 160).replace(/\s+/g, " ");
    const sign = make("span", `sign ${view.result}`, SIGNS[view.result]);
    sign.setAttribute("role", "img");
    sign.setAttribute("aria-label", view.said);
    const number = make("span", "n", `${it.number}`);
    const link = make("a", "", null, number, make("bdi", "first", first), sign);
    link.href = `#${new URLSearchParams({ q: it.id })}`;
    link.dataset.q = it.id;
    if (it.id === state.q) link.setAttribute("aria-current", "true");
    const row = make("li", "", null, link);
    row.setAttribute("aria-setsize", fitting.length);
    row.setAttribute("aria-posinset", place + 1);
    return row;
  }

  function drawList() {
    const focused = list.contains(document.activeElement) && document.activeElement.dataset.q;
    const from = Math.max(0, Math.floor(list.scrollTop / (height || 1)) - BESIDE);
    const many = Math.ceil(list.clientHeight / (height || 36)) + 2 * BESIDE;
    const to = Math.min(fitting.length, from + many);
    const rows = fitting.slice(from, to).map((it, i) => rowOf(it, from + i));
    if (rows.length) {
      rows[0].style.marginTop = `${from * height}px`;
      rows.at(-1).style.marginBottom = `${(fitting.length - to) * height}px`;
    }
    list.replaceChildren(...rows);
    if (focused) linkOf(focused)?.focus({ preventScroll: true });
  }

  const linkOf = (id) => [...list.querySelectorAll("a")].find((link) => link.dataset.q === id);

  // Draws the list so that the chosen question is in it. It alone is scrolled, not the page.
  function showList() {
    const at = fitting.indexOf(byId.get(state.q));
    if (at >= 0 && height) {
      const [top, bottom] = [at * height, (at + 1) * height];
      // The old rows would bound the scrolling.
      const room = make("li");
      room.style.height = `${fitting.length * height}px`;
      list.replaceChildren(room);
      const high = list.clientHeight;
      const margin = 0.3 * high; // what comes next is seen too, and a list cut by the window's edge
      if (top < list.scrollTop + margin) list.scrollTop = top - margin;
      else if (bottom > list.scrollTop + high - margin) list.scrollTop = bottom - high + margin;
    }
    drawList();
  }

  function filterList() {
    fitting = questions.filter(fits);
    $("shown").textContent = `${fitting.length} of ${questions.length} questions`;
    $("none").hidden = fitting.length > 0;
  }

  // --- state: in the address, so that it can be sent to somebody -------------------------------

  const KEYS = ["q", "text", ...FILTERS, ...CHOICES, "words"];

  let later = 0;

  // A moment after the last change: browsers bound how often an address may change.
  function remember() {
    clearTimeout(later);
    later = setTimeout(() => {
      const kept = KEYS.filter((key) => state[key]).map((key) => [key, state[key]]);
      history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
    }, 100);
  }

  function recall() {
    const hash = location.hash.slice(1);
    if (!hash.includes("=")) return false;
    const given = new URLSearchParams(hash);
    state = Object.fromEntries(KEYS.filter((key) => given.get(key)).map((k) => [k, given.get(k)]));
    for (const key of [...FILTERS, ...CHOICES]) {
      const select = $(key);
      if (!select) delete state[key];
      else {
        if (key in state) select.value = state[key];
        // What is not to be chosen from filters nothing.
        if (!(key in state) || select.value !== state[key]) {
          delete state[key];
          select.selectedIndex = 0;
        }
      }
    }
    $("text").value = state.text ?? "";
    $("words").checked = Boolean(state.words);
    state.q ??= questions.find(fits)?.id ?? questions[0].id;
    return true;
  }

  function show() {
    filterList();
    showQuestion();
    showList();
  }

  function changed() {
    state.text = $("text").value;
    for (const key of [...FILTERS, ...CHOICES]) state[key] = $(key)?.value ?? "";
    state.words = $("words").checked ? "1" : "";
    filterList();
    const current = byId.get(state.q);
    if (fitting.length && !fitting.includes(current)) state.q = fitting[0].id;
    showQuestion();
    showList();
    remember();
  }

  function go(step) {
    const at = fitting.indexOf(byId.get(state.q));
    const next = fitting[at < 0 ? 0 : at + step];
    if (next) choose(next.id);
  }

  function choose(id) {
    const inList = list.contains(document.activeElement);
    state.q = id;
    showQuestion();
    showList();
    remember();
    if (inList) linkOf(id)?.focus({ preventScroll: true });
  }

  function reach() {
    const { top, bottom } = browser.getBoundingClientRect();
    if (top > innerHeight / 2 || bottom < 0) browser.scrollIntoView({ behavior: "instant" });
  }

  // --- keys and clicks ------------------------------------------------------------------------

  const typing = (target) => target.closest?.("input, select, textarea, dialog");

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target === $("text")) {
      $("text").blur();
      return;
    }
    if (typing(event.target)) return;
    const inList = list.contains(event.target);
    const act = {
      j: () => go(1),
      k: () => go(-1),
      d: () => $("words").click(),
      "/": () => $("text").focus(),
      "?": () => $("help").showModal(),
    }[event.key];
    const arrow = { ArrowDown: () => go(1), ArrowUp: () => go(-1) }[event.key];
    if (arrow && inList) arrow();
    else if (act && singleKeys) {
      act();
      reach();
    } else return;
    event.preventDefault();
  }

  document.addEventListener("keydown", pressed);
  list.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    choose(link.dataset.q);
    if (matchMedia("(max-width: 60rem)").matches) $("question").scrollIntoView({ behavior: "instant" });
  });
  $("text").addEventListener("input", changed);
  for (const key of [...FILTERS, ...CHOICES, "words"]) $(key)?.addEventListener("change", changed);
  $("previous").addEventListener("click", () => go(-1));
  $("next").addEventListener("click", () => go(1));
  $("keys").addEventListener("click", () => $("help").showModal());
  $("single").addEventListener("change", (event) => {
    singleKeys = event.target.checked;
  });
  $("clear").addEventListener("click", () => {
    $("text").value = "";
    for (const key of FILTERS) if ($(key)) $(key).selectedIndex = 0;
    changed();
  });
  let drawn = 0;
  const redraw = () => {
    cancelAnimationFrame(drawn);
    drawn = requestAnimationFrame(drawList);
  };
  list.addEventListener("scroll", redraw);
  addEventListener("resize", redraw);
  addEventListener("hashchange", () => {
    if (recall()) show();
  });

  browser.hidden = false;
  const asked = recall();
  filterList();
  drawList();
  height = list.firstElementChild?.getBoundingClientRect().height ?? 0;
  show();
  if (asked) browser.scrollIntoView({ behavior: "instant" });
  browser.dataset.ready = "yes";
  performance.mark("answers");

  // So that the first search does not have to.
  const waiting = [...questions];
  const prepare = (deadline) => {
    while (waiting.length && deadline.timeRemaining() > 2) textOf(waiting.pop());
    if (waiting.length) requestIdleCallback(prepare);
  };
  if (typeof requestIdleCallback !== "undefined") requestIdleCallback(prepare);
})();
