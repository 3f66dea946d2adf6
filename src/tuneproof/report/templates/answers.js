"use strict";
// The answer browser: a list of questions that can be filtered and searched, and one of them with
// all its answers (question.js).
(async () => {
  const $ = (id) => document.getElementById(id);
  const browser = $("browser");
  if (!browser) return;
  const BESIDE = 8; // rows of the list that are drawn above and below those that can be seen
  const FILTERS = ["benchmark", "category", "result", "orders", "length", "stop"];
  const CHOICES = ["opponent", "adapter"]; // present where there are several

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

  // --- the chosen pair ------------------------------------------------------------------------

  const viewOf = (it) => {
    const adapter = Number(state.adapter ?? 0) || it.views[0].adapter;
    const of = it.views.filter((view) => view.adapter === adapter);
    return of.find((view) => view.against === (state.opponent ?? "base")) ?? of[0] ?? it.views[0];
  };

  // --- the chosen question --------------------------------------------------------------------

  let shown = ""; // what of the state the shown question depends on

  function showQuestion() {
    const pane = $("question");
    const none = fitting.length === 0;
    const wanted = JSON.stringify([none, state.q, state.opponent, state.adapter, state.words]);
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
    if (none) {
      pane.replaceChildren(make("p", "absent", $("none").textContent));
      return;
    }
    const view = viewOf(it);
    const how = { stops, words: state.words };
    pane.replaceChildren(
      ...headOf(it, view, several ? titles[it.benchmark] : ""),
      ...it.turns.flatMap((turn, i) => turnOf(turn, i, it, view, how)),
    );
    markHits(pane);
  }

  // --- search ---------------------------------------------------------------------------------

  function textOf(it) {
    if (!texts.has(it)) {
      const all = [it.id, it.category];
      for (const turn of it.turns) {
        all.push(turn.instruction, turn.context, turn.reference ?? "");
        for (const side of turn.sides) all.push(side.text ?? side.problem);
        for (const reply of turn.replies) all.push(reply.judge, reply.says, reply.text);
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
      if (!node.parentElement.closest(".text, .asked, .said")) continue; // a word of ours
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
    return !wanted || textOf(it).includes(wanted) || saidOf(view).includes(wanted);
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

  // Offers the categories of the chosen benchmark alone: no other has a question there.
  const categories = [...$("category").options].slice(1);
  function offerCategories() {
    const one = state.benchmark in titles; // a link may name anything
    const chosen = questions.filter((it) => !one || it.benchmark === state.benchmark);
    const there = new Set(chosen.map((it) => it.category));
    const select = $("category");
    const { value } = select;
    select.replaceChildren(select.options[0], ...categories.filter((it) => there.has(it.value)));
    select.value = there.has(value) ? value : "";
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
    offerCategories();
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
    state.benchmark = $("benchmark")?.value ?? "";
    offerCategories();
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

  // Where the question stands below the list, to its beginning.
  function toQuestion() {
    if (matchMedia("(max-width: 60rem)").matches) $("question").scrollIntoView({ behavior: "instant" });
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
    toQuestion();
  });
  $("text").addEventListener("input", changed);
  for (const key of [...FILTERS, ...CHOICES, "words"]) $(key)?.addEventListener("change", changed);
  for (const [button, step] of [["previous", -1], ["next", 1]]) {
    $(button).addEventListener("click", () => {
      go(step);
      toQuestion();
    });
  }
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
